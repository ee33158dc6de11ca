"""What a model of the user's does that cannot be meant: it trains all the same, but not as its author thinks."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers

from models.classifier import HEAD, ImageClassifier

SMALL_SCALE = 0.1
"""Pixels that are normalised and then multiplied by less are close to a constant."""

_UNREAD = ("loss", "metrics", "objective", "optimizer", "class_weight", "callbacks")


def remarks_on(classifier: ImageClassifier, network: keras.Model) -> list[str]:
    """Return one line for each thing that the author of a model should know.

    Args:
        classifier: makes the model.
        network: what it made, pixels to logits.
    """
    return [*_unread(classifier), *_rescaled(network), *_ends_with_softmax(network, classifier)]


def _unread(classifier: ImageClassifier) -> list[str]:
    names = [name for name in _UNREAD if hasattr(classifier, name) and not hasattr(ImageClassifier, name)]
    return [
        f"{type(classifier).__name__}.{name} is read by nobody: every model trains with the service's own loss,"
        " optimizer and metrics, and the validation accuracy decides"
        for name in names
    ]


def _rescaled(network: keras.Model) -> list[str]:
    # Those inside a base of `keras.applications` count as well.
    return [
        f"the layer {layer.name!r} multiplies by {layer.scale:.3g} what is normalised already (mean 0, standard"
        " deviation 1), which leaves next to nothing of it: leave it out"
        for layer in network._flatten_layers(include_self=False)
        if isinstance(layer, layers.Rescaling) and np.ndim(layer.scale) == 0 and abs(layer.scale) <= SMALL_SCALE
    ]


def _ends_with_softmax(network: keras.Model, classifier: ImageClassifier) -> list[str]:
    features = keras.Model(network.input, network.get_layer(HEAD).input)
    pixels = np.random.default_rng(0).integers(0, 256, (4, *classifier.inputs.shape)).astype(np.float32)
    values: Any = np.asarray(keras.ops.convert_to_numpy(features(pixels, training=False)), np.float64)
    if values.shape[-1] < 2 or values.min() < 0.0 or np.abs(values.sum(axis=-1) - 1.0).max() > 1e-2:
        return []
    said = "the backbone ends with a softmax, and the service adds the layer of classes and a softmax of its own"
    return [f"{said}: end it with features, before your own layer of classes"]
