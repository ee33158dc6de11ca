"""What a model says, made into probabilities of classes: as a model to hand over, and to judge it by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, metrics, ops

from models.classifier import Inputs
from models.evaluation import Labels, Probabilities, predictions
from models.foreign.form import Form
from models.training.feeding import LabelledImages

_ACCURACIES = {
    "integers": (metrics.SparseCategoricalAccuracy,),
    "one-hot": (metrics.CategoricalAccuracy,),
    "one unit": (metrics.BinaryAccuracy,),
}

# What a subclass may have validate otherwise.
_OF_A_VALIDATION = ("evaluate", "make_test_function", "test_step", "compute_metrics")


def classifier_of(model: keras.Model, form: Form, inputs: Inputs) -> keras.Model:
    """Return raw data to float32 probabilities `(batch, classes)`; it shares the weights of `model`.

    Of a model with a graph, the graph alone is taken: what it was compiled with, and its class, is not handed over.
    """
    if getattr(model, "outputs", None) and form.shape == inputs.shape:
        taken, given = model.inputs[0], model.outputs[0]
    else:
        graph = keras.Model(model.inputs, model.outputs) if getattr(model, "outputs", None) else model
        taken = keras.Input(inputs.shape, name="pixels")
        given = graph(taken if form.shape == inputs.shape else layers.Reshape(form.shape)(taken))
    return keras.Model(taken, _probabilities(given, form), name="classifier")


def _probabilities(given: Any, form: Form) -> Any:
    if form.labels == "one unit":
        second = layers.Activation("sigmoid" if form.logits else "linear", dtype="float32")(given)
        return ops.concatenate([ops.subtract(1.0, second), second], axis=-1)
    if form.logits:
        return layers.Softmax(dtype="float32", name="probabilities")(given)
    return layers.Activation("linear", dtype="float32", name="probabilities")(given)


class ValidationPredictions:
    """Has a model speak of the validation part whenever it is asked; what that needs is made at the first time."""

    def __init__(self, model: keras.Model, form: Form, inputs: Inputs, validation: LabelledImages) -> None:
        self._made = model, form, inputs
        self._validation = validation
        self._classifier: keras.Model | None = None

    def __call__(self) -> tuple[Labels, Probabilities]:
        """Return the classes of the validation part, and what the model says of it now: see `models.evaluation`."""
        if self._classifier is None:
            self._classifier = classifier_of(*self._made)
        images, labels = self._validation.batch(np.arange(len(self._validation)))
        return labels.astype(np.int64), predictions(self._classifier, images)


def validates_as_keras(model: keras.Model) -> bool:
    """Return whether the metrics of a validation are what Keras computes of what the model says of the data."""
    return all(getattr(type(model), name) is getattr(keras.Model, name) for name in _OF_A_VALIDATION)


def accuracy_name(model: keras.Model, form: Form) -> str | None:
    """Return the name of the metric that is the accuracy, of those that a model was compiled with; None without one.

    Of a name alone nothing is taken: it must be Keras's own metric, of the labels that the model is given.
    """
    if form.labels == "one unit" and form.logits:
        return None  # Keras's own asks whether a logit is above 0.5
    kinds = _ACCURACIES[form.labels]
    names: Sequence[str] = [kind.__name__ for kind in kinds]
    for metric in _flat(model.metrics):
        function = getattr(metric, "_fn", None)
        plain = type(metric) is metrics.MeanMetricWrapper and str(getattr(function, "__module__", "")).startswith(
            "keras."
        )
        told = str(getattr(function, "__name__", "")).replace("_", "") if plain else ""
        if type(metric) in kinds or told in [name.lower() for name in names]:
            return str(metric.name)
    return None


def _flat(found: Sequence[Any]) -> list[Any]:
    return [part for metric in found for part in (getattr(metric, "metrics", None) or [metric])]
