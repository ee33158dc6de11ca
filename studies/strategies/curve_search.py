"""Freeze-thaw search: which training to start, or to continue, next.

Trials run to milestones, a geometric grid of epochs. Whenever a worker is free, one Gaussian process over (parameters,
logarithm of the epoch), fitted to the curves so far of all trials, says whether a new configuration or the
continuation of a frozen trial is expected to gain the most above a threshold within a horizon, both drawn at random for
each decision: a short horizon asks for quick gains, a long one lets late bloomers be found (after the acquisition of
ifBO, Rakotoarison et al. 2024, arXiv 2404.16795, section 4.2, which takes the probability to pass; freezing and
thawing: Swersky et al. 2014, arXiv 1406.3896).
Half of the thresholds lie a random step above the best value seen, half where the process itself expects its own top
percent of random configurations. A share of the decisions follows asynchronous successive halving with promotion (Li
et al. 2020, arXiv 1810.05934), whatever the model believes: all while there are few trials and where values are noisy,
else few.

A study that has gone on for long (PATIENCE) may be one whose early values mislead, which none but long trainings tell.
From then on, while trials may be started, one in a few is started for what it is expected to be worth at its end, and
goes there at once, whatever it shows on the way; a share of the other decisions thaws what promises most at its end.

Everything is a pure function of the curves, the candidates and the seed: nothing is kept between calls. SciPy is
imported where the model is first asked: half a second that the launcher and the first trial need not wait for.

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

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

FEW_TRIALS = 8  # below: successive halving on quasi-random starts, the model has nothing to say yet
NOISY = 0.03  # so much noise, as a share of what the best is above the median, misleads the model
RULE_SHARE = 0.05  # share of the decisions that follow successive halving where it is not
RANDOM_STARTS = (0.3, 0.8)  # of the starts by that rule, quasi-random ones: usually, and where it is noisy
PATIENCE = 6.0  # full trainings' worth of epochs after which a study is no longer young
DEEP_EVERY = (4, 2)  # later: one in so many trials is trained to its end at once, and after twice that long
DEEP_LATEST = 8  # if it is among so many latest ones: what started in the young study waits as ever
DEEP_SHARE = 0.4  # of the other decisions: the frozen trial that promises most at the end of its training goes on
REDUCTION = 3.0  # successive halving promotes the best 1 / REDUCTION of those that reached a milestone
CANDIDATES = 1536  # 512 needed a fifth more epochs, 4,096 as many
MAX_POINTS = 250  # points of the process: its Cholesky factor stays near 1 ms
FIT_POINTS = 80  # points the hyperparameters are fitted on
FIT_STEPS = 20  # steps of L-BFGS from the prior's mode, in units of the prior's spread; after 7 it is still far off
FIT_BOUND = 6.0  # spreads from the mode that it may go: a first step can be a wild one
MARGIN = 0.3  # the warp's
STEPS_ABOVE = (-1.5, 0.3)  # log10 of the random step above the best value, in standard deviations of all values
SHORTER = 2.2  # 1: the random horizon is log-uniform; above: shorter ones more often (0.5 was clearly worse)
TOP_SHARE = 0.01  # the other threshold: this share of random configurations passes it at the end
FAR = -5.0  # standard deviations below a threshold, where the expected gain is taken from its tail
JITTER = 1e-6


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
    def peak(self) -> float:
        """The highest value; minus infinity before any."""
        return max(filter(math.isfinite, self.values.tolist()), default=-math.inf)


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
    d = points.shape[1]
    rng = _generator(curves, seed, 2)
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
        log_costs: logarithm of what an epoch costs, (m,) of each candidate and (n,) of each curve; None if all cost
            alike. What costs twice as much must promise twice as much.
    """
    frozen = [i for i, c in enumerate(curves) if may_thaw and c.state == "frozen" and len(c.values) < horizon]
    may_start = may_start and len(candidates) > 0
    if not frozen:
        if not may_start:
            return None
        if not any(len(c.values) for c in curves):
            return Choice(start=0)
    rng = _generator(curves, seed, 3)
    few = len(curves) < FEW_TRIALS or sum(len(c.values) > 0 for c in curves) < FEW_TRIALS // 2
    noisy = _noise(curves) > NOISY
    trained = sum(len(c.values) for c in curves)
    # Once nothing may start, what epochs are left go to what earned them.
    late = may_start and not (few or noisy) and trained > PATIENCE * horizon
    deep_every = DEEP_EVERY[trained > 2 * PATIENCE * horizon]

    def by_model(frozen: Sequence[int], may_start: bool, *, at_end: bool = False) -> Choice | None:
        return _by_model(curves, candidates, frozen, horizon, may_start, at_end, log_costs, rng)

    if late:
        deep = [i for i in frozen if i % deep_every == 0 and i >= len(curves) - DEEP_LATEST]
        if deep:
            return Choice(thaw=deep[0])
        if len(curves) % deep_every == 0:
            return by_model([], True, at_end=True)
    if few or noisy or rng.random() < RULE_SHARE:
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


