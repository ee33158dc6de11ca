"""A study's trials read by six statements, whatever their number: as rows, or as Optuna's own reading makes them.

Optuna maps each row to an object, parses each distribution twice and each JSON once: a millisecond and a half for a
trial of twenty epochs. Here rows stay rows, and a distribution or a name that comes again is the object that it was.
"""

from __future__ import annotations

import gc
import json
import math
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import Any, NamedTuple, cast

from optuna.distributions import BaseDistribution, json_to_distribution
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Column, ColumnElement, Connection, String, Table, select, type_coerce

from storage.rows.tables import PARAMS, REPORTS, STUDIES, TRIAL_SYSTEM, TRIAL_USER, TRIALS, VALUES

_STATES = {state.name: state for state in TrialState}
# SQLite keeps what is not a number as NULL, whatever it is said to be.
_NUMBERS = {"FINITE": math.nan, "INF_POS": math.inf, "INF_NEG": -math.inf, "NAN": math.nan}
_SHARED: dict[str, BaseDistribution] = {}

MOST_IDS = 1_000
"""So many trials are asked for by their ids in one statement: databases bound the length of one."""

Row = Sequence[Any]
"""Begins with the id of the trial that it is of."""


class TrialRows(NamedTuple):
    """All that a database has of one trial.

    Attributes:
        trial_id: its id.
        number: its number in the study.
        state: Optuna's.
        start: when it was taken up, in UTC, if it was.
        complete: when it ended, in UTC, if it did.
        params: its parameters, each `(id, name, value, distribution as JSON)`.
        values: its values in the order of the objectives, each `(id, value, kind)`; see `number_of`.
        reports: what it reported in the order of steps, each `(id, step, value, kind)`.
        user: its user attributes, each `(id, key, JSON)`.
        system: its system attributes, likewise.
    """

    trial_id: int
    number: int
    state: TrialState
    start: datetime | None
    complete: datetime | None
    params: Sequence[Row]
    values: Sequence[Row]
    reports: Sequence[Row]
    user: Sequence[Row]
    system: Sequence[Row]


def local_time(utc: datetime | None) -> datetime | None:
    """Return a moment as Optuna has it, in naive local time; its `fold` says which, where there are two of them."""
    return None if utc is None else datetime.fromtimestamp(utc.replace(tzinfo=UTC).timestamp())


def number_of(value: float | None, kind: str) -> float:
    """Return the number that a column has with another, which says whether it is one that SQL has."""
    return _NUMBERS[kind] if value is None else value


def distribution_of(text: str) -> BaseDistribution:
    """Return a distribution by its JSON, the same object each time."""
    found = _SHARED.get(text)
    if found is None:
        found = _SHARED[text] = json_to_distribution(text)
    return found


def read_trials(
    connection: Connection,
    study_id: int,
    *,
    after: int = -1,
    also: Collection[int] = (),
    states: Collection[TrialState] | None = None,
) -> list[FrozenTrial]:
    """Return trials of a study, by id, as `RDBStorage` builds them; see `read_rows` for what is asked for."""
    with no_garbage():
        return [_built(rows) for rows in read_rows(connection, study_id, after=after, also=also, states=states)]


