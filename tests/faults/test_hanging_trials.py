"""A trial that hangs is ended, wherever it does, and run again by another worker or by the same anew."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from storage import attributes
from storage.settings import Home
from studies.stored import DEFAULT_LIMITS
from tests.faults.breaking import Fault, Faults
from tests.faults.slow_studies import (
    MODELS,
    QUICK,
    STUDY,
    classes_given_up,
    command_line,
    declare,
    require_done,
    tune,
    write_spec,
)
from tests.folders import hostile_folder

pytestmark = [pytest.mark.faults, pytest.mark.keras]


def test_a_worker_that_was_started_by_hand_goes_on_after_a_trial_that_hung(tmp_path: Path) -> None:
    # Where it lives on, it must not find other modules than it did at first.
    folder = hostile_folder(tmp_path / "folder")
    command = command_line(tmp_path, more={"SLOW_HUNG": str(tmp_path / "hung"), "PYTHONPATH": str(folder)})
    command = replace(command, folder=folder)
    spec = write_spec(tmp_path, epochs=2)
    declare(spec, Home(command.home), trials=1, model="Hangs", trial_timeout_s=12.0)
    command.run("worker", "--study", STUDY, "--storage", command.url, "--model", f"{MODELS}:Hangs")
    (trial,) = require_done(command, count=1, epochs=2)
    assert classes_given_up(trial) == ["timeout"]


@pytest.mark.parametrize("model", ["HangsAtFirst", "HangsInStep"])
def test_a_trial_that_hangs_in_a_step_or_before_the_first_is_given_up_and_run_again(tmp_path: Path, model: str) -> None:
    faults = Faults(tmp_path / "faults", constants={**QUICK, "storage.leases:LEAST_S": 3.0})
    command = command_line(tmp_path, faults, more={"SLOW_HUNG": str(tmp_path / "hung")})
    spec = write_spec(tmp_path, epochs=2)
    finished = command.run(*tune(spec, trials=1, workers=1, model=model))
    assert "hangs: no step of it ended for" in finished.stderr
    (trial,) = require_done(command, count=1, epochs=2)
    assert classes_given_up(trial) == ["timeout"]


def test_a_hung_trial_is_ended_a_worker_is_renewed_and_a_place_where_every_worker_dies_is_given_up(
    tmp_path: Path,
) -> None:
    broken_place = Fault("tuning.worker.joining:owner_name", "kill", log="worker-1.log", times=100)
    one_trial_each = {**DEFAULT_LIMITS, "trials_per_worker": 1}
    constants = {"studies.stored:DEFAULT_LIMITS": one_trial_each, "tuning.launch.workforce:RESTART_S": 0.1}
    faults = Faults(tmp_path / "faults", broken_place, constants=constants)
    command = command_line(tmp_path, faults, more={"SLOW_HUNG": str(tmp_path / "hung")})
    arguments = tune(write_spec(tmp_path, epochs=3), trials=3, workers=2, model="Hangs", checkpoint_interval="60s")
    output = command.run(*arguments, "--trial-timeout", "6s").stderr
    assert faults.happened() == [4]
    assert "worker 1 was killed by signal 9; after 4 in a row none is started on this CPU any more" in output
    assert "trial 0 took longer than its time limit of 6 s and is given up by its worker" in output
    complete = require_done(command, count=3, epochs=3)
    assert [classes_given_up(trial) for trial in complete] == [["timeout"], [], []]
    assert len({trial.user_attrs[attributes.WORKER] for trial in complete}) == 3, "each trial had a process of its own"
