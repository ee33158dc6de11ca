"""What share of the cores others have while something is measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psutil

from tests.benchmarks.throughput.processes import ended_cpu_s

# From here on a machine is not quiet: seconds that others took are not those of the contestants.
QUIET: Final = 0.05
LOOK_S: Final = 2.0


@dataclass(frozen=True)
class Cpu:
    """CPU seconds since some moment.

    Attributes:
        all: of all cores, idle or not.
        busy: of them, used by anyone, or taken by another guest of the host.
        own: of them, used by this process and by those that it started and that have ended.
    """

    all: float
    busy: float
    own: float


def others_share(before: Cpu, after: Cpu) -> float:
    """Return the share of all cores that neither idled nor worked for us, from 0 to 1."""
    passed = after.all - before.all
    others = (after.busy - before.busy) - (after.own - before.own)
    return min(1.0, max(0.0, others / passed)) if passed > 0 else 0.0


def cpu_now() -> Cpu:
    """Return what was used so far."""
    times = psutil.cpu_times()._asdict()
    # Guests' time is part of the user's.
    spent = {name: value for name, value in times.items() if name not in ("guest", "guest_nice")}
    idle = spent.get("idle", 0.0) + spent.get("iowait", 0.0)
    own = os.times()
    return Cpu(sum(spent.values()), sum(spent.values()) - idle, own.user + own.system + ended_cpu_s())


class Watched:
    """What others had.

    Attributes:
        share: of all cores; known at the end.
    """

    share: float = 0.0


@contextmanager
def watched(now: Callable[[], Cpu] = cpu_now) -> Iterator[Watched]:
    """Note what others have while this lasts; processes that were started in it must have ended before its end."""
    found, before = Watched(), now()
    yield found
    found.share = others_share(before, now())


def share_of_others_now() -> float:
    """Return what others have just now, after a look of two seconds."""
    with watched() as found:
        time.sleep(LOOK_S)
    return found.share
