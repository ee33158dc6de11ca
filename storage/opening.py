"""Opening a storage: what is at a URL, and every reason why it cannot be used, in one line.

Whatever is refused is as it was before: a storage is looked at without changing it, and only then opened to write.
"""

from __future__ import annotations

import logging
import os
import random
import re
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import optuna
import sqlalchemy
from alembic.runtime.migration import MigrationContext
from optuna.storages._rdb import models
from optuna.storages._rdb.storage import _VersionManager
from sqlalchemy import orm
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, NoSuchModuleError, SAWarning, SQLAlchemyError

from storage.connections import cause_of, engine_options, shown_url, sqlite_file, words_of
from storage.database import Database
from storage.errors import BadInput, StorageUnavailable
from storage.rows.sql_rows import INDEXES

logger = logging.getLogger(__name__)


def open_database(url: str, *, create: bool = False) -> Database:
    """Open the storage at a SQLAlchemy URL.

    Args:
        url: `sqlite:///path` or `postgresql+psycopg://...`.
        create: whether a database that is not there, or is empty, is made. Its folder must exist.

    Raises:
        BadInput: the URL cannot be read or opened, nothing is there, or what is there is not an Optuna database, one
            of another version, or one that cannot be written.
    """
    shown = shown_url(url)
    found = check_storage(url, create=create)
    if not found and not create:
        raise _nothing_in(shown)
    with _refused(shown):
        file = sqlite_file(make_url(url))
        if file is not None and found:
            _require_writable(file, shown)
        if file is not None and not found:
            with suppress(OSError):  # to open it will say why
                file.touch()
        opened = _opened(url)
    add_indexes(opened)
    return opened


def open_to_read(url: str) -> Database:
    """Open the storage at a SQLAlchemy URL for one who only looks: nothing of it is changed, and writes fail.

    Raises:
        BadInput: the URL cannot be read or opened, nothing is there, or what is there is not an Optuna database, or one
            of another version.
    """
    shown = shown_url(url)
    if not check_storage(url, create=False):
        raise _nothing_in(shown)
    with _refused(shown):
        return Database(url, read_only=True)


def may_write(url: str) -> bool:
    """Return whether the user of this process may write to the database at a URL, as far as that is known here."""
    file = sqlite_file(make_url(url))
    return file is None or _is_writable(file)


def _is_writable(file: Path) -> bool:
    return os.access(file, os.W_OK) and os.access(file.parent, os.W_OK | os.X_OK)


def _require_writable(file: Path, shown: str) -> None:
    if not _is_writable(file):
        raise BadInput(
            f"storage {shown!r} cannot be written: {file.absolute()} or its folder does not allow it to you. You may"
            " look at its studies; to tune, give another with --storage."
        )


def _nothing_in(shown: str) -> BadInput:
    return BadInput(f"there is no study in {shown!r} yet. Start one first, or give another with --storage.")


