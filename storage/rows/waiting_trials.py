"""The trials that wait, read from a database once.

Optuna remembers finished trials and reads all others again, through its mapper and JSON, whenever it is asked for any:
a third of a millisecond for each. With hundreds of trials frozen, that is most of what a worker does besides training.
Whoever has read a waiting trial once and finds the same content need not read it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import ColumnElement, Connection, Table, bindparam, func, select

from storage import attributes
from storage.rows.tables import REPORTS, TRIAL_SYSTEM, TRIAL_USER, TRIALS

Content = tuple[Any, ...]
"""All that can change while a trial waits, as the database has it; its parameters and values cannot.

Of what it reported the number: who reports a step again has claimed it first, and a claim is among the attributes. Of
its attributes the values: their names stay, and no two trade places.
"""


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
        before = self._read.get(study_id, {})
        gone = before.keys() - contents.keys()
        kept = {trial_id: one for trial_id, one in before.items() if trial_id not in gone} if gone else before
        for trial in trials:
            # One that was never claimed may have the id and the looks of another, which is deleted. There are few.
            claimed = attributes.CLAIM in trial.system_attrs
            if claimed and trial.state == TrialState.WAITING and trial._trial_id in contents:
                kept[trial._trial_id] = contents[trial._trial_id], trial
        self._read[study_id] = kept


def waiting_contents(connection: Connection, study_id: int) -> dict[int, Content]:
    """Return the content of a study's WAITING trials, by their id."""
    # The driver's own rows: a moment need not be made of a text to be compared.
    rows: Iterable[Content] = cast(Any, connection.execute(_CONTENTS, {"study": study_id}).cursor)
    return {row[0]: row for row in rows}


def _of_trial(table: Table, fact: ColumnElement[Any]) -> Any:
    """What a table has of the trial of the statement around it, in one value."""
    return select(fact).where(table.c.trial_id == TRIALS.c.trial_id).scalar_subquery()


# The database puts it together: rows that nobody needs are not made for a comparison.
_CONTENTS = select(
    TRIALS.c.trial_id,
    TRIALS.c.number,
    TRIALS.c.datetime_start,
    _of_trial(REPORTS, func.count()),
    *(_of_trial(table, func.aggregate_strings(table.c.value_json, "\n")) for table in (TRIAL_SYSTEM, TRIAL_USER)),
).where(TRIALS.c.study_id == bindparam("study"), TRIALS.c.state == TrialState.WAITING)
