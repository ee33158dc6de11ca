"""What a workforce needs of whatever starts its workers: one small interface.

`tuning.launch.engines.here` starts them as processes of this machine, `tuning.launch.engines.cluster` on the nodes of a
Ray cluster. One suite of tests runs on both, `tests/contract/test_engine.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tuning.machine.devices import Placement
from tuning.messages import WorkerOptions


@dataclass(frozen=True)
class Start:
    """What a worker is started with.

    Attributes:
        options: its own.
        placement: the device and its variables.
        environment: variables besides. They hold passwords: nobody prints them.
        log: the file on this machine that its standard error goes to.
    """

    options: WorkerOptions
    placement: Placement
    environment: Mapping[str, str] = field(repr=False)
    log: Path


class WorkerProcess(Protocol):
    """A worker that was started, wherever it is."""

    def lines(self) -> Iterator[str]:
        """Yield what it says, a line at a time, until it has ended. One thread calls this, once."""

    def say(self, line: str) -> None:
        """Have it read a line; none is read by one that has ended."""

    def status(self) -> int | None:
        """Return its exit status, negative for the signal that killed it; None while it runs, or is about to."""

    def stop(self) -> None:
        """Ask it to stop: SIGTERM."""

    def kill(self) -> None:
        """End it."""

    def wait(self) -> int:
        """Wait until it has ended; return its exit status."""

    def close(self) -> None:
        """Let go of what is held for it. It has ended, or ends by that."""


class Adjusting(Protocol):
    """Has as many workers as are useful."""

    def adjust(self, trials_left: int) -> None:
        """Look at the workers, and have more or fewer; it is called often.

        Args:
            trials_left: how many trials are not over. There is no use for more workers.
        """


class Engine(Protocol):
    """Starts workers."""

    def start(self, start: Start) -> WorkerProcess:
        """Start a worker; whatever keeps it from running is its end."""
