"""What a replay compares, and what it refuses. No Keras."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState, create_trial

from storage import attributes
from storage.artifacts import Artifacts
from storage.errors import BadInput
from storage.settings import Home
from storage.stores.local import LocalFiles
from studies.objectives.objective import VALIDATION_ACCURACY
from tuning.worker.replay import _unheard, curves_of, differences, replay


def test_equal_curves_have_no_difference_and_what_one_lacks_is_not_compared() -> None:
    before = {"val_accuracy": [0.5, 0.6], "val_loss": [1.0, 0.9]}
    assert differences(before, {"val_accuracy": [0.5, 0.6], "learning_rate": [0.1, 0.1]}) == []


def test_a_difference_of_the_last_bit_is_told_with_its_epoch() -> None:
    lower = math.nextafter(0.6, 0.0)
    (line,) = differences({"val_accuracy": [0.5, 0.6, 0.7]}, {"val_accuracy": [0.5, lower, 0.7]})
    assert "in epoch 2 0.6 was recorded" in line
    assert repr(lower) in line


def test_a_curve_that_is_shorter_now_differs() -> None:
    assert differences({"val_accuracy": [0.5, 0.6]}, {"val_accuracy": [0.5]}) == [
        "val_accuracy: 2 epochs recorded, 1 now"
    ]


def test_what_an_earlier_version_did_not_note_is_no_difference() -> None:
    assert differences({"balanced_accuracy": [math.nan, 0.6]}, {"balanced_accuracy": [0.5, 0.6]}) == []


def test_without_a_kept_history_what_was_reported_is_compared(tmp_path: Path) -> None:
    trial = create_trial(state=TrialState.PRUNED, intermediate_values={1: 0.5, 2: 0.6})
    assert curves_of(trial, Artifacts(LocalFiles(tmp_path)), "val_accuracy") == {"val_accuracy": [0.5, 0.6]}


@pytest.mark.parametrize(
    ("curve", "device", "why"), [({}, "cpu", "no epoch"), ({1: 0.5}, "NVIDIA H200", "there is no GPU here")]
)
def test_what_cannot_be_repeated_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, curve: dict[int, float], device: str, why: str
) -> None:
    monkeypatch.setattr("tuning.worker.replay.find_gpus", list)
    trial = create_trial(
        state=TrialState.PRUNED,
        params={"units": 3},
        distributions={"units": IntDistribution(1, 9)},
        intermediate_values=curve,
        system_attrs={attributes.CLAIM: {}},
        user_attrs={attributes.DEVICE: device},
    )
    record: Any = SimpleNamespace(objective=VALIDATION_ACCURACY)
    with pytest.raises(BadInput, match=why):
        replay(record, trial, Home(tmp_path), None, None, print)


def test_a_replay_is_imported_without_keras() -> None:
    program = "import sys, tuning.worker.replay; sys.exit('keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_what_libraries_write_past_python_is_seen_only_where_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with _unheard():
        os.write(2, b"of no curve\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(ZeroDivisionError), _unheard():
        os.write(2, b"why it ended\n") // 0
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "why it ended\nafterwards\n"
