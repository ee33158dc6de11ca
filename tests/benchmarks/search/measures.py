"""From simulated studies to figures.

The cost of a study is the worker-epochs, in R, until a value at or above a threshold was observed, at whichever epoch
of whichever trial. A study that never saw one is censored: it counts as if it had at the end of its budget.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from tests.benchmarks.search.results import Result
from tests.benchmarks.search.tables import Table

SHARES: Final = (0.01, 0.05)  # thresholds: the top 1% and 5% of random configurations
REGRET_AT: Final = (10, 20, 40, 80)  # R
RESAMPLES: Final = 2000
INTERVAL: Final = 0.9

# The cost of every seed (s,), in R, infinity where the threshold was not seen; by table.
Costs = Mapping[str, np.ndarray]


class Estimate(NamedTuple):
    """A figure with its interval."""

    value: float
    low: float
    high: float


def costs(results: Sequence[Result], table: Table, share: float) -> np.ndarray:
    """Return what each study (s,) took until it saw the threshold, in R; infinity where it did not."""
    threshold = table.threshold(share)
    return np.array([result.epochs_to(threshold) / table.horizon for result in results])


def regrets(results: Sequence[Result], table: Table, at: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return each study's regret (s, len(at)) after so many R.

    See `Table.regret`; NaN past the end of what is known of the study.
    """
    best = np.array([[_best_at(result, full * table.horizon) for full in at] for result in results])
    return table.regret(best)


def _best_at(result: Result, epochs: float) -> float:
    ended = result.epochs if result.cut else result.budget
    return result.best_at(epochs) if epochs <= ended else math.nan


def censored(cost: np.ndarray, budget: float) -> np.ndarray:
    """Return the costs with the budget, in R, where the threshold was not seen within it."""
    return np.asarray(np.minimum(cost, budget))


def median_with_interval(values: np.ndarray, random: np.random.Generator) -> Estimate:
    """Return the median of values (s,) with its bootstrap interval; infinite values may be among them."""
    drawn = random.integers(len(values), size=(RESAMPLES, len(values)))
    return _estimate(float(_median(values)), _median(values[drawn]))


def geometric_mean(by_table: Costs, budget: float) -> float:
    """Return the geometric mean over tables of the median cost, in R, censored."""
    medians = [float(np.median(censored(cost, budget))) for cost in by_table.values()]
    return math.exp(float(np.mean(np.log(medians))))


def ratios(ours: Costs, theirs: Costs, budget: float) -> dict[str, float]:
    """Return how many times our median cost theirs is, by table; tables that only one has are left out."""
    return {
        name: float(np.median(censored(theirs[name], budget)) / np.median(censored(ours[name], budget)))
        for name in ours
        if name in theirs
    }


def mean_ratio(ours: Costs, theirs: Costs, budget: float) -> float:
    """Return the geometric mean over tables of how many times our median cost theirs is; NaN of no table."""
    found = list(ratios(ours, theirs, budget).values())
    return math.exp(float(np.mean(np.log(found)))) if found else math.nan


def ratio_with_interval(ours: Costs, theirs: Costs, budget: float, random: np.random.Generator) -> Estimate:
    """Return the geometric mean of the ratios over tables; the bootstrap draws tables, and seeds within each."""
    names = list(ratios(ours, theirs, budget))
    point = mean_ratio(ours, theirs, budget)
    tables = random.integers(len(names), size=(RESAMPLES, len(names)))
    logs = np.empty(tables.shape)
    for index, name in enumerate(names):
        at = np.nonzero(tables == index)
        logs[at] = _resampled_log(theirs[name], budget, len(at[0]), random)
        logs[at] -= _resampled_log(ours[name], budget, len(at[0]), random)
    return _estimate(point, np.exp(logs.mean(axis=1)))


def _resampled_log(cost: np.ndarray, budget: float, count: int, random: np.random.Generator) -> np.ndarray:
    drawn = random.integers(len(cost), size=(count, len(cost)))
    return np.asarray(np.log(np.median(censored(cost, budget)[drawn], axis=-1)))


def _median(values: np.ndarray) -> np.ndarray:
    """Return the median along the last axis; between a number and infinity, infinity."""
    ordered = np.sort(values, axis=-1)
    count = values.shape[-1]
    return np.asarray((ordered[..., (count - 1) // 2] + ordered[..., count // 2]) / 2)


def _estimate(value: float, resampled: np.ndarray) -> Estimate:
    # Of values with infinities among them, a quantile between two of them would not be a number.
    low, high = np.quantile(resampled, [(1 - INTERVAL) / 2, (1 + INTERVAL) / 2], method="nearest")
    return Estimate(value, float(low), float(high))
