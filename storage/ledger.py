"""The rows that claims are made of, as one transaction sees them: in a database, or in this process's memory."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Select, case, delete, func, not_, orm, select

from storage import attributes

_CLAIM, _FROZEN = (orm.aliased(models.TrialSystemAttributeModel) for _ in range(2))
_IS_FROZEN = case((_FROZEN.value_json.is_not(None), _FROZEN.value_json != "null"), else_=False)


@dataclass(frozen=True)
class TrialRow:
    """A trial that is RUNNING or WAITING.

    Attributes:
        trial_id: its id in the database.
        number: its number in the study.
        state: Optuna's.
        claim: what is stored of its claims; None for a trial that this service never claimed.
        frozen: the epochs after which a WAITING trial was frozen, or None.
    """

    trial_id: int
    number: int
    state: TrialState
    claim: dict[str, Any] | None
    frozen: int | None


@dataclass(frozen=True)
class Counts:
    """How many trials a study has, by state; `running` are those that a claim holds, not those of stock Optuna."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int
    frozen: int


class Rows(Protocol):
    """One study's rows in one transaction."""

    def lock(self) -> None:
        """Keep other transactions from creating and taking up trials until this one ends; KeyError: no such study."""

    def counts(self) -> Counts:
        """Return the study's trials counted, all at one moment."""

    def active(self) -> list[TrialRow]:
        """Return the trials that are RUNNING, or WAITING without being frozen, by number."""

    def frozen(self, number: int) -> TrialRow | None:
        """Return the trial of that number if it is frozen."""

    def unfinished(self) -> set[int]:
        """Return the numbers of the trials that are RUNNING or WAITING."""

    def next_number(self) -> int:
        """Return the number that the next trial will have."""

    def last_finished(self, count: int, since: int) -> list[tuple[int, int, TrialState]]:
        """Return id, number and state of the last trials to finish, latest first, of those numbered `since` or more."""

    def create(self) -> TrialRow:
        """Make the next trial, RUNNING."""

    def lock_state(self, trial_id: int) -> TrialState | None:
        """Return a trial's state, which stays so until the transaction ends; None if it is gone."""

    def begin(self, trial_id: int) -> None:
        """Make a trial RUNNING; one that began before keeps its start, another starts now."""

    def wait(self, trial_id: int) -> None:
        """Make a trial WAITING."""

    def fail(self, trial_id: int) -> None:
        """Make a trial FAIL, as of now."""

    def forget_parameters(self, trial_id: int) -> None:
        """Remove a trial's parameters."""

    def system_attr(self, trial_id: int, key: str) -> Any:
        """Return a trial's system attribute, or None."""

    def set_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a trial's system attribute."""

    def user_attr(self, trial_id: int, key: str) -> Any:
        """Return a trial's user attribute, or None."""

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a trial's user attribute."""

    def study_user_attrs(self) -> Mapping[str, Any]:
        """Return the study's user attributes."""

    def study_system_attrs(self) -> Mapping[str, Any]:
        """Return the study's system attributes."""

    def set_study_user_attr(self, key: str, value: Any) -> None:
        """Set a user attribute of the study."""

    def set_study_system_attr(self, key: str, value: Any) -> None:
        """Set a system attribute of the study."""


class Ledger(Protocol):
    """Where claims are kept: `storage.database.Database`, or `storage.memory_rows.Memory`."""

    def rows(self, study_id: int, *, write: bool) -> AbstractContextManager[Rows]:
        """Yield a study's rows inside one transaction, undone by any exception where the ledger can undo."""

    def repeated(self, call: Callable[[], Any]) -> Any:
        """Return `call()`, repeated while the ledger is busy or away."""

    def fence(self, trial_id: int, claim_id: str) -> None:
        """From now on, let this process write to a trial only while it holds the claim."""


