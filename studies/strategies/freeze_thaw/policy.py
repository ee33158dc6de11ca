"""Freeze-thaw search: which training to start, or to continue, next.

Trials run to milestones, a geometric grid of epochs. Whenever a worker is free, one Gaussian process over (parameters,
logarithm of the epoch), fitted to the curves so far of all trials, says whether a new configuration or the
continuation of a frozen trial is expected to gain the most above a threshold within a horizon, both drawn at random for
each decision: a short horizon asks for quick gains, a long one lets late bloomers be found (freezing and thawing:
Swersky et al. 2014, arXiv 1406.3896; the rest in `curve_acquisition`). A share of the decisions follows asynchronous
successive halving with promotion (Li et al. 2020, arXiv 1810.05934), whatever the model believes: all while there are
few trials, all or most where values are noisy, else few.

A study that has gone on for long (PATIENCE) may be one whose early values mislead, which none but long trainings tell.
From then on, while trials may be started, one in a few is started for what it is expected to be worth at its end, and
goes there at once, whatever it shows on the way; a share of the other decisions thaws what promises most at its end.

Everything is a pure function of the curves, the candidates and the seed: nothing is kept between calls. The model is
`curve_process`; as there, SciPy is imported where it is first asked.

How to encode parameters: one column each in [0, 1] (logarithmic ones by their logarithm, integers and ordered choices
by their position), NaN where a conditional parameter is inactive. An unordered choice takes one column per option (0
or 1); the caller's `snap` step makes candidates valid again (round integers, keep only the largest of the options).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from studies.strategies.freeze_thaw.acquisition import (
    Asked,
    log_feasibility,
    log_gain_ahead,
    log_gain_at_end,
    most_promising,
)
from studies.strategies.freeze_thaw.process import Array, CurvePoints, CurveProcess, Indices, fit

FEW_TRIALS = 8  # below: successive halving on quasi-random starts, the model has nothing to say yet
NOISY = 0.015  # so much noise, as a share of what the best is above the median, misleads the model
RULE_SHARE = 0.05  # share of the decisions that follow successive halving where it is not
NOISY_RULE_SHARE = 0.7  # and where it is, if the epochs are bounded: all would leave nothing to what the curves teach
RANDOM_STARTS = (0.3, 0.8)  # of the starts by that rule, quasi-random ones: usually, and where it is noisy
PATIENCE = 4.0  # full trainings' worth of epochs after which a study is no longer young
DEEP_EVERY = (4, 2)  # later: one in so many trials is trained to its end at once, and after twice that long
DEEP_LATEST = 8  # if it is among so many latest ones: what started in the young study waits as ever
DEEP_SHARE = 0.4  # of the other decisions: the frozen trial that promises most at the end of its training goes on
REDUCTION = 3.0  # successive halving promotes the best 1 / REDUCTION of those that reached a milestone
CANDIDATES = 1536  # 512 needed a fifth more epochs, 4,096 as many
MAX_POINTS = 250  # points of the process: its Cholesky factor stays near 1 ms
MARGIN = 0.3  # the warp's
INFEASIBLE = (
    0.25  # what diverged or failed counts as this quantile of all values: at 0 the process shuns its neighbours
)


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


@dataclass(frozen=True)
class Choice:
    """Start candidate number `start`, or thaw curve number `thaw`: just one of them is set."""

    start: int | None = None
    thaw: int | None = None


def milestones(horizon: int, step: float = 2.0) -> tuple[int, ...]:
    """The epochs at which a trial asks again: 1, 2, 4, ... and the horizon (epochs of one full trial) itself."""
    powers = np.round(step ** np.arange(np.ceil(np.log(max(horizon, 1)) / np.log(step)) + 1)).astype(int)
    return (*(int(m) for m in np.unique(powers) if m < horizon), horizon)


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


def choose(
    curves: Sequence[Curve],
    candidates: Array,
    *,
    horizon: int,
    seed: int,
    may_start: bool = True,
    may_thaw: bool = True,
    bounded: bool = False,
    log_costs: tuple[Array, Array] | None = None,
) -> Choice | None:
    """Return what a free worker does next, up to the next milestone; None: nothing may start, nothing may be thawed.

    Args:
        curves: the trials so far.
        candidates: (m, d) from `candidates`, snapped to the space; the first half stands for random configurations.
        horizon: epochs of one full trial.
        seed: the study's, the same at each call.
        may_start: whether a trial may be started.
        may_thaw: whether a frozen one may go on.
        bounded: whether the study has a budget of epochs.
        log_costs: logarithm of what an epoch costs, (m,) of each candidate and (n,) of each curve; None if all cost
            alike. What costs twice as much must promise twice as much.
    """
    curves = Curves.of(curves)
    frozen = [i for i, c in enumerate(curves) if may_thaw and c.state == "frozen" and len(c.values) < horizon]
    may_start = may_start and len(candidates) > 0
    if not frozen:
        if not may_start:
            return None
        if not curves.trained:
            return Choice(start=0)
    rng = curves.generator(seed, 3)
    few = len(curves) < FEW_TRIALS or (curves.lengths > 0).sum() < FEW_TRIALS // 2
    noisy = _noise(curves) > NOISY
    # Once nothing may start, what epochs are left go to what earned them.
    late = may_start and not (few or noisy) and curves.trained > PATIENCE * horizon
    deep_every = DEEP_EVERY[curves.trained > 2 * PATIENCE * horizon]

    def by_model(frozen: Sequence[int], may_start: bool, *, at_end: bool = False) -> Choice | None:
        return _by_model(curves, candidates, frozen, horizon, may_start, at_end, log_costs, rng)

    if late:
        deep = [i for i in frozen if i % deep_every == 0 and i >= len(curves) - DEEP_LATEST]
        if deep:
            return Choice(thaw=deep[0])
        if len(curves) % deep_every == 0:
            return by_model([], True, at_end=True)
    # Halving ranks by the noise, too. Without a bound it sees a lucky best value sooner; a bounded study would end with
    # the wrong trials, did what the curves to their end taught not count as well.
    rule_share = 1.0 if few or (noisy and not bounded) else NOISY_RULE_SHARE if noisy else RULE_SHARE
    if rule_share == 1 or rng.random() < rule_share:
        starts = may_start and (few or rng.random() < RANDOM_STARTS[noisy])
        ruled = _by_rule(curves, frozen, milestones(horizon), starts)
        if ruled is not None:
            return ruled
        if noisy:
            # Where nothing is promoted: another start, or what is nearest to its end.
            return by_model([], True, at_end=True) if may_start else Choice(thaw=_furthest(curves, frozen))
    if late and frozen and rng.random() < DEEP_SHARE:
        return by_model(frozen, False, at_end=True)
    return by_model(frozen, may_start)


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


def _by_rule(curves: Sequence[Curve], frozen: Sequence[int], marks: Sequence[int], may_start: bool) -> Choice | None:
    """Asynchronous successive halving with promotion: the furthest milestone first; else the quasi-random start."""
    for mark in reversed(marks[:-1]):
        reached = [(float(c.values[mark - 1]), -i) for i, c in enumerate(curves) if len(c.values) >= mark]
        ranked = sorted((pair for pair in reached if np.isfinite(pair[0])), reverse=True)
        for _, negative in ranked[: int(len(ranked) / REDUCTION)]:
            if -negative in frozen and len(curves[-negative].values) == mark:
                return Choice(thaw=-negative)
    return Choice(start=0) if may_start else None


def _furthest(curves: Sequence[Curve], frozen: Sequence[int]) -> int:
    """Of the frozen trials that went the furthest the best one."""

    def standing(i: int) -> tuple[int, float, int]:
        values = curves[i].values
        known = len(values) > 0 and np.isfinite(values[-1])
        return len(values), float(values[-1]) if known else -np.inf, -i

    return max(frozen, key=standing)


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


def _noise(curves: Curves) -> float:
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


def _encode(x: Array, inactive: NDArray[np.bool_]) -> Array:
    """Inactive (NaN): in the middle, with a column of its own that says so."""
    return np.hstack([np.where(np.isnan(x), 0.5, x), np.isnan(x[:, inactive]).astype(float)])


def _by_model(
    curves: Curves,
    candidates: Array,
    frozen: Sequence[int],
    horizon: int,
    may_start: bool,
    at_end: bool,
    log_costs: tuple[Array, Array] | None,
    rng: np.random.Generator,
) -> Choice | None:
    trials, epochs, z = _observations(curves, milestones(horizon), rng)
    waiting = set(frozen)
    offered = [i for i in dict.fromkeys(trials.tolist()) if i in waiting]  # the best of them first
    if not len(z) or not (offered or may_start):
        return Choice(start=0) if may_start else Choice(thaw=frozen[0])
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
    return Choice(start=best) if best < len(fresh) else Choice(thaw=offered[best - len(fresh)])


def _pending(curves: Sequence[Curve], x: Array, horizon: int) -> CurvePoints:
    running = [i for i, c in enumerate(curves) if c.state == "running" and c.until > len(c.values)]
    until = np.log(np.array([float(curves[i].until) for i in running]) / horizon)
    return CurvePoints(x[running], until, np.array(running, dtype=np.int64))
