"""A study's search space, known before its first trial: parameters as points of the unit cube, and as features.

What a model declares is walked once and recorded with the study, so that a strategy can propose whole configurations.
A parameter with conditions is active only where each parent has one of the given values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
    json_to_distribution,
)

from studies.spec import Scalar

Points = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

# So far apart that two words of a categorical parameter are at distance 1.
_ONE_HOT = 2**-0.5


@dataclass(frozen=True)
class Parameter:
    """One searched parameter.

    Attributes:
        distribution: its range.
        default: the model's own value, within the range.
        conditions: parent parameters, each with the values under which this one is active.
    """

    distribution: BaseDistribution
    default: Scalar | None = None
    conditions: tuple[tuple[str, tuple[Scalar, ...]], ...] = ()

    @cached_property
    def levels(self) -> tuple[Any, ...] | None:
        """The values of a categorical parameter, numbers in their order; None for a number in a range."""
        if not isinstance(self.distribution, CategoricalDistribution):
            return None
        choices = tuple(self.distribution.choices)
        return tuple(sorted(choices)) if self.is_ordered else choices

    @cached_property
    def is_ordered(self) -> bool:
        """Whether neighbours among the values are alike: numbers in a range, or choices that are all numbers."""
        if not isinstance(self.distribution, CategoricalDistribution):
            return True
        return all(type(choice) in (int, float) for choice in self.distribution.choices)

    def value_at(self, unit: float) -> Scalar:
        """Return the value at a place of the unit interval."""
        (number,) = self.numbers_at(np.array([unit]))
        if self.levels is not None:
            level: Scalar = self.levels[int(number)]
            return level
        return round(number) if isinstance(self.distribution, IntDistribution) else float(number)

    def numbers_at(self, units: Points) -> Points:
        """Return the values `(n,)` at places `(n,)` of the unit interval; of a choice, its place among the levels."""
        if self.levels is not None:
            return np.minimum(np.floor(units * len(self.levels)), len(self.levels) - 1)
        low, high, step = self._bounds
        number = self.distribution
        assert isinstance(number, (IntDistribution, FloatDistribution))
        scaled = low + units * (high - low)
        values = np.exp(scaled) if number.log else scaled
        if step is not None:
            values = number.low + step * np.round((values - number.low) / step)
        return np.clip(values, number.low, number.high)

    def units_of(self, numbers: Points) -> Points:
        """Return the places `(n,)` of what `numbers_at` returned."""
        if self.levels is not None:
            return (numbers + 0.5) / len(self.levels)
        low, high, _ = self._bounds
        number = self.distribution
        assert isinstance(number, (IntDistribution, FloatDistribution))
        within = np.clip(numbers, number.low, number.high)
        scaled = np.log(within) if number.log else within
        return (scaled - low) / (high - low) if high > low else np.where(np.isnan(numbers), np.nan, 0.5)

    def places_of(self, values: Sequence[Any]) -> Points:
        """Return the places `(n,)` of values, NaN for what is none of this parameter."""
        if self.levels is not None:
            places = {level: place for place, level in enumerate(self.levels)}
            return self.units_of(np.array([places.get(value, np.nan) for value in values], dtype=float))
        numbers = [value if type(value) in (int, float) else np.nan for value in values]
        return self.units_of(np.array(numbers, dtype=float))

    def fitted(self, value: Any, unit: float) -> Scalar:
        """Return a value as it is where it lies in the range, else the one at its place of the unit interval."""
        own = self.distribution
        kept: Scalar = value
        if isinstance(own, CategoricalDistribution):
            return kept
        assert isinstance(own, (IntDistribution, FloatDistribution))
        whole = isinstance(own, FloatDistribution) or float(value).is_integer()
        if whole and own.low <= value <= own.high and own._contains(own.to_internal_repr(value)):
            return kept
        return self.value_at(unit)

    @property
    def _bounds(self) -> tuple[float, float, float | None]:
        """The range on its own scale, an integer's widened so that each value has its share, and the step."""
        number = self.distribution
        assert isinstance(number, (IntDistribution, FloatDistribution))
        half = (number.step or 0) / 2 if not number.log or isinstance(number, IntDistribution) else 0.0
        return self._scaled(number.low - half), self._scaled(number.high + half), number.step

    def _scaled(self, value: float) -> float:
        return float(np.log(value)) if getattr(self.distribution, "log", False) else value


