"""A worker between its trials: signals that come at awkward moments, a database that is away when it starts."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from storage import attributes
from storage.claims import Claim, Claims, StudyDeleted
from storage.database import Database
from storage.errors import BadInput
from storage.settings import Home
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.stored import StudyData, create_or_load
from tests.databases import claimed, fresh_database, trials, url_of
from tests.faults.breaking import moved_away
from tuning.machine.devices import CPU
from tuning.messages import RENEWED, WorkerOptions
from tuning.worker.endings import ERROR
from tuning.worker.joining import ScheduledStudy, open_when_back
from tuning.worker.supervisor import Supervisor
from tuning.worker.worker import _Worker

SPEC = StudySpec(
    dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=0, plan_name="cpu", epochs=3,
    train_images=None, validation_images=1, patience=10, sampler=Sampler(), strategy=StrategyChoice(),
)  # fmt: skip
OPTIONS = WorkerOptions("mnist", None, None, CPU, "float32", threads=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "studies.db") as opened:
        data = StudyData(checksum="c", split="s", train=2, validation=1, mean=[0.5], std=[0.25])
        study, _ = create_or_load(opened, "mnist", SPEC, lambda: data)
        Claims(opened, study._study_id, "launcher").set_budget(9)
        yield opened


@pytest.fixture
def started(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[WorkerOptions]:
    """What the programs were started with that took a worker's place."""
    found: list[WorkerOptions] = []

    def execve(_path: str, command: list[str], _environment: dict[str, str]) -> None:
        found.append(WorkerOptions.from_json(command[command.index("--as") + 1]))

    monkeypatch.setattr("tuning.worker.worker.os.execve", execve)
    return found


@contextlib.contextmanager
def worker_of(database: Database, home: Path, options: WorkerOptions = OPTIONS) -> Iterator[tuple[_Worker, Supervisor]]:
    supervisor = Supervisor(supervised=False)
    supervisor.ready.set()
    worker = _Worker(options, url_of(database), Home(home), supervisor)
    try:
        yield worker, supervisor
    finally:
        worker._database.engine.dispose()


def test_a_worker_becomes_one_with_the_threads_of_its_trial(
    database: Database, tmp_path: Path, started: list[WorkerOptions]
) -> None:
    with worker_of(database, tmp_path) as (worker, _):
        claim = claimed(worker._claims)
        worker._start_again(OPTIONS.successor(claim=claim, threads=4))
    assert started == [replace(OPTIONS, claim=claim, threads=4, own_threads=1, go=True)]
    assert [held.id for held, _ in worker._claims.running()] == [claim.id]


def test_cores_compute_in_the_studys_precision_and_a_gpu_in_its_own(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "studies.db") as database:
        data = StudyData(checksum="c", split="s", train=2, validation=1, mean=[0.5], std=[0.25])
        create_or_load(database, "mnist", SPEC.model_copy(update={"precision": "mixed_bfloat16"}), lambda: data)
        with worker_of(database, tmp_path) as (worker, _):
            assert worker._options == replace(OPTIONS, precision="mixed_bfloat16")
        on_gpu = replace(OPTIONS, device="NVIDIA", precision="mixed_float16")
        with worker_of(database, tmp_path, on_gpu) as (worker, _):
            assert worker._options == on_gpu


def test_a_stop_that_came_before_it_is_not_lost_with_the_program(
    database: Database, tmp_path: Path, started: list[WorkerOptions]
) -> None:
    with worker_of(database, tmp_path) as (worker, supervisor):
        supervisor.stop.set()
        claim = claimed(worker._claims)
        worker._start_again(OPTIONS.successor(claim=claim, threads=4))
        worker._start_again(OPTIONS.successor())
    assert started == []
    (trial,) = trials(database)
    assert trial.state.name == "WAITING"
    assert trial.user_attrs[attributes.GIVEN_UP][0]["class"] == "interrupted"


def test_a_worker_waits_for_a_database_that_is_away(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "studies.db"
    with contextlib.ExitStack() as away:
        away.enter_context(moved_away(file))
        waited: list[float] = []

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            if len(waited) == 3:
                away.close()

        monkeypatch.setattr("tuning.worker.joining.time.sleep", sleep)
        opened = open_when_back(url_of(database), 60.0)
    assert len(waited) == 3
    assert trials(opened) == []
    opened.engine.dispose()


def test_a_worker_waits_for_its_database_no_longer_than_an_outage_may_last(tmp_path: Path) -> None:
    os.makedirs(tmp_path / "home")
    with pytest.raises(BadInput, match="there is no study in"):
        open_when_back(f"sqlite:///{tmp_path}/home/studies.db", 0.0)


def test_a_worker_without_a_launcher_is_told_at_once_that_there_is_no_study(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="there is no study in"):
        _Worker(OPTIONS, f"sqlite:///{tmp_path}/none.db", Home(tmp_path), Supervisor(supervised=False))


@pytest.mark.parametrize(
    ("device", "failure", "renewed"),
    [
        ("NVIDIA H200", ERROR, True),
        ("NVIDIA H200", attributes.OUT_OF_MEMORY, True),
        ("NVIDIA H200", attributes.DIVERGED, False),
        (CPU, attributes.OUT_OF_MEMORY, True),
        (CPU, ERROR, False),
    ],
)
def test_a_process_is_renewed_after_an_error_that_may_have_spoilt_its_device(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, failure: str, renewed: bool
) -> None:
    with worker_of(database, tmp_path, replace(OPTIONS, device=device)) as (worker, supervisor):
        ran: list[int] = []

        def run_trial(_objective: Any, claim: Claim) -> str:
            ran.append(claim.number)
            worker._claims.put_back(claim, "it happened", "error")
            if len(ran) == 3:
                supervisor.leaving.set()
            return failure

        monkeypatch.setattr(ScheduledStudy, "next", lambda joined: joined.claims.next())
        monkeypatch.setattr(worker, "_run_trial", run_trial)
        status = worker._run_trials(cast(Any, None))
    assert (status == RENEWED, len(ran)) == (renewed, 1 if renewed else 3)


@pytest.mark.parametrize("deleted", [True, False])
def test_what_is_missing_because_the_study_is_gone_is_told_as_that(
    database: Database, home: Path, monkeypatch: pytest.MonkeyPatch, deleted: bool
) -> None:
    def prepare(*_: object) -> None:
        if deleted:
            database.delete_study(database.get_study_id_from_name("mnist"))
        raise KeyError("no such trial")  # as Optuna says it

    monkeypatch.setattr("tuning.worker.worker.prepare", prepare)
    with worker_of(database, home) as (worker, _):
        gone = pytest.raises(StudyDeleted, match="was deleted while it ran")
        with gone if deleted else pytest.raises(KeyError, match="no such trial"):
            worker.run()
