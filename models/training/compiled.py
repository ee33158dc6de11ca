"""Compiled models that serve one training after the other.

Tracing a training step anew for each trial costs more than many a trial's epoch, and what was traced is never given
back. So a compiled model is used again by every trial of its signature: the same network, optimizer class and
precision. A trial brings a network of its own, built as in a new process; its weights, drawn or given, are copied into
the compiled model, whose optimizer, metrics and random streams begin anew, and whose variables take its values. A
training on a used model is bit for bit that on a new one.

A layer that a model makes once and uses again in each trial, such as a base with its weights, is no network's own: the
trainings before would be seen in it. Its variables are borrowed: they have the values again that the user's code left
in them whenever a network is built.
"""

from __future__ import annotations

import gc
import hashlib
import json
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.recipe import Recipe
from models.training.by_value import is_by_value
from models.training.model import TrainingModel

KEPT = 16
"""How many compiled models are kept: the core space has 3 signatures, and 12 where XLA compiles each batch size."""

GARBAGE_BYTES = 64 * 2**20
"""How much memory of networks is worth the look at every object that gives it back."""

_WEIGHT_BYTES = 4


class CompiledModels:
    """The compiled models of a process, by signature; the one used longest ago makes way.

    Args:
        kept: how many at most.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._models: OrderedDict[str, TrainingModel] = OrderedDict()
        self._borrowed: dict[int, tuple[weakref.ref[Any], npt.NDArray[Any]]] = {}
        self._dropped = False
        self._garbage_bytes = 0

    def put_back(self) -> None:
        """Give borrowed variables the values that they had before they were trained; call it before a build."""
        for number, (reference, value) in list(self._borrowed.items()):
            variable = reference()
            if variable is None:
                del self._borrowed[number]
            else:
                variable.assign(value)

    def take(self, signature: str | None, network: keras.Model, make: Callable[[], TrainingModel]) -> TrainingModel:
        """Return a model with the weights of a network: the one of its signature, made if there is none.

        One without a signature, or with borrowed weights, is not kept.

        Args:
            signature: of the network.
            network: as the trial brings it.
            make: builds the network once more, and compiles it.
        """
        model = self._models.get(signature) if signature is not None else None
        if model is None:
            if signature is not None:
                self._make_room()
            model = make()
        # What two builds have in common was there before, or is kept by the model's code.
        own = {id(variable) for variable in network.weights}
        common = [variable for variable in model.network.weights if id(variable) in own]
        self._borrow(common)
        if signature is not None and not common:
            model.take_over(network)
            if self._kept:
                self._models[signature] = model
                self._models.move_to_end(signature)
                return model
        self._dropped = True
        return model

    def _make_room(self) -> None:
        if len(self._models) == self._kept and self._models:
            self._models.popitem(last=False)
            self._dropped = True
        self.tidy()  # first, so that both need not fit into the device's memory

    def _borrow(self, variables: Iterable[Any]) -> None:
        for variable in variables:
            value = np.array(keras.ops.convert_to_numpy(variable.value))
            self._borrowed[id(variable)] = weakref.ref(variable), value

    def tidy(self) -> None:
        """Give back the memory of models that are not kept; call it when the last of them has served."""
        if self._dropped:
            self._dropped = False
            self._collect()

    def discard(self, weights: int) -> None:
        """Count a network of so many weights that is not used any more; give memory back where it is worth it."""
        self._garbage_bytes += _WEIGHT_BYTES * weights
        if self._garbage_bytes >= GARBAGE_BYTES:
            self._collect()

    def _collect(self) -> None:
        gc.collect()  # models and networks hold themselves in cycles
        self._garbage_bytes = 0


def signature_of(network: keras.Model, recipe: Recipe, dtype: str = "uint8") -> str | None:
    """Return what trainings have in common that one compiled model can serve; None if that cannot be said.

    What cannot be compared by value, a layer or a function that is not Keras's own, may hide anything in its graph:
    such a network is compiled for each trial.

    Args:
        network: pixels to logits.
        recipe: how it is trained.
        dtype: of the data.
    """
    if not all(is_by_value(operation) for operation in network.operations):
        return None
    try:
        document = [
            _without_rates(_serialized(network)),
            [[weight.trainable, *_rules_of(weight)] for weight in network.weights],
            [keras.config.dtype_policy().name, keras.config.epsilon(), keras.config.image_data_format()],
            recipe.optimizer,
            [recipe.augmentation > 0.0, recipe.averaging > 0.0],
            dtype,
        ]
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()
    except (TypeError, ValueError, NotImplementedError):  # Keras cannot say what it is
        return None


def _rules_of(weight: Any) -> list[Any]:
    """What training does to a weight besides; it may have been given to the weight alone, not to its layer."""
    return [keras.saving.serialize_keras_object(rule) for rule in (weight.regularizer, weight.constraint)]


def _serialized(network: keras.Model) -> Any:
    """What Keras would save of a network, with names by their place, since Keras numbers names on."""
    operations = network.operations
    names = [operation.name for operation in operations]
    try:
        for number, operation in enumerate(operations):
            operation.name = f"operation_{number}"
        return keras.saving.serialize_keras_object(network)
    finally:
        for operation, name in zip(operations, names, strict=True):
            operation.name = name


def _without_rates(node: Any) -> Any:
    """Leave out the dropout rates, which are values."""
    if isinstance(node, dict):
        if node.get("class_name") == "Dropout" and node["config"]["rate"] > 0.0:
            node = {**node, "config": {**node["config"], "rate": "a value"}}
        return {key: _without_rates(value) for key, value in node.items()}
    return [_without_rates(value) for value in node] if isinstance(node, (list, tuple)) else node
