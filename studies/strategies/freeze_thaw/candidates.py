"""The configurations that a new trial may have: spread over the whole space, and near the best trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from studies.strategies.freeze_thaw.curves import Curve, Curves
from studies.strategies.freeze_thaw.process import Array

FEW_TRIALS = 8  # below: no trial is known to be good, and the model has nothing to say yet
CANDIDATES = 1536  # 512 needed a fifth more epochs, 4,096 as many


def candidates(curves: Sequence[Curve], points: Array, *, seed: int, size: int = CANDIDATES) -> Array:
    """Return configurations (size, d) in [0, 1].

    Row 0 is the next of a quasi-random sequence, then come uniform ones, then (the second half, once there are
    FEW_TRIALS) mutations of the trials with the best values.

    Args:
        curves: the trials so far.
        points: (n, d) where they are in the cube, or NaN.
        seed: the study's, the same at each call.
        size: how many.
    """
    curves = Curves.of(curves)
    d = points.shape[1]
    rng = curves.generator(seed, 2)
    local = size // 2 if len(curves) >= FEW_TRIALS else 0
    everywhere = np.vstack([_quasi_random(len(curves), d, seed), rng.random((size - local - 1, d))])
    if not local:
        return everywhere
    return np.vstack([everywhere, _mutations(_best_points(curves, points), local, rng)])


def _quasi_random(number: int, d: int, seed: int) -> Array:
    """(1, d): a member of Roberts' additive recurrence (2018, "R_d"), shifted at random: even without knowing n."""
    rng = np.random.default_rng([abs(int(seed)), 1])
    ratio = 2.0
    for _ in range(40):  # the positive root of r^(d + 1) = r + 1
        ratio = (1 + ratio) ** (1 / (d + 1))
    steps = rng.permutation(ratio ** -np.arange(1.0, d + 1))
    return np.asarray((rng.random(d) + number * steps) % 1.0)[None]


def _best_points(curves: Curves, points: Array, count: int = 6) -> Array:
    best = points[np.argsort(-curves.peaks, kind="stable")[:count]]
    return np.where(np.isnan(best), 0.5, best)


def _mutations(parents: Array, count: int, rng: np.random.Generator) -> Array:
    """Return (count, d): parents, better ones more often, changed.

    In one, some or all coordinates: by small or large steps, drawn anew there, or crossed with another parent.
    """
    d = parents.shape[1]
    base = parents[np.minimum(rng.geometric(0.35, count) - 1, len(parents) - 1)]
    width = np.exp(rng.uniform(np.log(0.02), np.log(0.3), count))[:, None]
    moved = base + width * rng.standard_normal((count, d))
    anew = (moved < 0) | (moved > 1) | (rng.random(count) < 0.25)[:, None]
    changed = rng.random((count, d)) < np.where(rng.random(count) < 0.5, 1.5 / d, 1.0)[:, None]
    changed[np.arange(count), rng.integers(d, size=count)] = True
    mutated = np.where(changed, np.where(anew, rng.random((count, d)), moved), base)
    crossed = (rng.random(count) < 0.15)[:, None] & (rng.random((count, d)) < 0.5)
    return np.where(crossed, parents[rng.integers(len(parents), size=count)], mutated)
