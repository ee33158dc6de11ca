"""What the bridge between KerasTuner and Optuna promises, for any space that a hypermodel may declare."""

from __future__ import annotations

import contextlib
import inspect
import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import hypothesis.strategies as st
import optuna
import pytest
from hypothesis import given, settings

from studies.spec import ParameterRange

pytestmark = pytest.mark.keras

Space = list[dict[str, Any]]


@st.composite
def parameters(draw: st.DrawFn, name: str) -> dict[str, Any]:
    kind = draw(st.sampled_from(["int", "int log", "float", "float step", "float log", "choice", "boolean", "fixed"]))
    known: dict[str, Any] = {"kind": kind, "name": name}
    if kind.startswith("int"):
        low = draw(st.integers(1, 20))
        high = low + draw(st.integers(0, 40))
        step = 1 if kind == "int log" else draw(st.integers(1, 7))
        known |= {"low": low, "high": high, "step": step}
    elif kind.startswith("float"):
        smallest = draw(st.sampled_from([0.001, 0.1, 0.5, 1.0]))
        known |= {"low": smallest, "high": smallest + draw(st.sampled_from([0.05, 0.3, 1.0, 2.7])), "step": None}
        if kind == "float step":
            known["step"] = draw(st.sampled_from([0.05, 0.1, 0.25]))
    elif kind == "choice":
        values = st.one_of(
            st.lists(st.integers(0, 9), min_size=1, max_size=4, unique=True),
            st.lists(st.sampled_from(["adam", "sgd", "lion"]), min_size=1, max_size=3, unique=True),
            st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=1, max_size=3, unique=True),
        )
        known["values"] = draw(values)
    return known


@st.composite
def spaces(draw: st.DrawFn) -> Space:
    """Some parameters in name scopes, some only where a switch has a certain value."""
    space: Space = []
    for number in range(draw(st.integers(1, 6))):
        known = draw(parameters(f"p{number}"))
        known["scope"] = draw(st.sampled_from([None, "layer_0", "layer_1"]))
        known["only where"] = draw(st.sampled_from([None, "on", "off"]))
        space.append(known)
    return space


def declare(hp: Any, known: dict[str, Any]) -> Any:
    name = known["name"]
    match known["kind"]:
        case "int":
            return hp.Int(name, known["low"], known["high"], step=known["step"])
        case "int log":
            return hp.Int(name, known["low"], known["high"], sampling="log")
        case "float" | "float step":
            return hp.Float(name, known["low"], known["high"], step=known["step"])
        case "float log":
            return hp.Float(name, known["low"], known["high"], sampling="log")
        case "choice":
            return hp.Choice(name, known["values"])
        case "boolean":
            return hp.Boolean(name)
    return hp.Fixed(name, 7)


def build(hp: Any, space: Space) -> dict[str, Any]:
    """Ask for every parameter as a hypermodel does; return the answers, None for an inactive one."""
    answers = {"switch": hp.Choice("switch", ["on", "off"])}
    for known in space:
        scope = hp.name_scope(known["scope"]) if known["scope"] else nullcontext()
        wanted = known["only where"]
        # KerasTuner prefixes a parent's name with the scope: the condition comes first.
        condition = hp.conditional_scope("switch", [wanted]) if wanted else nullcontext()
        with condition, scope:
            answers[full_name(known)] = declare(hp, known)
    return answers


def full_name(known: dict[str, Any]) -> str:
    return f"{known['scope']}/{known['name']}" if known["scope"] else str(known["name"])


def check(known: dict[str, Any], value: Any) -> None:
    match known["kind"]:
        case "fixed":
            assert value == 7
        case "boolean":
            assert type(value) is bool
        case "choice":
            assert value in known["values"]
            assert type(value) is type(known["values"][0])
        case _:
            assert type(value) is (int if known["kind"].startswith("int") else float)
            assert known["low"] <= value <= known["high"] + 1e-9
            if known["step"]:
                steps = (value - known["low"]) / known["step"]
                assert math.isclose(steps, round(steps), abs_tol=1e-6)


def new_trial(seed: int = 0) -> optuna.Trial:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()


