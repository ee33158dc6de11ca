"""A study's trials read by six statements, whatever their number, into what Optuna's own reading makes of them.

Optuna maps each row to an object, parses each distribution twice and each JSON once: a millisecond and a half for a
trial of twenty epochs. Here rows stay rows, and a distribution or a name that comes again is the object that it was.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, datetime
from functools import partial
from itertools import groupby
from operator import itemgetter
from typing import Any

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Column, ColumnElement, Connection, String, Table, select, type_coerce

_TRIALS: Table = models.TrialModel.__table__
_PARAMS: Table = models.TrialParamModel.__table__
_VALUES: Table = models.TrialValueModel.__table__
_REPORTS: Table = models.TrialIntermediateValueModel.__table__
_USER: Table = models.TrialUserAttributeModel.__table__
_SYSTEM: Table = models.TrialSystemAttributeModel.__table__

_STATES = {state.name: state for state in TrialState}
_NUMBERS = {"INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
_SHARED: dict[str, BaseDistribution] = {}

MOST_IDS = 1_000
"""So many trials are asked for by their ids in one statement: databases bound the length of one."""


def local_time(utc: datetime | None) -> datetime | None:
    """Return a moment as Optuna has it, in naive local time; its `fold` says which, where there are two of them."""
    return None if utc is None else datetime.fromtimestamp(utc.replace(tzinfo=UTC).timestamp())


def read_trials(
    connection: Connection,
    study_id: int,
    *,
    after: int = -1,
    also: Collection[int] = (),
    states: Collection[TrialState] | None = None,
) -> list[FrozenTrial]:
    """Return trials of a study, by id, as `RDBStorage` builds them; what a trial reported comes in the order of steps.

    Args:
        connection: in a transaction that sees one state of the database.
        study_id: of which study.
        after: those with greater ids.
        also: the ids of others.
        states: only those in one of these states.
    """
    asked = sorted(trial_id for trial_id in also if trial_id <= after)
    parts: list[ColumnElement[bool]] = [_TRIALS.c.trial_id > after]
    parts += [_TRIALS.c.trial_id.in_(asked[start : start + MOST_IDS]) for start in range(0, len(asked), MOST_IDS)]
    found: list[FrozenTrial] = []
    for part in parts:
        which = (_TRIALS.c.study_id == study_id) & part
        if states is not None:
            which &= _TRIALS.c.state.in_(states)
        found += _read(connection, which)
    return sorted(found, key=lambda trial: trial._trial_id)


def _read(connection: Connection, which: ColumnElement[bool]) -> list[FrozenTrial]:
    trials = _bare(connection, which)
    rows_of = partial(_rows_of, connection, trials, which)
    for trial, rows in rows_of(_PARAMS, "param_id", "param_name", "param_value", "distribution_json"):
        for _, name, value, text in rows:
            distribution = _distribution(text)
            trial._distributions[sys.intern(name)] = distribution
            trial._params[sys.intern(name)] = distribution.to_external_repr(value)
    for trial, rows in rows_of(_VALUES, "objective", "value", "value_type"):
        trial._values = [_number(value, kind) for _, value, kind in rows]
    reported = ("step", "intermediate_value", "intermediate_value_type")
    for trial, rows in rows_of(_REPORTS, "step", *reported):
        trial.intermediate_values = {step: _number(value, kind) for _, step, value, kind in rows}
    for trial, rows in rows_of(_USER, "trial_user_attribute_id", "key", "value_json"):
        trial._user_attrs = {sys.intern(key): json.loads(text) for _, key, text in rows}
    for trial, rows in rows_of(_SYSTEM, "trial_system_attribute_id", "key", "value_json"):
        trial._system_attrs = {sys.intern(key): json.loads(text) for _, key, text in rows}
    return list(trials.values())


def _bare(connection: Connection, which: ColumnElement[bool]) -> dict[int, FrozenTrial]:
    """The trials by id, with what their own rows say of them."""
    own = _TRIALS.c
    columns = (own.trial_id, own.number, _text(own.state), own.datetime_start, own.datetime_complete)
    rows = connection.execute(select(*columns).where(which).order_by(own.trial_id)).all()
    return {
        trial_id: FrozenTrial(
            number=number,
            state=_STATES[state],
            value=None,
            values=None,
            datetime_start=local_time(start),
            datetime_complete=local_time(complete),
            params={},
            distributions={},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
            trial_id=trial_id,
        )
        for trial_id, number, state, start, complete in rows
    }


def _rows_of(
    connection: Connection,
    trials: dict[int, FrozenTrial],
    which: ColumnElement[bool],
    table: Table,
    order: str,
    *names: str,
) -> Iterator[tuple[FrozenTrial, Sequence[Any]]]:
    """Yield each trial that has rows in a table with these, a trial's id and the columns of each, in their order."""
    owner = table.c.trial_id
    columns = [_text(table.c[name]) if name.endswith("_type") else table.c[name] for name in names]
    statement = select(owner, *columns).join_from(table, _TRIALS).where(which).order_by(owner, table.c[order])
    for trial_id, rows in groupby(connection.execute(statement).all(), itemgetter(0)):
        # What is not there was created between two statements, where a database allows that.
        if (trial := trials.get(trial_id)) is not None:
            yield trial, list(rows)


def _text(column: Column[Any]) -> ColumnElement[Any]:
    """A column of an enumeration as the text that it is, past SQLAlchemy's look-up for each row."""
    return type_coerce(column, String)


def _number(value: float | None, kind: str) -> float:
    return value if kind == "FINITE" else _NUMBERS[kind]  # type: ignore[return-value]


def _distribution(text: str) -> BaseDistribution:
    found = _SHARED.get(text)
    if found is None:
        found = _SHARED[text] = json_to_distribution(text)
    return found
