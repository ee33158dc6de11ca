"""Keras's random generators that are no part of a model: found, so that they are known to be drawn from."""

from __future__ import annotations

import gc
import random
from typing import Any

import keras
from keras.src.backend.common import global_state
from keras.src.random import seed_generator

from models.backend import draws_from_own_generators


def drawn_without_consuming() -> int:
    """Return the number below 2**31 that Python's generator would draw next; it draws it still."""
    copy = random.Random()
    copy.setstate(random.getstate())
    return copy.randrange(2**31)


def keras_own(*, make: bool = False) -> list[Any]:
    """Return the state of the generator that Keras draws from where no seed is given, if there is one.

    Args:
        make: whether it is made if there is none yet.
    """
    if make:
        return [seed_generator.global_seed_generator().state]
    made = global_state.get_global_attribute(seed_generator.GLOBAL_SEED_GENERATOR)
    return [] if made is None else [made.state]


def states_outside(model: keras.Model) -> list[Any]:
    """Return the states of all generators of Keras's that are neither a model's nor Keras's own."""
    known = {id(variable) for variable in (*model.variables, *keras_own())}
    # Not `isinstance`, which asks objects that answer by themselves.
    found = [each.state for each in gc.get_objects() if issubclass(type(each), keras.random.SeedGenerator)]
    return [state for state in found if id(state) not in known]


class DrawnFrom:
    """Finds out whether a training draws from generators that are not kept with its state.

    Args:
        model: before its first step.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._before = {id(state): _value(state) for state in states_outside(model)}

    def others(self) -> bool:
        """Return whether it does, once a step is done."""
        after = {id(state): _value(state) for state in states_outside(self._model)}
        return after != self._before or draws_from_own_generators(self._model)


def _value(state: Any) -> tuple[int, ...]:
    return tuple(keras.ops.convert_to_numpy(state).tolist())