def ranged(ranges: dict[str, ParameterRange] | None = None, **values: Any) -> Any:
    from tuning.worker.hyperparameters import RangedHyperParameters

    return RangedHyperParameters(ranges or {}, values)


def answered(trial: optuna.Trial, ranges: dict[str, ParameterRange] | None = None) -> Any:
    from tuning.worker.hyperparameters import TrialHyperParameters

    return TrialHyperParameters(trial, ranges or {})


@given(spaces(), st.integers(0, 1000))
@settings(max_examples=60)
def test_a_trial_gives_every_active_parameter_a_value_of_its_range_and_samples_no_other(
    space: Space, seed: int
) -> None:
    trial = new_trial(seed)
    answers = build(answered(trial), space)
    active = [k for k in space if k["only where"] in (None, answers["switch"])]
    for known in active:
        check(known, answers[full_name(known)])
    assert all(answers[full_name(known)] is None for known in space if known not in active)
    assert set(trial.params) == {"switch", *(full_name(k) for k in active if k["kind"] != "fixed")}


@given(spaces(), st.integers(0, 1000))
@settings(max_examples=40)
def test_plain_hyperparameters_with_a_trials_parameters_build_the_same(space: Space, seed: int) -> None:
    import keras_tuner

    trial = new_trial(seed)
    answers = build(answered(trial), space)
    plain = keras_tuner.HyperParameters()
    plain.values = dict(trial.params)
    assert build(plain, space) == answers


@given(spaces(), st.integers(0, 1000))
@settings(max_examples=40)
def test_a_trial_taken_up_again_gives_the_same_values(space: Space, seed: int) -> None:
    trial = new_trial(seed)
    first = build(answered(trial), space)
    again = optuna.trial.Trial(trial.study, trial._trial_id)
    assert build(answered(again), space) == first


@given(spaces())
@settings(max_examples=40)
def test_without_a_trial_every_parameter_has_its_default(space: Space) -> None:
    import keras_tuner

    assert build(ranged(), space) == build(keras_tuner.HyperParameters(), space)


@given(spaces())
@settings(max_examples=40)
def test_the_defaults_are_values_that_a_trial_can_be_given(space: Space) -> None:
    from tuning.worker.hyperparameters import parameters_of

    hp = ranged()
    answers = build(hp, space)
    study = optuna.create_study()
    study.enqueue_trial(parameters_of(hp))
    assert build(answered(study.ask()), space) == answers


@given(spaces())
@settings(max_examples=40)
def test_the_extremes_of_a_space_lie_in_it(space: Space) -> None:
    from tuning.worker.hyperparameters import extremes

    hp = ranged()
    build(hp, space)
    for values in extremes(hp):
        corner = ranged(None, **values)
        answers = build(corner, space)
        for known in space:
            if answers[full_name(known)] is not None:
                check(known, answers[full_name(known)])


# --- Refusals ---


def two_ranges(hp: Any) -> None:
    hp.Choice("switch", ["on", "off"])
    with hp.conditional_scope("switch", ["on"]):
        hp.Int("units", 1, 8)
    with hp.conditional_scope("switch", ["off"]):
        hp.Int("units", 1, 16)


def again(name: str, kind: str, *args: Any, **kwargs: Any) -> Callable[[Any], None]:
    """A model that declares one of the service's own parameters once more."""

    def build(hp: Any) -> None:
        from models.recipe import Recipe, declare_recipe

        defaults = Recipe(batch_size=64, optimizer="adamw", learning_rate=3e-3, dropout=0.2)
        declare_recipe(hp, defaults, extended=False)
        declare_recipe(hp, defaults, extended=False)  # the same once more is no other
        getattr(hp, kind)(name, *args, **kwargs)

    return build


def same_name(hp: Any) -> None:
    hp.Int("convolution", 16, 48, step=16)
    hp.Int("convolution", 16, 32, step=8)


