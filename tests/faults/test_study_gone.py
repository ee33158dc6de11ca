"""A study that goes while it is worked on: renamed in Optuna's dashboard it goes on by its new name, deleted it ends.

Ours renames none, but whoever shares the database may start Optuna's.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.settings import Home
from tests.dashboard import Listening, ask, optunas_own, running
from tests.faults.breaking import Faults
from tests.faults.slow_studies import QUICK, STUDY, command_line, opened, trials, tune, write_spec
from tests.faults.slow_studies import running as trials_running
from tests.integration.command_line import CommandLine, Finished, wait_until
from tuning.commands.dashboard.serving import ServeOptions, make_server

pytestmark = [pytest.mark.faults, pytest.mark.keras]

EPOCHS = 5
# Nobody keeps up the lease of a trial that was copied while it ran.
SHORT = {**QUICK, "storage.leases:LEASE_S": 2.0}


@contextmanager
def ours(command: CommandLine) -> Iterator[Listening]:
    with opened(command) as database:
        options = ServeOptions(port=0, edit=True)
        with running(make_server(database, Home(command.home), options)) as server:
            yield server


@contextmanager
def optunas(command: CommandLine) -> Iterator[Listening]:
    with opened(command) as database, optunas_own(database) as server:
        yield server


def study_id(server: Listening, name: str) -> int:
    _, said = ask(server, "GET", "/api/studies")
    (found,) = [study["study_id"] for study in json.loads(said)["study_summaries"] if study["study_name"] == name]
    return int(found)


def ended_by(
    command: CommandLine,
    spec: Path,
    dashboard: Callable[[CommandLine], AbstractContextManager[Listening]],
    act: Callable[[Listening, int], int],
) -> Finished:
    """Let something be done in a dashboard to a study with a trial that runs and has a checkpoint."""
    process = command.start(*tune(spec, trials=1, workers=1))
    wait_until(lambda: trials_running(command, epochs=2))
    with dashboard(command) as server:
        assert act(server, study_id(server, STUDY)) in (200, 201, 204)
        stdout, stderr = process.communicate(timeout=60)
    assert command.workers() == []
    return Finished(process.returncode, stdout, stderr)


def uid_of(command: CommandLine, name: str) -> str:
    with opened(command) as database:
        uid = database.get_study_user_attrs(database.get_study_id_from_name(name))[attributes.UID]
    return str(uid)


def files(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_study_that_is_renamed_while_it_runs_goes_on_by_its_new_name_from_its_checkpoint(tmp_path: Path) -> None:
    command = command_line(tmp_path, Faults(tmp_path / "faults", constants=SHORT), epoch_s=0.6)
    spec = write_spec(tmp_path, epochs=EPOCHS)

    def rename(server: Listening, study: int) -> int:
        return ask(server, "POST", f"/api/studies/{study}/rename", {"study_name": "new name"})[0]

    finished = ended_by(command, spec, optunas, rename)
    assert finished.status == 1
    assert "Traceback" not in finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error:")]
    then = "Give the same command with STUDY='new name': it goes on there."
    assert errors == [f"error: study {STUDY!r} was renamed while it ran. {then}"]
    uid, checkpoints = uid_of(command, "new name"), command.home / "checkpoints"
    assert [folder.name for folder in checkpoints.iterdir()] == [f"{STUDY}-{uid[:8]}"]
    assert files(checkpoints)
    again = ["new name" if word == STUDY else word for word in tune(spec, trials=1, workers=1)]
    command.run(*again)
    (trial,) = command.study("new name").get_trials()
    assert (trial.state, list(trial.intermediate_values)) == (TrialState.COMPLETE, list(range(1, EPOCHS + 1)))
    trained = [line.split()[1] for line in (tmp_path / "epochs").read_text().splitlines()]
    assert len(trained) < 2 * EPOCHS, "it went on from its checkpoint"
    assert files(checkpoints) == []
    assert [folder.name for folder in (command.home / "logs").iterdir()] == [STUDY]


def test_a_study_that_is_deleted_while_it_runs_ends_and_leaves_only_what_gc_finds(tmp_path: Path) -> None:
    command = command_line(tmp_path, Faults(tmp_path / "faults", constants=SHORT), epoch_s=0.6)

    def delete(server: Listening, study: int) -> int:
        return ask(server, "DELETE", f"/api/studies/{study}", {})[0]

    finished = ended_by(command, write_spec(tmp_path, epochs=EPOCHS), ours, delete)
    assert finished.status == 1
    assert "Traceback" not in finished.stderr
    errors = [line for line in finished.stderr.splitlines() if line.startswith("error:")]
    assert errors == ["error: the study was deleted while it ran. Start it anew with the same command."]
    assert trials(command) == []
    assert "trial is gone: its study was deleted or renamed; dropped" in command.logs()
    assert files(command.home / "artifacts") == []
    left = [file for name in ("checkpoints", "logs") for file in (command.home / name).rglob("*")]
    assert f"because of {command.home / 'checkpoints' / STUDY}-" in command.run("gc").stderr
    for file in left:
        os.utime(file, (0, 0))
    command.run("gc", "--study", STUDY, "--yes")
    assert [files(command.home / name) for name in ("checkpoints", "logs")] == [[], []]
