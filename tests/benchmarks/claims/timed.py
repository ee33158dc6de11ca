"""The service's database, which says of each call of a worker how long it took, and where."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import sqlalchemy

from storage.database import Database
from storage.rows.sql_rows import SqlRows


@dataclass
class Transaction:
    """One write transaction, from when its first lock was granted to the end of its commit.

    Attributes:
        waited_s: for a connection and for that lock.
        cpu_s: this thread's processor time.
        away_s: the rest: a server worked, or a disk.
    """

    waited_s: float = 0.0
    cpu_s: float = 0.0
    away_s: float = 0.0


@dataclass
class Call:
    """What a worker asked of the study between two of its epochs.

    Attributes:
        step: which call it is.
        wall_s: how long the worker waited for it.
        cpu_s: this thread's processor time, all in all.
        writes: its write transactions.
    """

    step: str
    wall_s: float = 0.0
    cpu_s: float = 0.0
    writes: list[Transaction] = field(default_factory=list)

    @property
    def outside_cpu_s(self) -> float:
        """Processor time outside of write transactions: reading, and what is made of it."""
        return max(0.0, self.cpu_s - sum(one.cpu_s for one in self.writes))

    @property
    def outside_away_s(self) -> float:
        """What passed outside of them besides: a server read, a disk took files, a lock was waited for."""
        return max(0.0, self.wall_s - self.cpu_s - sum(one.away_s for one in self.writes))


class _Doing(threading.local):
    call: Call | None = None
    stopwatch: _Stopwatch | None = None


class _Stopwatch:
    """Wall and processor time of this thread, from lap to lap."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.thread_time()
        self.waited_s = 0.0

    def lap(self) -> tuple[float, float]:
        """Return both since the last one."""
        wall, cpu = time.perf_counter(), time.thread_time()
        passed = wall - self._wall, cpu - self._cpu
        self._wall, self._cpu = wall, cpu
        return passed

    def granted(self) -> None:
        """What passed until now was waiting."""
        wall, cpu = self.lap()
        self.waited_s += max(0.0, wall - cpu)


class TimedDatabase(Database):
    """`Database`, with a stopwatch.

    Args:
        url: a database of this version that is there.
        flushed: whether a transaction waits for the disk where the service has it wait; otherwise none does.

    Attributes:
        calls: those that were timed.
    """

    def __init__(self, url: str, *, flushed: bool = True) -> None:
        self._doing = _Doing()
        self._flushed = flushed
        self.calls: list[Call] = []
        super().__init__(url)

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Time what this thread does in the block as one call."""
        call, watch = Call(step), _Stopwatch()
        self._doing.call = call
        try:
            yield
        finally:
            self._doing.call = None
            call.wall_s, call.cpu_s = watch.lap()
            self.calls.append(call)

    @contextmanager
    def writing(self, *, rides: bool = False) -> Iterator[None]:
        with super().writing(rides=rides or not self._flushed):
            yield

    @contextmanager
    def transaction(self, *, rides: bool = False) -> Iterator[sqlalchemy.Connection]:
        call = self._doing.call
        if call is None:
            with super().transaction(rides=rides) as connection:
                yield connection
            return
        watch = self._doing.stopwatch = _Stopwatch()
        try:
            with super().transaction(rides=rides) as connection:
                watch.granted()
                yield connection
        finally:
            self._doing.stopwatch = None
        wall_s, cpu_s = watch.lap()
        call.writes.append(Transaction(watch.waited_s, cpu_s, max(0.0, wall_s - cpu_s)))

    @contextmanager
    def rows(self, study_id: int, *, write: bool, rides: bool = False) -> Iterator[SqlRows]:
        with super().rows(study_id, write=write, rides=rides) as rows:
            if self.engine.dialect.name == "postgresql" and (watch := self._doing.stopwatch) is not None:
                # There the lock that workers contend for is the study's row; on SQLite BEGIN IMMEDIATE has waited.
                yield _Watched(rows.connection, study_id, watch)
            else:
                yield rows


class _Watched(SqlRows):
    def __init__(self, connection: sqlalchemy.Connection, study_id: int, watch: _Stopwatch) -> None:
        super().__init__(connection, study_id)
        self._watch = watch

    def lock(self) -> None:
        super().lock()
        self._watch.granted()
