"""What a model of the user's does that cannot be meant: it trains all the same, but not as its author thinks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers

from models.classifier import HEAD, NORMALIZATION, ImageClassifier
from models.training.model import unnumbered
from models.tunable import Tunable

SMALL_SPREAD = 0.1
"""Normalised pixels have a standard deviation of 1 over pictures: with less than this they are close to a constant."""

FAR_OFF = 20.0
"""Where the mean is more standard deviations than this from zero, it hides what differs between pictures."""

_PICTURES = 16

_UNREAD = ("loss", "metrics", "objective", "optimizer", "class_weight", "callbacks")


def remarks_on(tunable: Tunable, network: keras.Model) -> list[str]:
    """Return one line for each thing that the author of a model should know.

    Args:
        tunable: makes the model.
        network: what it made, pixels to logits.
    """
    if not isinstance(tunable, ImageClassifier):
        return []
    return [*_unread(tunable), *_rescaled(network), *_ends_with_softmax(network, tunable)]


def _unread(classifier: ImageClassifier) -> list[str]:
    names = [name for name in _UNREAD if hasattr(classifier, name) and not hasattr(ImageClassifier, name)]
    return [
        f"{type(classifier).__name__}.{name} is read by nobody: every model trains with the service's own loss,"
        " optimizer and metrics, and the validation accuracy decides"
        for name in names
    ]


def _rescaled(network: keras.Model) -> list[str]:
    """What is done to normalised pixels before the first weights, measured: it has many forms in a graph."""
    start = network.get_layer(NORMALIZATION).output
    random = np.random.default_rng(0)
    shape = (_PICTURES, *start.shape[1:])
    # Half of it is one grey for each picture: what averages over pixels, or takes differences of them, keeps a part.
    each = (_PICTURES, *(1 for _ in start.shape[1:]))
    pictures = (random.normal(size=each) + random.normal(size=shape)) / np.sqrt(2.0)
    walk = _Walk()
    walk.through(network, {id(start): _measured(keras.ops.convert_to_tensor(pictures, dtype=start.dtype))})
    return walk.remarks


@dataclass(frozen=True)
class _Pixels:
    """What has become of normalised pixels on their way to the first weights.

    Attributes:
        value: a tensor.
        spread: its standard deviation over pictures, where that is largest.
        centre: its mean.
        spoiled_by: the name of the operation that left next to nothing of them; empty if none did.
    """

    value: Any
    spread: float
    centre: float
    spoiled_by: str = ""

    @property
    def spoiled(self) -> bool:
        return self.spread < SMALL_SPREAD or abs(self.centre) > FAR_OFF * self.spread


def _measured(value: Any, by: str = "", inputs: Sequence[_Pixels] = ()) -> _Pixels:
    numbers = np.asarray(keras.ops.convert_to_numpy(value), np.float64)
    # Not the mean over places: a border that was added, or a channel of coordinates, is the same in all pictures.
    found = _Pixels(value, float(numbers.std(axis=0).max()), float(np.median(numbers)))
    if not found.spoiled:
        return found
    first = next((one.spoiled_by for one in inputs if one.spoiled), by)
    return _Pixels(value, found.spread, found.centre, first)


class _Walk:
    """Runs the operations of a network that come before its first weights.

    Attributes:
        remarks: a line for each operation that spoils what weights are given.
    """

    def __init__(self) -> None:
        self.remarks: list[str] = []

    def through(self, graph: Any, known: dict[int, _Pixels]) -> list[_Pixels | None]:
        """Return what comes out of a graph, None for what depends on weights.

        Args:
            graph: a functional model.
            known: the values of some of its symbolic tensors, by identity; those are added that follow from them.
        """
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                inputs = [known.get(id(tensor)) for tensor in node.input_tensors]
                found = [one for one in inputs if one is not None]
                if node.is_input or not found or len(found) < len(inputs):
                    continue
                for tensor, output in zip(node.outputs, self._outputs(node, found), strict=False):
                    if output is not None:
                        known.setdefault(id(tensor), output)
        return [known.get(id(tensor)) for tensor in graph.outputs]

    def _outputs(self, node: Any, inputs: list[_Pixels]) -> list[_Pixels | None]:
        operation = node.operation
        graph = operation._functional if isinstance(operation, keras.Sequential) else operation
        if hasattr(graph, "_nodes_by_depth") and len(graph.inputs) == len(inputs):
            return self.through(graph, {id(tensor): one for tensor, one in zip(graph.inputs, inputs, strict=True)})
        # One that was adapted to data has weights, but not to learn.
        if getattr(operation, "weights", None) and not isinstance(operation, layers.Normalization):
            self._reach(operation, inputs)
            return []
        values = {id(tensor): one.value for tensor, one in zip(node.input_tensors, inputs, strict=True)}
        args, kwargs = node.arguments.fill_in(values)
        outputs = keras.tree.flatten(operation(*args, **kwargs))
        return [_measured(value, _name(operation), inputs) for value in outputs]

    def _reach(self, operation: Any, inputs: list[_Pixels]) -> None:
        for one in inputs:
            if one.spread < SMALL_SPREAD:
                self._say(one.spoiled_by, f"shrinks {_NORMALISED} to a standard deviation of {one.spread:.2g}")
            elif one.spoiled:
                self._say(one.spoiled_by, f"moves {_NORMALISED} to a mean of {one.centre:.3g}")
            for name, scale in _scales_inside(operation):
                if one.spread >= SMALL_SPREAD and one.spread * scale < SMALL_SPREAD:
                    spread = one.spread * scale
                    self._say(name, f"shrinks {_NORMALISED} to a standard deviation of {spread:.2g}")

    def _say(self, name: str, what: str) -> None:
        line = (
            f"{name!r} {what}, which leaves next to nothing of it: leave it out, a Rescaling as well as an"
            " application's preprocess_input, which expects pixels from 0 to 255"
        )
        if not any(said.startswith(f"{name!r} ") for said in self.remarks):
            self.remarks.append(line)


def _name(operation: Any) -> str:
    # Numbers grow from build to build, and what is said of each model of a space is to be said once.
    return unnumbered(operation) or str(operation.name)


_NORMALISED = "what is normalised already (mean 0, standard deviation 1)"


def _scales_inside(operation: Any) -> Iterator[tuple[str, float]]:
    """The rescaling in a layer or a model that has no graph to walk through, by name."""
    for layer in operation._flatten_layers(include_self=False):
        if isinstance(layer, layers.Rescaling) and np.ndim(layer.scale) == 0:
            yield _name(layer), abs(float(layer.scale))


def _ends_with_softmax(network: keras.Model, classifier: ImageClassifier) -> list[str]:
    features = keras.Model(network.input, network.get_layer(HEAD).input)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *classifier.inputs.shape)).astype(np.float32)
    values: Any = np.asarray(keras.ops.convert_to_numpy(features(pixels, training=False)), np.float64)
    if values.shape[-1] < 2 or values.min() < 0.0 or np.abs(values.sum(axis=-1) - 1.0).max() > 1e-2:
        return []
    said = "the backbone ends with a softmax, and the service adds the layer of classes and a softmax of its own"
    return [f"{said}: end it with features, before your own layer of classes"]