REFUSED: list[tuple[Callable[[Any], object], str]] = [
    (
        lambda hp: hp.Float("momentum", 0.5, 0.99, sampling="reverse_log"),
        "'momentum' has sampling='reverse_log'.*1 - x",
    ),
    (two_ranges, "'units' is declared with two ranges: Int, 1 to 8; and Int, 1 to 16. Give each its own name"),
    (
        again("learning_rate", "Choice", [1e-2, 1e-3]),
        "0.0003 to 0.1, log; and Choice, one of 0.01, 0.001. Every",
    ),
    (again("dropout", "Float", 0, 0.5, step=0.1), "'dropout' .* Float, 0 to 0.6; and Float, 0 to 0.5, step 0.1. Every"),
    (again("dropout", "Boolean"), "'dropout' .* Float, 0 to 0.6; and Boolean. Every model has a 'dropout' of the serv"),
    (again("dropout", "Fixed", 0.1), "'dropout' .* Float, 0 to 0.6; and Fixed, 0.1. Every model"),
    (
        again("optimizer", "Choice", ["adam", "rmsprop"]),
        "sgd, adam, adamw; and Choice, one of adam, rmsprop. Eve",
    ),
    (
        again("batch_size", "Int", 16, 64),
        "one of 32, 64, 128, 256; and Int, 16 to 64. Every model has a 'ba",
    ),
    (
        same_name,
        "'convolution' is declared .*: Int, 16 to 48, step 16; and Int, 16 to 32, step 8. Give each",
    ),
]


@pytest.mark.parametrize(("model", "says"), REFUSED)
@pytest.mark.parametrize("with_trial", [False, True])
def test_what_optuna_cannot_draw_faithfully_is_refused(
    model: Callable[[Any], object], says: str, with_trial: bool
) -> None:
    from tuning.worker.hyperparameters import UnusableParameter

    with pytest.raises(UnusableParameter, match=says):
        model(answered(new_trial()) if with_trial else ranged())


def test_another_declaration_is_refused_where_the_study_has_a_range_of_its_own_too() -> None:
    from tuning.worker.hyperparameters import UnusableParameter

    hp = ranged({"units": ParameterRange(low=1, high=4)})
    for _ in range(2):
        assert hp.Int("units", 1, 8) == hp.values["units"]
    with pytest.raises(UnusableParameter, match="Int, 1 to 8; and Int, 1 to 16"):
        hp.Int("units", 1, 16)


def several(*scopes: tuple[str, list[str]] | None) -> Callable[[Any], None]:
    def build(hp: Any) -> None:
        hp.Choice("head", ["a", "b", "c"])
        hp.Choice("tail", ["a", "b"])
        for scope in scopes:
            with hp.conditional_scope(*scope) if scope else contextlib.nullcontext():
                hp.Float("dropout", 0.0, 0.6, default=0.1)

    return build


@pytest.mark.parametrize(
    ("model", "conditions"),
    [
        (several(("head", ["a"]), ("head", ["b"])), (("head", ("a", "b")),)),
        (several(("head", ["c"]), ("head", ["b"])), (("head", ("c", "b")),)),
        (several(("head", ["a", "b"]), ("head", ["b"])), (("head", ("a", "b")),)),
        (several(("head", ["a"]), None), ()),
        (several(None, ("head", ["b"])), ()),
        (several(("head", ["b"]), ("head", ["b"])), (("head", ("b",)),)),
    ],
)
def test_a_name_that_is_declared_in_several_scopes_is_active_in_all_of_them(
    model: Callable[[Any], None], conditions: tuple[Any, ...]
) -> None:
    from tuning.worker.hyperparameters import RangedHyperParameters, search_space

    active: dict[str, Any] = {}
    for head in "abc":
        hp = RangedHyperParameters({}, {"head": head})
        model(hp)
        active.update(hp.active)
        assert ("dropout" in hp.active) == all(head in values for _, values in conditions)
    assert search_space(active).parameters["dropout"].conditions == conditions


def test_scopes_that_a_search_space_cannot_join_are_refused() -> None:
    from tuning.worker.hyperparameters import UnusableParameter

    says = "'dropout' is declared where head is a and where tail is b, which no.*Give each its own name"
    with pytest.raises(UnusableParameter, match=says):
        several(("head", ["a"]), ("tail", ["b"]))(ranged())


