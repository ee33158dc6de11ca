"""A base: a trained model without its head, from pixels 0..255 as the data have them to features."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
from keras import layers

from models.classifier import Inputs, UnusableModel
from models.training.state import value_of
from models.transfer.applications import application, prepared, suited_shape

_POOLINGS = (layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
# What may follow the layer of the classes, and what may lie between that and the pooling without being missed.
_AFTER_CLASSES = (layers.Activation, layers.Softmax, layers.Dropout)
_BEFORE_CLASSES = (layers.Dropout, layers.BatchNormalization)


class Base:
    """A trained model without its head, and how pictures come to it.

    Args:
        model: pictures as it takes them to maps `(batch, height, width, channels)` or features `(batch, features)`.
        inputs: what the data look like: pictures.
        shape: `(height, width)` that the pictures are given.
        application: the name of a model of `keras.applications`, which takes pixels in a form of its own; empty for a
            saved one, which takes pixels 0..255 as every model of this project does.
        left_off: the name of the layer that was its head; empty where it had none.

    Raises:
        UnusableModel: it does not take such pictures.

    Attributes:
        pools: whether what it gives are maps, which can be pooled in more ways than one.
        channels: how many there are, of maps or of features.
    """

    def __init__(
        self, model: keras.Model, inputs: Inputs, *, shape: tuple[int, int], application: str = "", left_off: str = ""
    ) -> None:
        self.model = model
        self.shape = shape
        self.left_off = left_off
        self._application = application
        self._inputs = inputs
        self._taken = int(model.inputs[0].shape[-1])
        if self._taken != inputs.shape[2] and (self._taken, inputs.shape[2]) != (3, 1):
            raise UnusableModel(
                f"the trained model takes {self._taken} channels, and the pictures have {inputs.shape[2]}"
            )
        self.pools = len(model.outputs[0].shape) == 4
        self.channels = int(model.outputs[0].shape[-1])
        # It is never trained as a whole: see `unfreeze`.
        self.unfreeze(0)
        self._given = [value_of(one) for one in model.weights]
        self._changed = False

    @property
    def weight_count(self) -> int:
        """How many weights it has."""
        return int(self.model.count_params())

    def __call__(self, pixels: Any) -> Any:
        """Return what it makes of pixels 0..255, a symbolic tensor; batch normalisation stays as it was trained."""
        x = pixels
        if self._taken != self._inputs.shape[2]:
            x = layers.Concatenate(name="grey_as_colour")([x] * self._taken)
        if self.shape != self._inputs.shape[:2]:
            # In whole precision, or the pixels between two would be whole numbers.
            x = layers.Resizing(*self.shape, dtype="float32", name="enlarged")(x)
        if self._application:
            x = prepared(self._application, x)
        return self.model(x, training=False)

    def layers_that_learn(self) -> list[Any]:
        """The layers that fine-tuning may change, from the pictures on: not those of batch normalisation."""
        return [
            layer
            for layer in self.model._flatten_layers(include_self=False)
            if layer.variables and not _inside(layer) and not isinstance(layer, layers.BatchNormalization)
        ]

    def unfreeze(self, count: int) -> None:
        """Have the last so many layers with weights learn, and no other."""
        known = self.layers_that_learn()
        for layer in self.model._flatten_layers():
            if _inside(layer):
                layer.trainable = True
        for layer in self.model._flatten_layers():
            if not _inside(layer):
                layer.trainable = False
        for layer in known[len(known) - count :]:
            layer.trainable = True

    def may_change(self) -> None:
        """Say that a training is about to change it."""
        self._changed = True

    def put_back(self) -> None:
        """Have the weights again that it came with."""
        if self._changed:
            for variable, value in zip(self.model.weights, self._given, strict=True):
                variable.assign(value)
            self._changed = False


def _inside(layer: Any) -> list[Any]:
    """The layers that a layer is made of."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def base_from_weights(name: str, weights: Path, inputs: Inputs, *, published: bool) -> Base:
    """Return a model of `keras.applications` as a base.

    Args:
        name: its own, `EfficientNetV2B0`.
        weights: a file with its weights.
        inputs: what the data look like.
        published: whether the file is the one that Keras would fetch.

    Raises:
        UnusableModel: the file is none, or one of another model; or the data are no pictures.
    """
    _require_pictures(inputs)
    height, width, _ = inputs.shape
    shape = suited_shape(name, (height, width))
    try:
        model = application(name, weights, shape, published=published)
    except Exception as error:  # h5py and Keras raise what they like
        raise UnusableModel(
            f"{weights} has no weights of {name} without its last layers ({_in_a_line(error)}). Give what"
            f" keras.applications.{name}(include_top=False).save_weights writes"
        ) from error
    return Base(model, inputs, shape=shape, application=name)