@contextmanager
def no_garbage() -> Iterator[None]:
    """Make many objects that stay: nothing of them refers to itself, and looking for such takes a tenth of the time."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def read_rows(
    connection: Connection,
    study_id: int,
    *,
    after: int = -1,
    also: Collection[int] = (),
    states: Collection[TrialState] | None = None,
) -> Iterator[TrialRows]:
    """Yield what the database has of trials of a study, by their id.

    Args:
        connection: in a transaction that sees one state of the database.
        study_id: of which study.
        after: those with greater ids.
        also: the ids of others.
        states: only those in one of these states.
    """
    asked = sorted(trial_id for trial_id in also if trial_id <= after)
    parts: list[ColumnElement[bool]] = [
        TRIALS.c.trial_id.in_(asked[start : start + MOST_IDS]) for start in range(0, len(asked), MOST_IDS)
    ]
    for part in [*parts, TRIALS.c.trial_id > after]:
        which = (TRIALS.c.study_id == study_id) & part
        if states is not None:
            which &= TRIALS.c.state.in_(states)
        yield from _read(connection, which)


def read_trial(connection: Connection, trial_id: int) -> FrozenTrial | None:
    """Return a trial, as `read_trials` does; None where there is none."""
    return next(map(_built, _read(connection, TRIALS.c.trial_id == trial_id)), None)


def require_study(connection: Connection, study_id: int) -> None:
    """Look for a study.

    Raises:
        KeyError: there is none of that id.
    """
    if connection.scalar(select(STUDIES.c.study_id).where(STUDIES.c.study_id == study_id)) is None:
        raise KeyError(models.NOT_FOUND_MSG)


def _read(connection: Connection, which: ColumnElement[bool]) -> Iterator[TrialRows]:
    own = TRIALS.c
    columns = (own.trial_id, own.number, _text(own.state), own.datetime_start, own.datetime_complete)
    # First of all, so that what a trial is said to have had when it ended is there.
    trials = connection.execute(select(*columns).where(which).order_by(own.trial_id)).all()
    if not trials:
        return
    parts = [
        _Part(connection, which, PARAMS, "param_id", "param_name", "param_value", "distribution_json"),
        _Part(connection, which, VALUES, "objective", "value", "value_type"),
        _Part(connection, which, REPORTS, "step", "step", "intermediate_value", "intermediate_value_type"),
        _Part(connection, which, TRIAL_USER, "trial_user_attribute_id", "key", "value_json"),
        _Part(connection, which, TRIAL_SYSTEM, "trial_system_attribute_id", "key", "value_json"),
    ]
    try:
        for trial_id, number, state, start, complete in trials:
            of_trial = [part.of(trial_id) for part in parts]
            yield TrialRows(trial_id, number, _STATES[state], start, complete, *of_trial)
    finally:
        for part in parts:
            part.close()


class _Part:
    """The rows of one table, trial by trial, in the order of a column.

    Each begins with the trial's id; the columns follow.
    """

    def __init__(
        self, connection: Connection, which: ColumnElement[bool], table: Table, order: str, *names: str
    ) -> None:
        columns = [_text(table.c[name]) if name.endswith("_type") else table.c[name] for name in names]
        statement = (
            select(TRIALS.c.trial_id, *columns)
            .join_from(table, TRIALS)
            .where(which)
            .order_by(TRIALS.c.trial_id, table.c[order])
        )
        self._result = connection.execute(statement)
        # The driver's own rows: no column here has one of SQLAlchemy's types that must be converted.
        rows: Iterable[Row] = cast(Any, self._result.cursor)
        self._groups = groupby(rows, itemgetter(0))
        self._owner: float = -1
        self._rows: Iterator[Row] = iter(())
        self._advance()

    def _advance(self) -> None:
        self._owner, self._rows = next(self._groups, (math.inf, iter(())))

    def of(self, trial_id: int) -> list[Row]:
        """Return a trial's; each trial is asked for once, in the order of their ids."""
        while self._owner < trial_id:  # created between two statements, where a database allows that
            self._advance()
        if self._owner != trial_id:
            return []
        found = list(self._rows)
        self._advance()
        return found

    def close(self) -> None:
        """Let go of what was not asked for."""
        self._result.close()


def _built(rows: TrialRows) -> FrozenTrial:
    trial = FrozenTrial(
        number=rows.number,
        state=rows.state,
        value=None,
        values=None,
        datetime_start=local_time(rows.start),
        datetime_complete=local_time(rows.complete),
        params={},
        distributions={},
        user_attrs={sys.intern(key): json.loads(text) for _, key, text in rows.user},
        system_attrs={sys.intern(key): json.loads(text) for _, key, text in rows.system},
        intermediate_values={step: number_of(value, kind) for _, step, value, kind in rows.reports},
        trial_id=rows.trial_id,
    )
    for _, name, value, text in rows.params:
        distribution = distribution_of(text)
        trial._distributions[sys.intern(name)] = distribution
        trial._params[sys.intern(name)] = distribution.to_external_repr(value)
    if rows.values:
        trial._values = [number_of(value, kind) for _, value, kind in rows.values]
    return trial


def _text(column: Column[Any]) -> ColumnElement[Any]:
    """A column of an enumeration as the text that it is, past SQLAlchemy's look-up for each row."""
    return type_coerce(column, String)
