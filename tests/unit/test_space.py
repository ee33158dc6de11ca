"""A search space is a cube: each configuration has a point in it, and each point a configuration."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from studies.space import Parameter, SearchSpace

units = st.floats(0, 1)


@st.composite
def floats(draw: st.DrawFn) -> BaseDistribution:
    log = draw(st.booleans())
    low = draw(st.floats(1e-6, 10) if log else st.floats(-100, 100))
    high = low * draw(st.floats(1, 1e6)) if log else low + draw(st.floats(0, 1e3))
    return FloatDistribution(low, high, log=log)


@st.composite
def stepped(draw: st.DrawFn) -> BaseDistribution:
    # Powers of two, so that the range is a whole number of steps to the last digit.
    step = draw(st.sampled_from([0.125, 0.5, 1.0, 4.0]))
    low = step * draw(st.integers(-20, 20))
    return FloatDistribution(low, low + step * draw(st.integers(0, 40)), step=step)


@st.composite
def integers(draw: st.DrawFn) -> BaseDistribution:
    low = draw(st.integers(1, 50))
    if draw(st.booleans()):
        return IntDistribution(low, low + draw(st.integers(0, 2000)), log=True)
    step = draw(st.integers(1, 16))
    return IntDistribution(low, low + step * draw(st.integers(0, 40)), step=step)


words = st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5, unique=True)
numbers = st.lists(st.one_of(st.integers(-99, 99), st.floats(-9, 9)), min_size=1, max_size=5, unique=True)
# True and 1 are the same key to Optuna and to Python.
mixed = st.lists(st.one_of(st.booleans(), st.text(min_size=1, max_size=2)), min_size=1, max_size=4, unique=True)
choices = st.builds(CategoricalDistribution, st.one_of(words, numbers, mixed))
distributions: st.SearchStrategy[BaseDistribution] = st.one_of(floats(), stepped(), integers(), choices)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Return a space in which every parameter may hang on an earlier one that is a choice."""
    parameters: dict[str, Parameter] = {}
    for place in range(draw(st.integers(0, 5))):
        distribution = draw(distributions)
        conditions: tuple[tuple[str, tuple[Any, ...]], ...] = ()
        parents = [name for name, one in parameters.items() if one.levels is not None]
        if parents and draw(units) < 0.5:
            parent = draw(st.sampled_from(parents))
            levels = parameters[parent].levels
            assert levels is not None
            allowed = draw(st.lists(st.sampled_from(levels), min_size=1, unique=True))
            conditions = ((parent, tuple(allowed)),)
        default = Parameter(distribution).value_at(draw(units))
        parameters[f"parameter {place}"] = Parameter(distribution, default, conditions)
    return SearchSpace(parameters)


@st.composite
def spaces_and_points(draw: st.DrawFn, count: int = 3) -> tuple[SearchSpace, np.ndarray]:
    space = draw(spaces())
    rows = draw(st.lists(st.lists(units, min_size=space.size, max_size=space.size), min_size=count, max_size=count))
    return space, np.array(rows).reshape(count, space.size)


def place_of(one: Parameter, value: Any) -> float:
    (place,) = one.places_of([value])
    return float(place)


def point_of(space: SearchSpace, params: dict[str, Any]) -> np.ndarray:
    (point,) = space.points_of([params])
    return np.asarray(point)


# --- One parameter ---


@given(distributions, units)
def test_every_place_has_a_value_in_the_range_of_the_kind_that_optuna_wants(
    distribution: BaseDistribution, unit: float
) -> None:
    value = Parameter(distribution).value_at(unit)
    assert distribution._contains(distribution.to_internal_repr(value))
    assert distribution.to_external_repr(distribution.to_internal_repr(value)) == pytest.approx(value)
    if isinstance(distribution, IntDistribution):
        assert type(value) is int
        assert (value - distribution.low) % distribution.step == 0


