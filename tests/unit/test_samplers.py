"""What a trial draws follows from the study's seed, the trial's number and the history, and from nothing else."""

from __future__ import annotations

import importlib.util
import itertools
import math
from typing import Any, Literal, get_args

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from storage.errors import BadInput
from studies.space import Parameter, SearchSpace
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.strategies.chosen import sampler_in_words
from studies.strategies.samplers import grid_of, make_sampler, require_room, require_sampler

Name = Literal["model", "tpe", "cmaes", "gp", "random", "grid", "qmc"]
# The grid is finite, and GP needs PyTorch: they have tests of their own. What the strategy's own model is, is tested
# with the strategy.
ENDLESS: list[Name] = ["tpe", "cmaes", "random", "qmc"]

SPACE = SearchSpace(
    {
        "learning_rate": Parameter(FloatDistribution(1e-4, 1e-1, log=True), 0.01),
        "layers": Parameter(IntDistribution(1, 3), 2),
        "head": Parameter(CategoricalDistribution(["a", "b"]), "a"),
        "dropout": Parameter(FloatDistribution(0, 0.5), 0.0, (("head", ("a",)),)),
    }
)


def spec(*, seed: int = 0, sampler: Sampler | None = None) -> StudySpec:
    return StudySpec(
        dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=seed, plan_name="cpu", epochs=9,
        train_images=None, validation_images=5000, patience=10, sampler=sampler or Sampler(startup_trials=5),
        strategy=StrategyChoice(name="none"),
    )  # fmt: skip


def objective(trial: optuna.Trial) -> float:
    rate = trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
    layers = trial.suggest_int("layers", 1, 3)
    dropout = trial.suggest_float("dropout", 0, 0.5) if trial.suggest_categorical("head", ["a", "b"]) == "a" else 0.0
    return -((rate - 0.01) ** 2) - layers * 0.01 - dropout


def search(study_spec: StudySpec, trials: int) -> list[dict[str, Any]]:
    study = optuna.create_study(direction="maximize")
    for number in range(trials):
        study.sampler = make_sampler(study_spec, SPACE, number)
        trial = study.ask()
        study.tell(trial, objective(trial))
    return [trial.params for trial in study.trials]


def configuration(params: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))


def test_every_sampler_that_a_spec_can_name_is_tested_here() -> None:
    assert set(get_args(Sampler.model_fields["name"].annotation)) == {*ENDLESS, "model", "grid", "gp"}


@pytest.mark.parametrize("name", ENDLESS)
def test_fifty_trials_hold_no_configuration_twice(name: Name) -> None:
    drawn = search(spec(sampler=Sampler(name=name, startup_trials=5)), 50)
    assert len({configuration(params) for params in drawn}) == 50


@pytest.mark.parametrize("name", ENDLESS)
def test_the_same_number_draws_the_same_given_the_same_history(name: Name) -> None:
    one = spec(sampler=Sampler(name=name, startup_trials=5))
    assert search(one, 15) == search(one, 15)


@pytest.mark.parametrize("name", ENDLESS)
def test_two_numbers_and_two_seeds_draw_differently(name: Name) -> None:
    def first_draw(seed: int, number: int) -> float:
        study = optuna.create_study(sampler=make_sampler(spec(seed=seed, sampler=Sampler(name=name)), SPACE, number))
        value: float = study.ask({"x": FloatDistribution(0, 1)}).params["x"]
        return value

    draws = [first_draw(seed, number) for seed in range(5) for number in range(5)]
    assert len(set(draws)) == 25


@pytest.mark.parametrize("name", ENDLESS)
def test_parameters_that_are_drawn_again_are_others(name: Name) -> None:
    def draw(attempt: int) -> float:
        sampler = make_sampler(spec(sampler=Sampler(name=name)), SPACE, 3, attempt)
        return optuna.create_study(sampler=sampler).ask().suggest_float("x", 0, 1)

    assert len({draw(attempt) for attempt in range(5)}) == 5


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
def test_a_sampler_that_learns_draws_at_random_only_as_long_as_it_was_told(name: Name) -> None:
    few, many = (search(spec(sampler=Sampler(name=name, startup_trials=startup)), 12) for startup in (3, 100))
    assert few[:3] == many[:3]
    assert few[5:] != many[5:]


def test_the_strategys_own_model_is_tpe_where_the_strategy_has_none() -> None:
    model, tpe = (search(spec(sampler=Sampler(name=name, startup_trials=5)), 12) for name in ("model", "tpe"))
    assert model == tpe


# --- Points of a number ---


def qmc_point(number: int, *, before: int) -> dict[str, Any]:
    """Return what a trial of a number draws in a study that has so many trials before it."""
    study = optuna.create_study()
    space = {"x": FloatDistribution(0, 1), "y": FloatDistribution(0, 1)}
    for _ in range(before):
        study.add_trial(optuna.create_trial(params={"x": 0.5, "y": 0.5}, distributions={**space}, value=0.0))
    study.sampler = make_sampler(spec(sampler=Sampler(name="qmc")), None, number)
    return study.ask({**space}).params


def test_a_point_of_qmc_follows_from_the_number_alone() -> None:
    points = [qmc_point(number, before=1) for number in range(8)]
    assert points == [qmc_point(number, before=3) for number in range(8)]
    assert len({configuration(point) for point in points}) == 8


