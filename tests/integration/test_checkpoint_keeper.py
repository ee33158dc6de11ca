"""Checkpoints are written beside training, unless the trial waits for them."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from models.training.state import TrainingState
from storage.checkpoints import TrialCheckpoints
from storage.errors import ClaimLost
from storage.stores.local import LocalFiles
from tuning.worker.callbacks import CheckpointKeeper, ReportToTrial, state_of
from tuning.worker.endings import Frozen, Interrupted

pytestmark = pytest.mark.keras


class Slow(TrialCheckpoints):
    """Writes when it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(LocalFiles(folder), fingerprint="f", trial=0)
        self.let = threading.Event()
        self.secured = 0

    def save(self, **what: Any) -> str:
        assert self.secured > 0, "what it goes on after is on the disk before it is"
        self.secured -= 1
        assert self.let.wait(10)
        return super().save(**what)


class Now:
    """A clock that stands until it is moved."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def state(epochs: int) -> TrainingState:
    return TrainingState(epochs, {"model/0": np.zeros(3)}, {"history": {}})


class Kept:
    def __init__(self, folder: Path, moved: Any = None) -> None:
        self.checkpoints, self.now, self.stop = Slow(folder), Now(), threading.Event()
        self.moved: list[int] = []
        self.keeper = CheckpointKeeper(
            self.checkpoints, claim=1, epochs=9, interval_s=60.0, stop=self.stop, secure=self.secure,
            moved=moved or self.moved.append, clock=self.now,
        )  # fmt: skip

    def secure(self) -> None:
        self.checkpoints.secured += 1


def test_training_goes_on_while_a_checkpoint_is_written(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    assert not kept.keeper.due(1)
    kept.now.seconds = 61.0
    assert kept.keeper.due(1)
    kept.keeper.keep(state(1))  # returns, though nothing is written yet
    assert kept.moved == [] and state_of(kept.checkpoints) is None
    assert not kept.keeper.due(2), "the next one is due an interval later"
    kept.checkpoints.let.set()
    kept.keeper.settle()
    found = state_of(kept.checkpoints)
    assert kept.moved == [1] and found is not None and found.epochs == 1


def test_the_next_checkpoint_waits_for_the_one_before(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keeper.keep(state(1))
    threading.Timer(0.2, kept.checkpoints.let.set).start()
    kept.keeper.keep(state(2))
    kept.keeper.settle()
    assert kept.moved == [1, 2]


def test_a_trial_is_frozen_only_once_its_checkpoint_is_written(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.checkpoints.let.set()
    kept.keeper.freeze()
    assert kept.keeper.due(3)
    with pytest.raises(Frozen, match="epoch 3"):
        kept.keeper.keep(state(3))
    assert kept.moved == [3]


def test_a_worker_that_is_asked_to_stop_waits_for_the_checkpoint(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.checkpoints.let.set()
    kept.stop.set()
    with pytest.raises(Interrupted):
        kept.keeper.keep(state(2))
    assert kept.moved == [2]


def test_a_disk_that_takes_no_checkpoint_costs_only_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = Kept(tmp_path)

    def full(self: Slow, **what: Any) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Slow, "save", full)
    kept.keeper.keep(state(1))
    kept.keeper.settle()
    kept.keeper.freeze()
    kept.keeper.keep(state(2))  # not frozen: without a checkpoint it goes on
    assert kept.moved == []


def test_a_claim_lost_beside_the_training_is_left_to_its_next_report(tmp_path: Path) -> None:
    def lost(epochs: int) -> None:
        raise ClaimLost("trial 0 is another worker's")

    kept = Kept(tmp_path, lost)
    kept.checkpoints.let.set()
    kept.keeper.keep(state(1))
    kept.keeper.settle()


# --- Trials without checkpoints ---


def test_a_trial_that_runs_whole_is_not_frozen_and_begins_anew_after_a_stop(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    stop = threading.Event()
    report = ReportToTrial(lambda *ended: "freeze", kept.keeper, stop=stop, began=lambda: None, whole=lambda: True)
    report.set_model(keras.Sequential())
    report.model.stop_training = False
    report.on_epoch_end(0, {"val_accuracy": 0.5})
    assert not kept.keeper.due(1)
    stop.set()
    with pytest.raises(Interrupted):
        report.on_epoch_end(1, {"val_accuracy": 0.6})
    assert report.history["val_accuracy"] == [0.5, 0.6]