def _generator(curves: Sequence[Curve], seed: int, purpose: int) -> np.random.Generator:
    """Random numbers that differ from decision to decision, and repeat for the same curves and seed."""
    trained = sum(len(c.values) for c in curves)
    return np.random.default_rng([abs(int(seed)), purpose, len(curves), trained, sum(c.until for c in curves)])


def _quasi_random(number: int, d: int, seed: int) -> Array:
    """(1, d): a member of Roberts' additive recurrence (2018, "R_d"), shifted at random: even without knowing n."""
    rng = np.random.default_rng([abs(int(seed)), 1])
    ratio = 2.0
    for _ in range(40):  # the positive root of r^(d + 1) = r + 1
        ratio = (1 + ratio) ** (1 / (d + 1))
    steps = rng.permutation(ratio ** -np.arange(1.0, d + 1))
    return np.asarray((rng.random(d) + number * steps) % 1.0)[None]


def _best_points(curves: Sequence[Curve], points: Array, count: int = 6) -> Array:
    best = points[np.argsort([-c.peak for c in curves], kind="stable")[:count]]
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


@dataclass(frozen=True)
class _Points:
    """Where the process is known or asked: x (n, d), log of epoch / horizon (n,), trial (n,), negative if new."""

    x: Array
    log_epoch: Array
    trial: Indices

    def take(self, rows: Indices) -> _Points:
        return _Points(self.x[rows], self.log_epoch[rows], self.trial[rows])

    def join(self, other: _Points) -> _Points:
        return _Points(
            np.vstack([self.x, other.x]),
            np.append(self.log_epoch, other.log_epoch),
            np.append(self.trial, other.trial),
        )


@dataclass(frozen=True)
class _Hyper:
    """The kernel's variances, lengths of x and time, and how fast trials diverge.

    The variances are of asymptote, parameters x time, trial, trial x time, time, noise, and trend; the first four and
    the last grow as (epoch / horizon)^(2 growth).
    """

    lengths: Array
    variances: Array
    time: float
    growth: float

    @staticmethod
    def unpack(logs: Array) -> _Hyper:
        d = len(logs) - 9
        return _Hyper(np.exp(logs[:d]), np.exp(2 * logs[d : d + 7]), float(np.exp(logs[d + 7])), float(logs[d + 8]))


def _prior(d: int) -> tuple[Array, Array]:
    """Return mean and spread of the logs, and of the growth itself.

    Lengths grow with sqrt(d) (Hvarfner et al. 2024, arXiv 2402.02229).
    """
    mean = np.append(np.full(d, -0.3 + 0.5 * np.log(d)), [-0.2, -0.2, -1.2, -1.2, -0.7, -2.5, -1.15, 0.1, 0.15])
    return mean, np.append(np.full(d, 0.8), [0.5, 0.5, 0.5, 0.5, 0.5, 0.7, 0.5, 0.4, 0.15])


