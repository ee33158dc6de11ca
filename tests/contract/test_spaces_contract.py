"""Any program of declarations samples from Optuna the space that it declares to KerasTuner."""

from __future__ import annotations

import math
from typing import Any

import hypothesis.strategies as st
import optuna
import pytest
from hypothesis import given, settings

pytestmark = pytest.mark.keras

Program = list[tuple[Any, ...]]

Numbers = st.SearchStrategy[tuple[Any, Any, dict[str, Any]]]

INTS: Numbers = st.one_of(
    st.tuples(st.integers(-5, 9), st.integers(0, 9), st.just({})),
    st.tuples(st.integers(-5, 9), st.integers(0, 20), st.fixed_dictionaries({"step": st.integers(1, 6)})),
    st.tuples(st.integers(1, 9), st.integers(0, 60), st.just({"sampling": "log"})),
    st.tuples(st.integers(1, 9), st.integers(0, 60), st.just({"sampling": "LOG", "step": 2})),
    st.tuples(st.integers(1, 9), st.integers(0, 60), st.just({"sampling": "reverse_log", "step": 3})),
)
FLOATS: Numbers = st.one_of(
    st.tuples(st.sampled_from([-1.0, 0.0, 0.25]), st.sampled_from([0.0, 0.5, 3.0]), st.just({})),
    # In steps that floating point has: of 0 to 0.3 in steps of 0.1 KerasTuner loses the 0.3 that it documents.
    st.tuples(st.sampled_from([0.0, 0.5]), st.sampled_from([0.3, 0.75, 1.0]), st.just({"step": 0.125})),
    st.tuples(st.sampled_from([1e-4, 0.5]), st.sampled_from([0.5, 2.0]), st.just({"sampling": "log"})),
    st.tuples(st.sampled_from([1e-3, 0.5]), st.sampled_from([0.999, 7.5]), st.just({"sampling": "log", "step": 10})),
)
CHOICES = st.one_of(
    st.lists(st.integers(-3, 9), min_size=1, max_size=4, unique=True),
    st.lists(st.sampled_from(["relu", "gelu", "tanh"]), min_size=1, max_size=3, unique=True),
    st.lists(st.sampled_from([0.1, 0.5, 0.9]), min_size=1, max_size=3, unique=True),
    st.lists(st.booleans(), min_size=1, max_size=2, unique=True),
)


@st.composite
def declarations(draw: st.DrawFn, name: str) -> tuple[str, tuple[Any, ...], dict[str, Any]]:
    """The method of `hp`, and its arguments."""
    kind = draw(st.sampled_from(["Int", "Float", "Choice", "Boolean", "Fixed"]))
    if kind in ("Int", "Float"):
        low, more, others = draw(INTS if kind == "Int" else FLOATS)
        return kind, (name, low, low + more), others
    if kind == "Choice":
        values = draw(CHOICES)
        return kind, (name, values), draw(st.sampled_from([{}, {"default": values[-1]}]))
    return kind, (name, *([draw(st.sampled_from([3, "word", 0.5, True]))] if kind == "Fixed" else [])), {}


@st.composite
def programs(draw: st.DrawFn, depth: int = 0, prefix: str = "p") -> Program:
    """Statements: declare, ask again, enter a name scope, a condition or both; in a loop as long as a number says."""
    program: Program = []
    switches: dict[str, list[Any]] = {}
    for number in range(draw(st.integers(1, 4))):
        name = f"{prefix}{number}"
        kind = draw(st.sampled_from(["declare", "switch", "again", "scope", "if", "child", "loop"]))
        inner = programs(depth + 1, f"{name}_") if depth < 2 else st.just([])
        if kind == "again" and program and program[-1][0] == "declare":
            program.append(program[-1])
        elif kind == "scope":
            program.append(("scope", name, draw(inner)))
        elif kind == "loop":
            program.append(("loop", name, draw(st.integers(1, 3)), draw(declarations("inside"))))
        elif kind in ("if", "child") and switches:
            parent = draw(st.sampled_from(sorted(switches)))
            values = draw(st.lists(st.sampled_from(switches[parent]), min_size=1, unique=True))
            body = draw(inner) if kind == "if" else draw(declarations(name))
            program.append((kind, parent, values, body))
        elif kind == "switch":
            switches[name] = draw(CHOICES)
            program.append(("declare", "Choice", (name, switches[name]), {}))
        else:
            program.append(("declare", *draw(declarations(name))))
    return program


def run(hp: Any, program: Program) -> list[Any]:
    """Run a program as a `build` would; return all that it was answered."""
    answers: list[Any] = []
    for statement in program:
        match statement:
            case "declare", kind, args, others:
                answers.append(getattr(hp, kind)(*args, **others))
            case "scope", name, body:
                with hp.name_scope(name):
                    answers += run(hp, body)
            case "if", parent, values, body:
                with hp.conditional_scope(parent, values):
                    answers += run(hp, body)
            case "child", parent, values, (kind, args, others):
                answers.append(getattr(hp, kind)(*args, **others, parent_name=parent, parent_values=values))
            case "loop", name, most, (kind, args, others):
                for i in range(hp.Int(name, 1, most) or 0):  # inactive, it is None
                    with hp.conditional_scope(name, list(range(i + 1, most + 1))), hp.name_scope(f"{name}_{i}"):
                        answers.append(getattr(hp, kind)(*args, **others))
    return answers


def may_be(declared: Any, value: Any) -> bool:
    """Whether KerasTuner may draw a value."""
    if getattr(declared, "min_value", None) is None or declared.step is not None:
        return any(
            math.isclose(value, one, abs_tol=1e-9) if type(one) is float else value == one for one in declared.values
        )
    return bool(declared.min_value <= value <= declared.max_value)


@given(programs(), st.integers(0, 1000))
@settings(max_examples=150)
def test_what_is_active_is_sampled_once_from_what_kerastuner_declares_and_nothing_else(
    program: Program, seed: int
) -> None:
    import keras_tuner
    from keras_tuner.engine.hyperparameters import Fixed

    from tuning.worker.hyperparameters import TrialHyperParameters, distribution_of

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed)).ask()
    ours = TrialHyperParameters(trial, {}, first_range_holds=True)
    answers = run(ours, program)

    theirs = keras_tuner.HyperParameters()
    theirs.values = dict(trial.params)
    assert run(theirs, program) == answers, "the parameters alone build the same"
    active = {one.name: one for one in theirs.space if theirs.is_active(one)}
    assert set(trial.params) == {name for name, one in active.items() if not isinstance(one, Fixed)}
    assert [one.get_config() for one in ours.space] == [one.get_config() for one in theirs.space]
    for name, value in trial.params.items():
        declared: Any = active[name]
        drawn: Any = trial.distributions[name]
        assert may_be(declared, value)
        assert drawn == distribution_of(declared)
        if isinstance(drawn, optuna.distributions.CategoricalDistribution):
            assert len(drawn.choices) == len(set(_plain(declared)))
        elif declared.step is not None:
            assert round((drawn.high - drawn.low) / drawn.step) + 1 == len(_plain(declared))


def _plain(declared: Any) -> list[Any]:
    values = list(declared.values)
    return [int(value) for value in values] if type(declared).__name__ == "Int" else values