@dataclass(frozen=True)
class SearchSpace:
    """All parameters of a study, by name."""

    parameters: Mapping[str, Parameter]

    @classmethod
    def stored(cls, document: Any) -> SearchSpace:
        """Return the space that `document()` described."""
        return cls(
            {
                one["name"]: Parameter(
                    json_to_distribution(one["distribution"]),
                    one["default"],
                    tuple((parent, tuple(values)) for parent, values in one["conditions"]),
                )
                for one in document
            }
        )

    def document(self) -> list[dict[str, Any]]:
        """Return the space as JSON-able data."""
        return [
            {
                "name": name,
                "distribution": distribution_to_json(one.distribution),
                "default": one.default,
                "conditions": [[parent, list(values)] for parent, values in one.conditions],
            }
            for name, one in self.parameters.items()
        ]

    @property
    def size(self) -> int:
        """How many parameters there are: the dimensions of the unit cube."""
        return len(self.parameters)

    @cached_property
    def defaults(self) -> dict[str, Any]:
        """The model's own configuration, what is inactive left out."""
        return self._active({name: one.default for name, one in self.parameters.items()})

    def params_at(self, point: Points) -> dict[str, Any]:
        """Return the configuration at a point `(size,)` of the unit cube, what is inactive left out."""
        values = zip(self.parameters.items(), point, strict=True)
        return self._active({name: one.value_at(float(unit)) for (name, one), unit in values})

    def points_of(self, configurations: Sequence[Mapping[str, Any]]) -> Points:
        """Return the points `(n, size)` of configurations, NaN where a parameter has no value in its range."""
        columns = [one.places_of([params.get(name) for params in configurations]) for name, one in self._items]
        return np.stack(columns, axis=1) if columns else np.zeros((len(configurations), 0))

    @property
    def _items(self) -> list[tuple[str, Parameter]]:
        return list(self.parameters.items())

    def features(self, points: Points) -> Points:
        """Return `(n, features)` in [0, 1] of points `(n, size)`, NaN where a parameter is inactive.

        Numbers are one feature each, on their own scale; words are one feature for each choice.
        """
        active: dict[str, Mask] = {}
        columns: list[Points] = [np.zeros((len(points), 0))]
        for place, (name, one) in enumerate(self.parameters.items()):
            known = ~np.isnan(points[:, place])
            units = np.where(known, points[:, place], 0.5)
            active[name] = known & self._is_active(one, points, active)
            columns.append(np.where(active[name][:, None], _features_of(one, units), np.nan))
        return np.concatenate(columns, axis=1)

    def _is_active(self, parameter: Parameter, points: Points, active: Mapping[str, Mask]) -> Mask:
        result = np.ones(len(points), dtype=bool)
        names = list(self.parameters)
        for parent, allowed in parameter.conditions:
            one = self.parameters[parent]
            # A study may have left the parent fewer choices than the model's condition names.
            kept = [value for value in allowed if one.levels is None or value in one.levels]
            wanted = [one.levels.index(value) for value in kept] if one.levels is not None else kept
            numbers = one.numbers_at(np.nan_to_num(points[:, names.index(parent)], nan=0.5))
            result &= active[parent] & np.isin(numbers, wanted)
        return result

    def fits(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the part of a configuration that is in this space, numbers moved to the nearest bound."""
        (point,) = self.points_of([params])
        units = zip(self._items, point, strict=True)
        return {name: one.fitted(params[name], float(unit)) for (name, one), unit in units if not np.isnan(unit)}

    def _active(self, params: dict[str, Any]) -> dict[str, Any]:
        active: dict[str, Any] = {}
        # A parent is declared before its children.
        for name, value in params.items():
            conditions = self.parameters[name].conditions
            if all(active.get(parent) in values for parent, values in conditions):
                active[name] = value
        return active


def _features_of(parameter: Parameter, units: Points) -> Points:
    numbers = parameter.numbers_at(units)
    if parameter.is_ordered:
        return parameter.units_of(numbers)[:, None]
    assert parameter.levels is not None
    return np.where(numbers[:, None] == np.arange(len(parameter.levels)), _ONE_HOT, 0.0)