@dataclass(frozen=True)
class _Pairs:
    """Points a (n,) and b (m,), with what does not depend on the hyperparameters.

    What depends on epochs alone is kept as tables between the few epochs that occur: k of a's and l of b's.

    Attributes:
        a, b: the points.
        log_epochs: log of epoch / horizon, (k,) and (l,).
        places: where each point's epoch is among them, (n,) and (m,).
        same: the pairs of points of one trial, their rows and columns.
    """

    a: _Points
    b: _Points
    log_epochs: tuple[Array, Array]
    places: tuple[Indices, Indices]
    same: tuple[Indices, Indices]

    @staticmethod
    def of(a: _Points, b: _Points) -> _Pairs:
        a_epochs, a_places = np.unique(a.log_epoch, return_inverse=True)
        b_epochs, b_places = np.unique(b.log_epoch, return_inverse=True)
        begun = np.flatnonzero(a.trial >= 0)
        rows, columns = np.nonzero(a.trial[begun, None] == b.trial)
        return _Pairs(a, b, (a_epochs, b_epochs), (a_places, b_places), (begun[rows], columns))

    def spread(self, table: Array) -> Array:
        """Return a table between epochs (k, l) as one between points (n, m)."""
        return table[:, self.places[1]][self.places[0]]

    def of_same(self, table: Array) -> Array:
        """Return what a table between epochs (k, l) says of the pairs of one trial."""
        rows, columns = self.same
        return np.asarray(table[self.places[0][rows], self.places[1][columns]])

    def sum_of_same(self, values: Array) -> Array:
        """Return (k, l): between epochs the sum over the pairs of one trial of values (n, m)."""
        rows, columns = self.same
        k, m = (len(epochs) for epochs in self.log_epochs)
        cells = self.places[0][rows] * m + self.places[1][columns]
        sums = np.bincount(cells, weights=values[rows, columns], minlength=k * m)
        return np.asarray(sums, dtype=float).reshape(k, m)


@dataclass(frozen=True)
class _Parts:
    """The kernel between pairs of points, with the pieces that the gradient needs again.

    Attributes:
        r: scaled distances (n, m).
        decay: exp(-r).
        matern: over the parameters (n, m).
        parabolas: of points a, as `_parabolas` returns them.
        trend: its share of the total (n, m).
        gap, smooth, rough, grown: between epochs (k, l).
        total: (n, m).
    """

    r: Array
    decay: Array
    matern: Array
    parabolas: tuple[Array, Array]
    trend: Array
    gap: Array
    smooth: Array
    rough: Array
    grown: Array
    total: Array


def _parabolas(points: _Points, hyper: _Hyper) -> tuple[Array, Array]:
    """Return what the trend is a product of: features (n, 2 d), grown with the epochs, and their variances (2 d,).

    The features are Legendre's polynomials of degree 1 and 2 of each parameter, over [0, 1] of variance 1.
    """
    centred = 2 * points.x - 1
    features = np.hstack([3**0.5 * centred, 5**0.5 * (1.5 * centred * centred - 0.5)])
    grown = features * np.exp(hyper.growth * points.log_epoch)[:, None]
    return grown, hyper.variances[6] * np.tile(hyper.lengths**-2, 2)


def _kernel(pairs: _Pairs, hyper: _Hyper) -> _Parts:
    """Matern 5/2 over x times (asymptote + time), a trend over x, a deviation per trial, and a curve common to all.

    All but the last grow. The trend is a parabola over each parameter, steeper over those of shorter lengths: most
    parameters have one best value between too little and too much, which few trials show and the Matern kernel, that
    must be ready for anything, learns late (universal kriging: Rasmussen & Williams 2006, section 2.7).
    """
    left, right = pairs.a.x / hyper.lengths, pairs.b.x / hyper.lengths
    # In place where it can be: with more than a thousand candidates the memory's pace counts.
    r = left @ (-2 * right.T)
    r += (left * left).sum(1)[:, None] + (right * right).sum(1)
    np.maximum(r, 0, out=r)
    r *= 5
    np.sqrt(r, out=r)
    decay = np.exp(-r)
    matern = r * r
    matern /= 3
    matern += 1 + r
    matern *= decay
    parabolas = features, variances = _parabolas(pairs.a, hyper)
    others = features if pairs.b is pairs.a else _parabolas(pairs.b, hyper)[0]
    trend = (features * variances) @ others.T
    a_epochs, b_epochs = pairs.log_epochs
    gap = np.abs(a_epochs[:, None] - b_epochs) / hyper.time
    smooth, rough = np.exp(-0.5 * gap * gap), np.exp(-gap)
    grown = np.outer(np.exp(hyper.growth * a_epochs), np.exp(hyper.growth * b_epochs))
    v = hyper.variances
    total = pairs.spread(grown * (v[0] + v[1] * smooth))
    total *= matern
    total += trend
    total += pairs.spread(v[4] * smooth)
    total[pairs.same] += pairs.of_same(grown * (v[2] + v[3] * rough))
    return _Parts(r, decay, matern, parabolas, trend, gap, smooth, rough, grown, total)


