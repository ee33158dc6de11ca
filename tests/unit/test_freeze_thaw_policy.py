"""Freeze-thaw search: whatever the curves are, a choice is valid, repeats, and follows what they show."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studies.strategies.freeze_thaw.candidates import candidates
from studies.strategies.freeze_thaw.curves import Curve, milestones
from studies.strategies.freeze_thaw.model import Proposal
from studies.strategies.freeze_thaw.policy import choose

STATES: tuple[Literal["running", "frozen", "ended"], ...] = ("running", "frozen", "ended")


@st.composite
def studies(draw: st.DrawFn) -> tuple[list[Curve], int, int]:
    """Curves of a study, its horizon and its dimensions: also empty, diverged, flat and with inactive parameters."""
    horizon, d = draw(st.sampled_from([3, 12, 60])), draw(st.integers(1, 8))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    curves = []
    for _ in range(draw(st.integers(0, 40))):
        x = np.where(rng.random(d) < 0.15, np.nan, rng.random(d))
        paused = [at for at in (0, *milestones(horizon)) if at <= horizon]
        epochs = int(rng.choice(paused))
        values = rng.choice([0.0, 0.5, 1.0]) + rng.random(epochs) * rng.choice([0.0, 1e-9, 1.0, 100.0])
        if epochs and rng.random() < 0.1:
            values[-1] = np.nan
        possible = STATES if 0 < epochs < horizon else STATES[2:] if epochs else STATES[:1]
        state = possible[int(rng.integers(len(possible)))]
        until = next(at for at in milestones(horizon) if at > epochs) if state == "running" else epochs
        curves.append(Curve(x, values, state, until))
    return curves, horizon, d


def points_of(curves: list[Curve], d: int) -> np.ndarray:
    return np.array([curve.x for curve in curves]).reshape(len(curves), d)


@settings(max_examples=60, deadline=None)
@given(studies(), st.integers(0, 2**32 - 1), st.booleans())
def test_every_choice_is_one_that_can_be_made_and_repeats(
    study: tuple[list[Curve], int, int], seed: int, may_start: bool
) -> None:
    curves, horizon, d = study
    offered = candidates(curves, points_of(curves, d), seed=seed, size=64)
    assert offered.shape == (64, d)
    assert ((offered >= 0) & (offered <= 1)).all()
    choice = choose(curves, offered, horizon=horizon, seed=seed, may_start=may_start)
    assert choice == choose(curves, offered, horizon=horizon, seed=seed, may_start=may_start)
    frozen = [place for place, curve in enumerate(curves) if curve.state == "frozen"]
    if choice is None:
        assert not may_start
        assert not frozen
    elif choice.start is not None:
        assert may_start
        assert 0 <= choice.start < len(offered)
    else:
        assert choice.thaw in frozen


@settings(max_examples=30, deadline=None)
@given(studies(), st.integers(0, 2**32 - 1))
def test_where_nothing_may_be_thawed_a_trial_is_started(study: tuple[list[Curve], int, int], seed: int) -> None:
    curves, horizon, d = study
    offered = candidates(curves, points_of(curves, d), seed=seed, size=64)
    choice = choose(curves, offered, horizon=horizon, seed=seed, may_thaw=False)
    assert choice is not None
    assert choice.start is not None
    assert choose(curves, offered, horizon=horizon, seed=seed, may_start=False, may_thaw=False) is None


def test_the_first_trials_are_spread_over_the_space() -> None:
    curves: list[Curve] = []
    for _ in range(8):
        choice = choose(curves, offered := candidates(curves, points_of(curves, 1), seed=3), horizon=9, seed=3)
        assert choice == Proposal(start=0)
        curves.append(Curve(offered[0], np.array([]), "running", 1))
    assert len(np.unique(np.floor(8 * np.array([curve.x[0] for curve in curves])))) >= 6


def curve(place: float, values: list[float]) -> Curve:
    return Curve(np.array([place]), np.array(values), "frozen", len(values))


def thawed(curves: list[Curve], count: int = 40, *, bounded: bool = False) -> np.ndarray:
    """Return how often each curve is thawed, over many seeds, where nothing may start."""
    asked = partial(choose, curves, np.zeros((0, 1)), horizon=16, may_start=False, bounded=bounded)
    chosen = [asked(seed=seed) for seed in range(count)]
    return np.bincount([choice.thaw for choice in chosen if choice and choice.thaw is not None], minlength=len(curves))


def test_what_rises_above_all_others_is_thawed_rather_than_what_is_far_below() -> None:
    curves = [curve(place / 16, [0.1 + 0.01 * place, 0.12 + 0.01 * place]) for place in range(15)]
    curves.append(curve(15 / 16, [0.5, 0.6]))
    counts = thawed(curves)
    assert counts.argmax() == 15
    assert counts[15] > 20


def test_a_trial_that_costs_far_more_is_thawed_less_often() -> None:
    curves = [curve(place / 16, [0.3, 0.4 + 0.001 * place]) for place in range(16)]
    costly = 15
    costs = np.where(np.arange(16) == costly, 9.0, 0.0)

    def share(log_costs: tuple[np.ndarray, np.ndarray] | None) -> int:
        choices = [
            choose(curves, np.zeros((0, 1)), horizon=16, seed=seed, may_start=False, log_costs=log_costs)
            for seed in range(40)
        ]
        return sum(choice == Proposal(thaw=costly) for choice in choices)

    assert share((np.zeros(0), costs)) < share(None)


def test_new_configurations_are_drawn_where_trials_were_good_and_nothing_diverged() -> None:
    rng = np.random.default_rng(0)
    curves = []
    for place in np.linspace(0.02, 0.98, 17):
        good = 1 - abs(place - 0.3)
        values = [np.nan] if place > 0.6 else [good - 0.2, good - 0.1, good - 0.05, good]
        curves.append(Curve(np.array([place]), np.array(values), "ended", len(values)))
    starts = []
    for seed in range(30):
        offered = rng.random((64, 1))
        choice = choose([replace(one) for one in curves], offered, horizon=4, seed=seed)
        assert choice is not None
        assert choice.start is not None
        starts.append(offered[choice.start, 0])
    assert np.median(np.abs(np.array(starts) - 0.3)) < 0.15


def test_what_diverges_is_left_alone_however_well_it_begins_and_its_neighbours_are_not() -> None:
    def curve_at(place: float) -> Curve:
        if place > 0.5:
            return Curve(np.array([place]), np.array([0.6, np.nan]), "ended", 2)
        return Curve(np.array([place]), place / 2 + np.array([0.1, 0.2, 0.3, 0.4]), "ended", 4)

    curves = [curve_at(place) for place in (0.02, 0.1, 0.18, 0.26, 0.34, 0.42, 0.48)]
    curves += [curve_at(place) for place in (0.56, 0.64, 0.72, 0.8, 0.88, 0.95, 0.99)]
    starts = []
    for seed in range(30):
        offered = np.random.default_rng(seed).random((256, 1))
        choice = choose(curves, offered, horizon=4, seed=seed)
        assert choice is not None
        assert choice.start is not None
        starts.append(offered[choice.start, 0])
    assert np.mean(np.array(starts) < 0.55) > 0.9
    assert np.mean(np.array(starts) > 0.4) > 0.8, "the best ones are next to the edge"


def old_study(count: int) -> list[Curve]:
    """Return so many trials, six of them trained to the end of 16 epochs; the last one waits, the worst of all."""
    waiting = [curve(0.5 + place / 32, [0.2]) for place in range(9, count - 1)]
    return [
        *(whole(place) for place in range(6)),
        *(pruned(place) for place in range(6, 9)),
        *waiting,
        curve(0.01, [0.01]),
    ]


def whole(place: int) -> Curve:
    return Curve(np.array([place / 16]), np.linspace(0.1, 0.5 + place / 64, 16), "ended", 16)


def pruned(place: int) -> Curve:
    return Curve(np.array([place / 16]), np.array([0.1]), "ended", 1)


def test_in_an_old_study_one_trial_in_four_goes_on_however_bad_it_looks() -> None:
    def went_on(curves: list[Curve]) -> int:
        choices = [choose(curves, np.full((8, 1), 0.4), horizon=16, seed=seed) for seed in range(20)]
        return choices.count(Proposal(thaw=len(curves) - 1))

    assert went_on(old_study(13)) == 20
    assert went_on(old_study(14)) < 5, "another one must earn it"
    assert thawed(old_study(13))[12] < 5, "so must all of them where nothing may start"
    young = [curve(0.5 + place / 32, [0.2]) for place in range(12)] + [curve(0.01, [0.01])]
    assert went_on(young) < 5, "so must it in a young study"


@pytest.mark.parametrize(("count", "full_trainings", "always"), [(16, 6, True), (14, 6, False), (14, 9, True)])
def test_in_an_old_study_one_trial_in_four_is_started_whatever_waits_and_later_one_in_two(
    count: int, full_trainings: int, always: bool
) -> None:
    ended = [whole(place) if place < full_trainings else pruned(place) for place in range(11)]
    trials = [*(curve(0.9, [0.6]) for _ in range(count - len(ended))), *ended]
    choices = [choose(trials, np.full((8, 1), 0.4), horizon=16, seed=seed) for seed in range(20)]
    assert all(choice is not None and choice.start is not None for choice in choices) == always


def noisy_trials() -> tuple[list[Curve], int]:
    """Return trials whose values are noisy, and which of them is the best of those that went the furthest."""
    rng = np.random.default_rng(1)

    def noisy(level: float, epochs: int) -> Curve:
        return curve(rng.random(), [*(level + 0.1 * rng.standard_normal(epochs - 1)), level])

    better, worse = noisy(0.5, 8), noisy(0.4, 8)
    # Too few reached their milestones for one of them to be the best third: halving alone would let all of them wait.
    trials = [*(noisy(0.9, 2) for _ in range(2)), worse, better, *(noisy(0.1, 1) for _ in range(8))]
    return [*trials, *(replace(noisy(1.0, 16), state="ended") for _ in range(4))], 3


def test_where_values_are_noisy_and_nothing_may_start_the_best_of_the_furthest_goes_on() -> None:
    trials, best = noisy_trials()
    assert thawed(trials)[best] == 40


def test_where_values_are_noisy_and_epochs_are_bounded_the_model_has_its_share() -> None:
    trials, best = noisy_trials()
    counts = thawed(trials, 200, bounded=True)
    assert 0.6 * 200 < counts[best] < 0.9 * 200
    assert counts[:2].sum() > 10  # the rule would never: they are above, and not the furthest


def test_where_values_are_not_noisy_a_bound_changes_nothing() -> None:
    trials = [curve(place / 16, [0.1 + 0.01 * place, 0.12 + 0.01 * place]) for place in range(16)]
    assert (thawed(trials, bounded=True) == thawed(trials)).all()