@given(distributions, units)
def test_the_place_of_a_value_has_that_value(distribution: BaseDistribution, unit: float) -> None:
    one = Parameter(distribution)
    value = one.value_at(unit)
    place = place_of(one, value)
    assert 0 <= place <= 1
    again = one.value_at(place)
    assert type(again) is type(value)
    assert again == (pytest.approx(value) if isinstance(distribution, FloatDistribution) else value)


@given(distributions, units)
def test_a_value_that_was_placed_once_is_placed_there_again(distribution: BaseDistribution, unit: float) -> None:
    one = Parameter(distribution)
    place = place_of(one, one.value_at(unit))
    assert place_of(one, one.value_at(place)) == pytest.approx(place, abs=1e-9)


@given(st.one_of(floats(), stepped(), integers()), units, units)
def test_places_of_numbers_keep_their_order(distribution: BaseDistribution, one: float, other: float) -> None:
    parameter = Parameter(distribution)
    low, high = parameter.value_at(min(one, other)), parameter.value_at(max(one, other))
    assert low <= high  # type: ignore[operator]


def test_the_bounds_are_at_the_ends() -> None:
    for distribution in (FloatDistribution(1e-4, 0.1, log=True), IntDistribution(3, 9, step=2), IntDistribution(1, 64)):
        one = Parameter(distribution)
        assert (one.value_at(0.0), one.value_at(1.0)) == pytest.approx((distribution.low, distribution.high))


@pytest.mark.parametrize(
    ("distribution", "values"),
    [
        (IntDistribution(1, 4), [1, 2, 3, 4]),
        (IntDistribution(16, 64, step=16), [16, 32, 48, 64]),
        (FloatDistribution(0, 0.75, step=0.25), [0, 0.25, 0.5, 0.75]),
        (CategoricalDistribution(["a", "b", "c", "d"]), ["a", "b", "c", "d"]),
        (CategoricalDistribution([64, 16, 128, 32]), [16, 32, 64, 128]),
    ],
)
def test_each_value_has_its_share_of_the_interval(distribution: BaseDistribution, values: list[Any]) -> None:
    grid = (np.arange(400) + 0.5) / 400
    found = [Parameter(distribution).value_at(unit) for unit in grid]
    assert found == [value for value in values for _ in range(100)]


def test_a_number_on_a_logarithmic_scale_has_its_geometric_mean_in_the_middle() -> None:
    assert Parameter(FloatDistribution(1e-4, 1e-2, log=True)).value_at(0.5) == pytest.approx(1e-3)


def test_a_range_of_one_value_is_in_the_middle() -> None:
    for distribution in (FloatDistribution(0.5, 0.5), CategoricalDistribution(["a"])):
        assert place_of(Parameter(distribution), Parameter(distribution).value_at(0.9)) == 0.5


# --- A whole space ---


@given(spaces_and_points())
def test_the_point_of_a_configuration_has_that_configuration(given_both: tuple[SearchSpace, np.ndarray]) -> None:
    space, points = given_both
    for point in points:
        params = space.params_at(point)
        again = point_of(space, params)
        inactive = np.array([name not in params for name in space.parameters], dtype=bool)
        assert np.array_equal(np.isnan(again), inactive)
        completed = np.where(inactive, 0.5, again)
        found = space.params_at(completed)
        assert list(found) == list(params)
        for name, value in params.items():
            assert found[name] == (pytest.approx(value) if isinstance(value, float) else value)


@given(spaces_and_points())
def test_a_parameter_is_there_exactly_where_its_conditions_hold(given_both: tuple[SearchSpace, np.ndarray]) -> None:
    space, points = given_both
    for point in points:
        params = space.params_at(point)
        for name, one in space.parameters.items():
            wanted = all(parent in params and params[parent] in allowed for parent, allowed in one.conditions)
            assert (name in params) == wanted


