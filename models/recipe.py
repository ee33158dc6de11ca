"""The hyperparameters that every image classifier shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, cast, get_args

Optimizer = Literal["sgd", "adam", "adamw"]
Schedule = Literal["constant", "cosine"]
ClassWeights = Literal["none", "balanced"]

BATCH_SIZES = (32, 64, 128, 256)

CORE = ("batch_size", "optimizer", "learning_rate", "dropout")
"""The hyperparameters that every model has in every study."""


@dataclass(frozen=True)
class Recipe:
    """How one model is trained; the attributes are named as the hyperparameters are.

    `weight_decay` is decoupled from the gradient (AdamW, arXiv:1711.05101): a step of learning rate r shrinks a weight
    by `r * weight_decay`. Plain `adam` has none, which is what sets it apart from `adamw`.
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


def replaced(recipe: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return a recipe with other values.

    Raises:
        ValueError: a name is none of a recipe's, or a value is not of its kind.
    """
    own = {field.name: getattr(recipe, field.name) for field in fields(recipe)}
    for name, value in values.items():
        if name not in own:
            raise ValueError(f"`defaults` knows {', '.join(own)}. Received: {name!r}.")
        kind = float if isinstance(own[name], float) else type(own[name])
        if isinstance(value, bool) or not isinstance(value, (float, int) if kind is float else kind):
            raise ValueError(f"`defaults.{name}` must be like {own[name]!r}. Received: {value!r}.")
    return replace(recipe, **values)


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
        schedule=cast(Schedule, hp.Choice("schedule", ["constant", "cosine"], default=defaults.schedule)),
    )
