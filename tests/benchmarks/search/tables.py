"""What is searched: data sets with their space, their curves, and what random configurations come to on them."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from optuna.distributions import BaseDistribution

from storage.errors import BadInput, unknown_name
from studies.simulation.curve_tables import RECORDED, Answers, CurveTable
from studies.simulation.virtual_clock import Curves, Recording
from studies.spec import Scalar
from tests.benchmarks.search import families, lcbench

ROOT = Path(__file__).resolve().parents[3]
LCBENCH = ROOT.parent / "shared" / "bench" / "lcbench"
Group = Literal["LCBench", "recorded", "synthetic"]
GROUPS: tuple[Group, ...] = ("LCBench", "recorded", "synthetic")


@dataclass(frozen=True)
class Table:
    """One data set to search on.

    Attributes:
        name: as on the command line.
        group: the row of the summary that it counts in.
        space: what a contestant may choose.
        horizon: R, the epochs of a full trial.
        finals: (m,) final values of random configurations, or of the whole table; higher is better, minus infinity
            where training gave no value.
        curves: the source of one study, by the study's seed.
        fingerprint: of all of the above.
        rows: how many configurations there are; None: any.
    """

    name: str
    group: Group
    space: Mapping[str, BaseDistribution]
    horizon: int
    finals: np.ndarray
    curves: Callable[[int], Curves]
    fingerprint: str
    rows: int | None = None

    def threshold(self, share: float) -> float:
        """Return the value that the best `share` of the random configurations reach in the end; of one at least."""
        rank = max(1, round(share * len(self.finals)))
        return float(np.sort(self.finals)[-rank])

    @cached_property
    def best(self) -> float:
        """The best final value of a random configuration: regret 0."""
        return float(self.finals.max())

    @cached_property
    def median(self) -> float:
        """The median final value of the random configurations that have one: regret 1."""
        return float(np.median(self.finals[np.isfinite(self.finals)]))

    def regret(self, values: np.ndarray) -> np.ndarray:
        """Return how far values are from the best: 0 there or above, 1 at the median or below; the same shape."""
        span = (self.best - self.median) or 1.0
        return np.asarray(np.clip((self.best - values) / span, 0.0, 1.0))


@cache
def find_table(name: str) -> Table:
    """Return the table of a name: ``lcbench/<data set>``, ``synthetic/<family>`` or the path of an ``.npz``.

    Raises:
        BadInput: there is no such table, or it cannot be used.
    """
    if name.endswith(".npz"):
        return recorded_table(Path(name))
    group, _, member = name.partition("/")
    if group == "lcbench" and member in lcbench.DATA_SETS:
        return _lcbench_table(name, member)
    if group == "synthetic" and member in families.FAMILIES:
        return _synthetic_table(name, member)
    raise unknown_name("table", name, [*synthetic_names(), *lcbench_names()], "Or give the path of an .npz.")


def present_tables(data_sets: Iterable[str] = lcbench.DATA_SETS) -> list[str]:
    """Return the names of the tables that are here, of LCBench's those of some data sets.

    Standard error tells where LCBench is missing.
    """
    surrogates = lcbench_names(data_sets)
    if not lcbench.is_here(LCBENCH):
        print(f"without LCBench: it needs {LCBENCH} and onnxruntime", file=sys.stderr)
        surrogates = ()
    shipped = [os.path.relpath(path) for path in sorted(RECORDED.glob("*.npz"))]
    return [*surrogates, *shipped, *synthetic_names()]


def synthetic_names() -> tuple[str, ...]:
    """Return the tables that need no file."""
    return tuple(f"synthetic/{family}" for family in families.FAMILIES)


def lcbench_names(data_sets: Iterable[str] = lcbench.DATA_SETS) -> tuple[str, ...]:
    """Return the tables of LCBench, whether or not its surrogate is here."""
    return tuple(f"lcbench/{data_set}" for data_set in data_sets)


def recorded_table(path: Path) -> Table:
    """Return a recorded table as one to search on; its thresholds are those of its own rows.

    Raises:
        BadInput: there is no such file, or it is not such a table.
    """
    table = CurveTable.load(path)
    if not np.isfinite(table.finals).sum() > 1:
        raise BadInput(f"{path} has one curve with a value. Record at least two configurations.")
    fingerprint = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    return Table(
        name=str(path),
        group="recorded",
        space=table.distributions(),
        horizon=table.horizon,
        finals=table.finals,
        curves=lambda seed: RecordedCurves(table),
        fingerprint=f"{fingerprint}-{len(table.X)} rows",
        rows=len(table.X),
    )


class RecordedCurves:
    """The source of one study of a recorded table."""

    def __init__(self, table: CurveTable) -> None:
        self._table = table
        self._answers = Answers(table)

    @property
    def horizon(self) -> int:
        return self._table.horizon

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        row = self._answers.row_of(params)
        seconds = self._table.seconds
        return Recording(self._table.oriented[row], None if seconds is None else seconds[row])


def _lcbench_table(name: str, data_set: str) -> Table:
    surrogate = lcbench.open_surrogate(LCBENCH)
    return Table(
        name=name,
        group="LCBench",
        space=lcbench.SPACE,
        horizon=lcbench.HORIZON,
        finals=surrogate.random_finals(data_set),
        curves=lambda seed: lcbench.SurrogateCurves(surrogate, data_set),
        fingerprint=surrogate.fingerprint,
    )


def _synthetic_table(name: str, family: str) -> Table:
    landscape = families.FAMILIES[family]
    return Table(
        name=name,
        group="synthetic",
        space=families.SPACE,
        horizon=families.HORIZON,
        finals=families.random_finals(landscape),
        curves=lambda seed: families.FamilyCurves(landscape, seed),
        fingerprint=families.FINGERPRINT,
    )
