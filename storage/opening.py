"""Opening a storage: what is at a URL, and every reason why it cannot be used, in one line."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import optuna
import sqlalchemy
from optuna.storages._rdb import models
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, SQLAlchemyError

from storage.connections import cause_of, shown_url, sqlite_file, words_of
from storage.database import Database
from storage.errors import BadInput, StorageUnavailable


def open_database(url: str, *, create: bool = False) -> Database:
    """Open the storage at a SQLAlchemy URL.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://...`.
        create: whether a database that is not there, or is empty, is made. Its folder must exist.

    Raises:
        BadInput: the URL cannot be read or opened, nothing is there, or what is there is not an Optuna database.
    """
    found = check_storage(url, create=create)
    shown = shown_url(url)
    if not found and not create:
        raise BadInput(f"there is no study in {shown!r} yet. Start one first, or give another with --storage.")
    with _refused(shown):
        file = sqlite_file(make_url(url))
        if file is not None and not found:
            with suppress(OSError):  # to open it will say why
                file.touch()
        return _opened(url)


@contextmanager
def _refused(shown: str) -> Iterator[None]:
    """Turn what goes wrong while a storage is opened into `BadInput`."""
    try:
        yield
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError) as error:
        raise BadInput(
            f"storage {shown!r} cannot be opened: {words_of(error)}. Give a URL like sqlite:///studies.db or"
            " postgresql+psycopg://user@host/name."
        ) from error
    except (DatabaseError, InterfaceError, StorageUnavailable, optuna.exceptions.StorageInternalError) as error:
        raise BadInput(
            f"storage {shown!r} cannot be opened: {words_of(error)}. Check that it exists and can be written, or"
            " give another with --storage."
        ) from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise BadInput(f"storage {shown!r} is of another Optuna version: {words_of(error)}") from error


def _opened(url: str) -> Database:
    # Two processes that open a new database both find no tables, and one fails to make them: it finds them next time.
    for _ in range(5):
        try:
            return Database(url)
        except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
            said = str(cause_of(error)).lower()
            if not any(word in said for word in ("already exists", "unique", "locked", "no such table")):
                raise
            time.sleep(random.uniform(0.05, 0.3))
    return Database(url)


def check_storage(url: str, *, create: bool = True) -> bool:
    """Return whether an Optuna database is at a URL; False where an empty one may be made. Changes nothing.

    Args:
        url: as for `open_database`.
        create: whether one is to be made where none is.

    Raises:
        BadInput: neither: the URL cannot be read, opened or written, or another program's database is there.
    """
    shown = shown_url(url)
    with _refused(shown):
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite" and (parsed.database or ":memory:") == ":memory:":
            raise BadInput(f"storage {shown!r} lives in one process's memory: workers cannot share it. Name a file.")
        file = sqlite_file(parsed)
        if file is not None and not file.exists():
            if create and not os.access(file.parent, os.W_OK | os.X_OK):
                raise BadInput(
                    f"storage {shown!r} cannot be made: the folder {file.parent.absolute()} is not there or cannot be"
                    " written. Make it, or give another with --storage."
                )
            return False
        engine = sqlalchemy.create_engine(parsed)
        try:
            tables = set(sqlalchemy.inspect(engine).get_table_names())
        finally:
            engine.dispose()
        whole = {"studies", "trials", "version_info"} <= tables
        if not whole and not tables <= set(models.BaseModel.metadata.tables):
            raise BadInput(
                f"storage {shown!r} is a database, but not Optuna's: it holds {', '.join(sorted(tables)[:5])}."
                " Give another with --storage."
            )
        # Some of Optuna's tables: it is being made just now, or its making was cut short, and then it is made anew.
        return whole
