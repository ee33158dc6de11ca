"""The Gaussian process over learning curves, for freeze-thaw search.

The value of trial i, with the parameters x, after an epoch at s = log(epoch / horizon), and that of trial i', with x',
at s' have the covariance

    k  =  e^(growth (s + s')) { (asymptote + curve S) M  +  trend T  +  [i = i'] (trial + trial_curve R) }
          +  common S  +  [the same value] noise

    M  =  (1 + r + r^2 / 3) e^-r,  r^2 = 5 sum_j ((x_j - x'_j) / lengths_j)^2       Matern 5/2 over the parameters
    T  =  sum_j (P1(x_j) P1(x'_j) + P2(x_j) P2(x'_j)) / lengths_j^2                 a parabola over each parameter
    S  =  e^(-u^2 / 2),  u = |s - s'| / time                                        curves are smooth
    R  =  e^-u                                                                      what is a trial's own is rough

where P1 and P2 are Legendre's polynomials of degree 1 and 2, over [0, 1] of variance 1; a [condition] is 1, or 0.

The idea is that of freeze-thaw Bayesian optimization (Swersky, Snoek & Adams 2014, arXiv 1406.3896): what a training
comes to depends on its parameters, and its curve on its own past. There each curve is a process of its own around its
asymptote, with a kernel of exponential decay over the epochs; here like parameters have like curves, over the logarithm
of the epoch, and what tells trials apart grows as a power of the epoch. The parabolas are there because most parameters
have one best value between too little and too much, which few trials show and the Matern kernel, that must be ready for
anything, learns late; they are steeper over parameters of shorter lengths (universal kriging: Rasmussen & Williams
2006, section 2.7).

The hyperparameters are the mode of their posterior, under the prior below.

A pure function of the points and the random numbers it is given. SciPy is imported where it is first asked: half a
second that the launcher and the first trial need not wait for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

FIT_POINTS = 80  # points the hyperparameters are fitted on
FIT_STEPS = 20  # steps of L-BFGS from the prior's mode, in units of the prior's spread; after 7 it is still far off
FIT_BOUND = 6.0  # spreads from the mode that it may go: a first step can be a wild one
JITTER = 1e-6
BLOCK = 256  # points asked at a time: their kernel with all others stays in the processor's cache

# The prior, of values with mean 0 and variance 1: normal in the logarithm of a length, in that of the square root of a
# variance, and in the growth itself. The lengths of the parameters grow with sqrt(d): in many dimensions trials would
# else be strangers to each other (Hvarfner et al. 2024, arXiv 2402.02229).
LENGTH_MODE, LENGTH_SPREAD = -0.3, 0.8  # the mode where d is 1
# fmt: off
PRIOR = (
    # name         mode   spread  why
    ("asymptote",   -0.20, 0.50),  # most of what trials come to follows from their parameters,
    ("curve",       -0.20, 0.50),  # and as much may change from the first epochs to the last: late bloomers
    ("trial",       -1.20, 0.50),  # the rest is chance: first weights, the order of batches,
    ("trial_curve", -1.20, 0.50),  # which goes on
    ("common",      -0.70, 0.50),  # all curves rise, more or less alike
    ("noise",       -2.50, 0.70),  # of a single value: little, or much, as the data set has it
    ("trend",       -1.15, 0.50),  # a parabola says something of most parameters, and not all of any
    ("time",         0.10, 0.40),  # an epoch tells much of that after three times as many, little after ten times
    ("growth",       0.15, 0.15),  # after half the epochs trials lie nine tenths as far apart
)
# fmt: on


@dataclass(frozen=True)
class _Groups:
    """Points that have something in common.

    Attributes:
        first: (k,) one point of each group.
        places: (n,) the group of each point.
    """

    first: Indices
    places: Indices

    @staticmethod
    def of(labels: Array | Indices) -> _Groups:
        _, first, places = np.unique(labels, return_index=True, return_inverse=True)
        return _Groups(first, places)

    @cached_property
    def members(self) -> Array:
        """(k, n): 1 where a point is of the group, else 0."""
        return np.equal.outer(np.arange(len(self.first)), self.places).astype(float)


@dataclass(frozen=True)
class CurvePoints:
    """Where the process is known or asked.

    Attributes:
        x: (n, d) in [0, 1], the same for all points of a trial.
        log_epoch: (n,) logarithm of epoch / horizon, 0 at the end of a training.
        trial: (n,) which curve each belongs to; negative, each configuration another number, if it has none yet.
    """

    x: Array
    log_epoch: Array
    trial: Indices

    @cached_property
    def trials(self) -> _Groups:
        """The points of each trial: u groups."""
        return _Groups.of(self.trial)

    @cached_property
    def epochs(self) -> _Groups:
        """The points at each epoch: k groups."""
        return _Groups.of(self.log_epoch)

    @cached_property
    def configurations(self) -> Array:
        """(u, d): the `x` of each trial."""
        return self.x[self.trials.first]

    @cached_property
    def polynomials(self) -> Array:
        """Legendre's of degree 1 and 2 of each parameter (n, 2 d), over [0, 1] of variance 1."""
        centred = 2 * self.x - 1
        return np.hstack([3**0.5 * centred, 5**0.5 * (1.5 * centred * centred - 0.5)])

    def take(self, rows: Indices) -> CurvePoints:
        return CurvePoints(self.x[rows], self.log_epoch[rows], self.trial[rows])

    def join(self, other: CurvePoints) -> CurvePoints:
        return CurvePoints(
            np.vstack([self.x, other.x]),
            np.append(self.log_epoch, other.log_epoch),
            np.append(self.trial, other.trial),
        )


