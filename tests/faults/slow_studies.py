"""Studies whose trials last as long as a fault test wants: how they are started, and what is asked of them."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.claims import Claims
from storage.database import Database
from storage.errors import BadInput
from storage.opening import open_database
from storage.settings import Home
from storage.stores.local import LocalFiles
from studies.datasets.preparing import prepare
from studies.declaration import Overrides, make_spec, read_declaration
from studies.stored import DEFAULT_LIMITS, create_or_load
from studies.study_data import describe
from tests.faults.breaking import Faults
from tests.integration.command_line import CommandLine, Finished
from tuning.user_classes import parse_model

STUDY = "slow"
MODELS = Path(__file__).resolve().parent / "slow_models.py"

# Leases and pauses that a test can wait for.
QUICK: dict[str, Any] = {
    "storage.leases:BEAT_S": 0.5,
    "storage.leases:LEASE_S": 5.0,
    "tuning.launch.watching:WATCH_S": 0.5,
    "tuning.launch.workforce:RESTART_S": 0.1,
}


def command_line(
    folder: Path, faults: Faults | None = None, *, epoch_s: float = 0.0, more: Mapping[str, str] | None = None
) -> CommandLine:
    """Return the command line with a home in a folder, its epochs slowed down and noted, and its faults."""
    (folder / "epochs").touch()
    environment = {
        "SLOW_EPOCH_S": str(epoch_s),
        "SLOW_EPOCH_LOG": str(folder / "epochs"),
        "CUDA_VISIBLE_DEVICES": "-1",  # also in fixtures of a module, which come before those that hide accelerators
        **(more or {}),
        **(faults.environment if faults is not None else {}),
    }
    return CommandLine(folder / "home", environment)


def write_spec(folder: Path, *, epochs: int, sampler: str = "tpe") -> Path:
    """Write a study's file: little data, nothing pruned, nothing stopped early."""
    file = folder / "slow.toml"
    file.write_text(
        f'dataset = "mnist_sample"\n[plan.cpu]\ntrials = 1\nepochs = {epochs}\npatience = {epochs}\n'
        f'train_images = 256\nvalidation_images = 200\n[sampler]\nname = "{sampler}"\n[strategy]\nname = "none"\n'
    )
    return file


def tune(
    spec: Path, *, trials: int, workers: int, model: str = "Slow", checkpoint_interval: str = "0.01s"
) -> list[str]:
    """Return the arguments of `tuning` that run a study."""
    words = ["tune", "--spec", str(spec), "--study", STUDY, "--model", f"{MODELS}:{model}", "--no-progress"]
    return [
        *words, "--trials", str(trials), "--workers", str(workers), "--checkpoint-interval", checkpoint_interval,
    ]  # fmt: skip


def declare(spec: Path, home: Home, *, trials: int, model: str = "Slow", trial_timeout_s: float | None = None) -> None:
    """Make a study without a launcher, for a worker that is started by hand."""
    declaration = read_declaration(spec)
    name, _ = parse_model(f"{MODELS}:{model}")
    stored = make_spec(declaration, Overrides(), plan_name="cpu", model=name, strategy=declaration.strategy.name)
    dataset = prepare(stored.dataset, home)
    database = open_database(home.database_url, create=True)
    study, _ = create_or_load(database, STUDY, stored, lambda: describe(dataset, stored))
    limits = {**DEFAULT_LIMITS, "checkpoint_interval_s": 0.01, "trial_timeout_s": trial_timeout_s}
    study.set_user_attr(attributes.LIMITS, limits)
    Claims(database, study._study_id, "test").set_budget(trials)
    database.engine.dispose()


@contextmanager
def opened(command: CommandLine) -> Iterator[Database]:
    """Open a home's database."""
    database = open_database(command.url)
    try:
        yield database
    finally:
        database.engine.dispose()


def trials(command: CommandLine) -> list[FrozenTrial]:
    """The study's trials; none while the study is not there yet."""
    try:
        with opened(command) as database:
            return database.get_all_trials(database.get_study_id_from_name(STUDY))
    except (BadInput, KeyError):
        return []


def running(command: CommandLine, *, epochs: int = 1) -> list[FrozenTrial]:
    """The trials that run and have reported so many epochs."""
    return [t for t in trials(command) if t.state == TrialState.RUNNING and len(t.intermediate_values) >= epochs]


def ended(process: subprocess.Popen[str], command: CommandLine, status: int = 0) -> Finished:
    """Wait for a command that was started, and return what it left behind."""
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == status, f"exit status {process.returncode}\n{stdout}\n{stderr}\n{command.logs()}"
    return Finished(process.returncode, stdout, stderr)


def classes_given_up(trial: FrozenTrial) -> list[str]:
    """Why a trial was given up, each time."""
    return [one["class"] for one in trial.user_attrs.get(attributes.GIVEN_UP, [])]


def require_done(command: CommandLine, *, count: int, epochs: int) -> list[FrozenTrial]:
    """Check what holds of every study that is done, whatever happened to it; return its COMPLETE trials.

    So many trials are COMPLETE, none is left open, none has the parameters of another, each has its whole curve and
    its artifacts with their recorded bytes, nothing is left beside them, and no process lives on.
    """
    found = trials(command)
    complete = [trial for trial in found if trial.state == TrialState.COMPLETE]
    assert len(complete) == count
    assert all(trial.state.is_finished() for trial in found)
    assert len({json.dumps(trial.params, sort_keys=True) for trial in complete}) == count
    artifacts = Artifacts(LocalFiles(Home(command.home).artifacts))
    for trial in complete:
        assert list(trial.intermediate_values) == list(range(1, epochs + 1))
        assert trial.value == max(trial.intermediate_values.values())
        for role in ("model", "history", "learning_curve"):
            artifacts.verified(trial, role)
        history = json.loads(artifacts.verified(trial, "history").read_text())
        assert history["val_accuracy"] == list(trial.intermediate_values.values())
    assert [file for name in ("artifacts", "checkpoints") for file in (command.home / name).rglob(".*")] == []
    assert command.workers() == []
    return complete


def results(complete: list[FrozenTrial]) -> list[Any]:
    """What is the same wherever and however often a trial was interrupted."""
    return [(trial.number, trial.params, trial.value, trial.intermediate_values) for trial in complete]
