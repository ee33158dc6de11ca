"""The rows of one trial in Optuna's relational schema: plain statements, each made once.

Optuna's mapper takes a millisecond for what the database does in a hundredth of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    check_distribution_compatibility,
    distribution_to_json,
    json_to_distribution,
)
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Connection, Insert, Table, UniqueConstraint, bindparam, delete, func, select, update
from sqlalchemy.dialects import postgresql, sqlite

from storage import attributes
from storage.rows.compiled import execute
from storage.rows.tables import HEARTBEATS, PARAMS, REPORTS, TRIAL_SYSTEM, TRIAL_USER, TRIALS, VALUES

CLAIM = TRIAL_SYSTEM.alias("claim")

_INSERTS: Mapping[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


@cache
def _upsert(dialect: str, table: Table) -> Insert:
    """The statement that writes a row of a table, or over the one that is there."""
    keys, statement = _keys(table), _INSERTS[dialect](table).inline()
    new = {column.name: statement.excluded[column.name] for column in table.c}
    changed = {name: value for name, value in new.items() if name not in (*keys, *table.primary_key.columns.keys())}
    upsert: Insert = statement.on_conflict_do_update(index_elements=keys, set_=changed)
    return upsert


@cache
def _beat(dialect: str) -> Insert:
    """The statement that writes a heartbeat of the database's own now, with which stock Optuna compares it."""
    return _upsert(dialect, HEARTBEATS).values(heartbeat=func.now())


@cache
def _insert_new(dialect: str, table: Table) -> Insert:
    """The statement that writes a row of a table unless it is there."""
    statement: Insert = _INSERTS[dialect](table).inline().on_conflict_do_nothing(index_elements=_keys(table))
    return statement


def _keys(table: Table) -> list[str]:
    (unique,) = (constraint for constraint in table.constraints if isinstance(constraint, UniqueConstraint))
    return list(unique.columns.keys())


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


_LOCK = select(TRIALS.c.state).where(TRIALS.c.trial_id == bindparam("trial")).with_for_update()
# Both rows are locked, so that both are read as of now.
_LOCK_CLAIMED = (
    select(TRIALS.c.state, CLAIM.c.value_json)
    .join_from(TRIALS, CLAIM, (CLAIM.c.trial_id == TRIALS.c.trial_id) & (CLAIM.c.key == attributes.CLAIM))
    .where(TRIALS.c.trial_id == bindparam("trial"))
    .with_for_update()
)
_SET_STATE = update(TRIALS).where(TRIALS.c.trial_id == bindparam("trial")).values(state=bindparam("to"))
_BEGIN = _SET_STATE.values(
    datetime_start=func.coalesce(TRIALS.c.datetime_start, bindparam("at", type_=TRIALS.c.datetime_start.type))
)
_BEGIN_ANEW = _SET_STATE.values(datetime_start=bindparam("at"))
_FINISH = _SET_STATE.values(datetime_complete=bindparam("at"))
_FORGET = delete(PARAMS).where(PARAMS.c.trial_id == bindparam("trial"))
_KNOWN_DISTRIBUTION = (
    select(PARAMS.c.distribution_json)
    .join_from(PARAMS, TRIALS, PARAMS.c.trial_id == TRIALS.c.trial_id)
    .where(
        TRIALS.c.study_id == select(TRIALS.c.study_id).where(TRIALS.c.trial_id == bindparam("trial")).scalar_subquery(),
        PARAMS.c.param_name == bindparam("name"),
    )
    .limit(1)
)
_ATTRS = {
    table: select(table.c.key, table.c.value_json).where(
        table.c.trial_id == bindparam("trial"), table.c.key.in_(bindparam("keys", expanding=True))
    )
    for table in (TRIAL_SYSTEM, TRIAL_USER)
}


