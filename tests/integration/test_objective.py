"""What a worker removes of the trials that it takes for over."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from storage.artifacts import Artifacts
from storage.checkpoints import Checkpoint
from storage.claims import Claims
from storage.database import Result
from tests.databases import claimed, fresh_database, new_study, second_connection
from tuning.worker.objective import Ending, Objective
from tuning.worker.result_writer import Endings

pytestmark = pytest.mark.keras

COMPLETE = Result(TrialState.COMPLETE, 0.9)


class Spec:
    fingerprint = "f"


def test_the_checkpoint_of_a_trial_that_goes_on_elsewhere_is_kept_though_its_end_was_announced(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "studies.db") as database, second_connection(database) as other:
        claims = new_study(database, budget=5)
        study = optuna.load_study(study_name="mnist", storage=database)
        unused: Any = None
        (tmp_path / "artifacts").mkdir()
        spec: Any = Spec()
        objective = Objective(
            study, unused, spec, unused, unused, unused, claims, Artifacts(tmp_path / "artifacts"),
            tmp_path / "checkpoints", unused, unused, threading.Event(), threading.Event(), unused,
        )  # fmt: skip
        endings = Endings(database, claims, lambda _: None)
        first = claimed(claims)
        objective._checkpoints_of(first).save(claim=1, epochs=7, content=b"seven")
        claims.progressed(first, 7)
        announced = threading.Event()

        def fails() -> None:
            assert announced.wait(10)
            raise ValueError("no such font")

        endings.submit(
            first, COMPLETE, lambda: objective.record(first, Ending(COMPLETE, keep=fails)), contextlib.nullcontext()
        )
        assert study.get_trials(deepcopy=False)[0].state == TrialState.COMPLETE  # Optuna's cache remembers it so
        second = claimed(claims)
        announced.set()
        endings.settle()
        # While this worker trains on, another takes the trial up and freezes it later.
        elsewhere = Claims(other, claims._study_id, "another")
        again = claimed(elsewhere)
        assert again.number == first.number
        objective._checkpoints_of(again).save(claim=again.count, epochs=20, content=b"twenty")
        elsewhere.put_back(again, "frozen", "frozen")
        endings.submit(second, COMPLETE, lambda: objective.record(second, Ending(COMPLETE)), contextlib.nullcontext())
        endings.settle()
        assert other.get_trial(second.trial_id).state == TrialState.COMPLETE
        assert objective._checkpoints_of(again).load() == Checkpoint(20, b"twenty")
