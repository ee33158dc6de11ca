"""Learning curves as freeze-thaw search sees them: where they pause, and how noisy they are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.strategies.freeze_thaw.curves import Curve, Curves, milestones, noise
from studies.strategies.freeze_thaw.policy import NOISY


@pytest.mark.parametrize(
    ("horizon", "expected"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (12, (1, 2, 4, 8, 12)), (51, (1, 2, 4, 8, 16, 32, 51))],
)
def test_trials_pause_at_powers_of_two_and_end_at_the_horizon(horizon: int, expected: tuple[int, ...]) -> None:
    assert milestones(horizon) == expected


def rising(level: float, halfway: float, spread: float, rng: np.random.Generator) -> Curve:
    """Return eight epochs towards a level, half of it after so many."""
    values = level * (1 - np.exp2(-np.arange(1, 9) / halfway))
    return Curve(np.array([level]), values + spread * rng.standard_normal(8), "frozen", 8)


@given(st.floats(2.5, 30.0), st.floats(0.02, 0.3), st.integers(0, 2**32 - 1))
def test_noise_is_told_from_the_bend_of_young_curves(halfway: float, share: float, seed: int) -> None:
    rng, levels = np.random.default_rng(seed), np.linspace(0.4, 1.0, 100)
    smooth = [rising(level, halfway, 0.0, rng) for level in levels]
    assert noise(Curves(smooth)) < NOISY
    peaks = np.array([each.peak for each in smooth])
    spread = share * float(peaks.max() - np.median(peaks))
    noisy = [rising(level, halfway, spread, rng) for level in levels]
    # The best and the median are those of noisy values here, so that the share is that of more.
    assert 0.3 * share < noise(Curves(noisy)) < 2.5 * share