class SqlTrials:
    """What `Rows` does to one trial, in Optuna's relational schema, and what Optuna's storage does to it.

    Args:
        connection: whose transaction is seen and changed.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._dialect = connection.dialect.name

    def lock_state(self, trial_id: int) -> TrialState | None:
        found = execute(self.connection, _LOCK, trial=trial_id).scalar_one_or_none()
        return TrialState[found] if found is not None else None

    def lock_claimed(self, trial_id: int) -> tuple[TrialState, dict[str, Any]] | None:
        """Return a trial's state and what is stored of its claims, which stay so until the transaction ends.

        None where it is gone, or was never claimed.
        """
        found = execute(self.connection, _LOCK_CLAIMED, trial=trial_id).one_or_none()
        if found is None:
            return None
        state, claim = found
        return TrialState[state], json.loads(claim)

    def begin(self, trial_id: int) -> None:
        self._change(_BEGIN, trial_id, TrialState.RUNNING, at=_now())

    def begin_anew(self, trial_id: int) -> None:
        """Make a trial RUNNING, as of now."""
        self._change(_BEGIN_ANEW, trial_id, TrialState.RUNNING, at=_now())

    def wait(self, trial_id: int) -> None:
        self._change(_SET_STATE, trial_id, TrialState.WAITING)

    def fail(self, trial_id: int) -> None:
        self.mark_failed(trial_id)
        self.finish(trial_id, TrialState.FAIL)

    def finish(self, trial_id: int, state: TrialState) -> None:
        """Give a trial the state in which it ends, as of now."""
        self._change(_FINISH, trial_id, state, at=_now())

    def mark_failed(self, trial_id: int) -> None:
        """Record after which of the study's reports a trial fails."""
        # The study's own: where rows of another are removed, SQLite gives the highest ids out again.
        study_id = select(TRIALS.c.study_id).where(TRIALS.c.trial_id == trial_id).scalar_subquery()
        self.set_system_attr(trial_id, attributes.FAILED_AFTER, self.last_report(TRIALS.c.study_id == study_id))

    def forget_parameters(self, trial_id: int) -> None:
        self.connection.execute(_FORGET, {"trial": trial_id})

    def set_param(
        self, trial_id: int, name: str, value: float, distribution: BaseDistribution, before: BaseDistribution | None
    ) -> None:
        """Give a trial a parameter, in Optuna's own form, unless it has it.

        Args:
            trial_id: the trial's id.
            name: the parameter's.
            value: as `BaseDistribution.to_internal_repr` returns it.
            distribution: of the parameter.
            before: what another trial of the study has; None where that is to be looked up.

        Raises:
            ValueError: the two do not go together.
        """
        if before is None:
            known = execute(self.connection, _KNOWN_DISTRIBUTION, trial=trial_id, name=name).scalar()
            before = json_to_distribution(known) if known is not None else None
        if before is not None:
            check_distribution_compatibility(before, distribution)
        row = {"param_name": name, "param_value": value, "distribution_json": distribution_to_json(distribution)}
        execute(self.connection, _insert_new(self._dialect, PARAMS), trial_id=trial_id, **row)

    def set_values(self, trial_id: int, values: Sequence[float]) -> None:
        """Give a trial the values of its objectives."""
        for objective, value in enumerate(values):
            stored, kind = models.TrialValueModel.value_to_stored_repr(value)
            row = {"objective": objective, "value": stored, "value_type": kind.name}
            execute(self.connection, _upsert(self._dialect, VALUES), trial_id=trial_id, **row)

    def report(self, trial_id: int, step: int, value: float) -> None:
        """Give a trial what it reports after a step."""
        stored, kind = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr(value)
        row = {"step": step, "intermediate_value": stored, "intermediate_value_type": kind.name}
        execute(self.connection, _upsert(self._dialect, REPORTS), trial_id=trial_id, **row)

    def beat(self, trial_id: int) -> None:
        """Let a trial have a heartbeat of stock Optuna now."""
        execute(self.connection, _beat(self._dialect), trial_id=trial_id)

    def system_attr(self, trial_id: int, key: str) -> Any:
        return self._attrs(TRIAL_SYSTEM, trial_id, key).get(key)

    def set_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.write_attr(TRIAL_SYSTEM, {"trial_id": trial_id}, key, value)

    def user_attr(self, trial_id: int, key: str) -> Any:
        found = self._attrs(TRIAL_USER, trial_id, key, attributes.former(key))
        return attributes.read(found, key, object)

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self.write_attr(TRIAL_USER, {"trial_id": trial_id}, key, value)

    def last_report(self, *of: Any) -> int:
        """Return the last report of some trials; 0 for none."""
        joined = TRIALS.c.trial_id == REPORTS.c.trial_id
        last = select(func.max(REPORTS.c.trial_intermediate_value_id)).join_from(REPORTS, TRIALS, joined).where(*of)
        return self.connection.execute(last).scalar_one() or 0

    def _change(self, statement: Any, trial_id: int, state: TrialState, **more: Any) -> None:
        changed = self.connection.execute(statement, {"trial": trial_id, "to": state, **more})
        if changed.rowcount != 1:
            raise KeyError(models.NOT_FOUND_MSG)

    def _attrs(self, table: Table, trial_id: int, *keys: str) -> dict[str, Any]:
        rows = self.connection.execute(_ATTRS[table], {"trial": trial_id, "keys": keys})
        return {key: json.loads(stored) for key, stored in rows}

    def write_attr(self, table: Table, owner: Mapping[str, int], key: str, value: Any) -> None:
        """Write an attribute into one of the tables of attributes, which has the columns of its owner."""
        execute(self.connection, _upsert(self._dialect, table), **owner, key=key, value_json=json.dumps(value))
