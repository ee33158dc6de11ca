"""The hyperparameters that every image classifier shares."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast, get_args

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine", "triangular"]
ClassWeights = Literal["none", "balanced"]

BATCH_SIZES = (32, 64, 128, 256)

# What a value may be, as people read it.
_BOUNDS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    "batch_size": ("at least 1", lambda value: value >= 1),
    "optimizer": (f"one of {', '.join(get_args(Optimizer))}", lambda value: value in get_args(Optimizer)),
    "learning_rate": ("above 0", lambda value: value > 0.0),
    "dropout": ("from 0 to below 1", lambda value: 0.0 <= value < 1.0),
    "weight_decay": ("at least 0", lambda value: value >= 0.0),
    "momentum": ("from 0 to below 1", lambda value: 0.0 <= value < 1.0),
    "label_smoothing": ("from 0 to below 1", lambda value: 0.0 <= value < 1.0),
    "augmentation": ("from 0 to 1", lambda value: 0.0 <= value <= 1.0),
    "schedule": (f"one of {', '.join(get_args(Schedule))}", lambda value: value in get_args(Schedule)),
    "averaging": ("from 0 to below 1", lambda value: 0.0 <= value < 1.0),
}

CORE = ("batch_size", "optimizer", "learning_rate", "dropout")
"""The hyperparameters that every model has in every study."""


@dataclass(frozen=True)
class Recipe:
    """How one model is trained; the attributes are named as the hyperparameters are.

    `weight_decay` is decoupled from the gradient (AdamW, arXiv:1711.05101): a step of learning rate r shrinks a weight
    by `r * weight_decay`. Plain `adam` has none, which is what sets it apart from `adamw`.

    `averaging` is the decay, for each step, of the moving average of the weights that is judged and kept in their
    place; 0 for none. No space searches it.
    """

    batch_size: int
    optimizer: Optimizer
    learning_rate: float
    dropout: float
    weight_decay: float = 0.02
    momentum: float = 0.9
    label_smoothing: float = 0.0
    augmentation: float = 0.0
    schedule: Schedule = "cosine"
    averaging: float = 0.0


class UnusableDefault(ValueError):
    """A value that a recipe cannot have, or a name that it does not know."""


def replaced(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values.

    Raises:
        UnusableDefault: a name is none of a recipe's, or a value is not of its kind or out of its bounds.
    """
    own = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    for name, value in values.items():
        if name not in own:
            raise UnusableDefault(f"`defaults` knows {', '.join(own)}. Received: {name!r}.")
        kind = float if isinstance(own[name], float) else type(own[name])
        if isinstance(value, bool) or not isinstance(value, (float, int) if kind is float else kind):
            raise UnusableDefault(f"`defaults.{name}` must be like {own[name]!r}. Received: {value!r}.")
        allowed, holds = _BOUNDS[name]
        if not holds(value):
            raise UnusableDefault(f"`defaults.{name}` must be {allowed}. Received: {value!r}.")
    return replace(recipe, **values)


def raised(recipe: Recipe, at_least: Mapping[str, float]) -> Recipe:
    """Return a recipe whose values of these names are at least so large.

    Raises:
        UnusableDefault: a name is none of a recipe's.
    """
    higher = {name: max(value, getattr(recipe, name, value)) for name, value in at_least.items()}
    return replaced(recipe, higher)


def declare_recipe(hp: Any, defaults: Recipe, *, extended: bool, augmented: bool = True) -> Recipe:
    """Declare the recipe on `hp`, a `keras_tuner.HyperParameters`, and return the values it gives.

    Calling it again with the same `hp` gives the same values. Outside the extended space only four names are
    declared, and the rest are the defaults. What is not `augmented` has no augmentation, whatever the defaults say.
    """
    if not augmented:
        defaults = replace(defaults, augmentation=0.0)
    core = replace(
        defaults,
        batch_size=hp.Choice("batch_size", list(BATCH_SIZES), default=defaults.batch_size),
        optimizer=hp.Choice("optimizer", ["sgd", "adam", "adamw"], default=defaults.optimizer),
        learning_rate=hp.Float("learning_rate", 3e-4, 1e-1, sampling="log", default=defaults.learning_rate),
        dropout=hp.Float("dropout", 0.0, 0.6, default=defaults.dropout),
    )
    return _declare_extended(hp, core, defaults, augmented) if extended else core


def declare_class_weights(hp: Any, asked: ClassWeights | Literal["search"]) -> ClassWeights:
    """Return how classes are weighed while training: as asked, or where that is searched, as `hp` says.

    It is no part of a recipe: the user decides on it, for any model and in any space.
    """
    if asked != "search":
        return asked
    return cast(ClassWeights, hp.Choice("class_weights", list(get_args(ClassWeights)), default="none"))


def _declare_extended(hp: Any, core: Recipe, defaults: Recipe, augmented: bool) -> Recipe:
    with hp.conditional_scope("optimizer", ["sgd"]):
        momentum = hp.Float("momentum", 0.8, 0.98, default=defaults.momentum)
    with hp.conditional_scope("optimizer", ["sgd", "adamw"]):
        weight_decay = hp.Float("weight_decay", 1e-4, 3e-1, sampling="log", default=defaults.weight_decay)
    return replace(
        core,
        # An inactive hyperparameter has the value None.
        momentum=defaults.momentum if momentum is None else momentum,
        weight_decay=defaults.weight_decay if weight_decay is None else weight_decay,
        label_smoothing=hp.Float("label_smoothing", 0.0, 0.2, default=defaults.label_smoothing),
        augmentation=hp.Float("augmentation", 0.0, 1.0, default=defaults.augmentation) if augmented else 0.0,
        schedule=cast(Schedule, hp.Choice("schedule", _schedules(defaults), default=defaults.schedule)),
    )


def _schedules(defaults: Recipe) -> list[str]:
    """What is searched: a triangle only where it is a model's own, so that studies of all others stay as they are."""
    return ["constant", "cosine", *(["triangular"] if defaults.schedule == "triangular" else [])]
