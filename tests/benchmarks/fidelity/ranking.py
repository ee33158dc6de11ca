"""How alike two measurements rank the same configurations."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from scipy import stats

Values = npt.NDArray[np.float64]

RESAMPLES: Final = 1_000
SEED: Final = 0
# So many configurations have a rank correlation that is worth a number.
LEAST: Final = 3


@dataclass(frozen=True)
class Agreement:
    """How a short measurement ranks what a long one ranks.

    Attributes:
        configurations: how many both have.
        tau: Kendall's tau-b (1945), from -1 to 1; NaN where one of them tells none from another.
        low, high: its 90% interval, by resampling configurations.
        regret: how much worse in the long one is what the short one ranks first than the best; the mean over those that
            it ranks first alike.
    """

    configurations: int
    tau: float
    low: float
    high: float
    regret: float


def agreement(short: Values, long: Values) -> Agreement:
    """Return how the short values `(n,)` rank what the long ones `(n,)` rank; higher is better, minus infinity worst.

    Args:
        short: of each configuration.
        long: of the same configurations, in the same order.
    """
    generator = np.random.default_rng(SEED)
    count = len(short)
    if count < LEAST:
        return Agreement(count, math.nan, math.nan, math.nan, regret(short, long))
    # Ranks: infinities are as good as any other value.
    ranked, wanted = stats.rankdata(short), stats.rankdata(long)
    draws = generator.integers(count, size=(RESAMPLES, count))
    resampled = np.array([_tau(ranked[rows], wanted[rows]) for rows in draws])
    resampled = resampled[np.isfinite(resampled)]
    low, high = np.quantile(resampled, (0.05, 0.95)) if len(resampled) else (math.nan, math.nan)
    return Agreement(count, _tau(ranked, wanted), float(low), float(high), regret(short, long))


def _tau(one: Values, other: Values) -> float:
    """Return Kendall's tau-b by its definition, over all pairs: a call of SciPy's costs more for so few."""
    first, second = np.sign(one[:, None] - one), np.sign(other[:, None] - other)
    scale = math.sqrt(float((first**2).sum()) * float((second**2).sum()))
    return float((first * second).sum()) / scale if scale else math.nan


def regret(short: Values, long: Values) -> float:
    """Return how much worse in the long measurement is what the short one ranks first; NaN of none.

    What has no value there counts as the worst of those that have one.
    """
    if not len(short) or not np.isfinite(long).any():
        return math.nan
    first = long[short == short.max()]
    worst = long[np.isfinite(long)].min()
    return float(long.max() - np.maximum(first, worst).mean())


def after_each_epoch(curves: Values) -> list[Agreement]:
    """Return how the values after each epoch but the last rank what the last ones rank.

    Args:
        curves: `(n, epochs)`, higher is better; what follows the end of a training is NaN, and it is ranked by its last
            value.
    """
    filled = curves.copy()
    filled[~np.isfinite(filled[:, 0]), 0] = -np.inf
    for epoch in range(1, filled.shape[1]):
        missing = np.isnan(filled[:, epoch])
        filled[missing, epoch] = filled[missing, epoch - 1]
    return [agreement(filled[:, epoch], filled[:, -1]) for epoch in range(filled.shape[1] - 1)]
