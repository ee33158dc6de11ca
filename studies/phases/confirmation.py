"""What trainings with other seeds tell of configurations: which one is best, how sure that is, and what was luck.

The best value that a search has seen is too good: of many values with noise the largest was lucky, too. Trainings with
other seeds know nothing of that choice.

The interval of a mean of M trainings on a validation part of n images has two variances. Between seeds: that of one
training, pooled over all configurations, divided by M. Of the images, which all trainings share and more seeds do not
make more: p (1 - p) / n, the binomial one, which for a mean of several trainings is an upper bound. What is no share of
right answers has none, and its interval covers other seeds only, on the same images. Their sum is taken
for that of a Student distribution with the degrees of freedom of Satterthwaite (Biometrics Bulletin 2 (1946) 110,
equation 17): (a + b)^2 / (a^2 / f), where f are those of the pooled variance; b is known, as if it had no end of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import ndtri, stdtrit

from studies.objectives.objective import VALIDATION_ACCURACY, Objective

LEVEL = 0.9
"""How often an interval covers what it is of."""


@dataclass(frozen=True)
class Confirmed:
    """A configuration that was trained again with other seeds.

    Attributes:
        of: the trial of the search that tried it.
        params: its parameters, by name.
        searched: the best value that it had there.
        epochs: after how many epochs it was pruned there, or over.
        values: those that it had with each other seed, at least two.
        objective: of which they are values.
    """

    of: int
    params: dict[str, Any]
    searched: float
    epochs: int
    values: tuple[float, ...]
    objective: Objective = VALIDATION_ACCURACY

    @property
    def mean(self) -> float:
        """Its mean over the other seeds."""
        return float(np.mean(self.values))

    @property
    def luck(self) -> float:
        """How much of the search's value was luck: so much better than the mean it was."""
        return self.objective.oriented(self.searched - self.mean)


@dataclass(frozen=True)
class Interval:
    """Where the value of a configuration lies, over all seeds, and of an accuracy over all images of its kind."""

    low: float
    high: float


def winner(confirmed: Sequence[Confirmed]) -> Confirmed:
    """Return the configuration with the best mean, of equals the earliest."""
    return min(confirmed, key=lambda one: (one.objective.rank(one.mean), one.of))


def interval(one: Confirmed, confirmed: Sequence[Confirmed], images: int, level: float = LEVEL) -> Interval:
    """Return the interval of one configuration's mean; see above.

    Args:
        one: the configuration.
        confirmed: all that were trained again, this one too: from all of them one learns how much seeds differ.
        images: n, of the validation part.
        level: how often it covers.
    """
    freedom = sum(len(other.values) - 1 for other in confirmed)
    squares = sum(float(np.square(np.subtract(other.values, other.mean)).sum()) for other in confirmed)
    of_seeds = squares / freedom / len(one.values)
    of_images, low, high = 0.0, -math.inf, math.inf
    if one.objective.is_share:
        # Laplace's estimate: where nothing was wrong, that is not certain of other images.
        share = (one.mean * images + 1) / (images + 2)
        of_images, low, high = share * (1 - share) / images, 0.0, 1.0
    tail = (1 + level) / 2
    if of_seeds > 0:
        width = float(stdtrit(freedom * ((of_seeds + of_images) / of_seeds) ** 2, tail))
    else:
        width = float(ndtri(tail))
    half = width * math.sqrt(of_seeds + of_images)
    return Interval(max(low, one.mean - half), min(high, one.mean + half))