def _negative_log_posterior(logs: Array, pairs: _Pairs, z: Array, mean: Array, spread: Array) -> tuple[float, Array]:
    """And its gradient with respect to the logs (Rasmussen & Williams 2006, equations 5.8 and 5.9)."""
    from scipy.linalg import lapack

    hyper = _Hyper.unpack(logs)
    parts = _kernel(pairs, hyper)
    diagonal = np.s_[:: len(z) + 1]
    covariance = parts.total
    covariance.flat[diagonal] += hyper.variances[5] + JITTER
    factor, failed = lapack.dpotrf(covariance, lower=1)
    if failed:
        return 1e10, np.zeros_like(logs)
    lower = lapack.dpotri(factor, lower=1)[0]  # above the diagonal it is what the factor is there: 0
    inverse = lower + lower.T
    inverse.flat[diagonal] /= 2
    weights = inverse @ z
    value = 0.5 * z @ weights + np.log(np.diag(factor)).sum() + 0.5 * (((logs - mean) / spread) ** 2).sum()
    gradient = _gradient(0.5 * (inverse - np.outer(weights, weights)), pairs, parts, hyper)
    return float(value), gradient + (logs - mean) / spread**2


def _gradient(outer: Array, pairs: _Pairs, parts: _Parts, hyper: _Hyper) -> Array:
    """outer: the derivative with respect to the covariance. O(n^2 d): the differences of x are never formed."""
    x, v, smooth, rough, grown = pairs.a.x, hyper.variances, parts.smooth, parts.rough, parts.grown
    slope = (5 / 3) * (1 + parts.r) * parts.decay
    pull = outer * slope * pairs.spread(grown * (v[0] + v[1] * smooth))
    lengths = 2 * (pull.sum(1) @ (x * x) - (x * (pull @ x)).sum(0)) / hyper.lengths**2
    features, variances = parts.parabolas
    lengths -= 2 * (variances * (features * (outer @ features)).sum(0)).reshape(2, -1).sum(0)
    tilt = (outer * parts.trend).sum(1)
    # All else depends on the epochs alone: sums over the points of each pair of epochs (k, k) are enough.
    one_hot = np.equal.outer(np.arange(len(grown)), pairs.places[0]).astype(float)
    field, common = grown * (one_hot @ (outer * parts.matern) @ one_hot.T), smooth * (one_hot @ outer @ one_hot.T)
    trial = grown * pairs.sum_of_same(outer)
    field_time, trial_time, bent = field * smooth, trial * rough, parts.gap * parts.gap
    sums = [field.sum(), field_time.sum(), trial.sum(), trial_time.sum(), common.sum(), np.trace(outer)]
    time = ((v[1] * field_time + v[4] * common) * bent).sum() + v[3] * (trial_time * parts.gap).sum()
    growing = (v[0] * field + v[1] * field_time + v[2] * trial + v[3] * trial_time).sum(1) @ pairs.log_epochs[0]
    growing += tilt @ pairs.a.log_epoch
    return np.concatenate([lengths, 2 * v[:6] * np.array(sums), [2 * tilt.sum(), time, 2 * growing]])


def _fit(points: _Points, z: Array, rng: np.random.Generator) -> _Hyper:
    """The hyperparameters' mode a posteriori, roughly: from few steps on a random subset of the points."""
    from scipy.optimize import minimize

    rows = np.sort(rng.permutation(len(z))[:FIT_POINTS])
    mean, spread = _prior(points.x.shape[1])
    some, values = points.take(rows), z[rows]
    pairs = _Pairs.of(some, some)

    def objective(steps: Array) -> tuple[float, Array]:
        value, gradient = _negative_log_posterior(mean + spread * steps, pairs, values, mean, spread)
        return value, gradient * spread

    bounds = [(-FIT_BOUND, FIT_BOUND)] * len(mean)
    options = {"maxiter": FIT_STEPS}
    found = minimize(objective, np.zeros_like(mean), jac=True, method="L-BFGS-B", bounds=bounds, options=options)
    return _Hyper.unpack(mean + spread * np.asarray(found.x) if found.fun < 1e9 else mean)


