"""A claim's lease: kept by its owner's heartbeat, and seen to run out by whoever watches.

A lease has run out when the beat has stood still for `LEASE_S` seconds of the watcher's own monotonic clock in which
the database took writes. No two clocks are compared, and a database that nobody could reach for a minute costs nobody a
trial, nor does a machine that was suspended with watcher and workers alike.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storage.claims import Claim, Claims
from storage.errors import ClaimLost, StorageUnavailable

logger = logging.getLogger(__name__)

BEAT_S = 5.0
LEASE_S = 45.0
# The most that a watcher counts as silence between two looks: what passed beyond that it slept through itself.
LOOK_S = 2 * BEAT_S


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


@dataclass
class LeaseWatch:
    """Sees leases run out, by the watcher's own clock.

    Args:
        claims: the study's claims.
        clock: monotonic seconds.
        lease_s: how long a beat may stand still.
    """

    claims: Claims
    clock: Callable[[], float] = time.monotonic
    lease_s: float = LEASE_S
    # By claim: its last beat, and for how long it was seen to stand still.
    _silence: dict[str, tuple[int, float]] = field(default_factory=dict)
    _looked: float | None = None

    def put_back_expired(self) -> list[Claim]:
        """Look at all running claims, put back those whose beat has stood still, and return them; call it often."""
        return self.claims.put_back_silent(self._silent, f"its worker was silent for {self.lease_s:g} s")

    def _silent(self, running: list[tuple[Claim, int]]) -> list[Claim]:
        now = self.clock()
        # A watcher that was stopped, or that waited for the database, does not know what the others did meanwhile.
        passed = min(now - self._looked, LOOK_S) if self._looked is not None else 0.0
        before, self._looked, self._silence = self._silence, now, {}
        for claim, beat in running:
            last_beat, silent_s = before.get(claim.id, (beat, 0.0))
            self._silence[claim.id] = (beat, silent_s + passed if beat == last_beat else 0.0)
        return [claim for claim, _ in running if self._silence[claim.id][1] > self.lease_s]
