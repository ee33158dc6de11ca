"""Which study is meant by what was given: by its name, by its data, or as the one that was tuned last. No Keras."""

from __future__ import annotations

from storage.database import Database
from storage.errors import BadInput
from storage.opening import open_to_read
from storage.settings import Home
from studies.datasets.own.reference import Source, place_that_is_gone
from studies.datasets.preparing import meant
from studies.stored import StudyRecord, find_study


def opened(storage: str | None, home: Home) -> Database:
    """Return a database, opened to look at: a command that only reads changes nothing of it.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    return open_to_read(storage or home.database_url)


def label_of(dataset: str) -> str:
    """Return what a study of a data set is called where nobody says otherwise.

    Raises:
        BadInput: there is no such data set.
    """
    found = place_that_is_gone(dataset) or meant(dataset)
    return found.label if isinstance(found, Source) else found.name


def exported_study(study: str | None, storage: str | None, home: Home) -> tuple[str, str]:
    """Return the name and the uid of the study whose bundle is meant; a bundle outlives its study and its database.

    Args:
        study: its name; None for the one that was tuned last.
        storage: the database, as given.
        home: where the default one is.

    Raises:
        BadInput: there is no such study in the database that was given, or none at all.
    """
    try:
        database = opened(storage, home)
        try:
            record = StudyRecord.of(find_study(database, study))
        finally:
            database.engine.dispose()
    except BadInput:
        if study is None or storage is not None:
            raise
        return study, ""
    if study is None:
        record.require_ours()
    return record.name, record.uid
