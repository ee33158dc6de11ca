"""A virtual clock for what waits in line: cores, a lock, a disk. Processes are generators that yield what they want.

`studies.simulation` plays studies, in which nobody waits for anybody; here all that counts is who waits for whom.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import count
from typing import Final

Wish = Callable[["Process"], None]
"""Takes a process, and sees to it that it goes on."""

Process = Generator[Wish, None, None]

# For how long a process has a core before the next one has its turn.
SLICE_S: Final = 0.003
# How long SQLite sleeps before it tries a lock again (`sqliteDefaultBusyCallback`), the last one for ever.
BUSY_S: Final[Sequence[float]] = tuple(ms / 1e3 for ms in (1, 2, 5, 10, 15, 20, 25, 25, 25, 50, 50, 100))


class VirtualClock:
    """Seconds that pass when nothing else happens."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Have something done in so many seconds."""
        heapq.heappush(self._due, (self.now + seconds, next(self._order), then))

    def go_on(self, process: Process) -> None:
        """Have a process do what it does until it wants something."""
        wish = next(process, None)
        if wish is not None:
            wish(process)

    def start(self, process: Process) -> None:
        """Begin a process now."""
        self.after(0.0, lambda: self.go_on(process))

    def sleep(self, seconds: float) -> Wish:
        """Wish to go on after so many seconds."""
        return lambda process: self.after(seconds, lambda: self.go_on(process))

    def run(self, until: float) -> None:
        """Let time pass."""
        while self._due and self._due[0][0] <= until:
            self.now, _, then = heapq.heappop(self._due)
            then()
        self.now = until


class Cores:
    """So many cores, on which processes take turns.

    Attributes:
        busy_s: for how long they worked, all together.
    """

    def __init__(self, clock: VirtualClock, number: int) -> None:
        self._clock = clock
        self._free = number
        self._line: deque[tuple[float, Process]] = deque()
        self.busy_s = 0.0

    def use(self, seconds: float) -> Wish:
        """Wish for so much processor time."""

        def wish(process: Process) -> None:
            self._line.append((seconds, process))
            self._serve()

        return wish

    def _serve(self) -> None:
        while self._free and self._line:
            left, process = self._line.popleft()
            turn = min(left, SLICE_S)
            self._free -= 1
            self._clock.after(turn, lambda left=left - turn, turn=turn, process=process: self._end(left, turn, process))  # type: ignore[misc]

    def _end(self, left: float, turn: float, process: Process) -> None:
        self._free += 1
        self.busy_s += turn
        if left > 0:
            self._line.append((left, process))
        self._serve()
        if left <= 0:
            self._clock.go_on(process)


class Lock:
    """What one process has at a time.

    Args:
        clock: the time.
        polled: whether who waits sleeps and tries again, as SQLite does; otherwise who came first is next.

    Attributes:
        held_s: for how long anyone had it.
    """

    def __init__(self, clock: VirtualClock, *, polled: bool) -> None:
        self._clock = clock
        self._polled = polled
        self._held_since: float | None = None
        self._line: deque[Process] = deque()
        self.held_s = 0.0

    def acquire(self) -> Process:
        """Wait for the lock: to be delegated to."""
        tries = 0
        while self._held_since is not None:
            if self._polled:
                yield self._clock.sleep(BUSY_S[min(tries, len(BUSY_S) - 1)])
                tries += 1
            else:
                yield self._line.append
        self._held_since = self._clock.now

    def release(self) -> None:
        """Give the lock back."""
        assert self._held_since is not None
        self.held_s += self._clock.now - self._held_since
        self._held_since = None
        if self._line:
            self._clock.start(self._line.popleft())


class Disk:
    """Makes all that wait for it durable with one flush, those that come meanwhile with the next one.

    Args:
        clock: the time.
        flush_s: what a flush takes.
    """

    def __init__(self, clock: VirtualClock, flush_s: float) -> None:
        self._clock = clock
        self._flush_s = flush_s
        self._line: list[Process] = []
        self._busy = False

    def flush(self) -> Wish:
        """Wish to have what was written on the disk."""

        def wish(process: Process) -> None:
            self._line.append(process)
            if not self._busy:
                self._begin()

        return wish

    def _begin(self) -> None:
        served, self._line, self._busy = self._line, [], True
        self._clock.after(self._flush_s, lambda: self._end(served))

    def _end(self, served: list[Process]) -> None:
        self._busy = False
        if self._line:
            self._begin()
        for process in served:
            self._clock.go_on(process)
