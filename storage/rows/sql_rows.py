"""The rows that claims are made of, in Optuna's relational schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import ColumnElement, Select, case, delete, func, not_, orm, select

from storage import attributes
from storage.attributes import Phase, phase_in
from storage.rows.ledger import UNFINISHED, Counts, Failed, TrialRow, counted, in_a_row

_CLAIM, _FROZEN, _AFTER, _PHASE, _TRAINING = (orm.aliased(models.TrialSystemAttributeModel) for _ in range(5))
_IS_FROZEN = case((_FROZEN.value_json.is_not(None), _FROZEN.value_json != "null"), else_=False)


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
        self.mark_failed(trial_id)
        trial = self._trial(trial_id)
        trial.state, trial.datetime_complete = TrialState.FAIL, datetime.now()

    def mark_failed(self, trial_id: int) -> None:
        """Record after which of the study's reports a trial fails."""
        # The study's own: where rows of another are removed, SQLite gives the highest ids out again.
        trial = models.TrialModel
        study_id = select(trial.study_id).where(trial.trial_id == trial_id).scalar_subquery()
        self.set_system_attr(trial_id, attributes.FAILED_AFTER, self._last_report(trial.study_id == study_id))

    def forget_parameters(self, trial_id: int) -> None:
        self._session.execute(delete(models.TrialParamModel).where(models.TrialParamModel.trial_id == trial_id))

    def system_attr(self, trial_id: int, key: str) -> Any:
        return self._attrs(models.TrialSystemAttributeModel, trial_id, key).get(key)

    def set_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attr(models.TrialSystemAttributeModel, trial_id, key, value)

    def user_attr(self, trial_id: int, key: str) -> Any:
        found = self._attrs(models.TrialUserAttributeModel, trial_id, key, attributes.former(key))
        return attributes.read(found, key, object)

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._set_attr(models.TrialUserAttributeModel, trial_id, key, value)

    def _last_report(self, *of: ColumnElement[bool]) -> int:
        trial, report = models.TrialModel, models.TrialIntermediateValueModel
        joined = trial.trial_id == report.trial_id
        last = select(func.max(report.trial_intermediate_value_id)).join_from(report, trial, joined).where(*of)
        return self._session.execute(last).scalar_one() or 0

    def _trial(self, trial_id: int) -> Any:
        return models.TrialModel.find_or_raise_by_id(trial_id, self._session)

    def _attrs(self, model: Any, trial_id: int, *keys: str) -> dict[str, Any]:
        query = select(model.key, model.value_json).where(model.trial_id == trial_id, model.key.in_(keys))
        return {key: json.loads(stored) for key, stored in self._session.execute(query)}

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

    def counts(self, phase: Phase) -> Counts:
        state, is_claimed = models.TrialModel.state, _CLAIM.value_json.is_not(None)
        # One statement: PostgreSQL shows each statement the rows as of its own moment, and a trial that finishes
        # between two of them would be counted by neither.
        rows = self._session.execute(
            self._claimed(state, is_claimed, _IS_FROZEN, func.count())
            .where(_is_of(phase))
            .group_by(state, is_claimed, _IS_FROZEN)
        )
        return counted((state, bool(claimed), bool(at), number) for state, claimed, at, number in rows)

    def trainings(self, phase: Phase) -> list[Any]:
        trial = models.TrialModel
        rows = self._session.execute(
            self._claimed(_TRAINING.value_json)
            .join(
                _TRAINING,
                (_TRAINING.trial_id == trial.trial_id) & (_TRAINING.key == attributes.TRAINING),
                isouter=True,
            )
            .where(trial.state != TrialState.FAIL, _is_of(phase))
            .order_by(trial.number)
        )
        return [_loaded(stored) for stored in rows.scalars()]

    def active(self) -> list[TrialRow]:
        state = models.TrialModel.state
        return self._rows((state == TrialState.RUNNING) | ((state == TrialState.WAITING) & not_(_IS_FROZEN)))

    def frozen(self, number: int) -> TrialRow | None:
        trial = models.TrialModel
        found = self._rows((trial.number == number) & (trial.state == TrialState.WAITING) & _IS_FROZEN)
        return found[0] if found else None

    def unfinished(self) -> set[int]:
        trial = models.TrialModel
        return set(self._session.execute(self._trials(trial.number).where(trial.state.in_(UNFINISHED))).scalars())

    def next_number(self) -> int:
        return int(self._session.execute(self._trials(func.count())).scalar_one())

    def failed_in_a_row(self, since: int) -> list[Failed]:
        trial, at = models.TrialModel, models.TrialModel._datetime_complete_utc
        others = trial.study_id == self._study_id, trial.state != TrialState.FAIL
        rows = self._session.execute(
            self._trials(trial.trial_id, trial.number, _AFTER.value_json, at)
            .join(_AFTER, (_AFTER.trial_id == trial.trial_id) & (_AFTER.key == attributes.FAILED_AFTER), isouter=True)
            .where(trial.state == TrialState.FAIL, trial.number >= since)
        )
        failed = [Failed(trial_id, number, _loaded(after), when) for trial_id, number, after, when in rows]
        finished = self._session.execute(select(func.max(at)).where(*others)).scalar_one()
        return in_a_row(failed, self._last_report(*others), finished)

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
        return select(*columns).select_from(models.TrialModel).where(models.TrialModel.study_id == self._study_id)

    def _claimed(self, *columns: Any) -> Select[Any]:
        """With what is known of their claims, of their being frozen, and of what they are for."""
        trial_id = models.TrialModel.trial_id
        return (
            self._trials(*columns)
            .join(_CLAIM, (_CLAIM.trial_id == trial_id) & (_CLAIM.key == attributes.CLAIM), isouter=True)
            .join(_FROZEN, (_FROZEN.trial_id == trial_id) & (_FROZEN.key == attributes.FROZEN), isouter=True)
            .join(_PHASE, (_PHASE.trial_id == trial_id) & (_PHASE.key == attributes.PHASE), isouter=True)
        )

    def _rows(self, wanted: ColumnElement[bool]) -> list[TrialRow]:
        trial = models.TrialModel
        columns = trial.trial_id, trial.number, trial.state, _CLAIM.value_json, _FROZEN.value_json, _PHASE.value_json
        rows = self._session.execute(self._claimed(*columns).where(wanted).order_by(trial.number))
        return [
            TrialRow(trial_id, number, state, _loaded(held), _loaded(at), phase_in({attributes.PHASE: _loaded(phase)}))
            for trial_id, number, state, held, at, phase in rows
        ]


def _is_of(phase: Phase) -> ColumnElement[bool]:
    """Of the trials that `_claimed` joins: what is of no other phase is of the search."""
    recorded = _PHASE.value_json
    if phase != attributes.SEARCH:
        return recorded == json.dumps(phase)
    others = [json.dumps(other) for other in attributes.PHASES if other != phase]
    return recorded.is_(None) | recorded.not_in(others)


def _set_attr(session: orm.Session, model: Any, name: Mapping[str, Any], value: Any) -> None:
    row = session.execute(select(model).filter_by(**name)).scalar_one_or_none()
    if row is None:
        session.add(model(**name, value_json=json.dumps(value)))
    else:
        row.value_json = json.dumps(value)


def _loaded(stored: str | None) -> Any:
    return json.loads(stored) if stored is not None else None
