"""Whatever is killed, stopped or full: no finished result is lost, no trial counts twice, and the study goes on."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Claims
from storage.leases import LeaseWatch
from storage.processes.cores import usable_cores
from storage.settings import Home
from studies.spec import derive_seed
from studies.stored import DEFAULT_LIMITS
from tests.faults.breaking import Fault, Faults, moved_away, paused, small_disk, wait_for_end
from tests.faults.slow_studies import (
    MODELS,
    QUICK,
    STUDY,
    classes_given_up,
    command_line,
    declare,
    opened,
    require_done,
    results,
    running,
    trials,
    tune,
    write_spec,
)
from tests.folders import hostile_folder
from tests.integration.command_line import CommandLine, Finished, interrupt, wait_until
from tests.processes import write_lock

pytestmark = [pytest.mark.faults, pytest.mark.keras]

EPOCHS = 5


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[FrozenTrial]:
    """Two trials that one worker trained without any interruption."""
    folder = tmp_path_factory.mktemp("undisturbed")
    command = command_line(folder)
    command.run(*tune(write_spec(folder, epochs=EPOCHS), trials=2, workers=1))
    return require_done(command, count=2, epochs=EPOCHS)


def ended(process: subprocess.Popen[str], command: CommandLine, status: int = 0) -> Finished:
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == status, f"exit status {process.returncode}\n{stdout}\n{stderr}\n{command.logs()}"
    return Finished(process.returncode, stdout, stderr)


# In the order in which a study comes by them.
POINTS = [
    Fault("tuning.worker.preflight:preflight", "kill"),
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


def snapshot(home: Path) -> list[str]:
    """Every row of the database, and every file with its size."""
    with closing(sqlite3.connect(home / "studies.db")) as connection:
        rows = list(connection.iterdump())
    files = [file for name in ("artifacts", "checkpoints") for file in (home / name).rglob("*") if file.is_file()]
    return rows + [f"{file} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in sorted(files)]


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


def test_what_ran_out_of_memory_is_not_proposed_again(tmp_path: Path) -> None:
    command = command_line(tmp_path)
    command.run(*tune(write_spec(tmp_path, epochs=1, sampler="random"), trials=6, workers=1, model="RunsOut"))
    require_done(command, count=6, epochs=1)
    found = trials(command)
    ran_out = [trial for trial in found if trial.state == TrialState.FAIL]
    assert ran_out, "the seed of the study proposes large batches"
    assert {trial.user_attrs[attributes.FAILURE] for trial in ran_out} == {"out_of_memory"}
    # Each class of size fails once: 256, and 128 if that was not tried before.
    sizes = [trial.params["batch_size"] for trial in ran_out]
    assert sizes in ([128], [256, 128])
    assert all(t.params["batch_size"] < 128 for t in found if t.number > ran_out[-1].number)
    assert all(classes_given_up(trial) == [] for trial in ran_out), "no second attempt"
    assert "drawn again, as large as trial" in command.logs()


def test_full_disks_end_the_study_with_the_cause_or_cost_only_checkpoints_and_nothing_is_lost(tmp_path: Path) -> None:
    command = command_line(tmp_path)
    arguments = tune(write_spec(tmp_path, epochs=EPOCHS), trials=2, workers=1)
    with (
        small_disk(command.home / "artifacts", "1m") as artifacts,
        small_disk(command.home / "checkpoints", "2m") as checkpoints,
    ):
        artifacts.fill()
        stopped = command.run(*arguments, status=1)
        last = stopped.stderr.strip().splitlines()[-1]
        assert last.startswith("error: model.keras of trial 0 cannot be written to ")
        assert last.endswith("No space left on device. Make room and give the same command again.")
        (trial,) = trials(command)
        assert trial.state == TrialState.WAITING
        assert classes_given_up(trial) == ["interrupted"]
        artifacts.remount("size=64m")
        checkpoints.fill()
        command.run(*arguments)
        assert "no checkpoint after epoch" in command.logs()
        first, _ = require_done(command, count=2, epochs=EPOCHS)
        assert first.params == trial.params
        trained = (tmp_path / "epochs").read_text().splitlines()
        assert len(trained) == 2 * EPOCHS + 1, "the first trial went on from its checkpoint before the last epoch"


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