class SqlTrials:
    """What `Rows` does to one trial, in Optuna's relational schema.

    Args:
        session: whose transaction is seen and changed.
    """

    def __init__(self, session: orm.Session) -> None:
        self._session = session

    def lock_state(self, trial_id: int) -> TrialState | None:
        trial = models.TrialModel
        query = select(trial.state).where(trial.trial_id == trial_id).with_for_update()
        return self._session.execute(query).scalar_one_or_none()

    def begin(self, trial_id: int) -> None:
        trial = self._trial(trial_id)
        trial.state = TrialState.RUNNING
        if trial.datetime_start is None:
            trial.datetime_start = datetime.now()

    def wait(self, trial_id: int) -> None:
        self._trial(trial_id).state = TrialState.WAITING

    def fail(self, trial_id: int) -> None:
        trial = self._trial(trial_id)
        trial.state, trial.datetime_complete = TrialState.FAIL, datetime.now()

    def forget_parameters(self, trial_id: int) -> None:
        self._session.execute(delete(models.TrialParamModel).where(models.TrialParamModel.trial_id == trial_id))

    def system_attr(self, trial_id: int, key: str) -> Any:
        return self._attr(models.TrialSystemAttributeModel, trial_id, key)

    def set_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attr(models.TrialSystemAttributeModel, trial_id, key, value)

    def user_attr(self, trial_id: int, key: str) -> Any:
        return self._attr(models.TrialUserAttributeModel, trial_id, key)

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attr(models.TrialUserAttributeModel, trial_id, key, value)

    def _trial(self, trial_id: int) -> Any:
        return models.TrialModel.find_or_raise_by_id(trial_id, self._session)

    def _attr(self, model: Any, trial_id: int, key: str) -> Any:
        query = select(model.value_json).where(model.trial_id == trial_id, model.key == key)
        return _loaded(self._session.execute(query).scalar_one_or_none())

    def _set_attr(self, model: Any, trial_id: int, key: str, value: Any) -> None:
        _set_attr(self._session, model, {"trial_id": trial_id, "key": key}, value)


