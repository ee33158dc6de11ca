"""Random configurations of a search space."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from studies.spec import Scalar


def draw_configurations(
    space: Mapping[str, BaseDistribution], random: np.random.Generator, count: int
) -> list[dict[str, Scalar]]:
    """Return independent configurations, each parameter uniform in its range, or in the range of its logarithm."""
    return [{name: _draw(distribution, random) for name, distribution in space.items()} for _ in range(count)]


def _draw(distribution: BaseDistribution, random: np.random.Generator) -> Scalar:
    if isinstance(distribution, CategoricalDistribution):
        choice = distribution.choices[int(random.integers(len(distribution.choices)))]
        assert choice is not None
        return choice
    if isinstance(distribution, FloatDistribution):
        return _between(distribution.low, distribution.high, distribution.log, random)
    assert isinstance(distribution, IntDistribution)
    # Half a step beyond either end, so that the first and the last number are as likely as the others.
    drawn = _between(distribution.low - 0.5, distribution.high + 0.5, distribution.log, random)
    return min(max(round(drawn), distribution.low), distribution.high)


def _between(low: float, high: float, log: bool, random: np.random.Generator) -> float:
    if log:
        return min(max(math.exp(random.uniform(math.log(low), math.log(high))), low), high)
    return float(random.uniform(low, high))