@dataclass(frozen=True)
class Hyperparameters:
    """Of the kernel, by the names of its formula.

    Attributes:
        lengths: (d,) of the parameters.
        asymptote, curve, trial, trial_curve, common, noise, trend: variances.
        time: a length, in logarithms of the epoch.
        growth: how fast trials part.
    """

    lengths: Array
    asymptote: float
    curve: float
    trial: float
    trial_curve: float
    common: float
    noise: float
    trend: float
    time: float
    growth: float

    @staticmethod
    def unpack(logs: Array) -> Hyperparameters:
        """Return what a vector (d + 9,) says, which is laid out as the prior: the lengths, then PRIOR's rows."""
        d = len(logs) - len(PRIOR)
        others = [*np.exp(2 * logs[d:-2]).tolist(), float(np.exp(logs[-2])), float(logs[-1])]
        return Hyperparameters(np.exp(logs[:d]), *others)


def _prior(d: int) -> tuple[Array, Array]:
    """Return mode and spread (d + 9,) of all hyperparameters: the lengths', then PRIOR's."""
    modes, spreads = (np.array([row[column] for row in PRIOR]) for column in (1, 2))
    length = LENGTH_MODE + 0.5 * np.log(d)
    return np.append(np.full(d, length), modes), np.append(np.full(d, LENGTH_SPREAD), spreads)


@dataclass(frozen=True)
class _Pairs:
    """Points a (n,) and b (m,), with what does not depend on the hyperparameters.

    What depends on epochs alone is kept as tables between the few epochs that occur, k of a's and l of b's; what
    depends on parameters alone between the trials, u of a's and w of b's.

    Attributes:
        a, b: the points.
        same: the pairs of points of one trial (s,), by their places among all n m.
        same_epochs: where their epochs are (s,), among all k l.
    """

    a: CurvePoints
    b: CurvePoints
    same: Indices
    same_epochs: Indices

    @staticmethod
    def of(a: CurvePoints, b: CurvePoints) -> _Pairs:
        begun = np.flatnonzero(a.trial >= 0)
        rows, columns = np.nonzero(a.trial[begun, None] == b.trial)
        rows = begun[rows]
        epochs = a.epochs.places[rows] * len(b.epochs.first) + b.epochs.places[columns]
        return _Pairs(a, b, rows * len(b.trial) + columns, epochs)

    # The side that leaves the smaller table comes first: epochs are few on both, trials only of b's points.

    def by_epochs(self, table: Array, out: Array | None = None) -> Array:
        """Return a table between epochs (k, l) as one between points (n, m), in `out` where that is given."""
        between = table.take(self.b.epochs.places, axis=1)
        return np.take(between, self.a.epochs.places, axis=0, out=out, mode="clip")

    def by_trials(self, table: Array, out: Array | None = None) -> Array:
        """Return a table between trials (u, w) as one between points (n, m), in `out` where that is given."""
        between = table.take(self.a.trials.places, axis=0)
        return np.take(between, self.b.trials.places, axis=1, out=out, mode="clip")

    def of_same(self, table: Array) -> Array:
        """Return what a table between epochs (k, l) says of the pairs of one trial."""
        return table.take(self.same_epochs)

    def sum_of_same(self, values: Array) -> Array:
        """Return (k, l): between epochs the sum over the pairs of one trial of values (n, m)."""
        k, m = len(self.a.epochs.first), len(self.b.epochs.first)
        sums = np.bincount(self.same_epochs, weights=values.take(self.same), minlength=k * m)
        return np.asarray(sums, dtype=float).reshape(k, m)


