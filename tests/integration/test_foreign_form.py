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
from models.foreign.outputs import validates_as_keras
from models.foreign.reporting import ReportingCallback
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


def reporting_of(accuracy: str, *, trusted: bool) -> ReportingCallback:
    """What hears a model that has the accuracy 0.25 on our validation part, and calls it so."""
    model = network("softmax")
    model.compile("sgd", "sparse_categorical_crossentropy")
    predictions: Any = lambda: (np.array([0, 0, 0, 1]), np.tile([0.2, 0.7, 0.1], (4, 1)))  # noqa: E731
    return ReportingCallback(
        model,
        lambda: accuracy,
        predictions,
        monitor=Monitor("val_f1_macro"),
        trusted=trusted,
        patience=None,
        epochs=4,
        callbacks=[],
        keep=lambda *_: None,
    )


def test_a_curve_has_a_place_for_each_epoch_whatever_is_told_after_which() -> None:
    reporting = reporting_of("accuracy", trusted=True)
    reporting.on_epoch_end(0, {"loss": 1.0})
    reporting.on_epoch_end(1, {"loss": 0.9, "val_accuracy": 0.5, "val_loss": 1.1})
    reporting.on_epoch_end(2, {"loss": 0.8, "own": 3.0})
    assert reporting.history["val_accuracy"] == [0.25, 0.5, 0.25]
    np.testing.assert_array_equal(reporting.history["val_balanced_accuracy"], [0.5, math.nan, 0.5])
    assert reporting.history["val_f1_macro"] == [0.2, 0.2, 0.2], "which is computed after each"
    np.testing.assert_array_equal(reporting.history["own"], [math.nan, math.nan, 3.0])
    assert {len(curve) for curve in reporting.history.values()} == {3}


def reported(said: list[float]) -> ReportingCallback:
    """A training of its own that reports these accuracies."""
    reporting = reporting_of("acc", trusted=False)
    for epoch, value in enumerate(said):
        reporting.on_epoch_end(epoch, {"loss": 1.0, "acc": 0.9, "val_acc": value, "val_loss": 0.1, "val_f1_macro": 0.8})
    return reporting


def test_what_a_training_reports_of_other_data_than_ours_is_not_taken_for_it() -> None:
    reporting = reported([0.25, 0.99, 0.25])
    assert reporting.other_data
    assert reporting.history["val_accuracy"] == [0.25] * 3
    loss = -(3 * math.log(0.2) + math.log(0.7)) / 4
    of_ours, *others = reporting.history["val_loss"]
    assert of_ours == 0.1 and others == [pytest.approx(loss)] * 2, "what was of other data once is not of ours again"
    assert reporting.history["val_f1_macro"] == [0.8, 0.2, 0.2]


def test_what_a_training_reports_of_our_data_is_taken_as_it_is() -> None:
    reporting = reported([0.25, 0.25 + 1e-7])
    assert not reporting.other_data
    assert reporting.history["val_loss"] == [0.1, 0.1]
    assert reporting.history["accuracy"] == [0.9, 0.9]


class Augmented(keras.Model):
    def test_step(self, *data: Any) -> Any:
        return super().test_step(*data)


def test_a_step_of_validation_of_its_own_is_seen() -> None:
    pixels = keras.Input((4, 4, 1))
    given = layers.Dense(3)(layers.Flatten()(pixels))
    assert not validates_as_keras(Augmented(pixels, given))
    for model in (network(None), keras.Model(pixels, given)):
        assert validates_as_keras(model)
