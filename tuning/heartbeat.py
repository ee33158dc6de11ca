"""Shows that a worker is alive while it runs a trial, and ends it when the trial hangs."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.claims import BEAT_S, Claim, Claims
from storage.errors import ClaimLost, StorageUnavailable

logger = logging.getLogger(__name__)


class Heartbeat:
    """Raises a claim's beat from a thread of its own.

    A storage error ends neither the thread nor the trial: the beat is tried again, and whether the trial is still this
    worker's is decided by the next write to it.

    Args:
        claims: through which the beat is written.
        timeout_s: how long a claim may last; None for ever.
        timed_out: called from the thread when it has lasted longer; it is expected to end the process.
        interval_s: seconds between two beats.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        timeout_s: float | None,
        timed_out: Callable[[Claim], None],
        interval_s: float = BEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._timeout_s = timeout_s
        self._timed_out = timed_out
        self._interval_s = interval_s
        self._clock = clock

    @contextmanager
    def of(self, claim: Claim) -> Iterator[None]:
        """Keep the claim's beat going inside the block."""
        over = threading.Event()
        threading.Thread(target=self._run, args=(claim, over), daemon=True).start()
        try:
            yield
        finally:
            # The thread is not waited for: it may be waiting for the database, and a beat after the trial is refused.
            over.set()

    def _run(self, claim: Claim, over: threading.Event) -> None:
        began = self._clock()
        while not over.wait(self._interval_s):
            if self._timeout_s is not None and self._clock() - began > self._timeout_s:
                self._timed_out(claim)
                return
            try:
                self._claims.beat(claim)
            except ClaimLost:
                return
            except StorageUnavailable as error:
                logger.warning("no heartbeat: %s", error)