def base_from_file(file: Path, inputs: Inputs) -> Base:
    """Return a saved model without its head as a base: the layer of its classes, and what comes after it.

    Raises:
        UnusableModel: Keras cannot load it by itself, or it has another form; or the data are no pictures.
    """
    _require_pictures(inputs)
    try:
        model = keras.saving.load_model(file, compile=False)
    except Exception as error:  # likewise
        raise UnusableModel(f"Keras cannot load {file} by itself ({_in_a_line(error)})") from error
    if not getattr(model, "inputs", None) or len(model.inputs) != 1 or len(model.outputs) != 1:
        raise UnusableModel(f"{file} must be a model with one input and one output, functional or Sequential")
    if len(model.inputs[0].shape) != 4:
        raise UnusableModel(f"{file} takes {tuple(model.inputs[0].shape[1:])}, and no pictures")
    features, left_off = _without_head(model, file)
    own = model.inputs[0].shape[1:3]
    height, width = (taken or given for taken, given in zip(own, inputs.shape[:2], strict=True))
    without = keras.Model(model.inputs[0], features, name=f"base_{model.name}")
    return Base(without, inputs, shape=(height, width), left_off=left_off)


def _require_pictures(inputs: Inputs) -> None:
    # First of all: what follows takes the shape of the data for that of pictures.
    if not inputs.are_pictures:
        raise UnusableModel(
            "a trained model is shown pictures, pixels 0..255 of the type uint8, grey or in colour. Received: the shape"
            f" {inputs.shape} of the type {inputs.dtype}. Give a model of another kind for such data."
        )


def _without_head(model: keras.Model, file: Path) -> tuple[Any, str]:
    """What goes into a model's head, before any pooling, and the name of the layer of its classes.

    Raises:
        UnusableModel: it gives neither maps nor features, and no layer of classes is found at its end.
    """
    output = model.outputs[0]
    if len(output.shape) == 4:
        return output, ""
    operation, features = _back(output, _AFTER_CLASSES)
    left_off = ""
    if isinstance(operation, layers.Dense):
        left_off, features = operation.name, _given_to(features)
    elif isinstance(operation, (*_POOLINGS, layers.Flatten)):
        features = output
    else:
        raise UnusableModel(f"{file} ends with {operation.name!r}, where a layer of classes is looked for")
    operation, before = _back(features, _BEFORE_CLASSES)
    return (_given_to(before), left_off) if isinstance(operation, _POOLINGS) else (features, left_off)


def _back(tensor: Any, passed: tuple[type, ...]) -> tuple[Any, Any]:
    """The last operation that is none of these, and its output."""
    while isinstance(tensor._keras_history.operation, passed):
        tensor = _given_to(tensor)
    return tensor._keras_history.operation, tensor


def _given_to(tensor: Any) -> Any:
    """What the operation was given that made a tensor."""
    operation, index, _ = tensor._keras_history
    return operation._inbound_nodes[index].input_tensors[0]


def _in_a_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160].strip() or type(error).__name__
