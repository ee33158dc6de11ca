"""Workers on a virtual clock, whose calls take what they were measured to take where nobody was in the way."""

from __future__ import annotations

import random
import statistics
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from storage.leases import BEAT_S
from tests.benchmarks.claims.stations import Cores, Disk, Lock, Process, VirtualClock, Wish
from tests.benchmarks.claims.timed import Call
from tests.benchmarks.claims.worker import AFTER, BEAT, BEFORE
from tests.benchmarks.storage.studies import REPORTS


@dataclass(frozen=True)
class Alone:
    """What the calls of one worker take, the only one at work, in a study where others hold trials.

    Attributes:
        calls: by kind.
        flush_s: what a commit waits for the disk: by how much longer a transaction takes that does.
        served: of what else is waited for, files aside, the part in which a server computed.
        one_writer: whether the database takes one write transaction at a time, as SQLite; otherwise only those that
            claim exclude each other, which lock the study.
    """

    calls: Mapping[str, Sequence[Call]]
    flush_s: float
    served: float
    one_writer: bool

    @classmethod
    def of(cls, flushed: Sequence[Call], unflushed: Sequence[Call], server_s: float, *, one_writer: bool) -> Alone:
        """Return what was measured with and without waiting for the disk; in the latter a server computed so long."""
        calls: dict[str, list[Call]] = defaultdict(list)
        for call in flushed:
            calls[call.step].append(call)
        # A claim's: the database waits for the disk with each of them, whichever it is.
        with_it, without = (_median_away_s(each) for each in (flushed, unflushed))
        away_s = sum(write.away_s for call in unflushed for write in call.writes)
        away_s += sum(call.outside_away_s for call in unflushed if call.step != "files")
        served = min(1.0, server_s / away_s) if away_s else 0.0
        return cls(calls, max(0.0, with_it - without), served, one_writer)

    def median_ms(self, step: str) -> float:
        """Return what a call takes in the middle, in milliseconds."""
        return statistics.median(call.wall_s for call in self.calls[step]) * 1e3


def _median_away_s(calls: Sequence[Call]) -> float:
    return statistics.median(write.away_s for call in calls if call.step == "claim" for write in call.writes)


@dataclass(frozen=True)
class Machines:
    """Where workers and server are.

    Attributes:
        cores: of the one machine on which all is; of the server's, where each worker has a core of its own.
        apart: whether each worker has.
    """

    cores: int
    apart: bool


@dataclass
class Played:
    """What simulated workers came to.

    Attributes:
        seconds: virtual ones.
        waited: what each call took, by kind.
        per_worker: how many calls each made.
        share: the mean share of a worker's time in which it did not train.
        lock: the share of the time in which the lock was held.
        cores: the share of the cores that was used, of those that are shared.
    """

    seconds: float
    waited: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    per_worker: list[int] = field(default_factory=list)
    share: float = 0.0
    lock: float = 0.0
    cores: float = 0.0

    def per_s(self, step: str) -> float:
        """Return how many calls of a kind were made a second."""
        return len(self.waited[step]) / self.seconds


def play(alone: Alone, workers: int, machines: Machines, *, seconds: float, epoch_s: float = 0.0) -> Played:
    """Let workers work on a virtual clock; the same arguments give the same.

    Args:
        alone: what their calls take.
        workers: how many.
        machines: where they are.
        seconds: for how long; a fifth as much passes before, uncounted.
        epoch_s: how long an epoch is trained.
    """
    simulation = _Simulation(alone, workers, machines, seconds, epoch_s)
    return simulation.played()


class _Simulation:
    def __init__(self, alone: Alone, workers: int, machines: Machines, seconds: float, epoch_s: float) -> None:
        self._alone = alone
        self._apart = machines.apart
        self._epoch_s = epoch_s
        self._clock = VirtualClock()
        self._cores = Cores(self._clock, machines.cores)
        self._number = machines.cores
        self._lock = Lock(self._clock, polled=alone.one_writer)
        self._disk = Disk(self._clock, alone.flush_s)
        self._rng = random.Random(workers)
        self._from_s, self._played = seconds / 5, Played(seconds)
        self._played.per_worker = [0] * workers
        self._busy_s = [0.0] * workers
        for worker in range(workers):
            self._clock.start(self._worker(worker))
            if epoch_s:
                self._clock.start(self._heartbeat(worker))

    def played(self) -> Played:
        played = self._played
        self._clock.run(self._from_s)
        held_s, cores_s = self._lock.held_s, self._cores.busy_s
        self._clock.run(self._from_s + played.seconds)
        played.lock = (self._lock.held_s - held_s) / played.seconds
        played.cores = (self._cores.busy_s - cores_s) / played.seconds / self._number
        played.share = statistics.mean(self._busy_s) / played.seconds
        return played

    def _worker(self, worker: int) -> Process:
        first = self._rng.randrange(REPORTS)
        yield self._clock.sleep(self._rng.random() * (self._epoch_s or 1e-3))
        while True:
            for _ in range(first, REPORTS):
                yield self._clock.sleep(self._epoch_s)
                yield from self._call(worker, "report")
            for step in (*AFTER, *BEFORE):
                yield from self._call(worker, step)
            first = 0

    def _heartbeat(self, worker: int) -> Process:
        yield self._clock.sleep(self._rng.random() * BEAT_S)
        while True:
            yield from self._call(worker, BEAT)
            yield self._clock.sleep(BEAT_S)

    def _call(self, worker: int, step: str) -> Process:
        began = self._clock.now
        call = self._rng.choice(self._alone.calls[step])
        yield self._client(call.outside_cpu_s)
        # The files of a trial go to the disk, all else that is waited for is a server's work.
        if step == "files":
            yield self._clock.sleep(call.outside_away_s)
        elif not self._alone.one_writer:
            yield from self._served(call.outside_away_s)
        for wish in self._writes(call, step):
            yield from wish
        passed = self._clock.now - max(began, self._from_s)
        if began >= self._from_s:
            self._played.waited[step].append(passed)
        if step != BEAT and passed > 0:
            self._busy_s[worker] += passed
            self._played.per_worker[worker] += 1

    def _writes(self, call: Call, step: str) -> Iterator[Process]:
        exclusive = self._alone.one_writer or step == "claim"
        for write in call.writes:
            if exclusive:
                yield self._lock.acquire()
            yield self._write(write.cpu_s, write.away_s, rides=step == BEAT)
            if exclusive:
                self._lock.release()

    def _write(self, cpu_s: float, away_s: float, *, rides: bool) -> Process:
        yield self._client(cpu_s)
        if self._alone.one_writer:
            yield self._clock.sleep(away_s)
            return
        flush_s = 0.0 if rides else self._alone.flush_s
        yield from self._served(max(0.0, away_s - flush_s))
        if flush_s:
            yield self._disk.flush()

    def _served(self, seconds: float) -> Process:
        yield self._cores.use(self._alone.served * seconds)
        yield self._clock.sleep((1 - self._alone.served) * seconds)

    def _client(self, seconds: float) -> Wish:
        return self._clock.sleep(seconds) if self._apart else self._cores.use(seconds)
