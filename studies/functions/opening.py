"""The study of a function: made, or found, and given its budget."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import suppress
from operator import index
from typing import SupportsIndex

import optuna
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.storages._base import DEFAULT_STUDY_NAME_PREFIX
from optuna.study import StudyDirection

from storage import attributes
from storage.claims import Claims, owner_name
from storage.database import Database
from storage.errors import BadInput, shown
from studies.stored import StudyRecord, require_own_uid

_DATABASES = ("sqlite", "postgresql")


def total_of_trials(argument: str, given: object) -> int:
    """Return a study's total of finished trials, as it was given for an argument of that name.

    Raises:
        BadInput: it is no whole number above 0.
    """
    if not isinstance(given, SupportsIndex) or isinstance(given, bool) or index(given) < 1:
        raise BadInput(
            f"{argument}={given!r}: must be a whole number, at least 1: the study's total of finished trials."
        )
    return index(given)


def find_or_create(database: Database, name: str, directions: Sequence[StudyDirection]) -> optuna.Study:
    """Return the study of that name; it is made where it is not there.

    Args:
        database: where it is, or will be.
        name: the study's.
        directions: of its objectives.

    Raises:
        BadInput: it has other directions.
    """
    with suppress(optuna.exceptions.DuplicatedStudyError):
        database.create_new_study(list(directions), name)
    study = optuna.load_study(study_name=name, storage=database)
    if study.directions != list(directions):
        there, asked = (" and ".join(one.name.lower() for one in some) for some in (study.directions, directions))
        raise BadInput(f"study {shown(name)!r} is there to {there}, not to {asked}. Give another name.")
    return study


def begin(database: Database, study: optuna.Study, function: str) -> StudyRecord:
    """Record what a study needs so that its trials can be claimed; return its record.

    Args:
        database: where it is.
        study: of that database.
        function: what runs its trials, in words.

    Raises:
        BadInput: it has a spec: its trials train what that says.
    """
    require_no_spec(study)

    def write() -> None:
        # Of several processes that begin it at the same time, one says its uid, and all go by that.
        with database.rows(study._study_id, write=True) as rows:
            rows.lock()
            if attributes.of_study(rows.study_user_attrs(), attributes.UID, str) is None:
                rows.set_study_user_attr(attributes.UID, uuid.uuid4().hex)
            rows.set_study_user_attr(attributes.FUNCTION, function)

    database.repeated(write)
    require_own_uid(database, study)
    return StudyRecord.of(study)


def require_no_spec(study: optuna.Study) -> None:
    """Refuse a study that `tuning tune` began.

    Raises:
        BadInput: it has a spec: its trials train what that says.
    """
    if StudyRecord.of(study).spec_document is not None:
        raise BadInput(
            f"study {shown(study.study_name)!r} was begun with tuning tune: its trials train what its spec says. Give"
            " another name."
        )


def claims_of(database: Database, study: optuna.Study, record: StudyRecord, owner: str | None = None) -> Claims:
    """Return the claims of a study, as one process makes them.

    Args:
        database: where it is.
        study: of that database.
        record: what it records.
        owner: the name under which trials are claimed; by default one that no other process has.
    """
    return Claims(database, study._study_id, owner or owner_name(), uid=record.uid or None)


def move(study: optuna.Study, database: Database, function: str) -> bool:
    """Move a study that lives in this process's memory into a database; the object is that of the database then.

    Args:
        study: one without trials may be there already, and goes on. One that was given no name gets one.
        database: where its trials are from now on.
        function: what runs its trials, `file.py:name`.

    Returns:
        Whether it was there already.

    Raises:
        BadInput: another one of its name is there.
    """
    former, empty = study.study_name, not study.get_trials(deepcopy=False)
    unnamed = former.startswith(DEFAULT_STUDY_NAME_PREFIX)
    name = f"{function.partition('.')[0]}-{former[-8:]}" if unnamed else former
    there = name in optuna.get_all_study_names(database)
    if there and not empty:
        raise BadInput(f"study {shown(name)!r} is in {database.shown_url} already. Give this one another name.")
    if not there:
        optuna.copy_study(from_study_name=former, from_storage=study._storage, to_storage=database, to_study_name=name)
    found = find_or_create(database, name, study.directions)
    study.study_name, study._storage, study._study_id = name, found._storage, found._study_id
    return there


def is_in_memory(study: optuna.Study) -> bool:
    """Return whether a study lives in this process's memory alone."""
    return isinstance(study._storage, InMemoryStorage)


def url_of(study: optuna.Study) -> str:
    """Return the SQLAlchemy URL of the database that a study is in.

    Raises:
        BadInput: it is kept otherwise.
    """
    storage: BaseStorage = study._storage
    storage = getattr(storage, "_backend", storage)  # behind Optuna's cache
    if isinstance(storage, RDBStorage) and storage.engine.dialect.name in _DATABASES:
        return str(storage.engine.url.render_as_string(hide_password=False))
    kind = storage.engine.dialect.name if isinstance(storage, RDBStorage) else type(storage).__name__
    raise BadInput(
        f"study {shown(study.study_name)!r} is kept in {kind}: its trials can be claimed in SQLite and PostgreSQL."
        " Give optuna.create_study a storage such as sqlite:///studies.db, or none."
    )
