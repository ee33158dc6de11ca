"""Real workers, each a process of its own, that begin at once; and what the database's server does meanwhile."""

from __future__ import annotations

import multiprocessing
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Final

import psutil
import sqlalchemy

from tests.benchmarks.best.quiet import cpu_now
from tests.benchmarks.claims.timed import Call
from tests.benchmarks.claims.worker import Pace, Worked, Worker

LOOK_S: Final = 0.1
_START_S: Final = 300.0
_AFTER_S: Final = 120.0


@dataclass
class Server:
    """What a PostgreSQL server did; of SQLite, which has none, nothing.

    Attributes:
        cpu_s: the processor time of its processes.
        connections: the most that workers had at once.
        waits: how often a connection that had a transaction was seen to wait for what; `Client` is the worker itself.
    """

    cpu_s: float = 0.0
    connections: int = 0
    waits: Counter[str] = field(default_factory=Counter)


@dataclass
class Crowd:
    """What workers came to.

    Attributes:
        workers: what each did.
        server: what the server did.
        memory_mb: what one of their processes takes for itself.
        busy_s: for how long the machine's cores were busy meanwhile, for whomever.
    """

    workers: Sequence[Worked]
    server: Server
    memory_mb: float
    busy_s: float = 0.0

    @property
    def seconds(self) -> float:
        """For how long they worked: the one that took longest."""
        return max(one.seconds for one in self.workers)

    def calls(self, step: str) -> list[Call]:
        """Return all calls of a kind."""
        return [call for one in self.workers for call in one.calls if call.step == step]


def at_work(url: str, folder: Path, workers: int, seconds: float, pace: Pace) -> Crowd:
    """Let so many workers work for so many seconds."""
    context = multiprocessing.get_context("forkserver")
    # Forked from a process that has imported it all, they share that memory.
    context.set_forkserver_preload([Worker.__module__])
    pipes: list[Connection] = []
    processes: list[ForkServerProcess] = []
    try:
        for number in range(workers):
            mine, other = context.Pipe()
            process = context.Process(target=_work, args=(other, url, folder, seconds, pace, number), daemon=True)
            process.start()
            other.close()
            pipes.append(mine)
            processes.append(process)
        for pipe in pipes:
            _told(pipe, _START_S)
        with _watched(url) as server:
            before_s = cpu_now().busy
            for pipe in pipes:
                pipe.send("go")
            found: list[Worked] = [_told(pipe, seconds + _AFTER_S) for pipe in pipes]
            busy_s = cpu_now().busy - before_s
            memory = max(psutil.Process(process.pid).memory_full_info().uss for process in processes[:1])
        for pipe in pipes:
            pipe.send("over")
        for process in processes:
            process.join(_AFTER_S)
    finally:
        for process in processes:
            process.kill()
            process.join()
    return Crowd(found, server, memory / 1e6, busy_s)


def _told(pipe: Connection, within_s: float) -> Worked:
    assert pipe.poll(within_s), f"a worker said nothing for {within_s:.0f} s"
    told: Worked = pipe.recv()
    return told


def _work(pipe: Connection, url: str, folder: Path, seconds: float, pace: Pace, seed: int) -> None:
    worker = Worker(url, folder, pace, seed)
    pipe.send("ready")
    pipe.recv()
    pipe.send(worker.work(seconds))
    pipe.recv()  # its connections are looked at until all are done
    worker.close()


@contextmanager
def _watched(url: str) -> Iterator[Server]:
    server = Server()
    if not url.startswith("postgresql"):
        yield server
        return
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    over = threading.Event()
    with engine.connect() as connection:
        own = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        watching = threading.Thread(target=_watch, args=(connection, server, over))
        before = _server_cpu_s(own)
        watching.start()
        try:
            yield server
        finally:
            over.set()
            watching.join()
            server.cpu_s = _server_cpu_s(own) - before
    engine.dispose()


def _watch(connection: sqlalchemy.Connection, server: Server, over: threading.Event) -> None:
    # What is not waited for is computed, as far as the server knows.
    asked = (
        "SELECT coalesce(wait_event_type, 'CPU'), coalesce(wait_event, '') , state FROM pg_stat_activity"
        " WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()"
    )
    while not over.wait(LOOK_S):
        rows = connection.exec_driver_sql(asked).all()
        server.connections = max(server.connections, len(rows))
        server.waits.update(f"{kind} {event}".strip() for kind, event, state in rows if state != "idle")


def _server_cpu_s(backend: int) -> float:
    """Return the processor time of a server's processes, also ended ones; NaN where it is on another machine."""
    try:
        postmaster = psutil.Process(backend).parent()
    except psutil.NoSuchProcess:
        return float("nan")
    assert postmaster is not None
    ended = postmaster.cpu_times()
    total = float(ended.children_user + ended.children_system)
    for process in [postmaster, *postmaster.children()]:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total += times.user + times.system
    return total


def free_for(workers: int, memory_mb: float) -> bool:
    """Return whether so many processes of that size find room, with a quarter of what is free to spare."""
    return workers * memory_mb * 1e6 < 0.75 * psutil.virtual_memory().available