@contextmanager
def _refused(shown: str) -> Iterator[None]:
    """Turn what goes wrong while a storage is opened into `BadInput`."""
    try:
        yield
    except (ArgumentError, NoSuchModuleError, ImportError, ValueError, SAWarning) as error:
        raise BadInput(
            f"storage {shown!r} cannot be opened: {words_of(error)}. Give a URL like sqlite:///studies.db or"
            " postgresql+psycopg://user@host/name."
        ) from error
    except (DatabaseError, InterfaceError, StorageUnavailable, optuna.exceptions.StorageInternalError) as error:
        words = words_of(error)
        damaged = any(said in words for said in ("malformed", "not a database"))
        then = (
            "It may be damaged: bring it back from a backup" if damaged else "Check that it exists and can be written"
        )
        raise BadInput(
            f"storage {shown!r} cannot be opened: {words}. {then}, or give another with --storage."
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


def add_indexes(database: Database) -> None:
    """Add to Optuna's tables what makes claims quick, where it is missing; stock Optuna neither needs nor minds it.

    Without them, as where another user owns the tables or somebody else writes for long, all is as true, and slower.
    """
    for name, on in INDEXES.items():
        table = on.partition(" ")[0]
        try:
            if name in {index["name"] for index in sqlalchemy.inspect(database.engine).get_indexes(table)}:
                continue
            with database.transaction() as connection:
                if connection.dialect.name == "postgresql":  # it would wait without end, and all writers behind it
                    connection.exec_driver_sql("SET LOCAL lock_timeout = '2s'")
                connection.exec_driver_sql(f"CREATE INDEX IF NOT EXISTS {name} ON {on}")
        except SQLAlchemyError as error:
            logger.info("no index %s: %s", name, words_of(error))


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
            raise BadInput(
                f"storage {shown!r} lives in one process's memory: workers cannot share it. Name a file after three"
                " slashes, such as sqlite:///studies.db."
            )
        file = sqlite_file(parsed)
        if file is not None and not file.exists():
            if create and not os.access(file.parent, os.W_OK | os.X_OK):
                raise BadInput(
                    f"storage {shown!r} cannot be made: the folder {file.parent.absolute()} is not there or cannot be"
                    " written. Make it, or give another with --storage."
                )
            return False
        if file is not None and create:
            _require_writable(file, shown)
        with warnings.catch_warnings(action="error", category=SAWarning):  # what it would pass over in the URL
            engine = sqlalchemy.create_engine(parsed, **engine_options(url, read_only=True))
        try:
            tables = set(sqlalchemy.inspect(engine).get_table_names())
            whole = {"studies", "trials", "version_info"} <= tables and _is_of_this_version(url, engine)
        finally:
            engine.dispose()
        if not whole and not tables <= {*models.BaseModel.metadata.tables, "alembic_version"}:
            raise BadInput(
                f"storage {shown!r} is a database, but not Optuna's: it holds {', '.join(sorted(tables)[:5])}."
                " Give another with --storage."
            )
        # Some of Optuna's tables: it is being made just now, or its making was cut short, and then it is made anew.
        return whole


# Such as `v3.2.0.a`.
_OPTUNAS_REVISION = re.compile(r"v\d+(\.\w+)+$")


class _Versions(_VersionManager):
    """Optuna's own check of a schema, without the records that it would add first."""

    def _init_version_info_model(self) -> None:
        pass

    def _init_alembic(self) -> None:
        pass


def _is_of_this_version(url: str, engine: sqlalchemy.Engine) -> bool:
    """Return whether a schema is this version's; False where its making was cut short before that was recorded.

    Raises:
        RuntimeError: it is another version's.
        BadInput: it is not Optuna's alone.
    """
    with engine.connect() as connection:
        made_by = connection.execute(sqlalchemy.select(models.VersionInfoModel.schema_version)).scalar()
        revision = MigrationContext.configure(connection).get_current_revision()
    if made_by is None or (revision is None and made_by == models.SCHEMA_VERSION):
        return False
    if revision is None:
        raise RuntimeError("it has no record of it. Upgrade it with Optuna: optuna storage upgrade --storage URL")
    if revision != _this_version():
        if not _OPTUNAS_REVISION.match(revision):
            # MLflow keeps its own in the same table, and changes it as it likes.
            raise BadInput(
                f"storage {shown_url(url)!r} is shared with another program, whose schema version {revision!r} stands"
                " in the place of Optuna's. Give another with --storage, and each program a database of its own."
            )
        _Versions(url, engine, orm.scoped_session(orm.sessionmaker(bind=engine))).check_table_schema_compatibility()
    return True


@cache
def _this_version() -> str:
    # Optuna loads a module for each revision to tell: most of the time that it takes to open a database.
    nowhere = sqlalchemy.create_engine("sqlite://")
    return str(_Versions("sqlite://", nowhere, orm.scoped_session(orm.sessionmaker(bind=nowhere))).get_head_version())