def _solve(factor: Array, right: Array, *, transposed: bool = False) -> Array:
    from scipy.linalg import solve_triangular

    return np.asarray(solve_triangular(factor, right, lower=True, trans=int(transposed), check_finite=False))


class _Process:
    """The posterior of one Gaussian process."""

    def __init__(self, points: _Points, z: Array, hyper: _Hyper) -> None:
        self._points, self._z, self._hyper = points, z, hyper
        covariance = _kernel(_Pairs.of(points, points), hyper).total
        self._factor = np.linalg.cholesky(covariance + (hyper.variances[5] + JITTER) * np.eye(len(z)))
        half = _solve(self._factor, z)
        self._weights = _solve(self._factor, half, transposed=True)

    def predict(self, asked: _Points) -> tuple[Array, Array]:
        """Mean and standard deviation (n,), without noise."""
        cross = _kernel(_Pairs.of(asked, self._points), self._hyper).total
        half = _solve(self._factor, cross.T)
        v = self._hyper.variances
        features, variances = _parabolas(asked, self._hyper)
        trend = (features * features) @ variances
        grown = v[:4].sum() * np.exp(2 * self._hyper.growth * asked.log_epoch)
        variance = grown + trend + v[4] - (half * half).sum(0)
        return cross @ self._weights, np.sqrt(np.maximum(variance, 1e-9))

    def incumbent(self) -> float:
        """The best mean where values are known: the best value itself may be but lucky."""
        return float((self._z - (self._hyper.variances[5] + JITTER) * self._weights).max())

    def believing(self, pending: _Points) -> _Process:
        """As if pending points had come out as expected (kriging believer): the means stay, the spread shrinks."""
        if not len(pending.trial):
            return self
        expected = _kernel(_Pairs.of(pending, self._points), self._hyper).total @ self._weights
        return _Process(self._points.join(pending), np.append(self._z, expected), self._hyper)


def _observations(
    curves: Sequence[Curve], marks: Sequence[int], rng: np.random.Generator
) -> tuple[Indices, Array, Array]:
    """Return trial, epoch and warped value (all (n,)) at the milestones and latest epochs, at most MAX_POINTS.

    Trials go in whole, better ones first but not only: a frozen trial without its points would look like a new one.
    What ended early has at the horizon the value it ended with: diverging trials often rise fast.
    """
    seen = [i for i, c in enumerate(curves) if len(c.values)]
    peaks = np.array([curves[i].peak for i in seen])
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
        curve = curves[seen[k]]
        own = [m for m in marks if m < len(curve.values)] + [len(curve.values)]
        own += [marks[-1]] if curve.state == "ended" and own[-1] < marks[-1] else []
        if len(trials) + len(own) > MAX_POINTS:
            break
        trials += [seen[k]] * len(own)
        epochs += own
    pairs = zip(trials, epochs, strict=True)
    values = np.array([curves[i].values[min(e, len(curves[i].values)) - 1] for i, e in pairs], dtype=float)
    low = np.min(values, initial=best, where=np.isfinite(values))  # diverged: as bad as the worst that is known
    z = _warp(np.where(np.isfinite(values), values, low), best, scale)
    return np.array(trials, dtype=np.int64), np.array(epochs, dtype=float), z


def _warp(values: Array, best: float, scale: float) -> Array:
    """Logarithm of the regret, so that failures far below do not hide what matters: the top."""
    return np.asarray(-np.log((best - values) / scale + MARGIN))


def _noise(curves: Sequence[Curve]) -> float:
    """Of one value, from second differences of the better curves, after epoch 2, where curves bend little."""
    peaks = np.array([c.peak for c in curves])
    finite = peaks[np.isfinite(peaks)]
    middle = float(np.median(finite)) if len(finite) else 0.0
    bends = [
        np.diff(c.values[2:], 2) for c, peak in zip(curves, peaks, strict=True) if len(c.values) > 4 and peak >= middle
    ]
    known = np.abs(np.concatenate(bends)) if bends else np.zeros(0)
    known = known[np.isfinite(known)]
    scale = float(finite.max()) - middle if len(finite) else 0.0
    return float(np.median(known)) / (0.6745 * 6**0.5) / scale if len(known) and scale > 0 else 0.0


