"""All rows of one study: copied from database to database, and what they say of the study's files.

Optuna's own `copy_study` reads every trial into memory and gives each a transaction of its own. Here rows pass from one
connection to the other in parts, inside whatever transactions the caller has begun: one state of the study is read,
and the copy appears as a whole. Ids are given out anew, in the old order, which is that of the trials' numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import sqlalchemy
from sqlalchemy import Connection, Table, insert, select

from storage import attributes
from storage.artifacts import Artifact
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
    VALUES,
)

# Rows in memory at a time.
PART = 1000

# Heartbeats of stock Optuna are left out: a copy is not alive.
_OF_STUDY = STUDY_DIRECTIONS, STUDY_USER, STUDY_SYSTEM
_OF_TRIAL = PARAMS, VALUES, REPORTS, TRIAL_USER, TRIAL_SYSTEM


def study_id_of(connection: Connection, name: str) -> int | None:
    """Return the id of the study of that name, or None."""
    found = connection.execute(select(STUDIES.c.study_id).where(STUDIES.c.study_name == name)).scalar_one_or_none()
    return int(found) if found is not None else None


def is_copy(connection: Connection, study_id: int, uid: str) -> bool:
    """Return whether an older study of the database has the same uid: Optuna copied this one from it.

    What lies on the disk under that uid belongs to the older one.
    """
    return any(other < study_id for other, _ in studies_of(connection, uid))


def studies_of(connection: Connection, uid: str) -> list[tuple[int, str]]:
    """Return the id and the name of each study with a uid, the oldest first.

    There is one, unless Optuna copied it. Its dashboard renames a study by copying it and deleting the first.
    """
    found = (
        select(STUDIES.c.study_id, STUDIES.c.study_name)
        .join(STUDY_USER, STUDY_USER.c.study_id == STUDIES.c.study_id)
        .where(STUDY_USER.c.key.in_((attributes.UID, attributes.former(attributes.UID))))
        .where(STUDY_USER.c.value_json == json.dumps(uid))
        .distinct()
        .order_by(STUDIES.c.study_id)
    )
    return [(int(study_id), str(name)) for study_id, name in connection.execute(found)]


def copy_study(source: Connection, study_id: int, target: Connection, name: str) -> int:
    """Copy a study's rows in the transactions of two connections; return the copy's id.

    Args:
        source: where the study is.
        study_id: its id there.
        target: where it is copied to; it has Optuna's tables.
        name: the copy's; no study there has it.
    """
    (new_id,) = target.execute(insert(STUDIES).values(study_name=name).returning(STUDIES.c.study_id)).one()
    for table in _OF_STUDY:
        rows = select(table).where(table.c.study_id == study_id)
        for part in _parts(source, rows, table):
            target.execute(insert(table), [{**row, "study_id": new_id} for row in part])
    new_ids: dict[int, int] = {}
    returning = insert(TRIALS).returning(TRIALS.c.trial_id, sort_by_parameter_order=True)
    for part in _parts(source, select(TRIALS).where(TRIALS.c.study_id == study_id), TRIALS, keep_id=True):
        old = [row.pop("trial_id") for row in part]
        new = target.execute(returning, [{**row, "study_id": new_id} for row in part]).scalars()
        new_ids.update(zip(old, new, strict=True))
    for table in _OF_TRIAL:
        rows = select(table).join(TRIALS, TRIALS.c.trial_id == table.c.trial_id).where(TRIALS.c.study_id == study_id)
        for part in _parts(source, rows, table):
            target.execute(insert(table), [{**row, "trial_id": new_ids[row["trial_id"]]} for row in part])
    return int(new_id)


def _parts(
    source: Connection, rows: sqlalchemy.Select[Any], table: Table, *, keep_id: bool = False
) -> Iterator[list[dict[str, Any]]]:
    """Yield a table's rows in the order of their ids, without these, so many at a time."""
    (key,) = table.primary_key
    # Without yield_per, the driver for PostgreSQL would fetch all rows at once.
    found = source.execute(rows.order_by(key), execution_options={"yield_per": PART})
    for part in found.mappings().partitions():
        yield [{name: value for name, value in row.items() if keep_id or name != key.name} for row in part]


def named_artifacts(connection: Connection, study_id: int | None = None) -> set[str]:
    """Return the ids of all artifacts that rows name: those of one study, or of every study in the database."""
    documents = (json.loads(stored) for stored in _system_attributes(connection, study_id, attributes.OPTUNA_ARTIFACT))
    # The dashboard writes null over the record of an artifact that was removed.
    return {str(document["artifact_id"]) for document in documents if document is not None}


def recorded_artifacts(connection: Connection, study_id: int | None = None) -> Iterator[Artifact]:
    """Yield the artifacts whose SHA-256 this service recorded, likewise."""
    for stored in _system_attributes(connection, study_id, attributes.ARTIFACT):
        yield Artifact(**json.loads(stored))


def _system_attributes(connection: Connection, study_id: int | None, prefix: str) -> Iterator[str]:
    """Yield the values of the system attributes of trials and studies whose keys begin so."""
    of_trials = select(TRIAL_SYSTEM.c.key, TRIAL_SYSTEM.c.value_json).join(
        TRIALS, TRIALS.c.trial_id == TRIAL_SYSTEM.c.trial_id
    )
    of_studies = select(STUDY_SYSTEM.c.key, STUDY_SYSTEM.c.value_json)
    for rows, table, owner in (
        (of_trials, TRIAL_SYSTEM, TRIALS.c.study_id),
        (of_studies, STUDY_SYSTEM, STUDY_SYSTEM.c.study_id),
    ):
        wanted = rows.where(table.c.key.startswith(prefix, autoescape=True))
        if study_id is not None:
            wanted = wanted.where(owner == study_id)
        for key, value in connection.execute(wanted, execution_options={"yield_per": PART}):
            if key.startswith(prefix):  # SQLite compares without regard to case
                yield str(json.loads(value))


def last_begun(connection: Connection) -> dict[str, tuple[float, int]]:
    """Return when a trial of each study was last taken up, seconds since 1970, and the study's id, by its name.

    This orders studies without reading their trials. A study without a trial that began has minus infinity.
    """
    study, trial, attribute = STUDIES.c, TRIALS.c, STUDY_SYSTEM.c
    query = (
        select(study.study_name, study.study_id, sqlalchemy.func.max(trial.datetime_start), attribute.value_json)
        .select_from(STUDIES)
        .outerjoin(TRIALS, trial.study_id == study.study_id)
        .outerjoin(STUDY_SYSTEM, (attribute.study_id == study.study_id) & (attribute.key == attributes.BEGUN))
        .group_by(study.study_id, study.study_name, attribute.value_json)
    )
    return {
        name: (max(_seconds(started), json.loads(begun) if begun is not None else -math.inf), number)
        for name, number, started, begun in connection.execute(query)
    }


def _seconds(utc: datetime | None) -> float:
    return utc.replace(tzinfo=UTC).timestamp() if utc is not None else -math.inf
