"""The rows that claims are made of, in Optuna's relational schema."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import Connection, Select, Table, bindparam, case, func, insert, literal_column, not_, select, union_all

from storage import attributes
from storage.attributes import Phase, phase_in
from storage.rows.ledger import UNFINISHED, Counts, Failed, TrialRow, counted, in_a_row
from storage.rows.sql_trials import CLAIM, SqlTrials
from storage.rows.tables import STUDIES, STUDY_SYSTEM, STUDY_USER, TRIAL_SYSTEM, TRIALS

_FROZEN, _AFTER, _PHASE, _TRAINING = (TRIAL_SYSTEM.alias(name) for name in ("frozen", "after", "phase", "training"))
_IS_FROZEN = case((_FROZEN.c.value_json.is_not(None), _FROZEN.c.value_json != "null"), else_=False)
# A literal: a database takes an index of these rows alone only where it sees that no others are asked for.
_IS_PHASE = _PHASE.c.key == literal_column(f"'{attributes.PHASE}'")

INDEXES = {
    "tuning_trials_by_state": f"{TRIALS.name} (study_id, state, number)",
    "tuning_trials_by_phase": f"{TRIAL_SYSTEM.name} (trial_id) WHERE {TRIAL_SYSTEM.c.key.name} = '{attributes.PHASE}'",
}
"""What this service adds to Optuna's tables, by its name: what a claim asks is answered without reading every trial."""


class SqlRows(SqlTrials):
    """`Rows` of Optuna's relational schema.

    Args:
        connection: whose transaction is seen and changed.
        study_id: the study's id.
    """

    def __init__(self, connection: Connection, study_id: int) -> None:
        super().__init__(connection)
        self._study_id = study_id
        # Counted once: whoever gives numbers has locked the study.
        self._next_number: int | None = None

    def lock(self) -> None:
        if self._asked(_LOCK_STUDY).scalar_one_or_none() is None:
            raise KeyError(models.NOT_FOUND_MSG)

    def counts(self, phase: Phase) -> Counts:
        # One statement: PostgreSQL shows each statement the rows as of its own moment, and a trial that finishes
        # between two of them would be counted by neither.
        rows = self._asked(_COUNTS[phase])
        return counted(part for row in rows for part in _parts(*row))

    def trainings(self, phase: Phase) -> list[Any]:
        return [_loaded(stored) for stored in self._asked(_TRAININGS[phase]).scalars()]

    def active(self) -> list[TrialRow]:
        return _rows(self._asked(_ACTIVE))

    def frozen(self, number: int) -> TrialRow | None:
        found = _rows(self._asked(_FROZEN_ONE, number=number))
        return found[0] if found else None

    def unfinished(self) -> set[int]:
        return set(self._asked(_UNFINISHED).scalars())

    def next_number(self) -> int:
        if self._next_number is None:
            self._next_number = int(self._asked(_NUMBER_OF_TRIALS).scalar_one())
        return self._next_number

    def failed_in_a_row(self, since: int) -> list[Failed]:
        rows = self._asked(_FAILED, since=since)
        failed = [Failed(trial_id, number, _loaded(after), when) for trial_id, number, after, when in rows]
        finished = self._asked(_LAST_FINISHED).scalar_one()
        others = TRIALS.c.study_id == self._study_id, TRIALS.c.state != TrialState.FAIL
        return in_a_row(failed, self.last_report(*others), finished)

    def create(self) -> TrialRow:
        number = self.next_number()
        row = {"study_id": self._study_id, "number": number, "state": TrialState.RUNNING}
        trial_id = self.connection.execute(_CREATE, row).scalar_one()
        self._next_number = number + 1
        return TrialRow(int(trial_id), number, TrialState.RUNNING, None, None)

    def study_user_attrs(self) -> Mapping[str, Any]:
        return self._study_attrs(STUDY_USER)

    def study_system_attrs(self) -> Mapping[str, Any]:
        return self._study_attrs(STUDY_SYSTEM)

    def set_study_user_attr(self, key: str, value: Any) -> None:
        self.write_attr(STUDY_USER, {"study_id": self._study_id}, key, value)

    def set_study_system_attr(self, key: str, value: Any) -> None:
        self.write_attr(STUDY_SYSTEM, {"study_id": self._study_id}, key, value)

    def _study_attrs(self, table: Table) -> Mapping[str, Any]:
        return {key: json.loads(stored) for key, stored in self._asked(_STUDY_ATTRS[table])}

    def _asked(self, statement: Any, **more: Any) -> Any:
        return self.connection.execute(statement, {"study": self._study_id, **more})


# --- The statements of a study ---


def _of_study(*columns: Any, few: bool = False) -> Select[Any]:
    """Of a study's trials; of few, which something else finds quicker than the study's index."""
    study_id = TRIALS.c.study_id + 0 if few else TRIALS.c.study_id
    return select(*columns).select_from(TRIALS).where(study_id == bindparam("study"))


def _claimed(*columns: Any) -> Select[Any]:
    """With what is known of their claims, of their being frozen, and of what they are for."""
    trial_id = TRIALS.c.trial_id
    # What is frozen first: where that decides whether a trial is wanted, the rest is not looked up.
    return (
        _of_study(*columns)
        .join(_FROZEN, (_FROZEN.c.trial_id == trial_id) & (_FROZEN.c.key == attributes.FROZEN), isouter=True)
        .join(CLAIM, (CLAIM.c.trial_id == trial_id) & (CLAIM.c.key == attributes.CLAIM), isouter=True)
        .join(_PHASE, (_PHASE.c.trial_id == trial_id) & (_PHASE.c.key == attributes.PHASE), isouter=True)
    )


