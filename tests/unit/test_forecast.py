"""When trials were worked on, and what follows for the rate and the forecast."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import pytest
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Standing
from studies.forecast import (
    EPOCHS_A_THAW,
    RATE_TRIALS,
    Launched,
    Span,
    WorkLeft,
    effort_of,
    epochs_forecast_s,
    moment,
    rate_per_hour,
    seconds_of,
    seconds_per_epoch,
    spans,
    times_taken_up,
    work_left,
)
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.strategies.chosen import make_strategy

NOON = moment(datetime(2026, 3, 1, 12, 0))
HOUR = 3600.0


def trial(
    worked: Sequence[Span],
    state: TrialState = TrialState.COMPLETE,
    *,
    ended: float | None = None,
    held: Span | None = None,
    epochs: int = 0,
    seconds: float | None = None,
) -> FrozenTrial:
    """A trial that was worked on at these times, counted in seconds from noon."""
    system: dict[str, object] = {attributes.WORKED: [[NOON + begun, NOON + until] for begun, until in worked]}
    if held is not None:
        system[attributes.CLAIM] = {"begun": NOON + held[0], "seen": NOON + held[1]}
    first = [*worked, *([held] if held else [])][0][0]
    return FrozenTrial(
        number=0,
        trial_id=0,
        state=state,
        value=0.5 if state.is_finished() else None,
        datetime_start=datetime.fromtimestamp(NOON + first),
        datetime_complete=datetime.fromtimestamp(NOON + ended) if ended is not None else None,
        params={},
        distributions={},
        user_attrs={} if seconds is None else {attributes.SECONDS: seconds},
        system_attrs=system,
        intermediate_values=dict.fromkeys(range(1, epochs + 1), 0.5),
    )


def complete(begun: float, ended: float) -> FrozenTrial:
    return trial([], ended=ended, held=(begun, begun))


def pruned_at_the_end(*worked: Span, end: float) -> FrozenTrial:
    return trial(worked, TrialState.PRUNED, ended=end)


def test_the_rate_of_a_study_that_prunes_its_frozen_trials_all_at_once_is_that_of_its_work() -> None:
    # One worker: a minute for each of 24 trials, ten more for the best, then 23 ended within a second.
    trials = [pruned_at_the_end((60 * n, 60 * n + 60), end=34 * 60 + 1 + n / 100) for n in range(1, 24)]
    trials.append(trial([(0, 60)], ended=34 * 60, held=(24 * 60, 34 * 60 - 3)))
    assert rate_per_hour([effort_of(one) for one in trials]) == pytest.approx(24 / (34 * 60) * HOUR, rel=0.06)


def test_neither_a_night_nor_the_time_in_which_a_trial_was_frozen_counts() -> None:
    night = 10 * HOUR
    trials = [
        trial([(0, 60)], ended=night + 120, held=(night + 60, night + 60)),
        pruned_at_the_end((60, 120), (night, night + 60), end=night + 121),
    ]
    assert rate_per_hour([effort_of(one) for one in trials]) == pytest.approx(2 / 240 * HOUR)


def test_what_ran_beside_the_last_trials_counts_for_the_rate() -> None:
    # Two workers: one with a trial that diverged and one that still runs, another with trials of a minute.
    trials = [complete(60 * n, 60 * n + 60) for n in range(RATE_TRIALS + 5)]
    trials.append(trial([(0, 30)], TrialState.FAIL, ended=30))
    trials.append(trial([], TrialState.RUNNING, held=(30, 60 * (RATE_TRIALS + 5) + 20)))
    assert rate_per_hour([effort_of(one) for one in trials]) == pytest.approx(60)


def test_a_trial_that_failed_took_its_time_too() -> None:
    trials = [complete(0, 60), trial([(60, 120)], TrialState.FAIL, ended=120), complete(120, 180)]
    assert rate_per_hour([effort_of(one) for one in trials]) == pytest.approx(2 / 180 * HOUR)


def test_a_trial_of_stock_optuna_was_worked_on_from_its_start_to_its_end() -> None:
    stock = trial([(0, 0)], ended=60)
    stock.system_attrs = {}
    assert spans(stock) == [(NOON, NOON + 60)]
    assert seconds_of(stock) == 60
    assert rate_per_hour([effort_of(stock)]) == pytest.approx(60)


def test_before_anything_finished_there_is_no_rate() -> None:
    assert rate_per_hour([]) is None
    assert rate_per_hour([effort_of(trial([], TrialState.RUNNING, held=(0, 60)))]) is None
    assert rate_per_hour([effort_of(complete(5, 5))]) is None, "no time passed"


def test_the_seconds_of_a_trial_are_those_recorded_else_those_in_which_it_was_worked_on() -> None:
    assert seconds_of(pruned_at_the_end((0, 60), (600, 630), end=900)) == pytest.approx(90)
    assert seconds_of(trial([(0, 60)], ended=100, seconds=12.5)) == 12.5
    assert seconds_of(trial([(0, 60)], TrialState.WAITING)) is None


def test_a_budget_of_epochs_is_forecast_at_the_pace_of_all_workers_since_they_were_let_go() -> None:
    launched = Launched(at=NOON, epochs=10, epoch_s=None)
    # Ten epochs before the last launch, and then none: nothing seen, nothing expected.
    trials = [trial([(-99, -9)], TrialState.WAITING, epochs=10)]
    assert epochs_forecast_s([effort_of(one) for one in trials], 64, launched) is None
    # Two workers for a hundred seconds, with a night in between: 20 epochs, whatever each took in its worker.
    trials.append(trial([(0, 60)], TrialState.WAITING, held=(HOUR, HOUR + 40), epochs=11))
    trials.append(trial([(5, 60)], TrialState.PRUNED, ended=HOUR + 41, epochs=9))
    assert epochs_forecast_s([effort_of(one) for one in trials], 64, launched) == pytest.approx(34 * 5)
    assert epochs_forecast_s([effort_of(one) for one in trials], 20, launched) == 0


def test_before_each_worker_can_have_trained_an_epoch_the_forecast_is_the_preflights() -> None:
    assert seconds_per_epoch(1, 30, running=2, expected_s=11.0) == 11.0
    assert seconds_per_epoch(0, 30, running=0, expected_s=11.0) == 11.0
    # Two epochs and two halves.
    assert seconds_per_epoch(2, 30, running=2, expected_s=11.0) == 10.0
    assert seconds_per_epoch(8, 40, running=0, expected_s=None) == 5.0


# --- Before anything is seen


def standing(*, complete: int = 0, pruned: int = 0, frozen: int = 0, budget: int = 24) -> Standing:
    return Standing(
        complete=complete, pruned=pruned, failed=0, running=0, waiting=0, frozen=frozen, budget=budget
    )  # fmt: skip


def test_where_trials_are_frozen_each_is_taken_up_once_and_then_again_for_a_few_epochs_each_time() -> None:
    assert times_taken_up(standing(), 64, freezes=True) == pytest.approx(24 + 40 / EPOCHS_A_THAW)
    assert times_taken_up(standing(complete=3, frozen=21), 12, freezes=True) == pytest.approx(12 / EPOCHS_A_THAW)
    assert times_taken_up(standing(), 5, freezes=True) == 5
    assert times_taken_up(standing(frozen=24), 0, freezes=True) == 0


def test_where_none_is_frozen_each_trial_is_taken_up_once() -> None:
    assert times_taken_up(standing(complete=4, pruned=10), 64, freezes=False) == 10
    assert times_taken_up(standing(complete=4, pruned=10), 3, freezes=False) == 3


def left(strategy: str, budget_epochs: int | None, *, spent: int = 0, **counts: int) -> WorkLeft:
    """What is left of a study of 24 trials of at most 8 epochs."""
    spec = StudySpec(
        dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=0, plan_name="cpu", epochs=8,
        train_images=None, validation_images=1, patience=10, sampler=Sampler(), strategy=StrategyChoice(name=strategy),
    )  # fmt: skip
    return work_left(make_strategy(spec), standing(**counts), budget_epochs=budget_epochs, spent=spent)


def test_without_a_bound_each_trial_trains_as_long_as_its_strategy_lets_it() -> None:
    assert left("none", None, complete=4) == WorkLeft(20, 160)
    halved = left("successive_halving", None)
    assert halved.taken_up == 24
    assert 24 < halved.epochs < 24 * 8


def test_a_bound_of_epochs_is_what_is_left_of_it_and_an_epoch_for_each_trial_to_come() -> None:
    assert left("freeze_thaw", 60, spent=20, frozen=10).epochs == 40
    assert left("freeze_thaw", 60, spent=59, frozen=10).epochs == 14
    assert left("freeze_thaw", 60, spent=70, frozen=24).epochs == 0
    assert left("none", 60, complete=22).epochs == 16


def test_workers_share_what_is_taken_up_and_none_of_them_has_less_than_one_trial() -> None:
    cost = {"start_s": 2.0, "epoch_s": 3.0}
    assert WorkLeft(10, 20).seconds(**cost, workers=4, crowding=1.0) == 80 / 4
    assert WorkLeft(10, 20).seconds(**cost, workers=4, crowding=2.0) == 80 / 2
    assert WorkLeft(2, 20).seconds(**cost, workers=4, crowding=1.0) == 64 / 2
    assert WorkLeft(0, 0).seconds(**cost, workers=4, crowding=1.0) == 0
