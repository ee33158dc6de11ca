"""The Gaussian process over learning curves: its gradient and its fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import approx_fprime, minimize

from studies.strategies import curve_process, curve_search
from studies.strategies.curve_search import Curve, milestones


@pytest.mark.parametrize("seed", range(4))
def test_the_gradient_of_the_fit_is_that_of_finite_differences(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, d = 25, 3
    points = curve_process.CurvePoints(
        rng.random((n, d)), np.log(rng.choice([1, 2, 4, 9], n) / 9), rng.integers(0, 9, n)
    )
    pairs = curve_process._Pairs.of(points, points)
    z = rng.standard_normal(n)
    mean, spread = curve_process._prior(d)
    logs = mean + 0.5 * spread * rng.standard_normal(len(mean))

    def posterior(at: np.ndarray) -> tuple[float, np.ndarray]:
        return curve_process._negative_log_posterior(at, pairs, z, mean, spread)

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
    trials, epochs, z = curve_search._observations(curves, milestones(horizon), rng)
    z = (z - z.mean()) / z.std()
    points = curve_process.CurvePoints(x[trials], np.log(epochs / horizon), trials)
    mean, spread = curve_process._prior(d)

    fitted = curve_process.fit(points, z, np.random.default_rng(9))

    rows = np.sort(np.random.default_rng(9).permutation(len(z))[: curve_process.FIT_POINTS])
    some = points.take(rows)
    pairs = curve_process._Pairs.of(some, some)

    def posterior(steps: np.ndarray) -> tuple[float, np.ndarray]:
        value, gradient = curve_process._negative_log_posterior(mean + spread * steps, pairs, z[rows], mean, spread)
        return value, gradient * spread

    mode = minimize(posterior, np.zeros_like(mean), jac=True, method="L-BFGS-B", bounds=[(-6, 6)] * len(mean))
    variances = 0.5 * np.log(fitted.variances)
    reached = np.concatenate([np.log(fitted.lengths), variances, [np.log(fitted.time), fitted.growth]])
    assert posterior((reached - mean) / spread)[0] < mode.fun + 2  # seven steps were 5 to 12 away
