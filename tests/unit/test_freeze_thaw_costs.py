"""What an epoch is expected to cost, from the epochs that were timed."""

from __future__ import annotations

import numpy as np

from studies.strategies.freeze_thaw.costs import expected_log_seconds


def test_without_a_timed_trial_all_cost_alike() -> None:
    assert (expected_log_seconds(np.zeros((0, 2)), np.zeros(0), np.random.default_rng(0).random((5, 2))) == 0).all()


def test_a_feature_that_doubles_the_seconds_is_found_and_others_are_not_blamed() -> None:
    features = np.random.default_rng(1).random((60, 3))
    seconds = 2.0 * np.exp(1.5 * features[:, 0])
    expected = expected_log_seconds(features, seconds, np.array([[0.0, 0.5, 0.5], [1.0, 0.5, 0.5], [0.0, 1.0, 0.5]]))
    assert 1.0 < expected[1] - expected[0] < 1.6
    assert abs(expected[2] - expected[0]) < 0.2


def test_inactive_parameters_are_taken_as_average() -> None:
    features = np.array([[0.1, np.nan], [0.9, 0.4]])
    assert np.isfinite(expected_log_seconds(features, np.array([1.0, 3.0]), features)).all()
