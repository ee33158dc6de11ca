"""What was measured: a line for each run, appended as it ends, so that the table can be printed again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.lines import append_line, read_lines
from tests.benchmarks.training.outcomes import Outcome, Point
from tests.benchmarks.training.plan import Plan


@dataclass(frozen=True)
class Result:
    """One run of one contestant.

    Attributes:
        contestant: its name.
        plan: what it was to train.
        outcome: what came of it.
        date: when, `YYYY-MM-DD`.
    """

    contestant: str
    plan: Plan
    outcome: Outcome
    date: str


def result_now(contestant: str, plan: Plan, outcome: Outcome) -> Result:
    """Return a result of today."""
    return Result(contestant, plan, outcome, time.strftime("%Y-%m-%d"))


class Results:
    """The lines under a folder, one file for each data set and contestant. One process writes at a time.

    Args:
        folder: made where it is not there.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def add(self, result: Result) -> None:
        """Append a line."""
        append_line(self._file(result.plan.dataset, result.contestant), asdict(result))

    def find(self, contestant: str, plan: Plan) -> Result | None:
        """Return the last run of a contestant with the same plan, None if there is none."""
        file = self._file(plan.dataset, contestant)
        found = [result for result in _lines(file) if result.plan == plan]
        return found[-1] if found else None

    def _file(self, dataset: str, contestant: str) -> Path:
        return self._folder / dataset / f"{contestant}.jsonl"


def _lines(file: Path) -> Iterator[Result]:
    for read in read_lines(file):
        try:
            points = tuple(Point(*point) for point in read["outcome"]["points"])
            outcome = Outcome(points, read["outcome"]["total_s"])
            yield Result(read["contestant"], Plan(**read["plan"]), outcome, read["date"])
        except (ValueError, TypeError, KeyError):
            continue  # of an older form: run again