def test_a_kind_that_is_unknown_is_refused() -> None:
    from keras_tuner.engine.hyperparameters import HyperParameter

    from tuning.worker.hyperparameters import UnusableParameter, distribution_of

    with pytest.raises(UnusableParameter, match=r"'odd' is a HyperParameter, which is unknown here. Use hp.Int"):
        distribution_of(HyperParameter("odd"))


# --- The study's own ranges ---


def model(hp: Any) -> dict[str, Any]:
    return {
        "rate": hp.Float("rate", 1e-4, 1e-1, sampling="log", default=1e-2),
        "units": hp.Int("units", 8, 64, step=8, default=32),
        "optimizer": hp.Choice("optimizer", ["adam", "sgd"]),
        "flip": hp.Boolean("flip"),
        "fixed": hp.Fixed("fixed", 1),
    }


@pytest.mark.parametrize(
    ("name", "own", "default", "allowed"),
    [
        ("rate", {"low": 0.2, "high": 0.4}, 0.2, lambda v: 0.2 <= v <= 0.4),
        ("rate", {"low": 0.001, "high": 0.5, "log": True}, 0.01, lambda v: 0.001 <= v <= 0.5),
        (
            "rate",
            {"low": 0.0, "high": 1.0, "step": 0.3, "default": 0.5},
            0.6,
            lambda v: round(v, 9) in (0, 0.3, 0.6, 0.9),
        ),
        (
            "rate",
            {"low": 0.0, "high": 0.3, "step": 0.1, "default": 0.3},
            0.3,
            lambda v: round(v, 9) in (0, 0.1, 0.2, 0.3),
        ),
        ("rate", {"choices": [0.1, 1]}, 0.1, lambda v: v in (0.1, 1.0) and type(v) is float),
        ("units", {"low": 1, "high": 4}, 4, lambda v: v in (1, 2, 3, 4) and type(v) is int),
        ("units", {"low": 10, "high": 100, "step": 20, "default": 95}, 90, lambda v: v in (10, 30, 50, 70, 90)),
        ("units", {"low": 1, "high": 100, "log": True}, 32, lambda v: 1 <= v <= 100),
        ("units", {"choices": [3, 5]}, 3, lambda v: v in (3, 5)),
        ("optimizer", {"choices": ["sgd"]}, "sgd", lambda v: v == "sgd"),
        ("flip", {"choices": [True]}, True, lambda v: bool(v)),
    ],
)
def test_a_studys_range_replaces_the_models(
    name: str, own: dict[str, Any], default: Any, allowed: Callable[[Any], bool]
) -> None:
    from tuning.worker.hyperparameters import parameters_of

    ranges = {name: ParameterRange.model_validate(own)}
    hp = ranged(ranges)
    assert model(hp)[name] == default
    assert all(allowed(model(answered(new_trial(seed), ranges))[name]) for seed in range(20))
    study = optuna.create_study()
    study.enqueue_trial(parameters_of(hp))  # warns, which is an error, where a default is none of the range's values
    assert model(answered(study.ask(), ranges))[name] == default


@pytest.mark.parametrize(
    ("name", "own", "says"),
    [
        ("units", {"low": 0.5, "high": 4}, "'units' is an integer, received low = 0.5. Give a whole number"),
        ("units", {"low": 1, "high": 4, "step": 1.5}, "'units' is an integer, received step = 1.5"),
        ("units", {"low": 1, "high": 4, "default": 1.5}, "'units' is an integer, received default = 1.5"),
        ("units", {"choices": [1.5]}, "'units' takes int values, received 1.5"),
        ("rate", {"choices": ["a"]}, "'rate' takes float values, received 'a'"),
        ("optimizer", {"low": 1, "high": 2}, r"'optimizer' takes one of \['adam', 'sgd'\]. Give it choices"),
        ("optimizer", {"choices": ["lion"]}, r"'optimizer' takes one of \['adam', 'sgd'\], received 'lion'"),
        ("flip", {"choices": [1]}, "'flip' takes bool values, received 1"),
        ("fixed", {"low": 1, "high": 2}, "'fixed' is fixed by the model and takes no range. Remove it"),
    ],
)
def test_a_range_that_does_not_fit_is_refused(name: str, own: dict[str, Any], says: str) -> None:
    from tuning.worker.hyperparameters import UnusableParameter

    with pytest.raises(UnusableParameter, match=says):
        model(ranged({name: ParameterRange.model_validate(own)}))


