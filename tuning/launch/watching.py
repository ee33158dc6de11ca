"""Workers watched until what they do is done, its time is up or a stop is asked for; then none is left."""

from __future__ import annotations

import abc
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.claims import Claims, Standing
from storage.database import Database
from storage.errors import StorageUnavailable
from storage.leases import LeaseWatch
from tuning.launch.engines.engine import Adjusting
from tuning.launch.progress import Progress
from tuning.launch.summary import Report
from tuning.launch.workforce import Workforce
from tuning.messages import LAUNCHER_GRACE_S

TICK_S = 0.5
# How often leases are looked at.
WATCH_S = 5.0


class Watching(abc.ABC):
    """Runs the workers of one phase of a study: until it is done, its time is up, or a stop is asked for.

    Args:
        claims: the phase's.
        workforce: its workers on this machine.
        packer: finds out how many a device should have; None where that is given.
        progress: shows what happens meanwhile.
        report: takes one line for the user.
        timeout_s: seconds in which it ends; None for as long as it takes.
        clock: monotonic seconds.
        noted: called now and then: so long it has taken.
    """

    def __init__(
        self,
        claims: Claims,
        workforce: Workforce,
        packer: Adjusting | None,
        progress: Progress,
        report: Report,
        timeout_s: float | None,
        clock: Callable[[], float] = time.monotonic,
        noted: Callable[[], None] = lambda: None,
    ) -> None:
        self._noted = noted
        self._claims = claims
        self._workforce = workforce
        self._packer = packer
        self._progress = progress
        self._report = report
        self._clock = clock
        self._started = clock()
        # Asked to stop a little before the end of its time, so that the study ends in it.
        self._deadline = None if timeout_s is None else self._started + timeout_s - min(LAUNCHER_GRACE_S, timeout_s / 4)
        self._watch = LeaseWatch(claims)
        self._watched = self._started
        self._interrupts = 0

    @abc.abstractmethod
    def _begin(self) -> None:
        """Start the workers, and let them ask for trials.

        Raises:
            BadInput: the study was refused.
        """

    @abc.abstractmethod
    def _conclude(self, elapsed_s: float) -> None:
        """Say what became of it. No worker is left."""

    def run_on(self, database: Database) -> int:
        """Run it on a database that may be away for a while; return the exit status, see `run`.

        Raises:
            StorageUnavailable: it was away for too long.
        """
        database.sleep = self.wait_for_database
        try:
            return self.run()
        except StorageUnavailable as error:
            if not self.interrupted:
                raise
            self._report(str(error))
            return 130

    def run(self) -> int:
        """Run it; return the exit status: 0, or 130 where it was interrupted. Afterwards no worker is left.

        Raises:
            BadInput: the study was refused.
            TuningError: it cannot go on.
        """
        with self._signals():
            try:
                self._begin()
                self._progress.start()
                try:
                    self._watch_workers()
                finally:
                    self._progress.stop()
            finally:
                before = self._interrupts
                try:
                    if before:
                        self._report(
                            "stopping: running trials go on to the end of their epoch if that is near, and back into"
                            f" the queue, within {LAUNCHER_GRACE_S:g} s; Ctrl-C again ends them now"
                        )
                finally:  # what reads the output may be gone
                    self._workforce.end(hurry=lambda: self._interrupts > max(before, 1))
        self._conclude(self._clock() - self._started)
        return 130 if self.interrupted else 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(_number: int, _frame: object) -> None:
            self._interrupts += 1

        if threading.current_thread() is not threading.main_thread():
            yield  # no other can take a signal
            return

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def interrupted(self) -> bool:
        """Whether a stop was asked for by a signal."""
        return self._interrupts > 0

    def wait_for_database(self, seconds: float) -> None:
        """Wait between two tries of a call; a signal meanwhile ends the waiting.

        Raises:
            StorageUnavailable: a stop was asked for.
        """
        before, until = self._interrupts, self._clock() + seconds
        while self._clock() < until:
            if self._interrupts > before:
                raise StorageUnavailable("interrupted while the database is busy or away; the same command goes on")
            time.sleep(0.05)

    def _stopping(self) -> bool:
        return self._interrupts > 0 or (self._deadline is not None and self._clock() >= self._deadline)

    def _pack(self, standing: Standing) -> None:
        if self._packer is not None:
            self._packer.adjust(standing.budget - standing.finished)

    def _watch_workers(self) -> None:
        """Watch until the budget is spent, the time is up, or a stop is asked for.

        Raises:
            TuningError: the study cannot go on.
        """
        while not self._stopping():
            standing = self._claims.standing()
            self._progress.follow()
            if standing.done and not standing.running:
                return
            self._workforce.tend()
            self._pack(standing)
            if self._clock() - self._watched >= WATCH_S:
                self._watched = self._clock()
                self._noted()
                for claim in self._watch.put_back_expired():
                    self._workforce.kill_owner(claim.owner)
                    self._report(f"trial {claim.number}: its worker fell silent, so the trial is given up by it")
            self._pause()

    def _pause(self) -> None:
        # Short naps, since a signal only sets a number.
        until = self._clock() + TICK_S
        while self._clock() < until and not self._interrupts:
            time.sleep(0.05)
