"""The hyperparameters of a training on a base: those of a recipe, and when how much of the base learns how fast."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from models.recipe import Recipe, declare_recipe, raised, replaced
from models.transfer.networks import POOLINGS, Pooling

DEFAULTS = Recipe(
    batch_size=64, optimizer="adamw", learning_rate=3e-3, dropout=0.2, weight_decay=0.02, augmentation=0.3
)

FROZEN = (0.25, 0.5, 0.75, 1.0)
"""Shares of the epochs in which the base is frozen."""
UNFROZEN = (0.1, 0.3, 1.0)
"""Shares of its layers that learn after that."""


@dataclass(frozen=True)
class TransferRecipe:
    """How a head, and then the base, is trained.

    Attributes:
        head: the recipe of the first phase: no augmentation, whose features nobody knows.
        tuned: that of the second, with a learning rate of its own.
        pooling: what is made of the maps.
        frozen: the share of the epochs that the first phase has.
        unfrozen: the share of the base's layers that learn in the second, from the last one on.
    """

    head: Recipe
    tuned: Recipe
    pooling: Pooling
    frozen: float
    unfrozen: float

    def frozen_epochs(self, epochs: int) -> int:
        """Return how many of so many epochs the first phase has; of two or more, each has one at least."""
        if self.frozen == 1.0 or epochs == 1:
            return epochs
        return min(max(round(self.frozen * epochs), 1), epochs - 1)


def declare_transfer(
    hp: Any, defaults: Mapping[str, Any], at_least: Mapping[str, float], *, extended: bool, pools: bool
) -> TransferRecipe:
    """Declare the hyperparameters on `hp`, a `keras_tuner.HyperParameters`, and return the values it gives.

    Args:
        hp: the hyperparameters.
        defaults: values in place of those of `DEFAULTS`, by their names.
        at_least: values of the recipe, by name, that are raised to these.
        extended: whether those that a recipe has in the extended space are among them.
        pools: whether the base gives maps.
    """
    recipe = raised(declare_recipe(hp, replaced(DEFAULTS, defaults), extended=extended), at_least)
    pooling = cast(Pooling, hp.Choice("pooling", list(POOLINGS), default="mean") if pools else "mean")
    frozen = hp.Choice("frozen", list(FROZEN), default=0.5)
    with hp.conditional_scope("frozen", [share for share in FROZEN if share < 1.0]):
        unfrozen = hp.Choice("unfrozen", list(UNFROZEN), default=0.3)
        rate = hp.Float("fine_tuning_rate", 1e-5, 1e-2, sampling="log", default=1e-4)
    return TransferRecipe(
        head=replace(recipe, augmentation=0.0),
        # An inactive hyperparameter has the value None.
        tuned=recipe if rate is None else replace(recipe, learning_rate=rate),
        pooling=pooling,
        frozen=float(frozen),
        unfrozen=0.0 if unfrozen is None else float(unfrozen),
    )
