"""The virtual clock: who is asked when, what is reported, and what a study comes to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.simulation.virtual_clock import Recording, Run, simulate
from studies.spec import Scalar

NAN = math.nan


class Rows:
    """Trial i has the curve i."""

    def __init__(self, values: Sequence[Sequence[float]], seconds: Sequence[Sequence[float]] | None = None) -> None:
        self._values = np.array(values, float)
        self._seconds = None if seconds is None else np.array(seconds, float)

    @property
    def horizon(self) -> int:
        return int(self._values.shape[1])

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        return Recording(self._values[trial], None if self._seconds is None else self._seconds[trial])


class Script:
    """Gives runs in order, stops trials after given epochs, and keeps what it was told."""

    def __init__(self, runs: Sequence[Run | None], stops: Mapping[int, int] | None = None) -> None:
        self._runs = list(runs)
        self._stops = stops or {}
        self.heard: list[tuple[int, int, float]] = []
        self.asked = 0

    def next(self) -> Run | None:
        self.asked += 1
        return self._runs.pop(0) if self._runs else None

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        self.heard.append((trial, epoch, value))
        return self._stops.get(trial) != epoch


def new(trial: int) -> Run:
    return Run(trial, {}, first_epoch=1)


def test_one_worker_trains_one_trial_after_the_other_to_the_end() -> None:
    record = simulate(Script([new(0), new(1)]), Rows([[1, 2], [3, 4]]), workers=1, budget=100)
    assert record.trial.tolist() == [0, 0, 1, 1]
    assert record.epoch.tolist() == [1, 2, 1, 2]
    assert record.value.tolist() == [1, 2, 3, 4]
    assert record.time.tolist() == [1, 2, 3, 4]
    assert record.best_so_far().tolist() == [1, 2, 3, 4]


def test_workers_that_finish_together_are_served_in_the_order_of_their_numbers() -> None:
    contestant = Script([new(0), new(1), new(2), new(3)], stops={0: 1})
    record = simulate(contestant, Rows([[1, 1]] * 4), workers=3, budget=100)
    assert record.trial.tolist() == [0, 1, 2, 3, 1, 2, 3]
    assert record.time.tolist() == [1, 1, 1, 2, 2, 2, 3]


def test_epochs_take_their_recorded_seconds_and_a_diverged_one_as_long_as_the_one_before() -> None:
    rows = Rows([[1, 2, 3], [4, NAN, NAN]], seconds=[[2, 2, 2], [3, NAN, NAN]])
    record = simulate(Script([new(0), new(1)]), rows, workers=2, budget=100)
    assert record.trial.tolist() == [0, 1, 0, 0, 1]
    assert record.time.tolist() == [2, 3, 4, 6, 6]


def test_a_frozen_trial_goes_on_where_it_was_and_costs_nothing_meanwhile() -> None:
    contestant = Script([new(0), new(1), Run(0, {}, first_epoch=2)], stops={0: 1})
    record = simulate(contestant, Rows([[1, 2, 3], [7, 8, 9]]), workers=1, budget=100)
    assert list(zip(record.trial.tolist(), record.epoch.tolist(), strict=True)) == [
        (0, 1), (1, 1), (1, 2), (1, 3), (0, 2), (0, 3)
    ]  # fmt: skip


def test_a_trial_may_be_trained_again_from_an_older_checkpoint() -> None:
    contestant = Script([new(0), Run(0, {}, first_epoch=1)], stops={0: 2})
    record = simulate(contestant, Rows([[1, 2, 3]]), workers=1, budget=3)
    assert record.epoch.tolist() == [1, 2, 1]


def test_a_trial_that_diverges_is_over_and_the_contestant_is_told() -> None:
    contestant = Script([new(0), new(1)])
    record = simulate(contestant, Rows([[1, NAN, NAN], [0, 0, 5]]), workers=1, budget=100)
    assert record.trial.tolist() == [0, 0, 1, 1, 1]
    assert contestant.heard[1][:2] == (0, 2)
    assert math.isnan(contestant.heard[1][2])
    assert record.best_so_far().tolist() == [1, 1, 1, 1, 5]


def test_a_worker_that_had_nothing_to_do_is_asked_again_after_every_event() -> None:
    contestant = Script([new(0), None, None, new(1)])
    record = simulate(contestant, Rows([[1, 1, 1], [2, 2, 2]]), workers=2, budget=100)
    assert record.trial.tolist() == [0, 0, 0, 1, 1, 1]
    assert record.time.tolist() == [1, 2, 3, 3, 4, 5]


def test_a_study_ends_at_its_budget_or_at_the_first_value_that_is_enough() -> None:
    rows = Rows([[1, 5, 2], [3, 4, 9]])
    assert len(simulate(Script([new(0), new(1)]), rows, workers=1, budget=4).trial) == 4
    assert simulate(Script([new(0), new(1)]), rows, workers=1, budget=4, enough=5).value.tolist() == [1, 5]
    assert len(simulate(Script([]), rows, workers=3, budget=4).trial) == 0


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([new(0), new(0)], "trial 0 is running"),
        ([Run(0, {}, first_epoch=2)], "was trained for 0 epochs"),
        ([new(0), None, None, new(0)], "trial 0 has ended"),
    ],
)
def test_a_contestant_that_asks_for_what_cannot_be_is_told_why(runs: list[Run | None], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate(Script(runs), Rows([[1, 2]]), workers=2, budget=100)


class Chance:
    """Starts, freezes and thaws at random."""

    def __init__(self, seed: int, trials: int) -> None:
        self._random = np.random.default_rng(seed)
        self._left = trials
        self._started = 0
        self._frozen: dict[int, int] = {}

    def next(self) -> Run | None:
        if self._frozen and self._random.random() < 0.5:
            trial = int(self._random.choice(sorted(self._frozen)))
            return Run(trial, {}, self._frozen.pop(trial) + 1)
        if self._started == self._left or self._random.random() < 0.2:
            return None
        self._started += 1
        return new(self._started - 1)

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        if math.isnan(value) or epoch == 4 or self._random.random() < 0.5:
            return True
        self._frozen[trial] = epoch
        return False


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12), st.booleans())
def test_whatever_a_contestant_does_epochs_follow_each_other_and_the_clock_never_goes_back(
    seed: int, workers: int, trials: int, timed: bool
) -> None:
    random = np.random.default_rng(seed)
    values = random.normal(size=(trials, 4))
    for row, end in enumerate(random.integers(1, 9, trials)):
        values[row, end:] = NAN
    seconds = random.integers(1, 4, (trials, 4)).tolist() if timed else None
    first, second = (
        simulate(Chance(seed, trials), Rows(values.tolist(), seconds), workers=workers, budget=30) for _ in range(2)
    )
    for one, other in zip(vars(first).values(), vars(second).values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert len(first.trial) <= 30
    assert (np.diff(first.time) >= 0).all()
    for trial in np.unique(first.trial):
        epochs = first.epoch[first.trial == trial]
        assert epochs.tolist() == list(range(1, len(epochs) + 1))
        np.testing.assert_array_equal(first.value[first.trial == trial], values[trial, : len(epochs)])
    if not timed:
        assert np.bincount(first.time.astype(int)).max(initial=0) <= workers