@given(spaces_and_points(count=5))
def test_features_lie_between_0_and_1_and_are_missing_exactly_where_a_parameter_is_inactive(
    given_both: tuple[SearchSpace, np.ndarray],
) -> None:
    space, points = given_both
    features = space.features(points)
    widths = [1 if one.is_ordered else len(one.levels or ()) for one in space.parameters.values()]
    assert features.shape == (len(points), sum(widths))
    known = features[~np.isnan(features)]
    assert np.all((known >= 0) & (known <= 1))
    for row, point in zip(features, points, strict=True):
        params = space.params_at(point)
        parts = np.split(row, np.cumsum(widths)[:-1]) if widths else []
        for name, part in zip(space.parameters, parts, strict=True):
            assert np.all(np.isnan(part) == (name not in params))


@given(spaces_and_points())
def test_the_features_of_a_configuration_are_those_of_its_point(given_both: tuple[SearchSpace, np.ndarray]) -> None:
    space, points = given_both
    again = space.points_of([space.params_at(point) for point in points])
    np.testing.assert_allclose(space.features(again), space.features(points), atol=1e-6)


def test_two_words_are_at_distance_one_and_numbers_lie_on_a_line() -> None:
    space = SearchSpace(
        {
            "optimizer": Parameter(CategoricalDistribution(["sgd", "adam", "adamw"]), "adam"),
            "batch_size": Parameter(CategoricalDistribution([64, 16, 32]), 32),
        }
    )
    points = np.array([point_of(space, {"optimizer": word, "batch_size": 32}) for word in ("sgd", "adam", "adamw")])
    features = space.features(points)
    distances = np.linalg.norm(features[:, None] - features, axis=2)
    np.testing.assert_allclose(distances, 1 - np.eye(3))
    sizes = [space.features(point_of(space, {"batch_size": size})[None])[0, -1] for size in (16, 32, 64)]
    np.testing.assert_allclose(sizes, [1 / 6, 1 / 2, 5 / 6])


@given(spaces())
def test_a_space_that_was_stored_and_read_back_is_the_same(space: SearchSpace) -> None:
    again = SearchSpace.stored(json.loads(json.dumps(space.document())))
    assert again == space
    assert list(again.parameters) == list(space.parameters)


@given(spaces())
def test_the_defaults_are_a_configuration_of_the_space(space: SearchSpace) -> None:
    defaults = space.defaults
    assert space.fits(defaults).keys() == defaults.keys()
    point = point_of(space, defaults)
    assert {name for name, unit in zip(space.parameters, point, strict=True) if not np.isnan(unit)} == set(defaults)


CONDITIONAL = SearchSpace(
    {
        "optimizer": Parameter(CategoricalDistribution(["sgd", "adam"]), "adam"),
        "momentum": Parameter(FloatDistribution(0.5, 0.99), 0.9, (("optimizer", ("sgd",)),)),
        "nesterov": Parameter(CategoricalDistribution([True, False]), True, (("optimizer", ("sgd",)),)),
        "layers": Parameter(IntDistribution(1, 3), 2),
        "units_3": Parameter(IntDistribution(16, 64, step=16), 32, (("layers", (3,)),)),
    }
)


def test_what_is_inactive_is_no_part_of_the_defaults() -> None:
    assert CONDITIONAL.defaults == {"optimizer": "adam", "layers": 2}


def test_a_condition_may_be_on_a_number() -> None:
    point = point_of(CONDITIONAL, {"optimizer": "adam", "layers": 3, "units_3": 48})
    features = CONDITIONAL.features(np.array([point, point_of(CONDITIONAL, {"optimizer": "adam", "layers": 2})]))
    assert not np.isnan(features[0, -1])
    assert np.isnan(features[1, -1])


