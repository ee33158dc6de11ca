"""Successive halving that promotes, against examples that were worked by hand (Li et al. 2020, algorithm 2)."""

from __future__ import annotations

import itertools
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Start, Thaw
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.strategies.promotion import Promotion, promotable, rungs
from studies.strategies.strategy import View


def promotion(*, epochs: int = 9, min_epochs: int = 1, factor: int = 3) -> Promotion:
    choice = StrategyChoice(name="promotion", min_epochs=min_epochs, reduction_factor=factor)
    return Promotion(
        StudySpec(
            dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=0, plan_name="cpu",
            epochs=epochs, train_images=None, validation_images=5000, patience=10, sampler=Sampler(), strategy=choice,
        )
    )  # fmt: skip


class Ladder:
    """A study that is written down by hand: each trial by its curve, and whether it waits, runs or is over."""

    def __init__(self) -> None:
        self.study = optuna.create_study(direction="maximize")

    def add(
        self, state: TrialState, curve: list[float], value: float | None = None, system: dict[str, Any] | None = None
    ) -> None:
        curve_by_epoch = dict(enumerate(curve, start=1))
        self.study.add_trial(
            optuna.create_trial(state=state, value=value, intermediate_values=curve_by_epoch, system_attrs=system)
        )

    def frozen(self, *curves: list[float]) -> Ladder:
        for curve in curves:
            self.add(TrialState.WAITING, curve, system={attributes.FROZEN: len(curve)})
        return self

    def running(self, *curves: list[float]) -> Ladder:
        for curve in curves:
            self.add(TrialState.RUNNING, curve, system={attributes.CLAIM: {"id": "me"}})
        return self

    def complete(self, curve: list[float]) -> Ladder:
        self.add(TrialState.COMPLETE, curve, max(curve))
        return self

    def failed(self, curve: list[float]) -> Ladder:
        self.add(TrialState.FAIL, curve)
        return self

    def view(self, trials_left: int = 1) -> View:
        return View(self.study, self.study.trials, None, 9, trials_left)

    def trial(self, number: int) -> FrozenTrial:
        return self.study.trials[number]


# --- The rungs ---


@pytest.mark.parametrize(
    ("first", "factor", "epochs", "found"),
    [
        (1, 3, 9, [1, 3]),
        (1, 3, 10, [1, 3, 9]),
        (1, 2, 12, [1, 2, 4, 8]),
        (2, 4, 50, [2, 8, 32]),
        (1, 3, 1, []),
        (5, 3, 5, []),
    ],
)
def test_trials_are_compared_at_powers_of_the_factor_below_the_last_epoch(
    first: int, factor: int, epochs: int, found: list[int]
) -> None:
    assert rungs(first, factor, epochs) == found


@given(st.integers(1, 20), st.integers(2, 10), st.integers(1, 500))
def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch(first: int, factor: int, epochs: int) -> None:
    found = rungs(first, factor, epochs)
    assert all(later == factor * earlier for earlier, later in itertools.pairwise(found))
    assert all(rung < epochs for rung in found)
    assert not found or found[-1] * factor >= epochs


# --- Who is promoted ---


def test_who_is_promoted_is_the_first_that_waits_among_the_best_and_of_equals_the_earliest() -> None:
    reached = [(0.3, 4), (0.5, 2), (0.5, 1), (0.9, 7), (0.1, 3), (0.2, 5), (0.4, 6)]
    assert promotable(reached, 2, {1, 2, 4}.__contains__) == 1
    assert promotable(reached, 2, {2, 4}.__contains__) == 2
    assert promotable(reached, 2, {4}.__contains__) is None, "three of seven are promoted, and it is not among them"
    assert promotable(reached, 8, {7}.__contains__) is None
    assert promotable([], 2, {7}.__contains__) is None


# --- What a free worker does ---


def test_a_first_trial_is_started() -> None:
    assert promotion().ask(Ladder().view()) == Start()


def test_with_fewer_than_the_factor_at_a_rung_nothing_is_promoted() -> None:
    assert promotion().ask(Ladder().frozen([0.1], [0.2]).view()) == Start()


