"""The models of `keras.applications` without their last layers, with weights from a file. Nothing is downloaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import applications, layers, ops
from keras.src.utils import file_utils

USUAL_SIDE = {
    "EfficientNetB1": 240,
    "EfficientNetB2": 260,
    "EfficientNetB3": 300,
    "EfficientNetB4": 380,
    "EfficientNetB5": 456,
    "EfficientNetB6": 528,
    "EfficientNetB7": 600,
    "EfficientNetV2B1": 240,
    "EfficientNetV2B2": 260,
    "EfficientNetV2B3": 300,
    "EfficientNetV2L": 480,
    "EfficientNetV2M": 480,
    "EfficientNetV2S": 384,
    "InceptionResNetV2": 299,
    "InceptionV3": 299,
    "NASNetLarge": 331,
    "Xception": 299,
}
"""The side of the pictures that a model was made for, where it is not 224."""

GROWTH = 3
"""How many times its side a small picture is enlarged, at most: a network that halves the sides five times leaves
next to nothing of 32 pixels, and what a step costs grows with the square of the side."""

STRIDE = 32

# From the least side that Keras takes on, in multiples of STRIDE.
_LEAST_SIDE = {"InceptionResNetV2": 96, "InceptionV3": 96, "Xception": 96}

# How pixels 0..255 are prepared, by the module that a model is in; those that are not here do it themselves.
_MINUS_ONE_TO_ONE = ("inception_resnet_v2", "inception_v3", "mobilenet", "mobilenet_v2", "nasnet", "resnet_v2")
_TORCH = ("densenet",)
_CAFFE = ("resnet", "vgg16", "vgg19")
_MEAN, _STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
_BGR_MEAN = np.array([103.939, 116.779, 123.68])


def application(name: str, weights: Path, shape: tuple[int, int], *, published: bool) -> keras.Model:
    """Return a model of `keras.applications` without its last layers: pictures `(batch, height, width, 3)` to maps.

    Args:
        name: its own, `EfficientNetV2B0`.
        weights: a file with its weights.
        shape: `(height, width)` of the pictures.
        published: whether the file is the one that Keras would fetch: to these weights belongs, of some models, a layer
            that Keras leaves out with others.

    Raises:
        ValueError, OSError: the file is none, or one of another model.
    """
    make = getattr(applications, name)
    if published:
        # Of some models Keras warns that these weights were trained with pictures of 224, which is what is wanted.
        with _fetched(weights), warnings.catch_warnings(action="ignore"):
            return make(include_top=False, weights="imagenet", input_shape=(*shape, 3))
    model = make(include_top=False, weights=None, input_shape=(*shape, 3))
    model.load_weights(weights)
    return model


@contextmanager
def _fetched(weights: Path) -> Iterator[None]:
    """Have this file in the place of the one that Keras would fetch over the network."""
    before = file_utils.get_file
    file_utils.get_file = lambda *_arguments, **_options: str(weights)
    try:
        yield
    finally:
        file_utils.get_file = before


def prepared(name: str, pixels: Any) -> Any:
    """Return pixels 0..255 `(batch, height, width, 3)` as a model takes them, by layers that Keras can save."""
    module = getattr(applications, name).__module__.rpartition(".")[2]
    if module in (*_MINUS_ONE_TO_ONE, "xception"):
        return layers.Rescaling(1 / 127.5, -1.0, dtype="float32", name="preparation")(pixels)
    if module in _TORCH:
        scale, offset = (1.0 / (255.0 * _STD)).tolist(), (-_MEAN / _STD).tolist()
        return layers.Rescaling(scale, offset, dtype="float32", name="preparation")(pixels)
    if module in _CAFFE:
        return layers.Rescaling(1.0, (-_BGR_MEAN).tolist(), dtype="float32", name="preparation")(
            ops.flip(pixels, axis=-1)
        )
    return pixels


def suited_shape(name: str, shape: tuple[int, int]) -> tuple[int, int]:
    """Return the `(height, width)` that pictures of this one are given: enlarged where they are small.

    The shorter side is what the model was made for, but at most `GROWTH` times its own; proportions are kept.
    """
    shorter = min(shape)
    usual = USUAL_SIDE.get(name, 224)
    side = usual if GROWTH * shorter >= usual else max(_multiple(GROWTH * shorter), _LEAST_SIDE.get(name, STRIDE))
    height, width = (side if own == shorter else _multiple(own * side / shorter) for own in shape)
    return height, width


def _multiple(side: float) -> int:
    return max(1, round(side / STRIDE)) * STRIDE
