"""What is computed of workers that were measured, or played on a virtual clock. Nothing here runs anything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from tests.benchmarks.claims.crowd import Crowd
from tests.benchmarks.claims.simulated import Alone, Played
from tests.benchmarks.claims.worker import BEAT
from tests.benchmarks.storage.studies import REPORTS

# From here on what is shared is taken for full.
FULL: Final = 0.85


@dataclass
class Found:
    """What was found of so many workers on one database.

    Attributes:
        alone: what their calls take where nobody is in the way.
        crowd: real workers without pause; None past what the machine bears.
        unflushed: the same, without waiting for the disk.
        steady: real workers that train.
        played: by name, `busy` and by seconds of an epoch, all on this machine; see `apart`.
        apart: likewise, where each worker has a core of its own, and the server this machine's.
    """

    alone: Alone
    crowd: Crowd | None = None
    unflushed: Crowd | None = None
    steady: Crowd | None = None
    played: dict[str, Played] = field(default_factory=dict)
    apart: dict[str, Played] = field(default_factory=dict)


@dataclass(frozen=True)
class Latency:
    """How long calls took, in milliseconds: in the middle, 99 of 100, and the longest."""

    median_ms: float
    p99_ms: float
    worst_ms: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Latency:
        """Return it of calls; NaN of none."""
        if not seconds:
            return cls(math.nan, math.nan, math.nan)
        return cls(*(float(value) * 1e3 for value in np.percentile(seconds, [50, 99, 100])))


@dataclass(frozen=True)
class Use:
    """What workers had of what they share, from 0 to 1 each.

    Attributes:
        cores: of the machine's cores, server and workers together.
        server: the server's part of that.
        lock: of the time, in which somebody held the lock that others wait for.
        waiting: of the workers' time, in which they waited for it.
        disk: of their time, in which a write transaction was waiting for a server or a disk.
    """

    cores: float
    server: float
    lock: float
    waiting: float
    disk: float


def use_of(crowd: Crowd, cores: int, *, one_writer: bool) -> Use:
    """Return what a crowd had of the machine."""
    calls = [call for one in crowd.workers for call in one.calls]
    exclusive = [write for call in calls if one_writer or call.step == "claim" for write in call.writes]
    all_s = crowd.seconds * len(crowd.workers)
    server = crowd.server.cpu_s / (crowd.seconds * cores)
    return Use(
        sum(one.cpu_s for one in crowd.workers) / (crowd.seconds * cores) + server,
        server,
        sum(write.cpu_s + write.away_s for write in exclusive) / crowd.seconds,
        sum(write.waited_s for write in exclusive) / all_s,
        sum(write.away_s for call in calls for write in call.writes) / all_s,
    )


def others(crowd: Crowd, cores: int) -> float:
    """Return the share of the cores that other work had while a crowd was at work."""
    own_s = sum(one.cpu_s for one in crowd.workers) + crowd.server.cpu_s
    return max(0.0, crowd.busy_s - own_s) / (crowd.seconds * cores)


def bound(crowd: Crowd, unflushed: Crowd, cores: int, *, one_writer: bool) -> str:
    """Return in words what more workers would not get past, by what was measured with and without the disk."""
    use = use_of(crowd, cores, one_writer=one_writer)
    faster = per_s(unflushed, "report") / per_s(crowd, "report")
    if use.cores >= FULL:
        return "the cores" if use.server < use.cores / 2 else "the cores, the server's part"
    if use.lock >= FULL:
        lock = "the one writer" if one_writer else "the study's row"
        return f"{lock}, which waits for the disk" if faster > 1.3 else lock
    if faster > 1.3:
        return "the disk, a flush a commit"
    if use.waiting >= 0.5:
        return "waiting for the one writer to be noticed" if one_writer else "waiting for the study's row"
    return "a worker's own calls, one after the other" if len(crowd.workers) < cores else "none of it is full"


def per_s(crowd: Crowd, step: str) -> float:
    """Return how many calls of a kind all workers made a second."""
    return len(crowd.calls(step)) / crowd.seconds


def fairness(crowd: Crowd) -> float:
    """Return the calls of the slowest worker, as a share of the mean."""
    made = [len(one.calls) for one in crowd.workers]
    return min(made) / statistics.mean(made)


def share(crowd: Crowd) -> float:
    """Return the mean share of a worker's time in which it did not train."""
    return statistics.mean(one.share for one in crowd.workers)


def wanted(workers: int, epoch_s: float, beat_s: float) -> Mapping[str, float]:
    """Return how many claims, reports and beats a second so many workers make that do nothing but train."""
    return {
        "claim": workers / (REPORTS * epoch_s),
        "report": workers / epoch_s,
        BEAT: workers / beat_s,
    }
