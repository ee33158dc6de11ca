"""Studies as the product writes them, of thousands of trials, made in seconds: rows of random figures in plain SQL."""

from __future__ import annotations

import json
import random
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from sqlalchemy import Table, func, insert, select

from storage import attributes
from storage.database import Database

REPORTS: Final = 20

_SPACE: Final = {
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
    "optimizer": CategoricalDistribution(["sgd", "adam", "adamw"]),
    "learning_rate": FloatDistribution(3e-4, 0.1, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
    "layers": IntDistribution(1, 4),
}
_BEGAN: Final = datetime(2026, 11, 1, tzinfo=UTC)
_TRIAL_S: Final = 20.0
_SOME: Final = 3


def make_study(database: Database, name: str, trials: int, *, frozen: bool, seed: int = 0) -> int:
    """Make a study and return its id.

    Args:
        database: where.
        name: the study's.
        trials: how many.
        frozen: whether they are frozen, but for every 20th, which is pruned, and three that are complete; else a third
            is complete and the others are pruned.
        seed: of their figures.
    """
    study_id = database.create_new_study([StudyDirection.MAXIMIZE], name)
    rng = random.Random(seed)
    rows: dict[Table, list[dict[str, Any]]] = {table: [] for table in _TABLES}
    with database.transaction() as connection:
        first = (connection.scalar(select(func.max(_TRIALS.c.trial_id))) or 0) + 1
        for number in range(trials):
            for table, row in _trial(rng, study_id, first + number, number, _state(number, frozen=frozen)):
                rows[table].append(row)
        for table, found in rows.items():
            connection.execute(insert(table), found)
    return study_id


_TRIALS: Table = models.TrialModel.__table__
_PARAMS: Table = models.TrialParamModel.__table__
_VALUES: Table = models.TrialValueModel.__table__
_REPORTS: Table = models.TrialIntermediateValueModel.__table__
_USER: Table = models.TrialUserAttributeModel.__table__
_SYSTEM: Table = models.TrialSystemAttributeModel.__table__
_TABLES: Final = (_TRIALS, _PARAMS, _VALUES, _REPORTS, _USER, _SYSTEM)


def _state(number: int, *, frozen: bool) -> str:
    if not frozen:
        return "COMPLETE" if number % _SOME == 0 else "PRUNED"
    return "COMPLETE" if number in (3, 57, 90) else "PRUNED" if number % 20 == 19 else "WAITING"


def _trial(
    rng: random.Random, study_id: int, trial_id: int, number: int, state: str
) -> Iterator[tuple[Table, dict[str, Any]]]:
    began = _BEGAN + timedelta(seconds=number * _TRIAL_S)
    ended = began + timedelta(seconds=rng.uniform(0.5, 1) * _TRIAL_S)
    over = state != "WAITING"
    yield (
        _TRIALS,
        {
            "trial_id": trial_id,
            "study_id": study_id,
            "number": number,
            "state": state,
            "datetime_start": began.replace(tzinfo=None),
            "datetime_complete": ended.replace(tzinfo=None) if over else None,
        },
    )
    for name, distribution in _SPACE.items():
        value = _drawn(rng, distribution)
        text = distribution_to_json(distribution)
        yield _PARAMS, {"trial_id": trial_id, "param_name": name, "param_value": value, "distribution_json": text}
    top = rng.uniform(0.3, 0.98)
    value = 0.0
    for step in range(1, REPORTS + 1):
        value = top * (1 - 0.6**step) + rng.gauss(0, 0.003)
        kind = {"intermediate_value": value, "intermediate_value_type": "FINITE"}
        yield _REPORTS, {"trial_id": trial_id, "step": step, **kind}
    if over:
        yield _VALUES, {"trial_id": trial_id, "objective": 0, "value": value, "value_type": "FINITE"}
    owner = f"host:{8000 + number // 1000}:{rng.getrandbits(32):08x}"
    for table, documents in (
        (_USER, _user_attributes(rng, owner, state)),
        (_SYSTEM, _system_attributes(rng, owner, state, began.timestamp(), ended.timestamp())),
    ):
        for key, document in documents.items():
            yield table, {"trial_id": trial_id, "key": key, "value_json": json.dumps(document)}


def _drawn(rng: random.Random, distribution: Any) -> float:
    """A parameter's value as the database has it."""
    if isinstance(distribution, CategoricalDistribution):
        return float(rng.randrange(len(distribution.choices)))
    if isinstance(distribution, IntDistribution):
        return float(rng.randint(distribution.low, distribution.high))
    return rng.uniform(distribution.low, distribution.high)


def _user_attributes(rng: random.Random, owner: str, state: str) -> dict[str, Any]:
    found = {
        attributes.WORKER: owner,
        attributes.DEVICE: "CPU",
        attributes.BACKEND: "tensorflow",
        attributes.PRECISION: "float32",
        attributes.THREADS: 1,
        attributes.WEIGHTS: 237_730,
        attributes.TRACES: 0,
        attributes.EPOCHS: REPORTS,
        attributes.SECONDS: round(rng.uniform(10, 20), 3),
    }
    if state == "COMPLETE":
        found |= {attributes.BEST_EPOCH: rng.randint(1, REPORTS), attributes.VALIDATION_LOSS: rng.random()}
        found[attributes.VALIDATION_BALANCED_ACCURACY] = rng.random()
    return found


def _system_attributes(rng: random.Random, owner: str, state: str, began: float, ended: float) -> dict[str, Any]:
    waits = state == "WAITING"
    claim: dict[str, Any] = {
        "owner": None if waits else owner,
        "count": 2,
        "id": None if waits else _id(rng),
        "from": 1,
    }
    claim |= {} if waits else {"begun": began, "seen": ended}
    found: dict[str, Any] = {
        attributes.CLAIM: claim,
        attributes.FROZEN: REPORTS if waits else None,
        attributes.WORKED: [[began, ended]],
    }
    roles = () if waits else _FILES if state == "COMPLETE" else _FILES[1:]
    for role, filename, mimetype in roles:
        artifact = _id(rng)
        shown = {"artifact_id": artifact, "filename": filename, "mimetype": mimetype, "encoding": None}
        kept = {
            "id": artifact,
            "role": role,
            "filename": filename,
            "sha256": f"{rng.getrandbits(256):064x}",
            "size_bytes": 35_000,
        }
        found[attributes.OPTUNA_ARTIFACT + artifact] = json.dumps(shown)
        found[attributes.ARTIFACT + role] = json.dumps(kept)
    return found


_FILES: Final = (
    ("model", "model.keras", "application/octet-stream"),
    ("history", "history.json", "application/json"),
    ("learning_curve", "learning_curve.png", "image/png"),
)


def _id(rng: random.Random) -> str:
    return str(uuid.UUID(int=rng.getrandbits(128), version=4))
