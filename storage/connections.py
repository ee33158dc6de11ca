"""How connections to a database behave: what its URL says, SQLite's ways, and which errors pass.

An error that passes is one after which the same call may succeed: the database was busy, or away.
"""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from sqlalchemy.engine import URL, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import DisconnectionError, InterfaceError, InternalError, OperationalError, PendingRollbackError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

from storage.errors import first_line
from storage.reading import FileReader

# How long SQLite itself waits for another writer.
BUSY_TIMEOUT_S = 20.0

# A connection that was used within this time is not asked whether its server is still there.
IDLE_S = 1.0

# What PostgreSQL answers in a transaction of which a statement failed before (class 25, "in failed SQL transaction").
_IN_FAILED_TRANSACTION = "25P02"


def shown_url(url: str) -> str:
    """Return a storage's URL without its password, also of one that cannot be read as a URL."""
    # Up to the last `@`: a password may have others in it that were not escaped.
    hidden = re.sub(r"(://[^:/@?]*:)[^?]*@", r"\1***@", url)
    return re.sub(r"([?&](?:ssl)?password=)[^&]*", r"\1***", hidden)


def place_of(url: URL) -> str:
    """Return what tells a database from others, whoever opens it from wherever; empty where its URL does not.

    A database that is reached by another name counts as another one.
    """
    file = sqlite_file(url)
    if file is not None:
        return f"sqlite:///{file.resolve()}"
    return "" if url.get_backend_name() == "sqlite" else shown_url(url.render_as_string(hide_password=False))


def sqlite_file(url: URL) -> Path | None:
    """Return the file of a SQLite URL, or None for another database."""
    if url.get_backend_name() != "sqlite" or not url.database or url.database.startswith("file:"):
        return None
    return Path(url.database)


def engine_options(url: str, *, read_only: bool) -> dict[str, Any]:
    """Return what SQLAlchemy's `create_engine` is given besides a URL.

    Args:
        url: the database's.
        read_only: whether it is only read: then nothing of it is changed, and nothing can be.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        if read_only:
            return {"pool_pre_ping": True, "execution_options": {"postgresql_readonly": True}}
        # A server counts connections, and each worker is one: a second one, for a beat that comes while the worker
        # itself asks, is closed again.
        idle = _PingedWhenIdle()
        return {
            "pool_size": 1,
            "pool_events": [(idle.used, "connect"), (idle.used, "checkin"), (idle.checked_out, "checkout")],
        }
    events: list[Any] = [(_prepare_to_read if read_only else _prepare_to_write, "connect")]
    options: dict[str, Any] = {"connect_args": {"timeout": BUSY_TIMEOUT_S}, "pool_events": events}
    file = sqlite_file(parsed)
    if file is not None and not parsed.query and read_only:
        reader = FileReader(file, BUSY_TIMEOUT_S)
        options["creator"] = reader.connect
        events.append((reader.checked_out, "checkout"))
    elif file is not None and not parsed.query:
        # Never made here: what is opened while the file is away for a moment would be an empty one.
        place = f"file:{quote(str(file.absolute()))}?mode=rw"
        options["creator"] = lambda: sqlite3.connect(place, uri=True, timeout=BUSY_TIMEOUT_S, check_same_thread=False)
        guard = _SameFile(file)
        events += [(guard.connected, "connect"), (guard.checked_out, "checkout")]
    return options


def _prepare_to_read(connection: sqlite3.Connection, _record: object) -> None:
    # Python's sqlite3 would begin transactions on its own, deferred ones.
    connection.isolation_level = None


def _prepare_to_write(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None
    connection.execute("PRAGMA journal_mode = WAL")
    # In WAL mode NORMAL can lose the last commits in a power cut but never corrupts; which of them may be lost, the
    # database says as it begins each transaction.
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


class _SameFile:
    """Drops a connection whose file was moved away or replaced: what it wrote would be found by nobody.

    Args:
        file: the database's.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def _identity(self) -> tuple[int, int] | None:
        try:
            found = self._file.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def connected(self, _connection: sqlite3.Connection, record: ConnectionPoolEntry) -> None:
        record.info["file"] = self._identity()

    def checked_out(
        self, _connection: sqlite3.Connection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        if record.info["file"] != self._identity():
            raise DisconnectionError("the database's file was moved or replaced")


class _PingedWhenIdle:
    """Drops a connection that a server has closed while nobody used it.

    SQLAlchemy's own `pool_pre_ping` asks the server before each transaction, also before one that follows another: a
    twelfth of what a report takes.
    """

    def used(self, _connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        record.info["used"] = time.monotonic()

    def checked_out(
        self, connection: DBAPIConnection, record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        if time.monotonic() - record.info["used"] < IDLE_S:
            return
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            cursor.close()
            connection.rollback()
        except Exception as error:  # the driver's own, whichever it is
            raise DisconnectionError("the server has closed the connection") from error


def cause_of(error: BaseException) -> BaseException:
    """Return what SQLAlchemy raised, which Optuna wraps in an error of its own."""
    wrapped = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else None
    return wrapped or error


def words_of(error: BaseException) -> str:
    """Return what the database's driver said, in one line."""
    cause = cause_of(error)
    return first_line(getattr(cause, "orig", None) or cause)


def passes(error: BaseException) -> bool:
    """Return whether the call that failed may succeed when it is repeated."""
    cause = cause_of(error)
    # Optuna reads trials once more after an error, in the transaction that this broke: what then fails says only that.
    if isinstance(cause, PendingRollbackError):
        return True
    if isinstance(cause, InternalError):
        return getattr(cause.orig, "sqlstate", None) == _IN_FAILED_TRANSACTION
    if not isinstance(cause, (OperationalError, InterfaceError)):
        return False
    text = str(cause.orig).lower()
    hopeless = ("readonly", "read-only", "full", "no such table", "not a database", "malformed")
    return not any(word in text for word in hopeless)
