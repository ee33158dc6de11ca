"""Keras's optimizers with all that is tuned in variables: a value may change without a new trace.

Keras takes momentum, weight decay and the lengths of a schedule as Python numbers, which are traced into the training
step, and where it takes variables it ignores them or raises. As variables of the optimizer they are part of its state,
on every backend.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from models.recipe import Recipe

WARM_UP = {"cosine": 0.15, "triangular": 0.23}
"""Share of all steps over which the learning rate of a schedule rises to its peak."""
START = 0.1
"""Share of the peak that the warm-up begins with."""


class _Tuned:
    """What the optimizers share: a mixin before one of Keras's.

    `learning_rate`, the peak, is Keras's own variable, which `ReduceLROnPlateau` lowers; the schedule is a factor.
    """

    # Keras's, which the mixin comes before.
    _learning_rate: Any
    _iterations: Any
    weight_decay: Any
    add_variable: Callable[..., Any]
    assign_sub: Callable[..., None]
    _use_weight_decay: Callable[[Any], bool]

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.warm_up_steps = self._number("warm_up_steps")
        self.decay_steps = self._number("decay_steps")

    def _number(self, name: str) -> keras.Variable:
        return self.add_variable(shape=(), dtype="float32", name=name)

    def set_values(self, recipe: Recipe, steps: int) -> None:
        """Take over a recipe's values for a training of `steps` steps in all."""
        self._learning_rate.assign(recipe.learning_rate)
        warm_up, decay = _schedule_lengths(recipe, steps)
        self.warm_up_steps.assign(warm_up)
        self.decay_steps.assign(decay)

    def _get_current_learning_rate(self) -> Any:
        """The peak times the schedule's factor: a linear warm-up, then a decay to zero, or 1 without lengths.

        The decay is a cosine (SGDR, arXiv:1608.03983, equation 5, without restarts), or where its length is negative, a
        line (arXiv:2404.00498, section 3.1). The sign is the whole difference: a variable more would not be in the
        optimizers that were kept before.
        """
        step = ops.cast(self._iterations, "float32")
        warm_up, decay = ops.convert_to_tensor(self.warm_up_steps), ops.convert_to_tensor(self.decay_steps)
        rising = START + (1.0 - START) * step / ops.maximum(warm_up, 1.0)
        passed = ops.clip((step - warm_up) / ops.maximum(ops.abs(decay), 1.0), 0.0, 1.0)
        falling = ops.where(decay > 0.0, 0.5 * (1.0 + ops.cos(math.pi * passed)), 1.0 - passed)
        factor = ops.where(decay != 0.0, ops.where(step < warm_up, rising, falling), ops.ones_like(step))
        return ops.convert_to_tensor(self._learning_rate) * factor

    def _apply_weight_decay(self, variables: Any) -> None:
        # As Keras's, but the learning rate is computed once for all variables.
        if self.weight_decay is None:
            return
        shrinkage = self._get_current_learning_rate() * self.weight_decay
        for variable in variables:
            if self._use_weight_decay(variable):
                self.assign_sub(variable, variable * ops.cast(shrinkage, variable.dtype))


class Adam(_Tuned, keras.optimizers.Adam):
    """Adam (arXiv:1412.6980)."""


class AdamW(_Tuned, keras.optimizers.AdamW):
    """AdamW (arXiv:1711.05101); the weight decay is a variable."""

    def __init__(self) -> None:
        super().__init__(weight_decay=0.0)
        self.weight_decay = self._number("weight_decay")

    def set_values(self, recipe: Recipe, steps: int) -> None:
        super().set_values(recipe, steps)
        self.weight_decay.assign(recipe.weight_decay)


class SGD(_Tuned, keras.optimizers.SGD):
    """Gradient descent with Nesterov's momentum; the momentum and the decoupled weight decay are variables."""

    def __init__(self) -> None:
        super().__init__(momentum=0.9, nesterov=True, weight_decay=0.0)  # above 0: Keras makes the momenta's variables
        self.tuned_momentum = self._number("momentum")
        self.weight_decay = self._number("weight_decay")

    def set_values(self, recipe: Recipe, steps: int) -> None:
        super().set_values(recipe, steps)
        self.tuned_momentum.assign(recipe.momentum)
        self.weight_decay.assign(recipe.weight_decay)

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        rate = ops.cast(learning_rate, variable.dtype)
        change = ops.cast(gradient, variable.dtype) * rate
        velocity = self.momentums[self._get_variable_index(variable)]
        momentum = ops.cast(self.tuned_momentum, variable.dtype)
        self.assign(velocity, velocity * momentum - change)
        self.assign_add(variable, velocity * momentum - change)


OPTIMIZERS = {"sgd": SGD, "adam": Adam, "adamw": AdamW}


def make_optimizer(recipe: Recipe) -> Any:
    """Return the optimizer of a recipe's class, its values not yet set."""
    optimizer: Any = OPTIMIZERS[recipe.optimizer]()
    if recipe.optimizer != "adam":
        # Shrinking biases and the scales of batch normalisation regularises nothing (arXiv:1812.01187, section 3.1).
        optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def _schedule_lengths(recipe: Recipe, steps: int) -> tuple[int, int]:
    """Return the steps of warm-up and of decay, these negative for a line; 0 and 0 for a constant learning rate."""
    if recipe.schedule == "constant":
        return 0, 0
    warm_up = max(1, round(WARM_UP[recipe.schedule] * steps))
    decay = max(1, steps - warm_up)
    return warm_up, -decay if recipe.schedule == "triangular" else decay
