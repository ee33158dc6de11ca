"""Everything that works on a study goes, its database too: the same command goes on with it, and loses nothing."""

from __future__ import annotations

import time
from pathlib import Path

import psutil
import pytest
from optuna.trial import TrialState

from tests.faults.breaking import Faults, moved_away, wait_for_end
from tests.faults.slow_studies import (
    QUICK,
    classes_given_up,
    command_line,
    ended,
    require_done,
    running,
    trials,
    tune,
    write_spec,
)
from tests.integration.command_line import wait_until
from tests.processes import write_lock

pytestmark = [pytest.mark.faults, pytest.mark.keras]


def test_a_study_survives_its_launcher_then_everything_and_a_database_that_is_locked_and_away(tmp_path: Path) -> None:
    command = command_line(tmp_path, Faults(tmp_path / "faults", constants=QUICK), epoch_s=0.8)
    arguments = tune(write_spec(tmp_path, epochs=8), trials=4, workers=2)

    launcher = command.start(*arguments)
    wait_until(lambda: len(running(command, epochs=2)) == 2)
    workers = command.workers()
    launcher.kill()
    launcher.communicate()
    wait_for_end(workers)
    assert [trial.state for trial in trials(command)] == [TrialState.WAITING] * 2, "put back by their own workers"
    assert [classes_given_up(trial) for trial in trials(command)] == [["interrupted"]] * 2

    launcher = command.start(*arguments)
    wait_until(lambda: len(running(command, epochs=4)) == 2)
    for process in [*command.workers(), psutil.Process(launcher.pid)]:
        process.kill()
    launcher.communicate()
    # One of them may have been trained to its end: then its files were being written, and another had been started.
    left = trials(command)
    assert {trial.state for trial in left} == {TrialState.RUNNING}, "nobody could put them back"

    launcher = command.start(*arguments)
    wait_until(lambda: len(running(command, epochs=2)) == 4 or len(trials(command)) == 4)
    wait_until(lambda: len(running(command, epochs=1)) >= 2)
    with write_lock(command.home / "studies.db"):
        time.sleep(QUICK["storage.leases:LEASE_S"] + 2)
    with moved_away(command.home / "studies.db"):
        time.sleep(2)
    ended(launcher, command)
    complete = require_done(command, count=4, epochs=8)
    # Neither the lock nor the absence took a trial from anyone.
    lost = len(left) - 2
    expected = [["interrupted", "lost"]] * 2 + [["lost"]] * lost + [[]] * (2 - lost)
    assert [classes_given_up(trial) for trial in complete] == expected
