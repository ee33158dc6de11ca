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
from dataclasses import astuple, dataclass, field

from storage.claims import Claim, Claims
from storage.errors import ClaimLost, StorageUnavailable

logger = logging.getLogger(__name__)

BEAT_S = 5.0
LEASE_S = 45.0
# The most that a watcher counts as silence between two looks: what passed beyond that it slept through itself.
LOOK_S = 2 * BEAT_S


# A call of training steps hangs that has not ended after so long, and after so many times what the last of its kind
# took.
LEAST_S = 60.0
TIMES = 20
# A first call traces and compiles. It hangs after so many times what the preflight's own took, and after so long where
# that may have found compiled what the next has to compile, all workers at once.
COMPILING_S = 600.0
# What is not known to be short: first calls where no preflight told of any, and what lies between two calls, where a
# user's callback may compute, and a database that is away is waited for.
UNKNOWN_S = 1800.0


@dataclass(frozen=True)
class FirstCalls:
    """How long a training takes until its first calls have ended.

    Attributes:
        before_s: seconds before the first of all, where a user's `fit` may prepare the data.
        train_s, test_s: seconds of the first call of each kind.
    """

    before_s: float
    train_s: float
    test_s: float

    def longest(self, other: FirstCalls) -> FirstCalls:
        """Return the longer one of each."""
        return FirstCalls(*map(max, astuple(self), astuple(other)))


@dataclass(frozen=True, eq=False)
class _Doing:
    """What a training does at the moment; `limit_s` says for how long it may, None for ever."""

    kind: str | None
    began: float
    limit_s: float | None


class StepWatch:
    """Sees a training hang: the process is alive, but no step ends any more.

    A trial's steps are run by calls of several each. Time in which this process was stopped does not count.

    Args:
        clock: monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        # What the last call of each kind took, and how long the first may, and what is before: None.
        self._took: dict[str, float] = {}
        self._first_s: dict[str | None, float] = {}
        self._doing = self._seen = _Doing(None, clock(), None)
        self._silent_s, self._looked = 0.0, clock()

    def expect(self, first: FirstCalls, *, compiling: bool) -> None:
        """Let a training hang by what its first calls took in a preflight.

        Args:
            first: what they took.
            compiling: whether that may have found programs that another process had compiled.
        """
        least_s = COMPILING_S if compiling else LEAST_S
        took = {None: first.before_s, "train": first.train_s, "test": first.test_s}
        self._first_s = {kind: max(least_s, TIMES * seconds) for kind, seconds in took.items()}

    def training_begins(self) -> None:
        """From now on a call is expected; what is known of former ones is forgotten."""
        self._took = {}
        self._doing = _Doing(None, self._clock(), self._first_s.get(None, UNKNOWN_S))

    def call_begins(self, kind: str) -> None:
        """A call of steps begins, `train` or `test`."""
        took = self._took.get(kind)
        limit_s = self._first_s.get(kind, UNKNOWN_S) if took is None else max(LEAST_S, TIMES * took)
        self._doing = _Doing(kind, self._clock(), limit_s)

    def call_ends(self) -> None:
        """The call that began last has ended."""
        if self._doing.kind is not None:
            self._took[self._doing.kind] = self._clock() - self._doing.began
        self._doing = _Doing(None, self._clock(), UNKNOWN_S)

    def rests(self) -> None:
        """Nothing is trained now; how long that takes is no sign of anything."""
        self._doing = _Doing(None, self._clock(), None)

    def hangs(self) -> str | None:
        """Return why the training is taken for hung, or None; call it often."""
        doing, now = self._doing, self._clock()
        passed, self._looked = min(now - self._looked, LOOK_S), now
        self._silent_s = self._silent_s + passed if doing is self._seen else 0.0
        self._seen = doing
        if doing.limit_s is None or self._silent_s <= doing.limit_s:
            return None
        return f"hangs: no step of it ended for {self._silent_s:.0f} s"


class Heartbeat:
    """Raises a claim's beat from a thread of its own.

    A storage error ends neither the thread nor the trial: the beat is tried again, and whether the trial is still this
    worker's is decided by the next write to it.

    Args:
        claims: through which the beat is written.
        timeout_s: how long a claim may last; None for ever.
        hangs: asked with each beat; returns why the trial is taken for hung, or None.
        give_up: called from the thread with the claim that has lasted longer or hangs, and with why; it is expected to
            end the process.
        interval_s: seconds between two beats.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        claims: Claims,
        *,
        timeout_s: float | None,
        hangs: Callable[[], str | None] = lambda: None,
        give_up: Callable[[Claim, str], None],
        interval_s: float = BEAT_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._claims = claims
        self._timeout_s = timeout_s
        self._hangs = hangs
        self._give_up = give_up
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
            why = self._hangs()
            if self._timeout_s is not None and self._clock() - began > self._timeout_s:
                why = f"took longer than its time limit of {self._timeout_s:g} s"
            if why is not None:
                self._give_up(claim, why)
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