# --- The hook ---


def test_kerastuner_still_registers_everything_through_one_private_method() -> None:
    import keras_tuner

    signature = inspect.signature(keras_tuner.HyperParameters._register)
    assert list(signature.parameters) == ["self", "hyperparameter", "overwrite"]
    assert signature.parameters["overwrite"].default is False

    asked: list[str] = []

    class Noting(keras_tuner.HyperParameters):
        def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
            asked.append(hyperparameter.name)
            return super()._register(hyperparameter, overwrite)

    hp = Noting()
    model(hp)
    assert asked == ["rate", "units", "optimizer", "flip", "fixed"]
    model(hp)
    assert len(asked) == 5  # once for each


# --- As KerasTuner has it, for hypermodels that know nothing of this project ---


def lenient(trial: optuna.Trial) -> Any:
    from tuning.worker.hyperparameters import TrialHyperParameters

    return TrialHyperParameters(trial, {}, first_range_holds=True)


def test_a_name_declared_again_has_the_first_value_where_kerastuner_gives_it_that() -> None:
    import keras_tuner

    for seed in range(5):
        trial = new_trial(seed)
        hp = lenient(trial)
        first, again = hp.Int("filters", 16, 48, step=16), hp.Int("filters", 8, 16, step=4)
        assert first == again == trial.params["filters"]
        assert list(hp.repeated) == ["filters"]
        assert "Int, 16 to 48, step 16; and Int, 8 to 16, step 4. As in KerasTuner" in hp.repeated["filters"]
        theirs = keras_tuner.HyperParameters()
        theirs.values = dict(trial.params)
        assert (theirs.Int("filters", 16, 48, step=16), theirs.Int("filters", 8, 16, step=4)) == (first, again)


def test_a_name_with_other_ranges_under_other_conditions_is_refused_whoever_declares_it() -> None:
    from storage.errors import BadInput

    hp = lenient(new_trial())
    hp.Choice("kind", ["a", "b"])
    with hp.conditional_scope("kind", ["a"]):
        hp.Int("units", 1, 4)
    with hp.conditional_scope("kind", ["b"]), pytest.raises(BadInput, match="'units' is declared with two ranges"):
        hp.Int("units", 10, 40)


STEPS_THAT_MULTIPLY: list[tuple[Callable[[Any], Any], list[float]]] = [
    (lambda hp: hp.Int("units", 16, 64, step=2, sampling="log"), [16, 32, 64]),
    (lambda hp: hp.Int("units", 3, 100, step=3, sampling="log"), [3, 9, 27, 81]),
    (lambda hp: hp.Float("units", 1e-4, 1e-1, step=10, sampling="log"), [1e-4, 1e-3, 1e-2, 1e-1]),
    (lambda hp: hp.Float("units", 1.0, 8.0, step=2, sampling="reverse_log"), [8.0, 7.0, 5.0, 1.0]),
]


@pytest.mark.parametrize(("declare_units", "values"), STEPS_THAT_MULTIPLY)
def test_with_a_step_that_multiplies_the_values_are_kerastuners(
    declare_units: Callable[[Any], Any], values: list[float]
) -> None:
    drawn = [declare_units(answered(new_trial(seed))) for seed in range(40)]
    assert {type(value) for value in drawn} == {type(values[0])}
    assert sorted({round(value, 12) for value in drawn}) == sorted(values)


def test_a_default_that_is_never_drawn_gives_way_to_what_is_nearest() -> None:
    from tuning.worker.hyperparameters import search_space

    hp = ranged()
    hp.Int("units", 16, 64, step=16, default=50)
    hp.Float("rate", 1e-4, 1e-1, step=10, sampling="log", default=0.005)
    hp.Float("dropout", 0.0, 0.5, step=0.1, default=0.33)
    assert search_space(hp.active).defaults == {"units": 48, "rate": 0.001, "dropout": 0.3}
