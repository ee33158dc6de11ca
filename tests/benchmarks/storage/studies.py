"""Studies of many trials, as the service writes them, made in seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from optuna.distributions import CategoricalDistribution, FloatDistribution, distribution_to_json
from sqlalchemy import Table, insert

from storage import attributes
from storage.claims import Claims
from storage.opening import open_database
from storage.rows import tables
from studies.declaration import Overrides, hypermodel_name, make_spec, read_declaration
from studies.spec import StudySpec
from studies.stored import create_or_load
from tests.benchmarks.throughput.data import ROOT

STUDY: Final = "measured"
REPORTS: Final = 20
SPACE: Final = {
    "batch_size": CategoricalDistribution([32, 64, 128, 256]),
    "optimizer": CategoricalDistribution(["sgd", "adam", "adamw"]),
    "learning_rate": FloatDistribution(0.0003, 0.1, log=True),
    "dropout": FloatDistribution(0.0, 0.6),
}
PART: Final = 2_000

Mix = Literal["over", "frozen", "running"]
"""`over`: a third COMPLETE, the rest PRUNED; `frozen`: a search that freezes, nineteen of twenty wait; `running`:
each is held by a worker of its own, somewhere between its first epoch and its last."""

_TABLES: dict[str, Table] = {
    "params": tables.PARAMS,
    "values": tables.VALUES,
    "reports": tables.REPORTS,
    "user": tables.TRIAL_USER,
    "system": tables.TRIAL_SYSTEM,
}


def make_study(url: str, trials: int, mix: Mix = "over", *, budget: int | None = None) -> None:
    """Make a database with one study of so many trials of `REPORTS` epochs; always the same one.

    Args:
        url: where nothing is yet.
        trials: how many.
        mix: how they ended.
        budget: the study's; so many trials by default.
    """
    database = open_database(url, create=True)
    study, _ = create_or_load(database, STUDY, spec(), lambda: _DATA)
    Claims(database, study._study_id, "made").set_budget(
        trials if budget is None else budget, {attributes.BUDGET_EPOCHS: None}
    )
    rng = random.Random(0)
    with database.transaction() as connection:
        for start in range(0, trials, PART):
            rows = [_trial(rng, study._study_id, number, mix) for number in range(start, min(start + PART, trials))]
            made = connection.execute(
                insert(tables.TRIALS).returning(tables.TRIALS.c.trial_id, sort_by_parameter_order=True),
                [own for own, _ in rows],
            )
            ids = list(made.scalars())
            for kind, table in _TABLES.items():
                of_kind = [{"trial_id": i, **row} for i, (_, of) in zip(ids, rows, strict=True) for row in of[kind]]
                if of_kind:
                    connection.execute(insert(table), of_kind)
    database.engine.dispose()
    settle(url)


def settle(url: str) -> None:
    """Have a database that was just filled as it is after a while: its log written back, its statistics known."""
    database = open_database(url)
    with database.engine.execution_options(isolation_level="AUTOCOMMIT").connect() as connection:
        if database.engine.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql("VACUUM ANALYZE")
    database.engine.dispose()


def spec() -> StudySpec:
    """Return what the studies say of themselves."""
    declaration = read_declaration(ROOT / "studies" / "catalog" / "cifar10.toml")
    return make_spec(declaration, Overrides(), plan_name="cpu", model=hypermodel_name("cnn"), strategy="freeze_thaw")


_DATA: Any = {
    "checksum": "0" * 64, "split": "1" * 16, "train": 40_000, "validation": 10_000, "mean": [120.0] * 3,
    "std": [60.0] * 3, "class_counts": [4_000] * 10,
}  # fmt: skip


def _trial(rng: random.Random, study_id: int, number: int, mix: Mix) -> tuple[dict[str, Any], dict[str, Any]]:
    """A trial's own row, and those that belong to it, by table."""
    state = _state(number, mix)
    over = state in ("COMPLETE", "PRUNED")
    began = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=20 * number)
    own = {
        "study_id": study_id, "number": number, "state": state, "datetime_start": began.replace(tzinfo=None),
        "datetime_complete": (began + timedelta(seconds=18)).replace(tzinfo=None) if over else None,
    }  # fmt: skip
    top, curve = rng.uniform(0.3, 0.98), list[float]()
    epochs = 1 + number % REPORTS if state == "RUNNING" else REPORTS
    for epoch in range(1, epochs + 1):
        curve.append(top * (1 - 0.6**epoch) + rng.gauss(0, 0.003))
    drawn = {"batch_size": rng.randrange(4), "optimizer": rng.randrange(3),
             "learning_rate": 0.0003 * (0.1 / 0.0003) ** rng.random(), "dropout": rng.uniform(0, 0.6)}  # fmt: skip
    of = {
        "params": [
            {"param_name": name, "param_value": float(value), "distribution_json": distribution_to_json(SPACE[name])}
            for name, value in drawn.items()
        ],
        "values": [{"objective": 0, "value": curve[-1], "value_type": "FINITE"}] if over else [],
        "reports": [
            {"step": epoch, "intermediate_value": value, "intermediate_value_type": "FINITE"}
            for epoch, value in enumerate(curve, start=1)
        ],
        "user": [{"key": key, "value_json": json.dumps(value)} for key, value in _said(rng, state, number)],
        "system": [
            {"key": key, "value_json": json.dumps(value)}
            for key, value in _known(rng, state, number, began.timestamp())
        ],
    }
    return own, of


