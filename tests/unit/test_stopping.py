"""Strategies that stop: each prunes what its pruner would, and starts trials while there are some left."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from storage.claims import Start
from storage.errors import BadInput
from studies.spec import STRATEGIES, Sampler, StrategyChoice, StudySpec
from studies.strategies.chosen import make_strategy
from studies.strategies.strategy import Strategy, View


def spec(**choice: Any) -> StudySpec:
    return StudySpec(
        dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=0, plan_name="cpu", epochs=9,
        train_images=None, validation_images=5000, patience=10, sampler=Sampler(), strategy=StrategyChoice(**choice),
    )  # fmt: skip


def view(study: optuna.Study, trials_left: int = 1) -> View:
    return View(study, study.get_trials(), None, 9, trials_left)


def reports(study: optuna.Study, strategy: Strategy, values: list[float]) -> list[int]:
    """Report a value each epoch; return the epochs after which the strategy would prune the trial."""
    trial = study.ask()
    stops = []
    for epoch, value in enumerate(values, start=1):
        trial.report(value, epoch)
        verdict = strategy.decide(view(study), study.trials[trial.number])
        assert verdict in ("go on", "prune")
        if verdict == "prune":
            stops.append(epoch)
    study.tell(trial, values[-1])
    return stops


@pytest.fixture
def study() -> optuna.Study:
    return optuna.create_study(direction="maximize", study_name="study")


def test_successive_halving_decides_at_its_rungs_counted_from_epoch_one(study: optuna.Study) -> None:
    strategy = make_strategy(spec(name="successive_halving", min_epochs=1, reduction_factor=3))
    for _ in range(3):
        assert reports(study, strategy, [0.9] * 9) == []
    assert reports(study, strategy, [0.1] * 9)[0] == 1
    assert reports(study, strategy, [0.95, 0.95, 0.1, *[0.1] * 6])[0] == 3


def test_successive_halving_waits_for_its_first_epochs(study: optuna.Study) -> None:
    strategy = make_strategy(spec(name="successive_halving", min_epochs=4, reduction_factor=2))
    for _ in range(3):
        reports(study, strategy, [0.9] * 9)
    assert reports(study, strategy, [0.1] * 9)[0] == 4


def test_hyperband_stops_what_is_bad_in_some_brackets_early_and_in_one_never(study: optuna.Study) -> None:
    strategy = make_strategy(spec(name="hyperband", min_epochs=1, reduction_factor=3))
    for _ in range(15):
        reports(study, strategy, [0.9] * 9)
    first_stops = {tuple(reports(study, strategy, [0.1] * 9)[:1]) for _ in range(30)}
    assert (1,) in first_stops
    assert len(first_stops) > 1, "the brackets begin at different epochs"


def test_median_stops_what_is_below_the_median_after_its_first_epochs(study: optuna.Study) -> None:
    strategy = make_strategy(spec(name="median", min_epochs=2))
    for _ in range(6):
        assert reports(study, strategy, [0.9] * 4) == []
    assert reports(study, strategy, [0.1] * 4)[0] == 2
    assert reports(study, strategy, [0.95] * 4) == []


def test_none_stops_nothing(study: optuna.Study) -> None:
    strategy = make_strategy(spec(name="none"))
    for value in (0.9, 0.9, 0.9, 0.0):
        assert reports(study, strategy, [value] * 9) == []
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)


@pytest.mark.parametrize("name", ["successive_halving", "hyperband", "median", "none"])
def test_a_strategy_that_stops_starts_trials_while_there_are_some_left(study: optuna.Study, name: str) -> None:
    strategy = make_strategy(spec(name=name))
    assert not strategy.freezes
    assert not strategy.proposes
    assert strategy.ask(view(study, trials_left=1)) == Start()
    assert strategy.ask(view(study, trials_left=0)) is None


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_of_the_project_can_be_made(name: str) -> None:
    made = make_strategy(spec(name=name))
    assert made.spec.strategy.name == name
    assert made.freezes == (name in ("freeze_thaw", "promotion"))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("freeze_thaw", "freeze_thaw"),
        ("promotion", "promotion, 1 in 4 goes on, from epoch 2"),
        ("successive_halving", "successive_halving, 1 in 4 goes on, from epoch 2"),
        ("hyperband", "hyperband, 1 in 4 goes on, from epoch 2"),
        ("median", "median, from epoch 2"),
        ("none", "none"),
    ],
)
def test_a_strategy_says_which_settings_it_heeds(name: str, words: str) -> None:
    assert make_strategy(spec(name=name, min_epochs=2, reduction_factor=4)).in_words() == words


@pytest.mark.parametrize("name", ["successive_halving", "hyperband"])
def test_where_one_in_so_many_goes_on_a_trial_is_expected_to_train_few_epochs(name: str) -> None:
    # All train 1 epoch, a third of them 2 more, and a ninth 6 more.
    assert make_strategy(spec(name=name)).expected_epochs() == pytest.approx(1 + 2 / 3 + 6 / 9)
    assert make_strategy(spec(name=name, min_epochs=9)).expected_epochs() == 9


@pytest.mark.parametrize("name", ["freeze_thaw", "promotion", "median", "none"])
def test_of_any_other_strategy_a_trial_is_expected_to_be_trained_to_its_end(name: str) -> None:
    assert make_strategy(spec(name=name)).expected_epochs() == 9


def test_a_users_strategy_that_keeps_no_spec_is_told_by_its_name_and_trains_to_the_end() -> None:
    class Mine(Strategy):
        def __init__(self, spec: object) -> None:
            pass

    made = make_strategy(spec(name="mine.py:Mine@0123456789abcdef"), Mine)
    assert made.in_words() == "mine.py:Mine@0123456789abcdef"
    assert made.expected_epochs() == 9


def test_a_users_strategy_is_made_of_the_class_that_was_loaded() -> None:
    class Mine(Strategy):
        pass

    users = spec(name="mine.py:Mine@0123456789abcdef")
    assert type(make_strategy(users, Mine)) is Mine
    with pytest.raises(BadInput, match=r"unknown strategy 'mine.py:Mine@0123456789abcdef'"):
        make_strategy(users)