def test_points_of_qmc_are_spread_evenly() -> None:
    points = [qmc_point(number, before=1) for number in range(16)]
    for name in ("x", "y"):
        assert sorted(int(point[name] * 16) for point in points) == list(range(16))


def test_qmc_spreads_the_trials_of_a_study_none_of_which_is_finished() -> None:
    study, always = optuna.create_study(), ("learning_rate", "layers", "head")
    for number in range(16):
        study.sampler = make_sampler(spec(sampler=Sampler(name="qmc")), SPACE, number)
        trial = study.ask()
        for name in (*always, "dropout"):
            trial._suggest(name, SPACE.parameters[name].distribution)
    drawn = [trial.params for trial in study.trials]
    assert sorted(int((math.log10(params["learning_rate"]) + 4) / 3 * 16) for params in drawn) == list(range(16))
    assert len({params["dropout"] for params in drawn}) == 16


def grid_points(count: int, points: int = 2, seed: int = 0) -> list[dict[str, Any]]:
    study = optuna.create_study()
    for number in range(count):
        study.sampler = make_sampler(spec(seed=seed, sampler=Sampler(name="grid", points=points)), SPACE, number)
        trial = study.ask()
        for name, one in SPACE.parameters.items():
            trial._suggest(name, one.distribution)
    return [trial.params for trial in study.trials]


def test_a_grid_gives_each_of_its_points_to_one_number() -> None:
    size = 2 * 2 * 2 * 2
    drawn = grid_points(size)
    wanted = itertools.product([1e-4, 1e-1], [1, 3], ["a", "b"], [0.0, 0.5])
    names = ("learning_rate", "layers", "head", "dropout")
    found = sorted(tuple(params[name] for name in names) for params in drawn)
    for one, other in zip(found, sorted(wanted), strict=True):
        assert one == pytest.approx(other) or (one[2] == other[2] and one[0] == pytest.approx(other[0]))


def test_the_order_of_a_grid_is_the_seeds() -> None:
    assert grid_points(8) == grid_points(8)
    assert grid_points(8) != grid_points(8, seed=1)


def test_a_trial_in_the_place_of_one_that_failed_takes_a_point_of_the_grid_again() -> None:
    drawn = grid_points(18)
    assert drawn[16:] == drawn[:2]


def test_a_budget_that_is_larger_than_the_grid_is_refused_before_anything_is_trained() -> None:
    grid = spec(sampler=Sampler(name="grid", points=2))
    require_room(grid, SPACE, 16)
    with pytest.raises(BadInput, match=r"the grid has 16 points.*17 trials"):
        require_room(grid, SPACE, 17)
    require_room(grid, SPACE, 17, first=1)
    with pytest.raises(BadInput, match=r"16 points after the 2 that come first, 20 trials.*Give TRIALS=18 or fewer"):
        require_room(grid, SPACE, 20, first=2)
    require_room(spec(), SPACE, 10_000)


def test_a_grid_without_a_known_space_is_refused() -> None:
    with pytest.raises(BadInput, match="needs the study's search space, which was not recorded"):
        make_sampler(spec(sampler=Sampler(name="grid")), None, 0)


def test_a_grid_has_each_choice_and_so_many_of_each_number_its_bounds_among_them() -> None:
    grid = grid_of(SPACE, 3)
    assert list(grid) == ["learning_rate", "layers", "head", "dropout"]
    assert grid["learning_rate"] == pytest.approx([1e-4, 10**-2.5, 1e-1])
    assert (grid["layers"], grid["head"], grid["dropout"]) == ([1, 2, 3], ["a", "b"], [0.0, 0.25, 0.5])
    assert grid_of(SPACE, 1)["dropout"] == [0.25]
    assert grid_of(SPACE, 9)["layers"] == [1, 2, 3], "no value twice"


# --- GP ---


def test_gp_without_pytorch_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("studies.strategies.samplers.importlib.util.find_spec", lambda name: None)
    for refuse in (require_sampler, lambda gp: make_sampler(gp, SPACE, 0)):
        with pytest.raises(BadInput, match=r"sampler 'gp' needs PyTorch, which is not installed. Install it with"):
            refuse(spec(sampler=Sampler(name="gp")))
    for name in ENDLESS:
        require_sampler(spec(sampler=Sampler(name=name)))


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="GP needs PyTorch")
def test_gp_draws_the_same_given_the_same_history() -> None:
    one = spec(sampler=Sampler(name="gp", startup_trials=3))
    assert search(one, 6) == search(one, 6)


@pytest.mark.parametrize(
    ("sampler", "strategy", "says"),
    [
        ("model", "freeze_thaw", "the strategy's own model"),
        ("model", "promotion", "tpe"),
        ("model", "none", "tpe"),
        ("model", "mine.py:Mine@0", "the strategy's own model, or tpe"),
        ("cmaes", "freeze_thaw", "cmaes"),
    ],
)
def test_who_proposes_is_said_as_it_is(sampler: Name, strategy: str, says: str) -> None:
    choice = StrategyChoice(name=strategy)
    given = spec(sampler=Sampler(name=sampler)).model_copy(update={"strategy": choice})
    assert sampler_in_words(given) == says