class SqlRows(SqlTrials):
    """`Rows` of Optuna's relational schema.

    Args:
        session: whose transaction is seen and changed.
        study_id: the study's id.
    """

    def __init__(self, session: orm.Session, study_id: int) -> None:
        super().__init__(session)
        self._study_id = study_id

    def lock(self) -> None:
        models.StudyModel.find_or_raise_by_id(self._study_id, self._session, for_update=True)

    def counts(self) -> Counts:
        state, is_claimed = models.TrialModel.state, _CLAIM.value_json.is_not(None)
        # One statement: PostgreSQL shows each statement the rows as of its own moment, and a trial that finishes
        # between two of them would be counted by neither.
        rows = self._session.execute(
            self._claimed(state, is_claimed, _IS_FROZEN, func.count()).group_by(state, is_claimed, _IS_FROZEN)
        )
        return counted((state, bool(claimed), bool(at), number) for state, claimed, at, number in rows)

    def active(self) -> list[TrialRow]:
        state = models.TrialModel.state
        return self._rows((state == TrialState.RUNNING) | ((state == TrialState.WAITING) & not_(_IS_FROZEN)))

    def frozen(self, number: int) -> TrialRow | None:
        trial = models.TrialModel
        found = self._rows((trial.number == number) & (trial.state == TrialState.WAITING) & _IS_FROZEN)
        return found[0] if found else None

    def unfinished(self) -> set[int]:
        trial = models.TrialModel
        waits = trial.state.in_([TrialState.RUNNING, TrialState.WAITING])
        return set(self._session.execute(self._trials(trial.number).where(waits)).scalars())

    def next_number(self) -> int:
        return int(self._session.execute(self._trials(func.count())).scalar_one())

    def last_finished(self, count: int, since: int) -> list[tuple[int, int, TrialState]]:
        trial = models.TrialModel
        rows = self._session.execute(
            self._trials(trial.trial_id, trial.number, trial.state)
            .where(trial.state.in_([TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED]), trial.number >= since)
            .order_by(trial._datetime_complete_utc.desc(), trial.number.desc())
            .limit(count)
        )
        return [(trial_id, number, state) for trial_id, number, state in rows]

    def create(self) -> TrialRow:
        trial = models.TrialModel(study_id=self._study_id, number=None, state=TrialState.RUNNING)
        self._session.add(trial)
        self._session.flush()
        trial.number = trial.count_past_trials(self._session)
        return TrialRow(int(trial.trial_id), int(trial.number), TrialState.RUNNING, None, None)

    def study_user_attrs(self) -> Mapping[str, Any]:
        return self._study_attrs(models.StudyUserAttributeModel)

    def study_system_attrs(self) -> Mapping[str, Any]:
        return self._study_attrs(models.StudySystemAttributeModel)

    def set_study_user_attr(self, key: str, value: Any) -> None:
        _set_attr(self._session, models.StudyUserAttributeModel, {"study_id": self._study_id, "key": key}, value)

    def set_study_system_attr(self, key: str, value: Any) -> None:
        _set_attr(self._session, models.StudySystemAttributeModel, {"study_id": self._study_id, "key": key}, value)

    def _study_attrs(self, model: Any) -> Mapping[str, Any]:
        rows = self._session.execute(select(model.key, model.value_json).where(model.study_id == self._study_id))
        return {key: json.loads(stored) for key, stored in rows}

    def _trials(self, *columns: Any) -> Select[Any]:
        return select(*columns).where(models.TrialModel.study_id == self._study_id)

    def _claimed(self, *columns: Any) -> Select[Any]:
        """With what is known of their claims and of their being frozen."""
        trial_id = models.TrialModel.trial_id
        return (
            self._trials(*columns)
            .join(_CLAIM, (_CLAIM.trial_id == trial_id) & (_CLAIM.key == attributes.CLAIM), isouter=True)
            .join(_FROZEN, (_FROZEN.trial_id == trial_id) & (_FROZEN.key == attributes.FROZEN), isouter=True)
        )

    def _rows(self, wanted: ColumnElement[bool]) -> list[TrialRow]:
        trial = models.TrialModel
        columns = trial.trial_id, trial.number, trial.state, _CLAIM.value_json, _FROZEN.value_json
        rows = self._session.execute(self._claimed(*columns).where(wanted).order_by(trial.number))
        return [
            TrialRow(trial_id, number, state, _loaded(held), _loaded(at)) for trial_id, number, state, held, at in rows
        ]


def _set_attr(session: orm.Session, model: Any, name: Mapping[str, Any], value: Any) -> None:
    row = session.execute(select(model).filter_by(**name)).scalar_one_or_none()
    if row is None:
        session.add(model(**name, value_json=json.dumps(value)))
    else:
        row.value_json = json.dumps(value)


def _loaded(stored: str | None) -> Any:
    return json.loads(stored) if stored is not None else None


def is_frozen(trial: FrozenTrial) -> bool:
    """Return whether a trial waits until it is thawed."""
    return trial.state == TrialState.WAITING and trial.system_attrs.get(attributes.FROZEN) is not None


def counted(trials: Any) -> Counts:
    """Return the counts of trials given as state, whether claimed, whether frozen, and how many."""
    count = [0] * len(TrialState)
    running = frozen = 0
    for state, is_claimed, is_frozen, number in trials:
        count[state] += number
        running += number if state == TrialState.RUNNING and is_claimed else 0
        frozen += number if state == TrialState.WAITING and is_frozen else 0
    return Counts(
        complete=count[TrialState.COMPLETE],
        pruned=count[TrialState.PRUNED],
        failed=count[TrialState.FAIL],
        running=running,
        waiting=count[TrialState.WAITING] - frozen,
        frozen=frozen,
    )
