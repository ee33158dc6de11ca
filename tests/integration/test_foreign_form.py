"""What a model of somebody else's takes and gives is told from it, and its curves have a value for each epoch."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

from models.classifier import Inputs
from models.foreign.form import form_of
from models.foreign.hearing import Hearing
from models.training.monitor import Monitor

pytestmark = pytest.mark.keras

INPUTS = Inputs((4, 4, 1), 3, mean=(110.0,), std=(60.0,), flips=False)


def network(activation: Any) -> keras.Model:
    return keras.Sequential([keras.Input((4, 4, 1)), layers.Flatten(), layers.Dense(3, activation, name="out")])


def shares(x: Any) -> Any:
    return keras.ops.softmax(x)


@pytest.mark.parametrize(
    ("activation", "logits"),
    [("softmax", False), (shares, False), (lambda x: 3.0 * x, True), (None, True), ("log_softmax", True)],
)
def test_whether_a_model_gives_logits_is_seen_where_its_function_is_none_of_kerass(
    activation: Any, logits: bool
) -> None:
    keras.utils.set_random_seed(0)
    assert form_of(network(activation), INPUTS).logits is logits


@pytest.mark.parametrize(
    ("loss", "labels"),
    [
        ("categorical_crossentropy", "one-hot"),
        (["categorical_crossentropy"], "one-hot"),
        ({"out": keras.losses.CategoricalCrossentropy()}, "one-hot"),
        (["sparse_categorical_crossentropy"], "integers"),
        (keras.losses.CategoricalGeneralizedCrossEntropy(), "integers"),
    ],
)
def test_a_loss_in_a_list_or_by_the_name_of_its_output_says_what_the_labels_are(loss: Any, labels: str) -> None:
    model = network("softmax")
    model.compile("adam", loss)
    assert form_of(model, INPUTS).labels == labels


def test_a_curve_has_a_place_for_each_epoch_whatever_is_told_after_which() -> None:
    model = network("softmax")
    model.compile("sgd", "sparse_categorical_crossentropy")
    judge: Any = lambda: (np.array([0, 0, 0, 1]), np.tile([0.2, 0.7, 0.1], (4, 1)))  # noqa: E731
    hearing = Hearing(
        model,
        lambda: "accuracy",
        judge,
        monitor=Monitor("val_f1_macro"),
        patience=None,
        epochs=4,
        callbacks=[],
        keep=lambda epochs, history: None,
    )
    hearing.on_epoch_end(0, {"loss": 1.0})
    hearing.on_epoch_end(1, {"loss": 0.9, "val_accuracy": 0.5, "val_loss": 1.1})
    hearing.on_epoch_end(2, {"loss": 0.8, "own": 3.0})
    assert hearing.history["val_accuracy"] == [0.25, 0.5, 0.25]
    np.testing.assert_array_equal(hearing.history["val_balanced_accuracy"], [0.5, math.nan, 0.5])
    assert hearing.history["val_f1_macro"] == [0.2, 0.2, 0.2], "which is computed after each"
    np.testing.assert_array_equal(hearing.history["own"], [math.nan, math.nan, 3.0])
    assert {len(curve) for curve in hearing.history.values()} == {3}
