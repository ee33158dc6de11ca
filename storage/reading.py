"""How a SQLite file is read without changing a byte of it or of its folder, also by whoever may write to neither.

SQLite's own `mode=ro` is not enough. In WAL mode, which is every study's here, the files beside the database, `-wal`
and `-shm`, come with its first reader or writer and go with its last writer:

- Both are there: somebody has it open, or was killed. It is read beside them as it goes on. A reader may take its locks
  in a `-shm` that it cannot write, if told so (`readonly_shm`).
- They are not: nobody has it open, and a reader would have to make them. What is read is a copy, which goes with its
  connection; `immutable`, SQLite's own answer, would read on while somebody begins to write.
- What a killed writer left is not whole (a journal that must be rolled back, a `-wal` without its `-shm`): its copy is
  mended as SQLite does it, and the file stays as it is.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

from sqlalchemy.exc import DisconnectionError
from sqlalchemy.pool import ConnectionPoolEntry, PoolProxiedConnection

# A copy is taken anew when somebody wrote meanwhile, so often.
TRIES = 20
PAUSE_S = 0.05

# In the header of a SQLite file, the versions that may write and read it: 2 is WAL.
_VERSIONS, _WAL = slice(18, 20), b"\2\2"

# Makes SQLite open all that it needs.
_LOOK = "SELECT count(*) FROM sqlite_master"

# Which file it is, when it was written and how long it is: of the database, its -wal and its -journal.
_State = tuple[tuple[int, int, int, int] | None, ...]


class ReadConnection(sqlite3.Connection):
    """A connection that only reads.

    Attributes:
        copied: how the file was when it was copied; None where it is read in place.
        identity: which file it is.
        is_new: whether nobody has used it yet: then it reads what was there a moment ago.
    """

    is_new = True
    copied: _State | None = None
    identity: tuple[int, int] | None = None


class FileReader:
    """Connects to a SQLite file so that it is only read.

    Args:
        file: the database's.
        timeout_s: how long SQLite waits for a writer.
    """

    def __init__(self, file: Path, timeout_s: float) -> None:
        self._file = file.absolute()
        self._wal, self._shm, self._journal = (Path(f"{self._file}{end}") for end in ("-wal", "-shm", "-journal"))
        self._timeout_s = timeout_s

    def connect(self) -> ReadConnection:
        """Return a connection to the file, or to a copy of it.

        Raises:
            sqlite3.Error: it cannot be read.
        """
        refused = sqlite3.OperationalError("unable to open database file")
        if not self._file.is_file():
            raise refused
        if self._is_read_in_place():
            try:
                return self._opened(self._file, "mode=ro&readonly_shm=1")
            except sqlite3.OperationalError as error:
                # It went just now, or it cannot be read before it is mended; a copy can.
                refused = error
        for _ in range(TRIES):
            try:
                connection = self._copied()
            except OSError as error:
                raise refused from error
            if connection is not None:
                return connection
            time.sleep(PAUSE_S)
        raise sqlite3.OperationalError("database is locked")

    def _is_read_in_place(self) -> bool:
        # The file itself is not opened while another connection of this process may have it open: to close it here
        # would give up all locks of the process, as POSIX has it.
        if self._wal.exists() and self._shm.exists():
            return True
        with suppress(OSError), self._file.open("rb") as file:
            return file.read(_VERSIONS.stop)[_VERSIONS] != _WAL
        return True  # SQLite says why

    def _opened(self, file: Path, how: str) -> ReadConnection:
        place = f"file:{quote(str(file))}?{how}"
        connection = sqlite3.connect(
            place, uri=True, timeout=self._timeout_s, check_same_thread=False, factory=ReadConnection
        )
        connection.identity = _identity(self._file)
        try:
            connection.execute("PRAGMA query_only = ON")  # a copy could be written
            connection.execute(_LOOK)
        except BaseException:
            connection.close()
            raise
        return connection

    def _copied(self) -> ReadConnection | None:
        """Return a connection to a copy of the file as it is now; None where somebody wrote to it meanwhile."""
        before = self._state()
        with tempfile.TemporaryDirectory(prefix="tuning-read-", ignore_cleanup_errors=True) as folder:
            for file in (self._journal, self._wal):
                with suppress(FileNotFoundError):
                    shutil.copyfile(file, Path(folder, file.name))
            copy = Path(folder, self._file.name)
            shutil.copyfile(self._file, copy)
            if self._state() != before:
                return None
            connection = self._opened(copy, "mode=rw")
        # Its names are gone, its bytes stay as long as the connection.
        connection.copied = before
        return connection

    def _state(self) -> _State:
        return tuple(map(_known, (self._file, self._wal, self._journal)))

    def checked_out(
        self, connection: ReadConnection, _record: ConnectionPoolEntry, _proxy: PoolProxiedConnection
    ) -> None:
        """Drop a connection of a pool that reads what is not there any more."""
        if connection.is_new:
            # Where others write all the time, whatever is made anew would be old at once, and the pool would give up.
            connection.is_new = False
            return
        if connection.identity != _identity(self._file):
            raise DisconnectionError("the database's file was moved or replaced")
        if connection.copied is not None:
            if connection.copied != self._state():
                raise DisconnectionError("the database was written since it was copied")
            return
        try:
            connection.execute(_LOOK)
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise DisconnectionError("the database went over to another way of writing") from error


def _identity(file: Path) -> tuple[int, int] | None:
    known = _known(file)
    return known[:2] if known is not None else None


def _known(file: Path) -> tuple[int, int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_size
