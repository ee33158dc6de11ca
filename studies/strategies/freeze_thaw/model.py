"""What the model of the curves proposes: the start, or the continuation, that is expected to gain the most."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studies.strategies.freeze_thaw.acquisition import (
    Asked,
    log_feasibility,
    log_gain_ahead,
    log_gain_at_end,
    most_promising,
)
from studies.strategies.freeze_thaw.curves import Curve, Curves, milestones
from studies.strategies.freeze_thaw.process import Array, CurvePoints, CurveProcess, Indices, fit

MAX_POINTS = 250  # points of the process: its Cholesky factor stays near 1 ms
MARGIN = 0.3  # the warp's
# What diverged or failed counts as this quantile of all values: at 0 the process shuns its neighbours.
INFEASIBLE = 0.25


@dataclass(frozen=True)
class Proposal:
    """Start candidate number `start`, or thaw curve number `thaw`: just one of them is set."""

    start: int | None = None
    thaw: int | None = None


def by_model(
    curves: Curves,
    candidates: Array,
    frozen: Sequence[int],
    *,
    horizon: int,
    log_costs: tuple[Array, Array] | None,
    rng: np.random.Generator,
    may_start: bool,
    at_end: bool = False,
) -> Proposal:
    """Return what is expected to gain the most: to start one of the candidates, or to thaw one of the frozen trials.

    Args:
        curves: the trials so far, n of them.
        candidates: (m, d) configurations; the first half stands for random ones.
        frozen: the numbers of the trials that may go on.
        horizon: epochs of one full trial.
        log_costs: logarithm of what an epoch costs, (m,) of each candidate and (n,) of each curve; None if all cost
            alike.
        rng: draws which points the process knows, the threshold and how far it looks ahead.
        may_start: whether a trial may be started; if not, some must be frozen.
        at_end: whether the gain is that by the end of a training, instead of a random number of epochs ahead.
    """
    trials, epochs, z = _observations(curves, milestones(horizon), rng)
    waiting = set(frozen)
    offered = [i for i in dict.fromkeys(trials.tolist()) if i in waiting]  # the best of them first
    if not len(z) or not (offered or may_start):
        return Proposal(start=0) if may_start else Proposal(thaw=frozen[0])
    z = (z - z.mean()) / max(float(z.std()), 1e-9)
    x = np.array([c.x for c in curves], dtype=float)
    fresh = np.asarray(candidates, dtype=float)[: None if may_start else 0]
    inactive = np.isnan(x).any(0) | np.isnan(fresh).any(0)
    x, fresh = _encode(x, inactive), _encode(fresh, inactive)
    points = CurvePoints(x[trials], np.log(epochs / horizon), trials)
    process = CurveProcess(points, z, fit(points, z, rng), _pending(curves, x, horizon))
    number = np.append(-1 - np.arange(len(fresh)), np.array(offered, dtype=np.int64))
    done = np.append(np.zeros(len(fresh)), [float(len(curves[i].values)) for i in offered])
    asked = Asked(np.vstack([fresh, x[offered]]), number, done, len(fresh) // 2)
    log_gain = log_gain_at_end(process, asked) if at_end else log_gain_ahead(process, asked, horizon, rng)
    if log_costs is not None:
        log_gain = log_gain - np.append(log_costs[0][: len(fresh)], log_costs[1][offered])
    begun, feasible = _feasible(curves, rng)
    best = most_promising(log_gain, log_feasibility(process, asked, x[begun], begun, feasible))
    return Proposal(start=best) if best < len(fresh) else Proposal(thaw=offered[best - len(fresh)])


def _observations(curves: Curves, marks: Sequence[int], rng: np.random.Generator) -> tuple[Indices, Array, Array]:
    """Return trial, epoch and warped value (all (n,)) at the milestones and latest epochs, at most MAX_POINTS.

    Trials go in whole, better ones first but not only: a frozen trial without its points would look like a new one.
    What ended early has at the horizon the value it ended with: diverging trials often rise fast.
    """
    seen = np.flatnonzero(curves.lengths)
    peaks = curves.peaks[seen]
    finite = peaks[np.isfinite(peaks)]
    if not len(finite):
        return np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0)
    best, middle = float(finite.max()), float(np.median(finite))
    scale = best - middle or abs(best) or 1.0
    level = _warp(np.where(np.isfinite(peaks), peaks, finite.min()), best, scale)
    order = np.argsort(-(level / max(level.std(), 1e-9) + rng.random(len(seen))), kind="stable")
    trials: list[int] = []
    epochs: list[int] = []
    for k in order:
        trial = int(seen[k])
        curve = curves[trial]
        own = [m for m in marks if m < len(curve.values)] + [len(curve.values)]
        own += [marks[-1]] if curve.state == "ended" and own[-1] < marks[-1] else []
        if len(trials) + len(own) > MAX_POINTS:
            break
        trials += [trial] * len(own)
        epochs += own
    pairs = zip(trials, epochs, strict=True)
    values = np.array([curves[i].values[min(e, len(curves[i].values)) - 1] for i, e in pairs], dtype=float)
    known = np.isfinite(values)
    low = float(np.quantile(values[known], INFEASIBLE)) if known.any() else best
    z = _warp(np.where(known, values, low), best, scale)
    return np.array(trials, dtype=np.int64), np.array(epochs, dtype=float), z


def _feasible(curves: Curves, rng: np.random.Generator) -> tuple[Indices, Array]:
    """Return trial and 1, or 0 where it diverged or failed (both (n,)), of those that began, at most MAX_POINTS."""
    begun = np.sort(rng.permutation(np.flatnonzero(curves.lengths))[:MAX_POINTS])
    return begun, np.isfinite([curves[i].values[-1] for i in begun]).astype(float)


def _warp(values: Array, best: float, scale: float) -> Array:
    """Logarithm of the regret, so that failures far below do not hide what matters: the top."""
    return np.asarray(-np.log((best - values) / scale + MARGIN))


def _encode(x: Array, inactive: NDArray[np.bool_]) -> Array:
    """Inactive (NaN): in the middle, with a column of its own that says so."""
    return np.hstack([np.where(np.isnan(x), 0.5, x), np.isnan(x[:, inactive]).astype(float)])


def _pending(curves: Sequence[Curve], x: Array, horizon: int) -> CurvePoints:
    running = [i for i, c in enumerate(curves) if c.state == "running" and c.until > len(c.values)]
    until = np.log(np.array([float(curves[i].until) for i in running]) / horizon)
    return CurvePoints(x[running], until, np.array(running, dtype=np.int64))
