"""What one who watches studies asks again and again: what they say of themselves, and which trials have changed."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Column, Connection, func, select

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

    Parameters and what a trial reported are known by how many there are, the last one written and their sum.

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
    value, written = REPORTS.c.intermediate_value, REPORTS.c.trial_intermediate_value_id
    for table, facts in (
        (PARAMS, (func.count(), func.max(PARAMS.c.param_id), func.sum(PARAMS.c.param_value))),
        (REPORTS, (func.count(), func.max(written), func.sum(value))),
        (TRIAL_USER, (func.count(), func.aggregate_strings(TRIAL_USER.c.key + TRIAL_USER.c.value_json, "\n"))),
        (TRIAL_SYSTEM, (func.count(), func.aggregate_strings(TRIAL_SYSTEM.c.key + TRIAL_SYSTEM.c.value_json, "\n"))),
    ):
        rows = select(columns.trial_id, *facts).join_from(table, TRIALS).where(unfinished)
        for trial_id, *said in connection.execute(rows.group_by(columns.trial_id)):
            # What is not there was created between two statements, where a database allows that.
            if trial_id in stamps:
                stamps[trial_id] += [table.name, *said]
    return {trial_id: tuple(stamp) for trial_id, stamp in stamps.items()}
