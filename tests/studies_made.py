"""A small study that has one trial of everything, with its files, and what must be equal in a copy of it."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.checkpoints import TrialCheckpoints
from storage.claims import Claim, Claims
from storage.database import Database
from storage.opening import open_database
from storage.settings import Home
from storage.stores.chosen import artifact_files, checkpoint_files
from tests.databases import fresh_database, new_study

UID = "0123456789abcdef"
SPACE = {
    "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
    "layer_0/units": IntDistribution(16, 256, step=16),
    "optimizer": CategoricalDistribution(["sgd", "adam", None]),
}


def writes(content: bytes) -> Any:
    return lambda file: file.write_bytes(content)


def claimed(database: Database, claims: Claims, home: Home) -> Claim:
    """Claim a trial, draw its parameters, report, and keep two files with it, of one role twice."""
    claim = claims.next()
    assert claim is not None
    for name, value in (("learning_rate", 0.1 / (claim.number + 3)), ("layer_0/units", 32.0), ("optimizer", 2.0)):
        database.set_trial_param(claim.trial_id, name, value, SPACE[name])
    database.set_trial_user_attr(claim.trial_id, attributes.EPOCHS, claim.number)
    for step, value in ((1, 0.1), (2, float("inf")), (3, float("nan")), (4, 1 / 3)):
        database.set_trial_intermediate_value(claim.trial_id, step, value)
    artifacts = Artifacts(artifact_files(home, make=True))
    for content in (b"former", b"newest"):
        artifacts.put(database, claim.trial_id, "model", "model.keras", writes(content + str(claim.number).encode()))
    artifacts.put(database, claim.trial_id, "history", "history.json", writes(b"{}"))
    return claim


def checkpoint(home: Home, study: str, uid: str, trial: int, epochs: int) -> str:
    """Keep a checkpoint of a trial, and return its name."""
    files = checkpoint_files(home, study, uid).folder(str(trial))
    return TrialCheckpoints(files, fingerprint="f", trial=trial).save(claim=1, epochs=epochs, content=b"state")


def varied_study(database: Database, home: Home, name: str = "mnist") -> Claims:
    """Make a study with a COMPLETE, a PRUNED, a FAIL, a WAITING and two RUNNING trials, these with checkpoints."""
    claims = new_study(database, budget=20, name=name)
    database.set_study_user_attr(claims._study_id, attributes.UID, UID)
    database.set_study_system_attr(claims._study_id, "theirs", {"a": [1, "ü"]})
    complete, pruned, failed, waiting, _running, moved = (claimed(database, claims, home) for _ in range(6))
    database.set_trial_state_values(complete.trial_id, TrialState.COMPLETE, [1 / 7])
    database.set_trial_state_values(pruned.trial_id, TrialState.PRUNED)
    database.set_trial_state_values(failed.trial_id, TrialState.FAIL)
    for claim in (waiting, moved):
        checkpoint(home, name, UID, claim.number, 4)
    checkpoint(home, name, UID, complete.number, 4)  # its worker died before removing it
    claims.put_back(waiting, "asked to stop")
    claims.progressed(moved, 4)
    return claims


def facts(trial: FrozenTrial) -> dict[str, Any]:
    """All that Optuna knows of a trial but its id, in a form in which not-a-number equals itself."""
    known = {key.strip("_"): value for key, value in vars(trial).items() if key != "_trial_id"}
    # PostgreSQL gives a trial's attributes in no order.
    return {
        key: repr(sorted(value.items(), key=str)) if isinstance(value, dict) else repr(value)
        for key, value in known.items()
    }


def all_facts(database: optuna.storages.BaseStorage, study: str) -> list[dict[str, Any]]:
    return [facts(trial) for trial in database.get_all_trials(database.get_study_id_from_name(study))]


def as_put_back(trial: dict[str, Any]) -> dict[str, Any]:
    """What remains to be compared of a trial whose state, claim and history of claims may differ."""
    return {key: value for key, value in trial.items() if key not in {"state", "user_attrs", "system_attrs"}}


@cache
def _template() -> tempfile.TemporaryDirectory[str]:
    folder = tempfile.TemporaryDirectory()
    home = Home(Path(folder.name))
    with fresh_database(home.root / "studies.db") as database:
        varied_study(database, home)
    return folder


@contextmanager
def varied_home(home: Home) -> Iterator[Database]:
    """Put the study into a home's default database, and open that: a copy, because making one takes seconds."""
    shutil.copytree(_template().name, home.root, dirs_exist_ok=True)
    opened = open_database(home.database_url)
    try:
        yield opened
    finally:
        opened.engine.dispose()


@pytest.fixture
def varied(mine: Home) -> Iterator[Database]:
    """The study in the test's own home; a module calls it `database`."""
    with varied_home(mine) as opened:
        yield opened


def age(root: Path, seconds: float) -> None:
    """Let a file, or a folder with all that is in it, be as old as that."""
    then = time.time() - seconds
    for path in [root, *root.rglob("*")]:
        os.utime(path, (then, then))
