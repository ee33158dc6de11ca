"""Breaking things on purpose: processes, calls, disks and databases."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import psutil
import pytest

from storage.database import Database

# What SQLite calls it.
FULL = 2

CHILD = Path(__file__).resolve().parent / "child"


@dataclass(frozen=True)
class Fault:
    """What happens at a function of the program, in a process that is started with `environment`.

    Attributes:
        at: the function, as `module:name` or `module:Class.name`.
        do: `kill` or `stop` this process, `no space`, `locked` (errors that the call raises), or `sleep:SECONDS`.
        when: before the call, or after it has happened.
        call: the how-many-th call of a process that matches is hit, and each after it while `times` allows.
        match: must be in the text of an argument, or afterwards of the result.
        process: must be in the command line: of the launcher's and its workers' the word `worker` tells the latter.
        log: the end of the name of what standard error goes to, which tells the workers apart.
        times: how often it happens, in all processes together.
    """

    at: str
    do: str
    when: Literal["before", "after"] = "before"
    call: int = 1
    match: str = ""
    process: str = "worker"
    log: str = ""
    times: int = 1


class Faults:
    """Faults and changed constants for the processes of a test.

    Args:
        folder: where they note what has happened; it is made.
        faults: each happens on its own.
        constants: other values for constants, by `module:NAME`; outages and leases, which a test cannot wait for.
    """

    def __init__(self, folder: Path, *faults: Fault, constants: Mapping[str, Any] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._faults = faults
        self._constants = dict(constants or {})

    @property
    def environment(self) -> dict[str, str]:
        """What a process is started with, besides its own environment, for the faults to happen in it."""
        faults = [{**asdict(fault), "mark": str(self._folder / str(n))} for n, fault in enumerate(self._faults)]
        return {
            "PYTHONPATH": os.pathsep.join([str(CHILD), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "TUNING_FAULTS": json.dumps({"constants": self._constants, "faults": faults}),
        }

    def happened(self) -> list[int]:
        """Return how often each fault has happened, in their order."""
        return [len(list(self._folder.glob(f"{number}.*"))) for number in range(len(self._faults))]


@contextmanager
def paused(process: psutil.Process) -> Iterator[None]:
    """Stop a process inside the block, as if its machine stood still."""
    process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal.SIGCONT)


@dataclass(frozen=True)
class SmallDisk:
    """A file system of a few megabytes.

    Attributes:
        folder: where it is mounted.
    """

    folder: Path

    def fill(self) -> Path:
        """Leave no room, with a file that may be removed again."""
        filling = self.folder / "filling"
        with filling.open("wb", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        return filling

    def remount(self, options: str) -> None:
        """Change it while it is in use: `size=64m`, `ro`, `rw`."""
        subprocess.run(["mount", "-o", f"remount,{options}", str(self.folder)], check=True, capture_output=True)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[SmallDisk]:
    """Mount a file system in memory over a folder, which is made; skip the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    if shutil.which("mount") is None:
        pytest.skip("there is no mount command here")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a process that a failed test left must not keep it.
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class PowerCut:
    """What a power cut leaves of a SQLite database: its log up to the last synced commit, and any part of the rest.

    A commit syncs the log where the connection says `synchronous = FULL`; SQLite promises no more for `NORMAL`.

    Args:
        database: new, and so small that its log is not written back meanwhile.
        file: its file.
    """

    def __init__(self, database: Database, file: Path) -> None:
        self._file = file
        self._log = Path(f"{file}-wal")
        self._whole = file.read_bytes()
        self.synced = self.written
        commit = database.engine.dialect.do_commit

        def do_commit(connection: Any) -> None:
            ((synchronous,),) = connection.execute("PRAGMA synchronous").fetchall()
            commit(connection)
            if synchronous >= FULL:
                self.synced = self.written

        database.engine.dialect.do_commit = do_commit  # type: ignore[method-assign,assignment]

    @property
    def written(self) -> int:
        """How many bytes the log has, on the disk or not."""
        return self._log.stat().st_size if self._log.exists() else 0

    def left(self, folder: Path, log_bytes: int) -> Path:
        """Return a copy of the database as it is after a cut that left so much of its log."""
        assert self.synced <= log_bytes <= self.written
        assert self._file.read_bytes() == self._whole
        folder.mkdir()
        (folder / "studies.db").write_bytes(self._whole)
        (folder / "studies.db-wal").write_bytes(self._log.read_bytes()[:log_bytes])
        return folder / "studies.db"


@contextmanager
def moved_away(database: Path) -> Iterator[None]:
    """Take a SQLite database away inside the block, with the files beside it that belong to it."""
    away = database.parent / "away"
    away.mkdir()
    files = [file for file in (database, *(Path(f"{database}{end}") for end in ("-wal", "-shm"))) if file.exists()]
    for file in files:
        file.rename(away / file.name)
    try:
        yield
    finally:
        for file in files:
            (away / file.name).rename(file)
        away.rmdir()


def truncate(file: Path, size_bytes: int) -> None:
    """Keep only the first bytes of a file."""
    os.truncate(file, size_bytes)


def wait_for_end(processes: list[psutil.Process], timeout_s: float = 60.0) -> None:
    """Wait until none of the processes is left."""
    deadline = time.monotonic() + timeout_s
    while any(alive(process) for process in processes):
        assert time.monotonic() < deadline, f"still there after {timeout_s:g} s: {processes}"
        time.sleep(0.05)


def alive(process: psutil.Process) -> bool:
    """Whether a process runs, or is stopped: not ended and not a zombie."""
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
