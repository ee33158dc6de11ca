"""What trials say of themselves."""

from __future__ import annotations

import math

import optuna
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from studies.objectives.objective import VALIDATION_ACCURACY
from studies.trials import incumbent, is_foreign, is_running, spent_epochs, values_of


def report(value: float, *more: float) -> FrozenTrial:
    return optuna.create_trial(
        state=TrialState.RUNNING, intermediate_values=dict(enumerate([value, *more], start=1))
    )  # fmt: skip


def test_the_best_trial_is_the_one_that_ever_reported_the_best_value_the_earliest_of_equals() -> None:
    trials = [report(0.1, 0.9, 0.2), report(0.5), report(0.9), report(math.nan)]
    for number, trial in enumerate(trials):
        trial.number = number
    best = incumbent(trials, VALIDATION_ACCURACY)
    assert best is trials[0]
    assert incumbent([], VALIDATION_ACCURACY) is None
    assert incumbent([optuna.create_trial(state=TrialState.RUNNING)], VALIDATION_ACCURACY) is None
    assert incumbent([trials[3]], VALIDATION_ACCURACY) is None
    trials[0].state = TrialState.FAIL
    assert incumbent(trials, VALIDATION_ACCURACY) is trials[2]


def test_the_epochs_of_all_trials_count_whatever_became_of_them() -> None:
    failed = report(0.5)
    failed.state = TrialState.FAIL
    assert spent_epochs([report(0.1, 0.9, 0.2), failed, report(math.nan)]) == 5
    assert spent_epochs([]) == 0


def test_the_values_of_a_trial_end_where_one_is_missing() -> None:
    trial = report(0.1, 0.2, 0.3)
    assert values_of(trial) == [0.1, 0.2, 0.3]
    del trial.intermediate_values[2]
    assert values_of(trial) == [0.1]


def test_a_trial_that_nobody_here_claimed_is_run_by_another_program() -> None:
    mine, given_back, ending, foreign = (report(0.1) for _ in range(4))
    mine.system_attrs = {attributes.CLAIM: {"id": "me"}}
    given_back.system_attrs = {attributes.CLAIM: {"id": None}}
    ending.system_attrs = {attributes.CLAIM: {"id": "me", attributes.ENDS: True}}
    trials = [mine, given_back, ending, foreign]
    assert [is_running(trial) for trial in trials] == [True, False, False, False]
    assert [is_foreign(trial) for trial in trials] == [False, False, False, True]
