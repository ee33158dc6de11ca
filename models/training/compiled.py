"""Compiled models that serve one training after the other.

Tracing a training step anew for each trial costs more than many a trial's epoch, and what was traced is never given
back. So a compiled model is used again by every trial of its signature: the same network, optimizer class and
precision. A trial brings a network of its own, built as in a new process; its fresh weights are copied into the
compiled model, whose optimizer, metrics and random streams begin anew, and whose variables take its values. A training
on a used model is bit for bit that on a new one.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from models.recipe import Recipe
from models.training.model import TrainingModel

KEPT = 16
"""How many compiled models are kept: the core space has 3 signatures, and 12 where XLA compiles each batch size."""


class CompiledModels:
    """The compiled models of a process, by signature; the one used longest ago makes way.

    Args:
        kept: how many at most.
    """

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self._models: OrderedDict[str, TrainingModel] = OrderedDict()
        self._dropped = False

    def take(self, signature: str | None, make: Callable[[], TrainingModel]) -> TrainingModel:
        """Return the model of a signature, made if there is none; one without a signature is not kept."""
        if signature is None or not self._kept:
            self._dropped = True
            return make()
        if signature not in self._models:
            if len(self._models) == self._kept:
                self._models.popitem(last=False)
                self._dropped = True
            self.tidy()  # first, so that both need not fit into the device's memory
            self._models[signature] = make()
        self._models.move_to_end(signature)
        return self._models[signature]

    def tidy(self) -> None:
        """Give back the memory of models that are not kept; call it when the last of them has served."""
        if self._dropped:
            gc.collect()  # they hold themselves in cycles
            self._dropped = False


def signature_of(network: keras.Model, recipe: Recipe) -> str | None:
    """Return what trainings have in common that one compiled model can serve; None if that cannot be said.

    A layer that is not Keras's own may hide anything in its graph: such a network is compiled for each trial.

    Args:
        network: pixels to logits, a sketch: its layers are named by their place, since Keras numbers names on.
        recipe: how it is trained.
    """
    if not all(_is_stock(layer) for layer in network.layers):
        return None
    for number, layer in enumerate(network.layers):
        layer.name = f"layer_{number}"
    document = [
        _without_rates(keras.saving.serialize_keras_object(network)),
        str(keras.config.dtype_policy().name),
        recipe.optimizer,
        recipe.augmentation > 0.0,
    ]
    return hashlib.sha256(json.dumps(document, sort_keys=True, default=str).encode()).hexdigest()


def _without_rates(node: Any) -> Any:
    """Leave out the dropout rates, which are values."""
    if isinstance(node, dict):
        if node.get("class_name") == "Dropout" and node["config"]["rate"] > 0.0:
            node = {**node, "config": {**node["config"], "rate": "a value"}}
        return {key: _without_rates(value) for key, value in node.items()}
    return [_without_rates(value) for value in node] if isinstance(node, (list, tuple)) else node


def _is_stock(layer: Any) -> bool:
    """Whether the configuration of a layer says all about it: Keras's own, and none that carries code or a network."""
    inside = (layers.Lambda, layers.Wrapper, layers.RNN, keras.Model)
    return type(layer).__module__.startswith("keras.") and not isinstance(layer, inside)