def _has(attribute: Any, key: str, *more: Any) -> Any:
    """Whether the trial of the statement around it has a system attribute."""
    found = select(attribute.c.trial_id).where(attribute.c.trial_id == TRIALS.c.trial_id, attribute.c.key == key)
    return found.where(*more).exists()


def _counts(sign: int, *of: Any) -> list[Select[Any]]:
    """Of each state how many trials, then how many a claim holds, and how many are frozen; `sign` says what for.

    Those that are over are many: they are counted by the index alone.
    """
    state = TRIALS.c.state
    nothing: Any = literal_column("0")
    number: Any = func.count()
    weight: Any = literal_column(str(sign))
    claimed = state == TrialState.RUNNING, _has(CLAIM, attributes.CLAIM)
    frozen = state == TrialState.WAITING, _has(_FROZEN, attributes.FROZEN, _FROZEN.c.value_json != "null")
    return [
        _of_study(weight, state, number, nothing, nothing, few=bool(of)).where(*of).group_by(state),
        _of_study(weight, state, nothing, number, nothing, few=bool(of)).where(*claimed, *of).group_by(state),
        _of_study(weight, state, nothing, nothing, number, few=bool(of)).where(*frozen, *of).group_by(state),
    ]


def _is_of(*phases: Phase) -> Any:
    """Whether a trial is recorded as one of these phases: of those few, which an index has."""
    words: list[Any] = [literal_column(f"'{json.dumps(phase)}'") for phase in phases]
    return TRIALS.c.trial_id.in_(select(_PHASE.c.trial_id).where(_IS_PHASE, _PHASE.c.value_json.in_(words)))


def _counts_of(phase: Phase) -> Any:
    if phase != attributes.SEARCH:
        return union_all(*_counts(1, _is_of(phase)))
    # What is of no other phase is of the search: all, without those.
    others = [other for other in attributes.PHASES if other != phase]
    return union_all(*_counts(1), *_counts(-1, _is_of(*others)))


def _trainings(phase: Phase) -> Select[Any]:
    trial_id = TRIALS.c.trial_id
    return (
        _of_study(_TRAINING.c.value_json)
        .join(_TRAINING, (_TRAINING.c.trial_id == trial_id) & (_TRAINING.c.key == attributes.TRAINING), isouter=True)
        .where(TRIALS.c.state != TrialState.FAIL, _is_of(phase))
        .order_by(TRIALS.c.number)
    )


_STUDY_ATTRS = {
    table: select(table.c.key, table.c.value_json).where(table.c.study_id == bindparam("study"))
    for table in (STUDY_SYSTEM, STUDY_USER)
}
_ROW = TRIALS.c.trial_id, TRIALS.c.number, TRIALS.c.state, CLAIM.c.value_json, _FROZEN.c.value_json, _PHASE.c.value_json
_LOCK_STUDY = select(STUDIES.c.study_id).where(STUDIES.c.study_id == bindparam("study")).with_for_update()
_COUNTS = {phase: _counts_of(phase) for phase in attributes.PHASES}
_TRAININGS = {phase: _trainings(phase) for phase in attributes.PHASES}
_ACTIVE = (
    _claimed(*_ROW)
    .where(TRIALS.c.state.in_(UNFINISHED), (TRIALS.c.state == TrialState.RUNNING) | not_(_IS_FROZEN))
    .order_by(TRIALS.c.number)
)
_FROZEN_ONE = _claimed(*_ROW).where(
    TRIALS.c.state == TrialState.WAITING, TRIALS.c.number == bindparam("number"), _IS_FROZEN
)
_UNFINISHED = _of_study(TRIALS.c.number).where(TRIALS.c.state.in_(UNFINISHED))
_NUMBER_OF_TRIALS = _of_study(func.count())
_FAILED = (
    _of_study(TRIALS.c.trial_id, TRIALS.c.number, _AFTER.c.value_json, TRIALS.c.datetime_complete)
    .join(_AFTER, (_AFTER.c.trial_id == TRIALS.c.trial_id) & (_AFTER.c.key == attributes.FAILED_AFTER), isouter=True)
    .where(TRIALS.c.state == TrialState.FAIL, TRIALS.c.number >= bindparam("since"))
)
_LAST_FINISHED = _of_study(func.max(TRIALS.c.datetime_complete)).where(TRIALS.c.state != TrialState.FAIL)
_CREATE = insert(TRIALS).returning(TRIALS.c.trial_id)


def _parts(
    sign: int, state: TrialState, number: int, claimed: int, frozen: int
) -> Iterable[tuple[TrialState, bool, bool, int]]:
    """A row of `_counts` as `counted` takes it. No trial is both: one runs, the other waits."""
    yield state, True, False, sign * int(claimed)
    yield state, False, True, sign * int(frozen)
    yield state, False, False, sign * (number - int(claimed) - int(frozen))


def _rows(found: Iterable[Any]) -> list[TrialRow]:
    return [
        TrialRow(trial_id, number, state, _loaded(held), _loaded(at), phase_in({attributes.PHASE: _loaded(phase)}))
        for trial_id, number, state, held, at, phase in found
    ]


def _loaded(stored: str | None) -> Any:
    return json.loads(stored) if stored is not None else None
