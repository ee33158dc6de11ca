"""The trials that wait, read from a database once.

Optuna remembers finished trials and reads all others again, through its mapper and JSON, whenever it is asked for any:
a third of a millisecond for each. With hundreds of trials frozen, that is most of what a worker does besides training.
Whoever has read a waiting trial once and finds the same content need not read it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import Connection, select

from storage import attributes

# All that can change while a trial waits, as the database has it; its parameters and values cannot.
Content = list[tuple[Any, ...]]

_TRIALS = models.TrialModel.__table__.c
_SYSTEM = models.TrialSystemAttributeModel.__table__.c
_USER = models.TrialUserAttributeModel.__table__.c
_VALUES = models.TrialIntermediateValueModel.__table__.c


class WaitingTrials:
    """The waiting trials of each study as they were read, with the content that they had then."""

    def __init__(self) -> None:
        self._read: dict[int, dict[int, tuple[Content, FrozenTrial]]] = {}

    def unchanged(self, study_id: int, contents: Mapping[int, Content]) -> dict[int, FrozenTrial]:
        """Return the trials that have the content with which they were read, by id.

        Args:
            study_id: of which study.
            contents: of its WAITING trials by id, as `waiting_contents` returns them now.
        """
        read = self._read.get(study_id, {})
        return {trial_id: trial for trial_id, (content, trial) in read.items() if contents.get(trial_id) == content}

    def keep(self, study_id: int, contents: Mapping[int, Content], trials: Iterable[FrozenTrial]) -> None:
        """Remember those of the trials that wait, and forget what waits no longer.

        Args:
            study_id: of which study.
            contents: as for `unchanged`, read before the trials: what changed between the two is read again.
            trials: just read, finished and running ones too.
        """
        kept = {trial_id: one for trial_id, one in self._read.get(study_id, {}).items() if trial_id in contents}
        for trial in trials:
            # One that was never claimed may have the id and the looks of another, which is deleted. There are few.
            claimed = attributes.CLAIM in trial.system_attrs
            if claimed and trial.state == TrialState.WAITING and trial._trial_id in contents:
                kept[trial._trial_id] = contents[trial._trial_id], trial
        self._read[study_id] = kept


def waiting_contents(connection: Connection, study_id: int) -> dict[int, Content]:
    """Return the content of a study's WAITING trials, by their id."""
    waiting = (_TRIALS.study_id == study_id) & (_TRIALS.state == TrialState.WAITING)
    trials = connection.execute(select(_TRIALS.trial_id, _TRIALS.number, _TRIALS.datetime_start).where(waiting))
    contents: dict[int, Content] = {row[0]: [tuple(row)] for row in trials.all()}
    for owner, order, *columns in (
        (_SYSTEM.trial_id, _SYSTEM.trial_system_attribute_id, _SYSTEM.key, _SYSTEM.value_json),
        (_USER.trial_id, _USER.trial_user_attribute_id, _USER.key, _USER.value_json),
        (
            _VALUES.trial_id,
            _VALUES.trial_intermediate_value_id,
            _VALUES.step,
            _VALUES.intermediate_value,
            _VALUES.intermediate_value_type,
        ),
    ):
        rows = connection.execute(
            select(owner, *columns).join_from(owner.table, _TRIALS.trial_id.table).where(waiting).order_by(order)
        )
        for row in rows.all():
            # What is not there began to wait between two statements, where a database allows that.
            if (content := contents.get(row[0])) is not None:
                content.append(tuple(row))
    return contents
