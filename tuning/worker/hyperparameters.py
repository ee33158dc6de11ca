"""KerasTuner's `HyperParameters`, answered by an Optuna trial. The only file that knows both.

A hypermodel's `build(hp)` declares each hyperparameter with its range and asks for its value in one call. Here the
range may be replaced by the study's own, and the value comes from the trial. Name scopes become part of Optuna's names
(`layer_0/units`), and what is inactive under a condition is not sampled. Afterwards a plain `HyperParameters` whose
`values` are the trial's parameters builds the same model without Optuna.

Everything passes through `HyperParameters._retrieve`, and through `_register` once for each hyperparameter and set of
conditions. They are private: `pyproject.toml` caps keras-tuner, and contract tests watch them.
"""

from __future__ import annotations

import math
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any

import keras_tuner
import optuna
from keras_tuner.engine import hyperparameters as kt
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from storage.errors import BadInput
from studies.space import Parameter, SearchSpace
from studies.spec import ParameterRange

Value = bool | int | float | str | None


class UnusableParameter(BadInput):
    """A hyperparameter cannot be sampled by Optuna, or a range does not fit it."""


def distribution_of(hyperparameter: Any) -> BaseDistribution | None:
    """Return the Optuna distribution of a KerasTuner hyperparameter; None for a fixed one.

    Raises:
        UnusableParameter: it has no faithful counterpart; the message names it and the cure.
    """
    name = hyperparameter.name
    match hyperparameter:
        case kt.Fixed():
            return None
        case kt.Boolean():
            return CategoricalDistribution([False, True])
        case kt.Choice():
            return CategoricalDistribution(list(hyperparameter.values))
        case kt.Int() | kt.Float() if _has_steps_that_multiply(hyperparameter):
            return CategoricalDistribution(_values_of(hyperparameter))
        case kt.Int():
            log = _is_log(hyperparameter)
            low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step or 1
            # Optuna warns and rounds when the step does not divide the range; the last reachable value is the bound.
            return IntDistribution(low, low + (high - low) // step * step, log=log, step=step)
        case kt.Float():
            log = _is_log(hyperparameter)
            low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step
            if step is not None:
                # The tolerance keeps a bound that floating point puts just below a whole number of steps.
                high = min(high, round(low + math.floor((high - low) / step + 1e-9) * step, 12))
            return FloatDistribution(low, high, log=log, step=step)
    raise UnusableParameter(
        f"parameter {name!r} is a {type(hyperparameter).__name__}, which is unknown here."
        " Use hp.Int, hp.Float, hp.Choice, hp.Boolean or hp.Fixed."
    )


def _has_steps_that_multiply(hyperparameter: Any) -> bool:
    return hyperparameter.sampling in ("log", "reverse_log") and hyperparameter.step not in (None, 1)


def _values_of(hyperparameter: Any) -> list[int | float]:
    """Return what KerasTuner draws with a step that multiplies: Optuna has no such distribution, but these are few."""
    kind = int if isinstance(hyperparameter, kt.Int) else float
    return list(dict.fromkeys(kind(value) for value in hyperparameter.values))


def _is_log(hyperparameter: Any) -> bool:
    if hyperparameter.sampling == "reverse_log":
        raise UnusableParameter(
            f"parameter {hyperparameter.name!r} has sampling='reverse_log', which Optuna cannot draw."
            " Declare 1 - x with sampling='log' instead, or give it a step."
        )
    return bool(hyperparameter.sampling == "log")


def ranged(hyperparameter: Any, given: ParameterRange) -> Any:
    """Return the hyperparameter with its range replaced by the study's, its conditions kept.

    Raises:
        UnusableParameter: the range does not fit the hyperparameter's kind.
    """
    name, conditions = hyperparameter.name, hyperparameter.conditions
    default = hyperparameter.default if given.default is None else given.default
    if isinstance(hyperparameter, kt.Fixed):
        raise UnusableParameter(
            f"parameter {name!r} is fixed by the model and takes no range. Remove it from the file."
        )
    if given.choices is not None:
        return _ranged_choice(hyperparameter, given.choices, default)
    if not isinstance(hyperparameter, (kt.Int, kt.Float)):
        raise UnusableParameter(
            f"parameter {name!r} takes one of {list(hyperparameter.values)}. Give it choices = [...] out of these."
        )
    assert given.low is not None and given.high is not None
    sampling = "log" if given.log else "linear"
    if isinstance(hyperparameter, kt.Float):
        return kt.Float(
            name, given.low, given.high, step=given.step, sampling=sampling, conditions=conditions,
            default=_nearest(float(default), given.low, given.high, given.step),
        )  # fmt: skip
    own = given.low if given.default is None else float(given.default)
    for key, value in (("low", given.low), ("high", given.high), ("step", given.step or 1.0), ("default", own)):
        if not float(value).is_integer():
            raise UnusableParameter(
                f"parameter {name!r} is an integer, received {key} = {value:g}. Give a whole number."
            )
    low, high, step = int(given.low), int(given.high), int(given.step or 1)
    return kt.Int(
        name, low, high, step=None if given.log else step, sampling=sampling, conditions=conditions,
        default=int(_nearest(float(default), low, high, step)),
    )  # fmt: skip


def _nearest(value: float, low: float, high: float, step: float | None) -> float:
    """Return what a range holds that is nearest to a value; Optuna would draw another one in place of any else."""
    value = min(max(value, low), high)
    if step is None:
        return value
    # The tolerance keeps a bound that floating point puts just below a whole number of steps.
    last = math.floor((high - low) / step + 1e-9)
    return round(low + min(round((value - low) / step), last) * step, 12)


def _nearest_in(distribution: BaseDistribution, default: Any) -> Any:
    """Return the default, or what is nearest to it of what is drawn: KerasTuner asks nobody whether it is."""
    match distribution:
        case IntDistribution(low=low, high=high, step=step):
            return int(_nearest(float(default), low, high, step))
        case FloatDistribution(low=low, high=high, step=step):
            return _nearest(float(default), low, high, step)
        case CategoricalDistribution(choices=choices) if default not in choices:
            return min(choices, key=lambda choice: abs(choice - default))  # a grid of numbers
    return default


def _ranged_choice(hyperparameter: Any, choices: tuple[Value, ...], default: Any) -> Any:
    name = hyperparameter.name
    # Numbers have `values`, too: a generator over their grid.
    own = list(hyperparameter.values) if isinstance(hyperparameter, kt.Choice) else None
    own = [False, True] if isinstance(hyperparameter, kt.Boolean) else own
    kind = type(own[0]) if own else (int if isinstance(hyperparameter, kt.Int) else float)
    values = [float(choice) if kind is float and type(choice) is int else choice for choice in choices]
    for value in values:
        if type(value) is not kind:
            raise UnusableParameter(f"parameter {name!r} takes {kind.__name__} values, received {value!r}.")
        # A word that the model does not know would fail in every trial; a number may be any.
        if own and kind in (str, bool) and value not in own:
            raise UnusableParameter(f"parameter {name!r} takes one of {list(own)}, received {value!r}.")
    chosen = default if default in values else values[0]
    return kt.Choice(name, values, default=chosen, conditions=hyperparameter.conditions)


def _declaration_in_words(hyperparameter: Any) -> str:
    """Return all that two declarations of one name must have in common: kind, range, step and sampling."""
    match hyperparameter:
        case kt.Fixed():
            return f"Fixed, {hyperparameter.value}"
        case kt.Choice():
            return "Choice, one of " + ", ".join(str(value) for value in hyperparameter.values)
        case kt.Int() | kt.Float():
            low, high, step = hyperparameter.min_value, hyperparameter.max_value, hyperparameter.step
            sampling = "" if hyperparameter.sampling == "linear" else f", {hyperparameter.sampling}"
            every = f", step {step:g}" if step not in (None, 1) else ""
            return f"{type(hyperparameter).__name__}, {low:g} to {high:g}{every}{sampling}"
    return type(hyperparameter).__name__


Conditions = dict[str, tuple[Value, ...]]


def conditions_of(declared: Iterable[Any]) -> Conditions:
    """Return KerasTuner's conditions as the values that each parent may have, by its name."""
    return {condition.name: tuple(condition.values) for condition in declared}


def _either(one: Conditions, other: Conditions) -> Conditions | None:
    """Return the conditions that hold where those of one or of the other do; None where that takes more than a list."""
    for weaker, stronger in ((one, other), (other, one)):
        if all(parent in stronger and set(stronger[parent]) <= set(values) for parent, values in weaker.items()):
            return weaker
    differ = [parent for parent in one if one[parent] != other.get(parent)]
    if one.keys() != other.keys() or len(differ) != 1:
        return None
    return {**one, differ[0]: tuple(dict.fromkeys((*one[differ[0]], *other[differ[0]])))}


def conditions_in_words(conditions: Conditions) -> str:
    """Return where a hyperparameter is active, as one would say it; `always` without conditions."""
    return " and ".join(f"{name} is {' or '.join(map(str, values))}" for name, values in conditions.items()) or "always"


class RangedHyperParameters(keras_tuner.HyperParameters):
    """A model's hyperparameters with the study's ranges; each has its default unless a value is given.

    Args:
        ranges: what replaces the model's own ranges, by name.
        values: what replaces the defaults, by name.
        first_range_holds: whether a name that is declared again with another range, where it was declared before, has
            the first one's value, as KerasTuner has it; else that is refused.

    Attributes:
        active: what was active when it was declared, by name.
        repeated: a line for each name that was declared again with another range.
    """

    def __init__(
        self,
        ranges: Mapping[str, ParameterRange],
        values: Mapping[str, Value] | None = None,
        *,
        first_range_holds: bool = False,
    ) -> None:
        super().__init__()
        self._ranges = ranges
        self._given = dict(values or {})
        self._first_range_holds = first_range_holds
        self.repeated: dict[str, str] = {}
        self._declared: dict[str, str] = {}
        self.active: dict[str, Any] = {}

    def _retrieve(self, hyperparameter: Any) -> Any:
        self._require_one_range(hyperparameter)
        return super()._retrieve(hyperparameter)

    def _register(self, hyperparameter: Any, overwrite: bool = False) -> Any:
        self._validate_name(hyperparameter.name)
        own = self._ranges.get(hyperparameter.name)
        if own is not None:
            hyperparameter = ranged(hyperparameter, own)
        hyperparameter = type(hyperparameter).from_config(hyperparameter.get_config())
        distribution_of(hyperparameter)  # refuses what Optuna cannot draw
        self._hps[hyperparameter.name].append(hyperparameter)
        self._space.append(hyperparameter)
        name = hyperparameter.name
        is_active = self.is_active(hyperparameter)
        if is_active and name not in self.values:
            self.values[name] = self._value_of(hyperparameter)
        if is_active or name in self.active:
            self.active[name] = self._with_all_conditions(self.active.get(name, hyperparameter))
        return self.values[name] if is_active else None

    def _with_all_conditions(self, hyperparameter: Any) -> Any:
        """Return a hyperparameter as it is active where any of its declarations is."""
        known = [one.conditions for one in self._hps[hyperparameter.name]]
        declared = [conditions_of(conditions) for conditions in known]
        if isinstance(hyperparameter, kt.Fixed) or all(conditions == declared[0] for conditions in declared):
            return hyperparameter
        joined = declared[0]
        for conditions in declared[1:]:
            either = _either(joined, conditions)
            if either is None:
                raise UnusableParameter(
                    f"parameter {hyperparameter.name!r} is declared where {conditions_in_words(joined)} and where"
                    f" {conditions_in_words(conditions)}, which no search space can say. Give each its own name, with"
                    " hp.name_scope for example."
                )
            joined = either
        whole = type(hyperparameter).from_config(hyperparameter.get_config())
        parents = {c.name: type(c) for conditions in known for c in conditions}
        whole.conditions = [parents[name](name, list(values)) for name, values in joined.items()]
        return whole

    def _require_one_range(self, hyperparameter: Any) -> None:
        """Refuse another declaration of a name: it would silently have the first one's value, of that one's type."""
        name = hyperparameter.name
        before = self._declared.setdefault(name, _declaration_in_words(hyperparameter))
        now = _declaration_in_words(hyperparameter)
        if before == now:
            return
        two = f"parameter {name!r} is declared with two ranges: {before}; and {now}."
        if self._first_range_holds and self._exists(name, hyperparameter.conditions):
            self.repeated.setdefault(name, f"{two} As in KerasTuner, all of that name have the first one's value")
        else:
            ours = "" if self._first_range_holds else _word_of_core(name)
            raise UnusableParameter(f"{two}{ours} Give each its own name, with hp.name_scope for example.")

    def _value_of(self, hyperparameter: Any) -> Value:
        value: Value = self._given.get(hyperparameter.name, hyperparameter.default)
        return value


def _word_of_core(name: str) -> str:
    from models.recipe import CORE  # not above: beside a script that has a tuner there may be a models.py of its own

    return f" Every model has a {name!r} of the service's own: read it with hp.get." if name in CORE else ""


class DeclaredHyperParameters(RangedHyperParameters):
    """Tells which names a model declares, also in a space where it could not be tuned: refuses no second range."""

    def _retrieve(self, hyperparameter: Any) -> Any:
        name, words = hyperparameter.name, _declaration_in_words(hyperparameter)
        # Another's value may be of another kind; with its own default the model goes on to what it declares next.
        if self._declared.setdefault(name, words) != words:
            return hyperparameter.default
        return super()._retrieve(hyperparameter)

    @property
    def names(self) -> set[str]:
        """All names declared so far, of what is inactive too."""
        return set(self._hps)


class TrialHyperParameters(RangedHyperParameters):
    """Hyperparameters whose values an Optuna trial suggests, in the order in which the model asks.

    Args:
        trial: suggests each active parameter once; a trial taken up again suggests what it did before.
        ranges: what replaces the model's own ranges, by name.
        first_range_holds: see `RangedHyperParameters`.
        searched: the names that are suggested, while others have their defaults; None for all.
    """

    def __init__(
        self,
        trial: optuna.trial.BaseTrial,
        ranges: Mapping[str, ParameterRange],
        *,
        first_range_holds: bool = False,
        searched: Container[str] | None = None,
    ) -> None:
        super().__init__(ranges, first_range_holds=first_range_holds)
        self._trial = trial
        self._searched = searched

    def _value_of(self, hyperparameter: Any) -> Value:
        name, trial = hyperparameter.name, self._trial
        value: Value
        left_out = self._searched is not None and name not in self._searched
        match None if left_out else distribution_of(hyperparameter):
            case CategoricalDistribution(choices=choices):
                value = trial.suggest_categorical(name, choices)
            case IntDistribution(low=low, high=high, log=log, step=step):
                value = trial.suggest_int(name, low, high, log=log, step=step)
            case FloatDistribution(low=low, high=high, log=log, step=step):
                value = trial.suggest_float(name, low, high, log=log, step=step)
            case _:
                value = hyperparameter.default
        return value


def ranges_of(hp: keras_tuner.HyperParameters) -> dict[str, ParameterRange]:
    """Return what hyperparameters that somebody declared beforehand say in place of a model's own, by name.

    Raises:
        UnusableParameter: one cannot be sampled by Optuna.
    """
    found: dict[str, ParameterRange] = {}
    for one in hp.space:
        match distribution_of(one):
            case IntDistribution(low=low, high=high, log=log, step=step):
                own = ParameterRange(low=low, high=high, log=log, step=None if log else step, default=one.default)
            case FloatDistribution(low=low, high=high, log=log, step=step):
                own = ParameterRange(low=low, high=high, log=log, step=step, default=one.default)
            case CategoricalDistribution(choices=choices):
                own = ParameterRange(choices=choices, default=one.default)
            case _:
                own = ParameterRange(choices=(one.value,))
        found[one.name] = own
    return found


def parameters_of(hp: RangedHyperParameters) -> dict[str, Value]:
    """Return the values of what a trial would sample: the active parameters that are not fixed."""
    return {name: hp.values[name] for name, known in hp.active.items() if distribution_of(known) is not None}


def search_space(active: Mapping[str, Any]) -> SearchSpace:
    """Return the space of hyperparameters that were active somewhere in it, those that are fixed left out."""
    return SearchSpace(
        {
            name: Parameter(
                distribution,
                _nearest_in(distribution, known.default),
                # Conditions on what is fixed are met, or the hyperparameter would not have been active.
                tuple(
                    (c.name, tuple(c.values)) for c in known.conditions if not isinstance(active.get(c.name), kt.Fixed)
                ),
            )
            for name, known in active.items()
            if (distribution := distribution_of(known)) is not None
        }
    )


def extremes(hp: RangedHyperParameters) -> Iterator[dict[str, Value]]:
    """Yield the corners of a space worth building: all lows, all highs, and each choice of each parameter alone."""
    bounds = {name: d for name, known in hp.active.items() if (d := distribution_of(known)) is not None}
    numeric = {n: d for n, d in bounds.items() if isinstance(d, (IntDistribution, FloatDistribution))}
    choices_of = {n: d.choices for n, d in bounds.items() if isinstance(d, CategoricalDistribution)}
    numbers = {n: [c for c in choices if type(c) in (int, float)] for n, choices in choices_of.items()}
    numbers = {n: values for n, values in numbers.items() if len(values) == len(choices_of[n])}
    for pick, bound in ((min, "low"), (max, "high")):
        corner: dict[str, Value] = {n: getattr(d, bound) for n, d in numeric.items()}
        yield corner | {n: pick(values, key=float) for n, values in numbers.items()}  # type: ignore[arg-type]
    for name, choices in choices_of.items():
        if name not in numbers:
            yield from ({name: choice} for choice in choices)
