"""What a trial draws follows from the study's seed, the trial's number and the history, and from nothing else."""

from __future__ import annotations

from typing import Any, Literal

import optuna
import pytest
from optuna.trial import TrialState

from studies.spec import Pruner, Sampler, StudySpec
from studies.strategies import make_pruner, make_sampler


def spec(*, seed: int = 0, sampler: Sampler | None = None, pruner: Pruner | None = None) -> StudySpec:
    return StudySpec(
        dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=seed, plan_name="cpu", epochs=9,
        train_images=None, validation_images=5000, patience=10, sampler=sampler or Sampler(startup_trials=5),
        pruner=pruner or Pruner(),
    )  # fmt: skip


def objective(trial: optuna.Trial) -> float:
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    layers = trial.suggest_int("layers", 1, 3)
    dropout = trial.suggest_float("dropout", 0, 0.5) if trial.suggest_categorical("head", ["a", "b"]) == "a" else 0.0
    return -((rate - 0.01) ** 2) - layers * 0.01 - dropout


def search(study_spec: StudySpec, trials: int, name: str = "study") -> list[dict[str, Any]]:
    study = optuna.create_study(study_name=name, direction="maximize")
    for number in range(trials):
        study.sampler = make_sampler(study_spec, number)
        trial = study.ask()
        study.tell(trial, objective(trial))
    return [trial.params for trial in study.trials]


NAMES: list[Literal["tpe", "random"]] = ["tpe", "random"]


@pytest.mark.parametrize("name", NAMES)
def test_fifty_trials_hold_no_configuration_twice(name: Literal["tpe", "random"]) -> None:
    drawn = search(spec(sampler=Sampler(name=name, startup_trials=5)), 50)
    assert len({tuple(sorted(params.items())) for params in drawn}) == 50


@pytest.mark.parametrize("name", NAMES)
def test_the_same_number_draws_the_same_given_the_same_history(name: Literal["tpe", "random"]) -> None:
    one = spec(sampler=Sampler(name=name, startup_trials=5))
    assert search(one, 15) == search(one, 15)


@pytest.mark.parametrize("name", NAMES)
def test_two_numbers_and_two_seeds_draw_differently(name: Literal["tpe", "random"]) -> None:
    def first_draw(seed: int, number: int) -> float:
        study = optuna.create_study(sampler=make_sampler(spec(seed=seed, sampler=Sampler(name=name)), number))
        return study.ask().suggest_float("x", 0, 1)

    assert len({first_draw(seed, number) for seed in range(5) for number in range(5)}) == 25


def test_tpe_draws_at_random_only_as_long_as_it_was_told() -> None:
    few, many = (search(spec(sampler=Sampler(startup_trials=startup)), 12) for startup in (3, 100))
    assert few[:3] == many[:3]
    assert few[5:] != many[5:]


def reports(study: optuna.Study, values: list[float]) -> list[int]:
    """Report a value each epoch; return the epochs at which the pruner would stop the trial."""
    trial = study.ask()
    stops = []
    for epoch, value in enumerate(values, start=1):
        trial.report(value, epoch)
        if trial.should_prune():
            stops.append(epoch)
    study.tell(trial, values[-1])
    return stops


def study_with(pruner: Pruner) -> optuna.Study:
    return optuna.create_study(direction="maximize", pruner=make_pruner(spec(pruner=pruner)))


def test_successive_halving_decides_at_its_rungs_counted_from_epoch_one() -> None:
    study = study_with(Pruner(name="successive_halving", min_epochs=1, reduction_factor=3))
    for _ in range(3):
        assert reports(study, [0.9] * 9) == []
    assert reports(study, [0.1] * 9)[0] == 1
    assert reports(study, [0.95, 0.95, 0.1, *[0.1] * 6])[0] == 3


def test_successive_halving_waits_for_its_first_epochs() -> None:
    study = study_with(Pruner(name="successive_halving", min_epochs=4, reduction_factor=2))
    for _ in range(3):
        reports(study, [0.9] * 9)
    assert reports(study, [0.1] * 9)[0] == 4


def test_median_stops_what_is_below_the_median_after_its_first_epochs() -> None:
    study = study_with(Pruner(name="median", min_epochs=2))
    for _ in range(6):
        assert reports(study, [0.9] * 4) == []
    assert reports(study, [0.1] * 4)[0] == 2
    assert reports(study, [0.95] * 4) == []


def test_none_stops_nothing() -> None:
    study = study_with(Pruner(name="none"))
    for value in (0.9, 0.9, 0.9, 0.0):
        assert reports(study, [value] * 9) == []
    assert all(trial.state == TrialState.COMPLETE for trial in study.trials)
