"""Contestants looked at from outside, all in the same way, while they train."""

from __future__ import annotations

import math
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Final, NamedTuple

from tests.benchmarks.training.outcomes import Outcome, Point

LOOK_EVERY_S: Final = 0.5


class Seen(NamedTuple):
    """What a look finds.

    Attributes:
        epochs: trained so far.
        best: the best validation accuracy among them, minus infinity of none.
    """

    epochs: int
    best: float


NOTHING: Final = Seen(0, -math.inf)


def watch(
    look: Callable[[], Seen],
    over: Callable[[], bool],
    *,
    budget: float = math.inf,
    began: float | None = None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Look until a contestant is over, or has trained its epochs.

    Args:
        look: what is found now.
        over: whether nothing more will come.
        budget: epochs after which it is not waited for.
        began: the clock's time when it was started; now by default.
        clock: in seconds.
        sleep: waits so many seconds.
    """
    began = clock() if began is None else began
    points: list[Point] = []
    known = 0
    while True:
        ended = over()  # first, so that what was reported until then is seen
        seen = look()
        now = clock() - began
        if seen.epochs > known:
            known = seen.epochs
            points.append(Point(round(now, 2), seen.epochs, seen.best))
        if ended or known >= budget:
            return Outcome(tuple(points), round(now, 2))
        sleep(LOOK_EVERY_S)


def seen_in_database(file: Path) -> Seen:
    """Return what a study's database holds, read without a lock; nothing while it is being made."""
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True)) as connection:
            found = connection.execute("SELECT COUNT(*), MAX(intermediate_value) FROM trial_intermediate_values")
            epochs, best = found.fetchone()
    except sqlite3.OperationalError:
        return NOTHING
    return Seen(int(epochs), -math.inf if best is None else float(best))


def seen_in_lines(file: Path, budget: int) -> Seen:
    """Return what a file says that has a line for each epoch, its accuracy; lines past the budget do not count."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return NOTHING
    values = [float(line) for line in text[: text.rfind("\n") + 1].splitlines()][:budget]
    return Seen(len(values), max((value for value in values if not math.isnan(value)), default=-math.inf))
