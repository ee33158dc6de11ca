"""What one who watches studies asks again and again: what they say of themselves, and which trials have changed."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Column, ColumnElement, Connection, String, cast, func, select

from storage.rows.tables import (
    PARAMS,
    REPORTS,
    STUDIES,
    STUDY_DIRECTIONS,
    STUDY_SYSTEM,
    STUDY_USER,
    TRIAL_SYSTEM,
    TRIAL_USER,
    TRIALS,
)
from storage.rows.trial_rows import MOST_IDS

Stamp = tuple[Any, ...]
"""All that can change in a trial that is not over, so that it is equal as long as the trial is as it was."""


class StudyRows(NamedTuple):
    """What a database has of one study, without its trials.

    Attributes:
        study_id: its id.
        name: its name.
        directions: in the order of the objectives.
        user: its user attributes.
        system: its system attributes.
    """

    study_id: int
    name: str
    directions: list[StudyDirection]
    user: dict[str, Any]
    system: dict[str, Any]


def read_studies(
    connection: Connection, study_id: int | None = None, *, system: Collection[str] | None = None
) -> list[StudyRows]:
    """Return studies by their id.

    Args:
        connection: in a transaction that sees one state of the database.
        study_id: this one alone, of which the list is empty where there is none such.
        system: only these system attributes.
    """

    def own(column: Column[Any]) -> Any:
        return True if study_id is None else column == study_id

    named = select(STUDIES.c.study_id, STUDIES.c.study_name).where(own(STUDIES.c.study_id))
    found = {
        number: StudyRows(number, name, [], {}, {})
        for number, name in connection.execute(named.order_by(STUDIES.c.study_id))
    }
    columns = STUDY_DIRECTIONS.c
    directions = select(columns.study_id, columns.direction).where(own(columns.study_id)).order_by(columns.objective)
    for number, direction in connection.execute(directions):
        if number in found:
            found[number].directions.append(direction)
    for table, place in ((STUDY_USER, "user"), (STUDY_SYSTEM, "system")):
        wanted = select(table.c.study_id, table.c.key, table.c.value_json).where(own(table.c.study_id))
        if place == "system" and system is not None:
            wanted = wanted.where(table.c.key.in_(system))
        for number, key, text in connection.execute(wanted.order_by(table.primary_key.columns[0])):
            if number in found:
                getattr(found[number], place)[key] = json.loads(text)
    return list(found.values())


def started(connection: Connection, study_id: int, trial_id: int) -> tuple[int, datetime | None] | None:
    """Return a trial's number and start; None where the study has none of that id.

    A database may give the ids of what was deleted out again.
    """
    columns = TRIALS.c
    asked = select(columns.number, columns.datetime_start)
    row = connection.execute(asked.where(columns.study_id == study_id, columns.trial_id == trial_id)).one_or_none()
    return (row[0], row[1]) if row is not None else None


def unfinished_stamps(connection: Connection, study_id: int, since: int) -> dict[int, Stamp]:
    """Return the trials of a study that are RUNNING or WAITING, by their id.

    The database puts a stamp together, as text: a sum of numbers would hide changes, and may be no number itself.

    Args:
        connection: in a transaction that sees one state of the database.
        study_id: of which study.
        since: none with a lesser id is so.
    """
    columns = TRIALS.c
    unfinished = (
        (columns.study_id == study_id)
        & (columns.trial_id >= since)
        & columns.state.in_((TrialState.RUNNING, TrialState.WAITING))
    )
    trials = select(columns.trial_id, columns.state, columns.datetime_start).where(unfinished)
    stamps: dict[int, list[Any]] = {trial_id: [state, start] for trial_id, state, start in connection.execute(trials)}
    if not stamps:
        return {}
    sqlite = connection.dialect.name == "sqlite"
    kind = cast(REPORTS.c.intermediate_value_type, String)
    found = sorted(stamps)
    for table, said_of in (
        (PARAMS, _joined(PARAMS.c.param_name, _digits(PARAMS.c.param_value, sqlite), PARAMS.c.distribution_json)),
        (REPORTS, _joined(cast(REPORTS.c.step, String), _digits(REPORTS.c.intermediate_value, sqlite), kind)),
        (TRIAL_USER, _joined(TRIAL_USER.c.key, TRIAL_USER.c.value_json)),
        (TRIAL_SYSTEM, _joined(TRIAL_SYSTEM.c.key, TRIAL_SYSTEM.c.value_json)),
    ):
        # By their ids: asked for by what is unfinished, a database may look at every row of the study.
        said_by = select(table.c.trial_id, func.aggregate_strings(said_of, "\n")).group_by(table.c.trial_id)
        for start in range(0, len(found), MOST_IDS):
            part = said_by.where(table.c.trial_id.in_(found[start : start + MOST_IDS]))
            for trial_id, said in connection.execute(part):
                stamps[trial_id] += [table.name, said]
    return {trial_id: tuple(stamp) for trial_id, stamp in stamps.items()}


def _joined(*parts: ColumnElement[Any]) -> ColumnElement[Any]:
    """Parts of a row, none of which is NULL, as one text."""
    joined = parts[0]
    for part in parts[1:]:
        joined = joined + " " + part
    return joined


def _digits(column: Column[Any], sqlite: bool) -> ColumnElement[Any]:
    """A number as a text that no other number has; of NULL any."""
    # A cast of SQLite's leaves digits out.
    return func.printf("%!.17g", column) if sqlite else func.coalesce(cast(column, String), "")