def test_the_best_of_three_is_promoted() -> None:
    assert promotion().ask(Ladder().frozen([0.1], [0.3], [0.2]).view()) == Thaw(1)


def test_of_five_one_is_promoted_and_of_six_two() -> None:
    five = Ladder().running([0.9, 0.9]).frozen([0.4], [0.3], [0.2], [0.1])
    assert promotion().ask(five.view()) == Start(), "the one of the first third was promoted already"
    assert promotion().ask(five.frozen([0.05]).view()) == Thaw(1)


def test_of_equals_the_earliest_is_promoted() -> None:
    assert promotion().ask(Ladder().frozen([0.2], [0.3], [0.3]).view()) == Thaw(1)


def test_the_highest_rung_is_served_first() -> None:
    ladder = Ladder().frozen([0.1, 0.2, 0.7], [0.1, 0.2, 0.8], [0.1, 0.2, 0.6], [0.9])
    # Four reached rung 1, of which the best waits there; three reached rung 3, of which the best waits there.
    assert promotion().ask(ladder.view()) == Thaw(1)


def test_what_was_promoted_still_counts_at_the_rung_that_it_left() -> None:
    ladder = Ladder().complete([0.9] * 9).frozen([0.8], [0.7])
    assert promotion().ask(ladder.view()) == Start()


def test_reports_ahead_of_the_checkpoint_that_a_trial_goes_on_from_keep_it_from_no_promotion() -> None:
    ladder = Ladder().frozen([0.1], [0.2])
    ladder.add(
        TrialState.WAITING, [0.9, 0.95], system={attributes.FROZEN: 1}
    )  # its worker died after the second report
    assert promotion().ask(ladder.view()) == Thaw(2)


def test_what_failed_does_not_hold_a_place_that_another_could_have() -> None:
    ladder = Ladder().failed([0.9]).frozen([0.8], [0.7], [0.6])
    assert promotion().ask(ladder.view()) == Thaw(1)


def test_what_was_interrupted_is_not_thawed() -> None:
    ladder = Ladder().frozen([0.2], [0.1])
    ladder.add(TrialState.WAITING, [0.9])
    assert promotion().ask(ladder.view()) == Start()


def test_once_all_trials_were_started_it_goes_on_to_promote_and_then_wants_nothing() -> None:
    ladder = Ladder().frozen([0.1], [0.3], [0.2])
    assert promotion().ask(ladder.view(trials_left=0)) == Thaw(1)
    assert promotion().ask(Ladder().running([0.3]).frozen([0.1], [0.2]).view(trials_left=0)) is None


# --- Whether a trial goes on ---


def test_a_trial_is_paused_at_a_rung_and_nowhere_else() -> None:
    for epochs, verdict in ((1, "freeze"), (2, "go on"), (3, "freeze"), (4, "go on"), (8, "go on")):
        ladder = Ladder().running([0.5] * epochs)
        assert promotion().decide(ladder.view(), ladder.trial(0)) == verdict


def test_a_trial_that_would_be_promoted_at_once_goes_on() -> None:
    ladder = Ladder().frozen([0.1], [0.2]).running([0.3])
    assert promotion().decide(ladder.view(), ladder.trial(2)) == "go on"


def test_a_trial_below_the_first_third_is_paused() -> None:
    ladder = Ladder().frozen([0.1], [0.4]).running([0.3])
    assert promotion().decide(ladder.view(), ladder.trial(2)) == "freeze"


def test_a_trial_that_is_paused_lets_a_better_one_go_first() -> None:
    ladder = Ladder().frozen([0.1], [0.2], [0.1], [0.1], [0.9]).running([0.8])
    # Six at the rung: both may go on. The better one goes first, and the worker is free to take it.
    assert promotion().decide(ladder.view(), ladder.trial(5)) == "freeze"
    assert promotion().ask(ladder.view()) == Thaw(4)


def test_without_a_rung_every_trial_is_trained_to_its_end() -> None:
    strategy = promotion(min_epochs=9)
    ladder = Ladder().running([0.1] * 5)
    assert strategy.decide(ladder.view(), ladder.trial(0)) == "go on"
    assert strategy.ask(ladder.view()) == Start()
