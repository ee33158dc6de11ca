"""What is expected to gain most: the lazy search for it, and the gain far below the threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import norm

from studies.strategies.freeze_thaw.acquisition import (
    FAR,
    Asked,
    log_expected_improvement,
    log_feasibility,
    most_promising,
)
from studies.strategies.freeze_thaw.process import BLOCK, CurvePoints, CurveProcess, Indices, fit


@given(st.integers(0, 2**32 - 1), st.integers(1, 4 * BLOCK), st.floats(0.0, 30.0))
def test_the_best_product_is_found_without_asking_for_all(seed: int, size: int, steepness: float) -> None:
    rng = np.random.default_rng(seed)
    log_gain, log_probability = -steepness * rng.random(size).round(2), np.log(rng.random(size).round(2) + 1e-9)
    asked = []

    def feasibility(rows: Indices) -> np.ndarray:
        asked.extend(rows.tolist())
        return np.asarray(log_probability[rows])

    best = most_promising(log_gain, feasibility)
    assert (log_gain + log_probability)[best] == (log_gain + log_probability).max()
    assert len(asked) == len(set(asked)), "each is asked for once"
    assert most_promising(log_gain, None) == np.argmax(log_gain)


def test_what_gains_far_less_is_not_asked_for() -> None:
    log_gain = np.append(np.zeros(BLOCK), np.full(3 * BLOCK, -50.0))
    asked = []

    def feasibility(rows: Indices) -> np.ndarray:
        asked.extend(rows.tolist())
        return np.full(len(rows), -1.0)

    assert most_promising(log_gain, feasibility) == 0
    assert sorted(asked) == list(range(BLOCK))


@pytest.mark.parametrize("u", [2.0, 0.0, -2.0, FAR + 0.01, FAR - 0.01, -12.0])
def test_the_gain_is_the_expected_improvement(u: float) -> None:
    spread, threshold = 0.3, 1.0
    improvement, _ = quad(lambda t: t * norm.pdf(t - u), 0, max(u, 0) + 10, limit=200, epsabs=0)
    found = log_expected_improvement(np.array([threshold + u * spread]), np.array([spread]), threshold)
    assert found[0] == pytest.approx(np.log(spread * improvement), abs=0.15 if u < FAR else 1e-6)


def points_at(places: np.ndarray) -> CurvePoints:
    return CurvePoints(places[:, None], np.zeros(len(places)), np.arange(len(places)))


def test_what_lies_among_feasible_trials_is_more_likely_feasible() -> None:
    places = np.linspace(0, 1, 20)
    process = CurveProcess(
        points_at(places), z := np.sin(6 * places), fit(points_at(places), z, np.random.default_rng(0))
    )
    new = np.array([0.1, 0.3, 0.7, 0.9])
    asked = Asked(new[:, None], -1 - np.arange(4), np.zeros(4), 2)
    feasible = (places < 0.5).astype(float)
    feasibility = log_feasibility(process, asked, places[:, None], np.arange(20), feasible)
    assert feasibility is not None
    logs = feasibility(np.arange(4))
    assert (logs[:2] > np.log(0.9)).all()
    assert (logs[2:] < np.log(0.1)).all()
    assert logs[1] == pytest.approx(feasibility(np.array([1]))[0])


@pytest.mark.parametrize("feasible", [0.0, 1.0])
def test_where_all_trials_are_feasible_or_none_is_it_tells_nothing(feasible: float) -> None:
    places = np.linspace(0, 1, 5)
    process = CurveProcess(points_at(places), z := places - 0.5, fit(points_at(places), z, np.random.default_rng(0)))
    asked = Asked(places[:1, None], np.array([-1]), np.zeros(1), 1)
    assert log_feasibility(process, asked, places[:, None], np.arange(5), np.full(5, feasible)) is None
