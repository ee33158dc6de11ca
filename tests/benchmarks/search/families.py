"""Synthetic families of learning curves whose truth is known, one for each way in which early values can mislead.

A configuration is a point in the unit cube; its quality falls off from an optimum that the family's seed places, the
best learning rate depends on the width, and one optimizer in four is best. A family then says how the quality shows
over the epochs: see `FAMILIES`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from studies.simulation.virtual_clock import Recording
from studies.spec import Scalar
from tests.benchmarks.search.drawing import draw_configurations

HORIZON: Final = 40
RANDOM_CONFIGURATIONS: Final = 2000
CHANCE: Final = 0.1  # the accuracy of an untrained network

OPTIMIZERS: Final = ("adam", "lion", "rmsprop", "sgd")
SPACE: Final[Mapping[str, BaseDistribution]] = {
    "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
    "width": IntDistribution(16, 1024, log=True),
    "depth": IntDistribution(1, 8),
    "dropout": FloatDistribution(0.0, 0.8),
    "optimizer": CategoricalDistribution(OPTIMIZERS),
}
FINGERPRINT: Final = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]

# (quality (n,), points (n, 4), epochs (R,)) -> accuracy (n, R) without noise
Shape = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Family:
    """A landscape and how it shows.

    Attributes:
        seed: places the optimum.
        shape: the learning curves.
        noise: standard deviation of each epoch's value, in accuracy.
    """

    seed: int
    shape: Shape
    noise: float = 0.0

    @cached_property
    def _optimum(self) -> np.ndarray:
        return np.random.default_rng([self.seed, 0]).uniform(0.2, 0.8, 4)

    @cached_property
    def _penalty(self) -> np.ndarray:
        """Of each optimizer (4,), 0 for the best."""
        return np.random.default_rng([self.seed, 1]).permutation([0.0, 0.03, 0.1, 0.3])

    def curves(self, configurations: list[Mapping[str, Scalar]], random: np.random.Generator) -> np.ndarray:
        """Return the accuracies (n, R) of configurations, NaN from where one diverged."""
        points = np.array([_point(configuration) for configuration in configurations])
        optimizer = np.array([OPTIMIZERS.index(str(configuration["optimizer"])) for configuration in configurations])
        away = points - self._optimum
        away[:, 0] -= 0.4 * away[:, 1]  # a wider network wants another learning rate
        quality = np.exp(-np.square(away) @ np.array([8.0, 2.0, 2.0, 1.0]) - self._penalty[optimizer])
        values = self.shape(quality, points, np.arange(1, HORIZON + 1))
        return values + self.noise * random.standard_normal(values.shape)


class FamilyCurves:
    """The source of one study; its noise follows from the study's seed and the trial."""

    horizon = HORIZON

    def __init__(self, family: Family, seed: int) -> None:
        self._family = family
        self._seed = seed

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        return Recording(self._family.curves([params], np.random.default_rng([2, self._seed, trial]))[0])


def random_finals(family: Family) -> np.ndarray:
    """Return the final accuracies (2000,) of random configurations, minus infinity where training diverged."""
    random = np.random.default_rng([3, family.seed])
    drawn: list[Mapping[str, Scalar]] = [*draw_configurations(SPACE, random, RANDOM_CONFIGURATIONS)]
    finals = family.curves(drawn, random)[:, -1]
    return np.where(np.isnan(finals), -np.inf, finals)


def _rising(final: np.ndarray, halfway: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """From chance towards a final accuracy (n,), half of it after so many epochs (n,): 1 - 2^(-e / halfway)."""
    return np.asarray(CHANCE + (final - CHANCE)[:, None] * (1 - np.exp2(-epochs / halfway[:, None])))


def _accuracy(quality: np.ndarray) -> np.ndarray:
    return CHANCE + (0.98 - CHANCE) * quality


def crossing(quality: np.ndarray, points: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """The better and the deeper a configuration is, the slower it learns: the curves cross in the first quarter."""
    halfway = 0.01 + np.square(quality) * (0.05 + 0.2 * points[:, 2])
    return _rising(_accuracy(quality), HORIZON * halfway, epochs)


def blooming(quality: np.ndarray, points: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Good configurations stay at chance for up to a third of the horizon, the wider the longer, then rise steeply."""
    onset = HORIZON * np.where(quality > 0.5, 0.02 + 0.3 * points[:, 1], 0.0)
    late = 1 / (1 + np.exp(-(epochs - onset[:, None]) / (0.03 * HORIZON)))
    early = _rising(_accuracy(quality), np.full(len(quality), 0.05 * HORIZON), epochs)
    return np.where(quality[:, None] > 0.5, CHANCE + (_accuracy(quality) - CHANCE)[:, None] * late, early)


def steady(quality: np.ndarray, points: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """All learn alike; what misleads is the noise."""
    return _rising(_accuracy(quality), np.full(len(quality), 0.1 * HORIZON), epochs)


def diverging(quality: np.ndarray, points: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """The higher the learning rate the faster, up to an edge that depth brings nearer; beyond it training diverges."""
    beyond = points[:, 0] + 0.3 * points[:, 2] - 0.75
    values = _rising(_accuracy(quality), HORIZON * (0.1 + 0.15 * (1 - points[:, 0])), epochs)
    last = np.where(beyond > 0, 0.25 * HORIZON * np.exp(-6 * beyond), math.inf)
    return np.where(epochs > last[:, None], np.nan, values)


def stepping(quality: np.ndarray, points: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Plateaus: most of what a good configuration learns comes late, in two steps, whose epochs depend on the width."""
    first = HORIZON * (0.2 + 0.2 * points[:, 1])
    second = HORIZON * (0.55 + 0.25 * points[:, 1])
    level = 0.3 + 0.4 * (epochs >= first[:, None]) + 0.3 * (epochs >= second[:, None])
    at_once = np.minimum(1.0, 1.2 * (1 - quality))  # the worse ones are nearly at their end from the start
    share = at_once[:, None] + (1 - at_once[:, None]) * level
    learned = share * (1 - np.exp2(-epochs / (0.03 * HORIZON)))
    return np.asarray(CHANCE + (_accuracy(quality) - CHANCE)[:, None] * learned)


FAMILIES: Final[Mapping[str, Family]] = {
    "crossing": Family(1, crossing, noise=0.002),
    "late_bloomers": Family(2, blooming, noise=0.002),
    "noise": Family(3, steady, noise=0.03),
    "divergence": Family(4, diverging, noise=0.002),
    "plateaus": Family(5, stepping, noise=0.002),
}


def _point(params: Mapping[str, Scalar]) -> tuple[float, ...]:
    """Return the numeric parameters (4,) in [0, 1]."""
    return (
        (math.log10(float(params["learning_rate"])) + 5) / 5,
        math.log2(float(params["width"]) / 16) / 6,
        (float(params["depth"]) - 1) / 7,
        float(params["dropout"]) / 0.8,
    )
