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
from storage.stores.local import LocalFiles
from studies.stored import StudyRecord
from tests.databases import claimed, fresh_database, new_study, second_connection
from tuning.worker.endings import Outcome
from tuning.worker.recording.result_writer import ResultWriter
from tuning.worker.supervisor import Supervisor
from tuning.worker.training_data import Classifiers
from tuning.worker.trial_files import TrialFiles
from tuning.worker.trial_runner import TrialRunner

pytestmark = pytest.mark.keras

COMPLETE = Result(TrialState.COMPLETE, 0.9)


def test_the_checkpoint_of_a_trial_that_goes_on_elsewhere_is_kept_though_its_end_was_announced(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "studies.db") as database, second_connection(database) as other:
        claims = new_study(database, budget=5)
        study = optuna.load_study(study_name="mnist", storage=database)
        unused: Any = None
        (tmp_path / "artifacts").mkdir()
        kept, checkpoints = Artifacts(LocalFiles(tmp_path / "artifacts")), LocalFiles(tmp_path / "checkpoints")
        files = TrialFiles(study, "f", claims, kept, checkpoints)
        runner = TrialRunner(
            study=study,
            record=StudyRecord.of(study),
            scheduler=unused,
            classifiers=Classifiers(unused, unused, unused, unused),
            claims=claims,
            files=files,
            supervisor=Supervisor(supervised=False),
            place=unused,
        )
        writer = ResultWriter(database, claims, lambda _: None)
        first = claimed(claims)
        files.checkpoints_of(first).save(claim=1, epochs=7, content=b"seven")
        claims.progressed(first, 7)
        announced = threading.Event()

        def fails() -> None:
            assert announced.wait(10)
            raise ValueError("no such font")

        writer.submit(
            first, COMPLETE, lambda: runner.record(first, Outcome(COMPLETE, keep=fails)), contextlib.nullcontext()
        )
        assert study.get_trials(deepcopy=False)[0].state == TrialState.COMPLETE  # Optuna's cache remembers it so
        second = claimed(claims)
        announced.set()
        writer.settle()
        # While this worker trains on, another takes the trial up and freezes it later.
        elsewhere = Claims(other, claims._study_id, "another")
        again = claimed(elsewhere)
        assert again.number == first.number
        files.checkpoints_of(again).save(claim=again.count, epochs=20, content=b"twenty")
        elsewhere.put_back(again, "frozen", "frozen")
        writer.submit(second, COMPLETE, lambda: runner.record(second, Outcome(COMPLETE)), contextlib.nullcontext())
        writer.settle()
        assert other.get_trial(second.trial_id).state == TrialState.COMPLETE
        assert files.checkpoints_of(again).load() == Checkpoint(20, b"twenty")
