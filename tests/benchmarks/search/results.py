"""What was simulated: one line for each study, appended as it ends, so that a table can be stopped and resumed."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from studies.simulation.virtual_clock import Record
from tests.benchmarks.lines import append_line, read_lines


class Key(NamedTuple):
    """Which study: a line of a later simulation takes the place of an older one with the same key."""

    table: str
    contestant: str
    workers: int
    seed: int


@dataclass(frozen=True)
class Result:
    """One simulated study.

    Attributes:
        key: which one.
        version: what the line depends on, see `contestants.version_of`; a line with another one is not used.
        budget: worker-epochs that it was allowed.
        epochs: worker-epochs that it took; fewer than the budget where the contestant found nothing more to do.
        cut: whether it was ended at the threshold, so that it says nothing of what would have come later.
        trials: configurations that were started.
        steps: ((worker-epochs, value), ...) at every new best value.
        clock: when it ended, on the virtual clock.
        thinking_s: seconds that the contestant took for all its decisions.
    """

    key: Key
    version: str
    budget: int
    epochs: int
    cut: bool
    trials: int
    steps: tuple[tuple[int, float], ...]
    clock: float
    thinking_s: float

    def epochs_to(self, threshold: float) -> float:
        """Return the worker-epochs until a value as high was observed, infinity where none was."""
        return next((float(epochs) for epochs, value in self.steps if value >= threshold), math.inf)

    def covers(self, budget: int, *, cut: bool) -> bool:
        """Return whether it says all about a study of so many worker-epochs, which may be cut at the threshold."""
        if self.cut:
            return cut or self.epochs >= budget
        return self.budget >= budget or self.epochs < self.budget

    def within(self, budget: int) -> Result:
        """Return the same study with a budget that is as high or lower."""
        steps = tuple((epochs, value) for epochs, value in self.steps if epochs <= budget)
        return replace(self, budget=budget, epochs=min(self.epochs, budget), steps=steps)

    def best_at(self, epochs: float) -> float:
        """Return the best value that was observed within so many worker-epochs, minus infinity before the first."""
        return max((value for at, value in self.steps if at <= epochs), default=-math.inf)


def result_of(
    key: Key, version: str, budget: int, record: Record, thinking_s: float, enough: float = math.inf
) -> Result:
    """Return what is kept of a record; `enough` is the value at which it was ended."""
    best = record.best_so_far()
    better = np.flatnonzero(best > np.concatenate(([-np.inf], best[:-1])))
    return Result(
        key=key,
        version=version,
        budget=budget,
        epochs=len(best),
        cut=bool(len(best) and best[-1] >= enough),
        trials=len(np.unique(record.trial)),
        steps=tuple((int(row) + 1, float(best[row])) for row in better),
        clock=float(record.time[-1]) if len(best) else 0.0,
        thinking_s=round(thinking_s, 4),
    )


class Results:
    """The lines under a folder, one file for each table and contestant. One process writes at a time.

    Args:
        folder: made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, result: Result) -> None:
        """Append a line."""
        append_line(self._file(result.key), asdict(result) | {"key": result.key._asdict()})

    def read(self, table: str, contestant: str) -> dict[Key, Result]:
        """Return the last line of each study of a table by a contestant."""
        file = self._file(Key(table, contestant, 0, 0))
        return {result.key: result for result in _lines(file)}

    def _file(self, key: Key) -> Path:
        return self._folder / re.sub(r"[^\w.-]+", "-", key.table).strip("-.") / f"{key.contestant}.jsonl"


def _lines(file: Path) -> Iterator[Result]:
    for read in read_lines(file):
        try:
            key, steps = Key(**read.pop("key")), read.pop("steps")
            yield Result(key=key, steps=tuple((int(at), float(value)) for at, value in steps), **read)
        except (ValueError, TypeError, KeyError, AttributeError):
            continue  # of an older form: simulated again