def test_a_condition_may_name_a_choice_that_the_study_does_not_offer() -> None:
    space = SearchSpace(
        {
            "optimizer": Parameter(CategoricalDistribution(["sgd", "adam"]), "adam"),
            "weight_decay": Parameter(FloatDistribution(0, 0.1), 0.0, (("optimizer", ("sgd", "adamw")),)),
            "beta": Parameter(FloatDistribution(0, 1), 0.9, (("optimizer", ("adamw",)),)),
        }
    )
    features = space.features(np.array([[0.1, 0.5, 0.5], [0.9, 0.5, 0.5]]))
    assert np.isnan(features[:, -2]).tolist() == [False, True]
    assert np.isnan(features[:, -1]).all()
    assert set(space.params_at(np.array([0.1, 0.5, 0.5]))) == {"optimizer", "weight_decay"}


def test_a_space_without_parameters_has_one_configuration() -> None:
    empty = SearchSpace({})
    assert empty.size == 0
    assert empty.params_at(np.zeros(0)) == empty.defaults == {}
    assert empty.features(np.zeros((4, 0))).shape == (4, 0)


# --- What comes from elsewhere ---


def test_what_fits_is_kept_what_lies_outside_moves_to_the_bound_and_what_is_unknown_is_dropped() -> None:
    given_elsewhere = {"optimizer": "sgd", "momentum": 2.0, "layers": 9, "units_3": 41, "dropout": 0.1, "nesterov": 0}
    assert CONDITIONAL.fits(given_elsewhere) == {
        "optimizer": "sgd", "momentum": 0.99, "nesterov": False, "layers": 3, "units_3": 48,
    }  # fmt: skip


@pytest.mark.parametrize("value", [0.1, 0.001, 3e-4, 0.0123])
def test_a_number_that_lies_in_the_range_stays_as_it_is(value: float) -> None:
    for log in (False, True):
        space = SearchSpace({"learning_rate": Parameter(FloatDistribution(1e-4, 1.0, log=log), 0.01)})
        assert space.fits({"learning_rate": value}) == {"learning_rate": value}


@pytest.mark.parametrize(("value", "bound"), [(0, 1e-4), (0.0, 1e-4), (-3, 1e-4), (2, 1.0), (1e9, 1.0)])
def test_a_number_outside_a_logarithmic_range_moves_to_its_bound(value: float, bound: float) -> None:
    space = SearchSpace({"learning_rate": Parameter(FloatDistribution(1e-4, 1.0, log=True), 0.01)})
    assert space.fits({"learning_rate": value}) == pytest.approx({"learning_rate": bound})


def test_what_is_no_value_of_a_parameter_has_no_place() -> None:
    assert np.isnan(Parameter(IntDistribution(1, 3)).places_of(["many", None, True])).all()
    assert np.isnan(Parameter(FloatDistribution(1e-4, 0.1, log=True)).places_of(["", None, False])).all()
    assert np.isnan(Parameter(CategoricalDistribution(["a", "b"])).places_of(["c", None, 0])).all()


def test_a_choice_that_is_not_offered_here_is_left_to_the_sampler() -> None:
    assert CONDITIONAL.fits({"optimizer": "rmsprop", "layers": "many"}) == {}


@given(spaces(), st.dictionaries(st.sampled_from([f"parameter {n}" for n in range(6)]), st.one_of(
    st.none(), st.booleans(), st.integers(-(10**9), 10**9), st.floats(-1e9, 1e9), st.text(max_size=2)
)))  # fmt: skip
def test_whatever_is_given_what_fits_is_in_the_space(space: SearchSpace, params: dict[str, Any]) -> None:
    fitting = space.fits(params)
    assert set(fitting) <= set(params)
    for name, value in fitting.items():
        distribution = space.parameters[name].distribution
        assert distribution._contains(distribution.to_internal_repr(value))


@given(spaces_and_points(count=1))
def test_a_configuration_of_the_space_fits_as_it_is(given_both: tuple[SearchSpace, np.ndarray]) -> None:
    space, points = given_both
    params = space.params_at(points[0])
    for name, value in space.fits(params).items():
        assert value == (pytest.approx(params[name]) if isinstance(value, float) else params[name])
