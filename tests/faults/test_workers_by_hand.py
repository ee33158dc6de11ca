"""A worker without a launcher: what it finds after a sleep, and how it is ended."""

from __future__ import annotations

import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from storage.claims import Claims
from storage.leases import LeaseWatch
from storage.settings import Home
from tests.faults.breaking import paused
from tests.faults.slow_studies import (
    MODELS,
    STUDY,
    classes_given_up,
    command_line,
    declare,
    ended,
    opened,
    require_done,
    running,
    trials,
    write_spec,
)
from tests.integration.command_line import wait_until

pytestmark = [pytest.mark.faults, pytest.mark.keras]

EPOCHS = 5


def test_a_worker_that_sleeps_past_its_lease_finds_its_trial_gone_and_writes_nothing(tmp_path: Path) -> None:
    command = command_line(tmp_path, epoch_s=1.0)
    declare(write_spec(tmp_path, epochs=EPOCHS), Home(command.home), trials=1)
    process = command.start(
        "worker", "--study", STUDY, "--storage", command.url, "--model", f"{MODELS}:Slow",
    )  # fmt: skip
    wait_until(lambda: running(command, epochs=2))
    epochs = tmp_path / "epochs"
    with opened(command) as database:
        claims = Claims(database, database.get_study_id_from_name(STUDY), "another")
        with paused(psutil.Process(process.pid)):
            watch = LeaseWatch(claims, lease_s=1.0)
            wait_until(watch.put_back_expired, timeout_s=20)
            taken = claims.next()
            assert taken is not None
            before, trained = snapshot(command.home), len(epochs.read_text().splitlines())
        # Awake, it finishes the epoch that it was in, and learns that the trial is another's.
        wait_until(lambda: len(epochs.read_text().splitlines()) > trained)
        time.sleep(1.5)
        assert process.poll() is None
        assert len(epochs.read_text().splitlines()) == trained + 1, "it trains no further"
        assert snapshot(command.home) == before
        assert claims.put_back(taken, "interrupted")
    finished = ended(process, command)
    assert "it was given to another one; dropped" in finished.stderr
    (trial,) = require_done(command, count=1, epochs=EPOCHS)
    assert classes_given_up(trial) == ["lost", "interrupted"]


def snapshot(home: Path) -> list[str]:
    """Every row of the database, and every file with its size."""
    with closing(sqlite3.connect(home / "studies.db")) as connection:
        rows = list(connection.iterdump())
    files = [file for name in ("artifacts", "checkpoints") for file in (home / name).rglob("*") if file.is_file()]
    return rows + [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in sorted(files)]


def test_a_second_signal_ends_a_worker_that_was_started_by_hand_and_its_trial_waits(tmp_path: Path) -> None:
    command = command_line(tmp_path, epoch_s=30.0)
    declare(write_spec(tmp_path, epochs=2), Home(command.home), trials=1)
    process = command.start("worker", "--study", STUDY, "--storage", command.url, "--model", f"{MODELS}:Slow")
    wait_until(lambda: [trial for trial in trials(command) if trial.state == TrialState.RUNNING])
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)
    ended(process, command, status=130)
    # Its lease says what it could not.
    with opened(command) as database:
        watch = LeaseWatch(Claims(database, database.get_study_id_from_name(STUDY), "another"), lease_s=0.5)
        wait_until(watch.put_back_expired, timeout_s=10)
    assert [trial.state for trial in trials(command)] == [TrialState.WAITING]
