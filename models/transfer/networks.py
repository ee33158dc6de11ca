"""What is trained of a base: a head on features that were computed once, and the whole, from pixels to logits."""

from __future__ import annotations

from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from models.classifier import HEAD, Inputs
from models.recipe import Recipe
from models.transfer.bases import Base

Array = npt.NDArray[Any]

Pooling = Literal["mean", "max", "both"]
POOLINGS: tuple[Pooling, ...] = ("mean", "max", "both")

NORMALIZATION = "head_normalization"
"""The name of the head's first layer, by which features of any base are of one size: see `normalize`."""

LEAST_SPREAD = 1e-3
"""Of the mean variance of all features: what varies less, most of which is always zero, is not raised to the others."""

_LOGITS = "logits"


def feature_network(base: Base, inputs: Inputs) -> keras.Model:
    """Return pixels to what is kept of them: `(batch, kinds, channels)`, float32.

    Of maps that is their mean and their largest value over the picture, in this order; of features they themselves.
    """
    pixels = keras.Input(inputs.shape, name="pixels")
    x = base(pixels)
    kinds = [_mean(x), _largest(x)] if base.pools else [layers.Activation("linear", dtype="float32")(x)]
    kept = [layers.Reshape((1, base.channels))(kind) for kind in kinds]
    stacked = layers.Concatenate(axis=1)(kept) if len(kept) > 1 else kept[0]
    return keras.Model(pixels, stacked, name="features")


def head_network(width: int, recipe: Recipe, classes: int) -> keras.Model:
    """Return features `(batch, width)` to logits `(batch, classes)`, not compiled."""
    features = keras.Input((width,), name="features")
    return keras.Model(features, _head(features, recipe, classes), name="head")


def whole_network(base: Base, inputs: Inputs, pooling: Pooling, recipe: Recipe) -> keras.Model:
    """Return pixels to logits `(batch, classes)`, not compiled; it shares the base."""
    pixels = keras.Input(inputs.shape, name="pixels")
    x = base(pixels)
    if base.pools:
        kinds = {"mean": (_mean,), "max": (_largest,), "both": (_mean, _largest)}[pooling]
        pooled = [kind(x) for kind in kinds]
        x = layers.Concatenate(name="pooled")(pooled) if len(pooled) > 1 else pooled[0]
    return keras.Model(pixels, _head(x, recipe, inputs.classes), name="network")


def normalize(head: keras.Model, features: Array) -> None:
    """Tell a head the mean and the variance of the features `(n, width)` that it is trained on."""
    mean, variance = features.mean(axis=0, dtype=np.float64), features.var(axis=0, dtype=np.float64)
    floor = max(LEAST_SPREAD * float(variance.mean()), 1e-12)
    head.get_layer(NORMALIZATION).set_weights([mean, np.maximum(variance, floor)])


def give_head(whole: keras.Model, head: keras.Model) -> None:
    """Give the head of a whole network the weights of one that was trained on features."""
    for name in (NORMALIZATION, _LOGITS):
        whole.get_layer(name).set_weights(head.get_layer(name).get_weights())


def _head(features: Any, recipe: Recipe, classes: int) -> Any:
    # Not trained: it keeps to what it was told, whatever is in a batch, and is saved with the weights.
    x = layers.BatchNormalization(
        center=False, scale=False, epsilon=1e-6, trainable=False, dtype="float32", name=NORMALIZATION
    )(features)
    x = layers.Dropout(recipe.dropout, name=HEAD)(x)
    # As in every classifier here: softmax over half-precision logits would lose digits.
    return layers.Dense(classes, dtype="float32", name=_LOGITS)(x)


def _mean(maps: Any) -> Any:
    return layers.GlobalAveragePooling2D(dtype="float32", name="mean")(maps)


def _largest(maps: Any) -> Any:
    return layers.GlobalMaxPooling2D(dtype="float32", name="largest")(maps)