def _encode(x: Array, inactive: NDArray[np.bool_]) -> Array:
    """Inactive (NaN): in the middle, with a column of its own that says so."""
    return np.hstack([np.where(np.isnan(x), 0.5, x), np.isnan(x[:, inactive]).astype(float)])


@dataclass(frozen=True)
class _Asked:
    """What may be chosen: x (n, d), trial (n,), negative if new, epochs done (n,); the first `random` are random."""

    x: Array
    trial: Indices
    done: Array
    random: int

    def at(self, epochs: Array, horizon: int) -> _Points:
        return _Points(self.x, np.log(np.minimum(epochs, horizon) / horizon), self.trial)


def _by_model(
    curves: Sequence[Curve],
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
    points = _Points(x[trials], np.log(epochs / horizon), trials)
    process = _Process(points, z, _fit(points, z, rng))
    incumbent, process = process.incumbent(), process.believing(_pending(curves, x, horizon))
    number = np.append(-1 - np.arange(len(fresh)), np.array(offered, dtype=np.int64))
    done = np.append(np.zeros(len(fresh)), [float(len(curves[i].values)) for i in offered])
    asked = _Asked(np.vstack([fresh, x[offered]]), number, done, len(fresh) // 2)
    promise = _promise(process, asked, incumbent, horizon, at_end, rng)
    if log_costs is not None:
        promise = promise - np.append(log_costs[0][: len(fresh)], log_costs[1][offered])
    best = int(np.argmax(promise))
    return Choice(start=best) if best < len(fresh) else Choice(thaw=offered[best - len(fresh)])


def _pending(curves: Sequence[Curve], x: Array, horizon: int) -> _Points:
    running = [i for i, c in enumerate(curves) if c.state == "running" and c.until > len(c.values)]
    until = np.log(np.array([float(curves[i].until) for i in running]) / horizon)
    return _Points(x[running], until, np.array(running, dtype=np.int64))


def _promise(
    process: _Process, asked: _Asked, best: float, horizon: int, at_end: bool, rng: np.random.Generator
) -> Array:
    """Return the logarithm of the expected gain (n,) above a random threshold within a random number of epochs.

    If `at_end`, above the best, by the end of the training.
    """
    if at_end:
        return _log_gain(*process.predict(asked.at(np.full(len(asked.done), float(horizon)), horizon)), best)
    threshold = _threshold(process, asked, best, horizon, rng)
    ahead = np.exp(np.log(horizon) * rng.random() ** SHORTER)
    return _log_gain(*process.predict(asked.at(asked.done + ahead, horizon)), threshold)


def _log_gain(mean: Array, spread: Array, threshold: float) -> Array:
    """Logarithm of the expected improvement, E max(0, y - threshold), also where that is too small for a number."""
    from scipy.special import ndtr

    u = (mean - threshold) / spread
    near = np.maximum(u, FAR)
    density = np.exp(-0.5 * near * near) / np.sqrt(2 * np.pi)
    # Far below: the first term of the asymptotic series of the same.
    tail = -0.5 * u * u - 0.5 * np.log(2 * np.pi) - 2 * np.log(np.maximum(-u, 1.0))
    return np.asarray(np.log(spread) + np.where(u > FAR, np.log(near * ndtr(near) + density), tail))


def _threshold(process: _Process, asked: _Asked, best: float, horizon: int, rng: np.random.Generator) -> float:
    low, high = STEPS_ABOVE
    if rng.random() < 0.5 or not asked.random:
        return float(best + 10 ** rng.uniform(low, high))
    rows = slice(asked.random)
    at_end = _Points(asked.x[rows], np.zeros(asked.random), asked.trial[rows])
    return max(_upper_quantile(*process.predict(at_end)), best + 10**low)


def _upper_quantile(mean: Array, spread: Array) -> float:
    """What a share TOP_SHARE of the mixture of these normal distributions lies above (by bisection)."""
    from scipy.special import ndtr

    low, high = float((mean - 5 * spread).min()), float((mean + 5 * spread).max())
    for _ in range(30):
        middle = (low + high) / 2
        below = float(ndtr((middle - mean) / spread).mean())
        low, high = (middle, high) if below < 1 - TOP_SHARE else (low, middle)
    return high
