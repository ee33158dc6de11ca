"""What one who watches studies asks again and again: what they say of themselves, and which trials have changed."""

from __future__ import annotations

import json
from collections.abc import Collection
from datetime import datetime
from typing import Any, NamedTuple

from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.trial import TrialState
from sqlalchemy import Column, Connection, Table, func, select

_STUDIES: Table = models.StudyModel.__table__
_DIRECTIONS: Table = models.StudyDirectionModel.__table__
_STUDY_USER: Table = models.StudyUserAttributeModel.__table__
_STUDY_SYSTEM: Table = models.StudySystemAttributeModel.__table__
_TRIALS: Table = models.TrialModel.__table__
_PARAMS: Table = models.TrialParamModel.__table__
_REPORTS: Table = models.TrialIntermediateValueModel.__table__
_USER: Table = models.TrialUserAttributeModel.__table__
_SYSTEM: Table = models.TrialSystemAttributeModel.__table__

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

    named = select(_STUDIES.c.study_id, _STUDIES.c.study_name).where(own(_STUDIES.c.study_id))
    found = {
        number: StudyRows(number, name, [], {}, {})
        for number, name in connection.execute(named.order_by(_STUDIES.c.study_id))
    }
    columns = _DIRECTIONS.c
    directions = select(columns.study_id, columns.direction).where(own(columns.study_id)).order_by(columns.objective)
    for number, direction in connection.execute(directions):
        if number in found:
            found[number].directions.append(direction)
    for table, place in ((_STUDY_USER, "user"), (_STUDY_SYSTEM, "system")):
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
    columns = _TRIALS.c
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
    columns = _TRIALS.c
    unfinished = (
        (columns.study_id == study_id)
        & (columns.trial_id >= since)
        & columns.state.in_((TrialState.RUNNING, TrialState.WAITING))
    )
    trials = select(columns.trial_id, columns.state, columns.datetime_start).where(unfinished)
    stamps: dict[int, list[Any]] = {trial_id: [state, start] for trial_id, state, start in connection.execute(trials)}
    if not stamps:
        return {}
    value, written = _REPORTS.c.intermediate_value, _REPORTS.c.trial_intermediate_value_id
    for table, facts in (
        (_PARAMS, (func.count(), func.max(_PARAMS.c.param_id), func.sum(_PARAMS.c.param_value))),
        (_REPORTS, (func.count(), func.max(written), func.sum(value))),
        (_USER, (func.count(), func.aggregate_strings(_USER.c.key + _USER.c.value_json, "\n"))),
        (_SYSTEM, (func.count(), func.aggregate_strings(_SYSTEM.c.key + _SYSTEM.c.value_json, "\n"))),
    ):
        rows = select(columns.trial_id, *facts).join_from(table, _TRIALS).where(unfinished)
        for trial_id, *said in connection.execute(rows.group_by(columns.trial_id)):
            # What is not there was created between two statements, where a database allows that.
            if trial_id in stamps:
                stamps[trial_id] += [table.name, *said]
    return {trial_id: tuple(stamp) for trial_id, stamp in stamps.items()}
