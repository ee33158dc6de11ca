"""The learning curves so far, as freeze-thaw search sees them.

How parameters are encoded: one column each in [0, 1] (logarithmic ones by their logarithm, integers and ordered choices
by their position), NaN where a conditional parameter is inactive. An unordered choice takes one column per option: two
different ones are at distance 1, as the ends of a number's range are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from studies.strategies.freeze_thaw.process import Array, Indices


@dataclass(frozen=True)
class Curve:
    """One trial so far.

    Attributes:
        x: (d,) in [0, 1], or NaN.
        values: (e,) after epochs 1..e, higher is better; NaN where it diverged.
        state: `ended` also for a trial that was pruned or failed.
        until: the milestone that a running trial goes to; else the length of `values`.
    """

    x: Array
    values: Array
    state: Literal["running", "frozen", "ended"]
    until: int

    @cached_property
    def configuration(self) -> bytes:
        """The bytes of `x`, which are the same for the same configuration."""
        return self.x.tobytes()

    @cached_property
    def peak(self) -> float:
        """The highest value; minus infinity before any."""
        return max(filter(math.isfinite, self.values.tolist()), default=-math.inf)

    @cached_property
    def bends(self) -> Array:
        """Third differences (e - 5,) after the second epoch, their size: a smooth curve's are next to nothing there."""
        return np.abs(np.diff(self.values[2:], 3))


class Curves(list[Curve]):
    """The trials so far. What is asked of all of them again and again is kept: not to be changed once it is made."""

    @staticmethod
    def of(curves: Sequence[Curve]) -> Curves:
        """Return the same curves, themselves where they are this already."""
        return curves if isinstance(curves, Curves) else Curves(curves)

    @cached_property
    def lengths(self) -> Indices:
        """(n,) how many values each has."""
        return np.array([len(c.values) for c in self], dtype=np.int64)

    @cached_property
    def peaks(self) -> Array:
        """(n,) the highest value of each."""
        return np.array([c.peak for c in self])

    @cached_property
    def trained(self) -> int:
        """How many epochs, all together."""
        return int(self.lengths.sum())

    def generator(self, seed: int, purpose: int) -> np.random.Generator:
        """Return random numbers that differ from decision to decision, and repeat for the same curves and seed."""
        return np.random.default_rng([abs(int(seed)), purpose, len(self), self.trained, self._until])

    @cached_property
    def _until(self) -> int:
        return sum([c.until for c in self])


def milestones(horizon: int, step: float = 2.0) -> tuple[int, ...]:
    """The epochs at which a trial asks again: 1, 2, 4, ... and the horizon (epochs of one full trial) itself."""
    powers = np.round(step ** np.arange(np.ceil(np.log(max(horizon, 1)) / np.log(step)) + 1)).astype(int)
    return (*(int(m) for m in np.unique(powers) if m < horizon), horizon)


def noise(curves: Curves) -> float:
    """Of one value, as a share of what the best is above the median; from how the better curves bend.

    Of three differences noise keeps 20 times its variance, a smooth curve next to nothing (after the difference-based
    variance estimate of Gasser, Sroka & Jennen-Steinmetz 1986; second differences take young curves for noisy).
    """
    finite = curves.peaks[np.isfinite(curves.peaks)]
    middle = float(np.median(finite)) if len(finite) else 0.0
    bends = [curves[i].bends for i in np.flatnonzero((curves.lengths > 5) & (curves.peaks >= middle))]
    known = np.concatenate(bends) if bends else np.zeros(0)
    known = known[np.isfinite(known)]
    scale = float(finite.max()) - middle if len(finite) else 0.0
    return float(np.median(known)) / (0.6745 * 20**0.5) / scale if len(known) and scale > 0 else 0.0