def _state(number: int, mix: Mix) -> str:
    if mix == "over":
        return "COMPLETE" if number % 3 == 0 else "PRUNED"
    if mix == "running":
        return "RUNNING"
    return "COMPLETE" if number % 300 == 7 else "PRUNED" if number % 20 == 19 else "WAITING"


def _said(rng: random.Random, state: str, number: int) -> Iterator[tuple[str, Any]]:
    yield attributes.WORKER, f"host:{8000 + number // 1000}:{rng.getrandbits(32):08x}"
    yield from {
        attributes.DEVICE: "CPU", attributes.BACKEND: "tensorflow", attributes.PRECISION: "float32",
        attributes.THREADS: 1, attributes.WEIGHTS: 237_730, attributes.TRACES: 0, attributes.EPOCHS: REPORTS,
        attributes.SECONDS: round(rng.uniform(10, 40), 3),
    }.items()  # fmt: skip
    if state == "COMPLETE":
        yield attributes.BEST_EPOCH, rng.randrange(1, REPORTS + 1)
        yield attributes.VALIDATION_LOSS, rng.random()


def _known(rng: random.Random, state: str, number: int, at: float) -> Iterator[tuple[str, Any]]:
    owner, claim = (f"host:1:{number:08x}", f"{rng.getrandbits(128):032x}") if state != "WAITING" else (None, None)
    held = {
        "owner": owner,
        "count": 2,
        "id": claim,
        "beat": 3,
        "from": 1,
        "epochs": REPORTS,
        "begun": at,
        "seen": at + 9,
    }
    yield attributes.CLAIM, held
    yield attributes.FROZEN, REPORTS if state == "WAITING" else None
    yield attributes.WORKED, [[at, at + 10.5]]
    roles = {"COMPLETE": ("model", "history", "learning_curve"), "PRUNED": ("history", "learning_curve")}
    for role in roles.get(state, ()):
        yield from artifact_records(f"{rng.getrandbits(128):032x}", role)


def artifact_records(artifact: str, role: str) -> Iterator[tuple[str, str]]:
    """Yield the two attributes that say of a file of a trial what it is."""
    name = f"{role}.png"
    shown = {"artifact_id": artifact, "filename": name, "mimetype": "image/png", "encoding": None}
    yield attributes.OPTUNA_ARTIFACT + artifact, json.dumps(shown)
    own = {"id": artifact, "role": role, "filename": name, "sha256": "0" * 64, "size_bytes": 35_000}
    yield attributes.ARTIFACT + role, json.dumps(own)
