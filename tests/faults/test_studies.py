"""Whatever a worker is killed by: no finished result is lost, no trial counts twice, and the study goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.processes.cores import usable_cores
from studies.spec import derive_seed
from tests.faults.breaking import Fault, Faults
from tests.faults.slow_studies import (
    QUICK,
    classes_given_up,
    command_line,
    require_done,
    results,
    running,
    trials,
    tune,
    write_spec,
)
from tests.integration.command_line import interrupt, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.keras]

EPOCHS = 5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[FrozenTrial]:
    """Two trials that one worker trained without any interruption."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = command_line(folder)
    command.run(*tune(write_spec(folder, epochs=EPOCHS), trials=2, workers=1))
    return require_done(command, count=2, epochs=EPOCHS)


# In the order in which a study comes by them.
POINTS = [
    Fault("tuning.worker.preflight.walk:preflight", "kill"),
    Fault("storage.claims:Claims.next", "kill", "after", match="Claim("),
    Fault("os:replace", "kill", match=".checkpoint"),
    Fault("storage.checkpoints:TrialCheckpoints._remove_older", "kill"),
    Fault("storage.artifacts:sha256_of", "kill"),
    Fault("storage.database:Database.set_trial_state_values", "kill"),
    Fault("storage.checkpoints:TrialCheckpoints.remove", "kill"),
]


def test_a_worker_that_is_killed_at_any_point_costs_no_result_and_no_trial_runs_twice(
    undisturbed: list[FrozenTrial], tmp_path: Path
) -> None:
    faults = Faults(tmp_path / "faults", *POINTS, constants={**QUICK, "tuning.launch.workforce:MAX_DEATHS": 20})
    command = command_line(tmp_path, faults)
    finished = command.run(*tune(write_spec(tmp_path, epochs=EPOCHS), trials=2, workers=1))
    assert faults.happened() == [1] * len(POINTS)
    assert finished.stderr.count("was killed by signal 9") == len(POINTS)
    complete = require_done(command, count=2, epochs=EPOCHS)
    assert results(complete) == results(undisturbed), "bit for bit what it is without the kills"
    # The first kill came before the trial, the last after it was COMPLETE. While its files are written and its end is
    # recorded the next trial may have begun.
    first, second = (classes_given_up(trial) for trial in complete)
    assert first == ["lost"] * (len(POINTS) - 2)
    assert second in (["lost"] * times for times in range(4))


def test_a_trial_s_end_is_recorded_before_the_next_one_trains_and_a_kill_meanwhile_costs_neither(
    undisturbed: list[FrozenTrial], tmp_path: Path
) -> None:
    slow_disk = Fault("storage.artifacts:sha256_of", "sleep:4")
    kill = Fault("storage.database:Database.set_trial_state_values", "kill")
    faults = Faults(tmp_path / "faults", slow_disk, kill, constants=QUICK)
    command = command_line(tmp_path, faults)
    command.run(*tune(write_spec(tmp_path, epochs=EPOCHS), trials=2, workers=1))
    assert faults.happened() == [1, 1]
    complete = require_done(command, count=2, epochs=EPOCHS)
    assert results(complete) == results(undisturbed), "the second was chosen as if the first had been recorded"
    assert [classes_given_up(trial) for trial in complete] == [["lost"], ["lost"]]
    logs = command.logs()
    assert logs.index("trial 0: over") < logs.index("trial 1: first step")


def test_a_configuration_that_aborts_its_process_fails_alone(undisturbed: list[FrozenTrial], tmp_path: Path) -> None:
    seed = derive_seed(0, "trial", 1)
    command = command_line(tmp_path, Faults(tmp_path / "faults", constants=QUICK), more={"SLOW_ABORTS": str(seed)})
    spec = write_spec(tmp_path, epochs=EPOCHS)
    finished = command.run(*tune(spec, trials=2, workers=1, model="Aborts"))
    assert finished.stderr.count("was killed by signal 6; trial 1 is taken from it") == 2
    first, aborted, third = trials(command)
    assert [trial.state.name for trial in (first, aborted, third)] == ["COMPLETE", "FAIL", "COMPLETE"]
    assert (classes_given_up(first), classes_given_up(aborted)) == ([], ["died", "died"])
    assert aborted.user_attrs[attributes.REASON].startswith("its worker was killed by signal 6 (given up for good")
    assert results([first]) == results(undisturbed[:1]), "the trial before was recorded, and is not run again"


@pytest.mark.skipif(usable_cores() < 2, reason="one worker and two have the same number of threads here")
def test_a_trial_goes_on_with_the_threads_it_was_begun_with(undisturbed: list[FrozenTrial], tmp_path: Path) -> None:
    command = command_line(tmp_path, epoch_s=1.5)
    spec = write_spec(tmp_path, epochs=EPOCHS)
    process = command.start(*tune(spec, trials=2, workers=1))
    wait_until(lambda: running(command, epochs=2))
    assert interrupt(process).status == 130
    (begun,) = trials(command)
    assert begun.state == TrialState.WAITING
    command.run(*tune(spec, trials=2, workers=2))
    first, second = require_done(command, count=2, epochs=EPOCHS)
    assert results([first]) == results(undisturbed[:1]), "bit for bit what it is uninterrupted"
    assert first.user_attrs[attributes.THREADS] == begun.user_attrs[attributes.THREADS]
    assert second.user_attrs[attributes.THREADS] < first.user_attrs[attributes.THREADS]
