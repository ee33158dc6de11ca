"""The Gaussian process over learning curves: its gradient and its fit."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from studies.strategies.freeze_thaw import process as gaussian
from studies.strategies.freeze_thaw.curves import Curve, Curves, milestones
from studies.strategies.freeze_thaw.model import _observations
from studies.strategies.freeze_thaw.process import PRIOR, CurvePoints, CurveProcess, Hyperparameters


def _points(rng: np.random.Generator, n: int, d: int, *, new: int = 0) -> CurvePoints:
    """Of nine trials, the same ones at each call, and of so many that have not begun."""
    trial = rng.integers(-new, 9, n)
    x = np.random.default_rng(d).random((18, d))[trial]
    return CurvePoints(x, np.log(rng.choice([1, 2, 4, 9], n) / 9), trial)


def packed(hyper: Hyperparameters) -> np.ndarray:
    """Return hyperparameters as the fit has them: logarithms of lengths and of standard deviations."""
    variances = [hyper.asymptote, hyper.curve, hyper.trial, hyper.trial_curve, hyper.common, hyper.noise, hyper.trend]
    return np.concatenate([np.log(hyper.lengths), 0.5 * np.log(variances), [np.log(hyper.time), hyper.growth]])


def test_the_rows_of_the_prior_are_the_kernels_hyperparameters_in_their_order() -> None:
    assert ["lengths", *(name for name, *_ in PRIOR)] == [field.name for field in fields(Hyperparameters)]
    logs = np.linspace(-1, 1, 4 + len(PRIOR))
    assert packed(Hyperparameters.unpack(logs)) == pytest.approx(logs)


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_of_the_fit_is_that_of_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = 25, 3
    points = _points(rng, n, d)
    pairs = gaussian._Pairs.of(points, points)
    z = rng.standard_normal(n)
    mean, spread = gaussian._prior(d)
    logs = mean + 0.5 * spread * rng.standard_normal(len(mean))

    def posterior(at: np.ndarray) -> tuple[float, np.ndarray]:
        return gaussian._negative_log_posterior(at, pairs, z, mean, spread)

    expected = approx_fprime(logs, lambda at: posterior(at)[0], 1e-6)
    assert posterior(logs)[1] == pytest.approx(expected, rel=1e-3, abs=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("seed", [0, 2, 5])
def test_the_fit_comes_near_to_the_mode_where_all_curves_begin_alike(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d, horizon = 40, 3, 32
    x = rng.random((n, d))
    final = 0.8 * np.exp(-4 * np.square(x - 0.4).sum(1))
    lengths = rng.choice([1, 2, 4, horizon], n)
    curves = [
        Curve(at, 0.1 + top * (1 - np.exp2(-np.arange(1, length + 1) / 8)), "frozen", int(length))
        for at, top, length in zip(x, final, lengths, strict=True)
    ]
    trials, epochs, z = _observations(Curves(curves), milestones(horizon), rng)
    z = (z - z.mean()) / z.std()
    points = CurvePoints(x[trials], np.log(epochs / horizon), trials)
    mean, spread = gaussian._prior(d)

    fitted = gaussian.fit(points, z, np.random.default_rng(9))

    rows = np.sort(np.random.default_rng(9).permutation(len(z))[: gaussian.FIT_POINTS])
    some = points.take(rows)
    pairs = gaussian._Pairs.of(some, some)

    def posterior(steps: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = gaussian._negative_log_posterior(mean + spread * steps, pairs, z[rows], mean, spread)
        return value, gradient * spread

    mode = minimize(posterior, np.zeros_like(mean), jac=True, method="L-BFGS-B", bounds=[(-6, 6)] * len(mean))
    reached = packed(fitted)
    assert posterior((reached - mean) / spread)[0] < mode.fun + 2  # seven steps were 5 to 12 away


def test_the_kernel_is_the_sum_of_its_terms() -> None:
    rng = np.random.default_rng(3)
    d = 3
    a, b = _points(rng, 30, d, new=9), _points(rng, 20, d, new=9)
    mean, spread = gaussian._prior(d)
    hyper = Hyperparameters.unpack(mean + spread * rng.standard_normal(len(mean)))

    def term(i: int, j: int) -> float:
        x, y, s, t = a.x[i], b.x[j], a.log_epoch[i], b.log_epoch[j]
        r = 5**0.5 * float(np.linalg.norm((x - y) / hyper.lengths))
        gap = abs(s - t) / hyper.time
        smooth, rough = np.exp(-gap * gap / 2), np.exp(-gap)
        first, second = 3 * (2 * x - 1) * (2 * y - 1), 5 * np.prod([1.5 * (2 * w - 1) ** 2 - 0.5 for w in (x, y)], 0)
        over_x = (hyper.asymptote + hyper.curve * smooth) * (1 + r + r * r / 3) * np.exp(-r)
        over_x += hyper.trend * float(((first + second) / hyper.lengths**2).sum())
        alike = a.trial[i] == b.trial[j] and a.trial[i] >= 0
        own = alike * (hyper.trial + hyper.trial_curve * rough)
        return float(np.exp(hyper.growth * (s + t)) * (over_x + own) + hyper.common * smooth)

    expected = np.array([[term(i, j) for j in range(20)] for i in range(30)])
    workspace = np.full((3, 30, 20), np.nan)
    pairs = gaussian._Pairs.of(a, b)
    assert gaussian._kernel(pairs, hyper).total == pytest.approx(expected)
    assert gaussian._kernel(pairs, hyper, workspace).total == pytest.approx(expected)
    assert np.shares_memory(workspace, gaussian._kernel(pairs, hyper, workspace).total)


def test_the_posterior_is_the_textbooks() -> None:
    rng = np.random.default_rng(0)
    n, m, d = 40, 600, 3
    points, asked, z = _points(rng, n, d), _points(rng, m, d), rng.standard_normal(n)
    hyper = Hyperparameters.unpack(gaussian._prior(d)[0])

    mean, spread = CurveProcess(points, z, hyper).predict(asked)

    # Rasmussen & Williams 2006, equations 2.25 and 2.26, all at once and with an inverse.
    def kernel(a: CurvePoints, b: CurvePoints) -> np.ndarray:
        return gaussian._kernel(gaussian._Pairs.of(a, b), hyper).total

    noise = hyper.noise + gaussian.JITTER
    inverse = np.linalg.inv(kernel(points, points) + noise * np.eye(n))
    cross = kernel(asked, points)
    assert m > 2 * gaussian.BLOCK
    assert mean == pytest.approx(cross @ inverse @ z, abs=1e-9)
    assert spread**2 == pytest.approx(np.diag(kernel(asked, asked) - cross @ inverse @ cross.T), abs=1e-9)


def test_what_is_pending_comes_out_as_expected() -> None:
    rng = np.random.default_rng(1)
    points, pending, asked, z = _points(rng, 40, 3), _points(rng, 6, 3), _points(rng, 50, 3), rng.standard_normal(40)
    hyper = Hyperparameters.unpack(gaussian._prior(3)[0])
    alone = CurveProcess(points, z, hyper)
    believed = CurveProcess(points.join(pending), np.append(z, alone.predict(pending)[0]), hyper)

    process = CurveProcess(points, z, hyper, pending)

    (mean, spread), expected = process.predict(asked), believed.predict(asked)
    assert mean == pytest.approx(alone.predict(asked)[0])
    assert mean == pytest.approx(expected[0])
    assert spread == pytest.approx(expected[1])
    assert (spread < alone.predict(asked)[1]).all()
    assert process.incumbent() == pytest.approx(alone.incumbent())