@dataclass(frozen=True)
class _Parts:
    """The kernel between pairs of points, with the pieces that the gradient needs again.

    Attributes:
        r: scaled distances between trials (u, w).
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


def _parabolas(points: CurvePoints, hyper: Hyperparameters) -> tuple[Array, Array]:
    """Return what the trend is a product of: polynomials (n, 2 d) that grow with the epochs, and variances (2 d,)."""
    grown = points.polynomials * np.exp(hyper.growth * points.log_epoch)[:, None]
    variances = hyper.trend * hyper.lengths**-2
    return grown, np.append(variances, variances)


def _kernel(pairs: _Pairs, hyper: Hyperparameters, workspace: Array | None = None) -> _Parts:
    """Return the module's formula, without the noise.

    All that is (n, m) lies in `workspace` (3, n, m) where that is given: with more than a thousand candidates the
    memory's pace counts, and to get some anew from the system costs more than what is computed in it.
    """
    shape = len(pairs.a.trial), len(pairs.b.trial)
    matern, trend, total = (np.empty(shape) for _ in range(3)) if workspace is None else workspace
    left = right = pairs.a.configurations * (5**0.5 / hyper.lengths)
    squares = others_squares = (left * left).sum(1)
    if pairs.b is not pairs.a:
        right = pairs.b.configurations * (5**0.5 / hyper.lengths)
        others_squares = (right * right).sum(1)
    r = left @ (-2 * right.T)
    r += squares[:, None]
    r += others_squares
    np.maximum(r, 0, out=r)
    np.sqrt(r, out=r)
    decay = np.exp(-r)
    pairs.by_trials((1 + r * (1 + r / 3)) * decay, out=matern)
    parabolas = features, variances = _parabolas(pairs.a, hyper)
    others = features if pairs.b is pairs.a else _parabolas(pairs.b, hyper)[0]
    np.matmul(features * variances, others.T, out=trend)
    a_epochs, b_epochs = (points.log_epoch[points.epochs.first] for points in (pairs.a, pairs.b))
    gap = np.abs(a_epochs[:, None] - b_epochs) / hyper.time
    smooth, rough = np.exp(-0.5 * gap * gap), np.exp(-gap)
    grown = np.outer(np.exp(hyper.growth * a_epochs), np.exp(hyper.growth * b_epochs))
    pairs.by_epochs(grown * (hyper.asymptote + hyper.curve * smooth), out=total)
    total *= matern
    total += trend
    total += pairs.by_epochs(hyper.common * smooth)
    total.reshape(-1)[pairs.same] += pairs.of_same(grown * (hyper.trial + hyper.trial_curve * rough))
    return _Parts(r, decay, matern, parabolas, trend, gap, smooth, rough, grown, total)


def _negative_log_posterior(logs: Array, pairs: _Pairs, z: Array, mean: Array, spread: Array) -> tuple[float, Array]:
    """And its gradient with respect to the logs (Rasmussen & Williams 2006, equations 5.8 and 5.9)."""
    from scipy.linalg import lapack

    hyper = Hyperparameters.unpack(logs)
    parts = _kernel(pairs, hyper)
    diagonal = np.s_[:: len(z) + 1]
    covariance = parts.total
    covariance.flat[diagonal] += hyper.noise + JITTER
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


def _gradient(outer: Array, pairs: _Pairs, parts: _Parts, hyper: Hyperparameters) -> Array:
    """outer: the derivative with respect to the covariance. O(n^2 d): the differences of x are never formed."""
    trials, epochs = pairs.a.trials, pairs.a.epochs
    x, log_epochs = pairs.a.configurations, pairs.a.log_epoch[epochs.first]
    smooth, rough, grown = parts.smooth, parts.rough, parts.grown
    slope = (5 / 3) * (1 + parts.r) * parts.decay
    pulls = outer * pairs.by_epochs(grown * (hyper.asymptote + hyper.curve * smooth))
    pull = slope * (trials.members @ pulls @ trials.members.T)
    lengths = 2 * (pull.sum(1) @ (x * x) - (x * (pull @ x)).sum(0)) / hyper.lengths**2
    features, variances = parts.parabolas
    lengths -= 2 * (variances * (features * (outer @ features)).sum(0)).reshape(2, -1).sum(0)
    tilt = (outer * parts.trend).sum(1)
    # All else depends on the epochs alone: sums over the points of each pair of epochs (k, k) are enough.
    asymptote = grown * (epochs.members @ (outer * parts.matern) @ epochs.members.T)
    common = smooth * (epochs.members @ outer @ epochs.members.T)
    trial = grown * pairs.sum_of_same(outer)
    curve, trial_curve, bent = asymptote * smooth, trial * rough, parts.gap * parts.gap
    time = ((hyper.curve * curve + hyper.common * common) * bent).sum()
    time += hyper.trial_curve * (trial_curve * parts.gap).sum()
    growing = hyper.asymptote * asymptote + hyper.curve * curve
    growing = (growing + hyper.trial * trial + hyper.trial_curve * trial_curve).sum(1) @ log_epochs
    of_logs = {
        "asymptote": 2 * hyper.asymptote * asymptote.sum(),
        "curve": 2 * hyper.curve * curve.sum(),
        "trial": 2 * hyper.trial * trial.sum(),
        "trial_curve": 2 * hyper.trial_curve * trial_curve.sum(),
        "common": 2 * hyper.common * common.sum(),
        "noise": 2 * hyper.noise * np.trace(outer),
        "trend": 2 * tilt.sum(),
        "time": time,
        "growth": 2 * (growing + tilt @ pairs.a.log_epoch),
    }
    return np.append(lengths, [of_logs[name] for name, *_ in PRIOR])


def fit(points: CurvePoints, z: Array, rng: np.random.Generator) -> Hyperparameters:
    """Return the hyperparameters' mode a posteriori, roughly: from few steps on a random subset of the points.

    Args:
        points: n of them, where values are known.
        z: (n,) the values, of mean 0 and variance 1.
        rng: draws the subset.
    """
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
    return Hyperparameters.unpack(mean + spread * np.asarray(found.x) if found.fun < 1e9 else mean)


class CurveProcess:
    """The posterior of one Gaussian process.

    What is pending is taken to come out as expected: the means stay, the spread shrinks (the kriging believer of
    Ginsbourger et al. 2010, "Kriging is well-suited to parallelize optimization").

    Args:
        points: n of them, where values are known.
        z: (n,) the values, of mean 0 and variance 1.
        hyper: from `fit`.
        pending: p of them, where values will be known soon.

    Raises:
        numpy.linalg.LinAlgError: the covariance is not positive definite, as with a value that is not finite.
    """

    def __init__(
        self, points: CurvePoints, z: Array, hyper: Hyperparameters, pending: CurvePoints | None = None
    ) -> None:
        from scipy.linalg import lapack, solve_triangular

        self._points = points if pending is None else points.join(pending)
        self._z, self._hyper = z, hyper
        covariance = _kernel(_Pairs.of(self._points, self._points), hyper).total
        covariance.flat[:: len(covariance) + 1] += self._noise
        factor = np.linalg.cholesky(covariance)
        self._whitening = lapack.dtrtri(factor, lower=1)[0]
        # An expected value has no weight of its own.
        known = np.s_[: len(z), : len(z)]
        half = solve_triangular(factor[known], z, lower=True, check_finite=False)
        self._weights = solve_triangular(factor[known], half, lower=True, trans=1, check_finite=False)

    @property
    def _noise(self) -> float:
        return self._hyper.noise + JITTER

    def alike(self, points: CurvePoints, z: Array) -> CurveProcess:
        """Return the process with the same hyperparameters where other values are known."""
        return CurveProcess(points, z, self._hyper)

    def predict(self, asked: CurvePoints) -> tuple[Array, Array]:
        """Return mean and standard deviation, both (m,), at m points, without noise."""
        from scipy.linalg import blas

        mean, variance = np.empty(len(asked.trial)), self._prior_variance(asked)
        workspace = np.empty((3, min(BLOCK, len(mean)), len(self._points.trial)))
        for start in range(0, len(mean), BLOCK):
            rows = np.arange(start, min(start + BLOCK, len(mean)))
            pairs = _Pairs.of(asked.take(rows), self._points)
            cross = _kernel(pairs, self._hyper, workspace[:, : len(rows)]).total
            mean[rows] = cross[:, : len(self._z)] @ self._weights
            half = blas.dtrmm(1.0, self._whitening, cross.T, lower=1, overwrite_b=1)
            variance[rows] -= np.einsum("nm,nm->m", half, half)
        return mean, np.sqrt(np.maximum(variance, 1e-9))

    def _prior_variance(self, asked: CurvePoints) -> Array:
        hyper = self._hyper
        features, variances = _parabolas(asked, hyper)
        growing = np.array([hyper.asymptote, hyper.curve, hyper.trial, hyper.trial_curve]).sum()
        grown = growing * np.exp(2 * hyper.growth * asked.log_epoch)
        return np.asarray(grown + (features * features) @ variances + hyper.common)

    def incumbent(self) -> float:
        """Return the best mean where values are known: the best value itself may be but lucky."""
        return float((self._z - self._noise * self._weights).max())
