"""What a training is judged by: any curve of its history, a metric that is computed after each epoch, a user's own."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from models.classifier import Inputs
from models.cnn import CNN
from models.evaluation import METRICS, evaluate
from models.foreign.hypermodel import ForeignModels
from models.training.feeding import LabelledImages
from models.training.loop import FitResult, NoFiniteValue, UnknownMonitor
from models.training.monitor import Monitor

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

INPUTS = Inputs((8, 8, 1), 3, mean=(110.0,), std=(60.0,), flips=False)
# More than two batches of validation, the last of which is filled up.
VALIDATION = 1_101


def pictures(count: int, seed: int) -> LabelledImages:
    random = np.random.default_rng(seed)
    labels = random.choice(3, count, p=[0.6, 0.3, 0.1])
    images = random.integers(0, 200, (count, 8, 8, 1)) + 18 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, np.arange(count))


TRAINING, JUDGED = pictures(200, 0), pictures(VALIDATION, 1)
LABELS = JUDGED.labels.astype(np.int64)


def dense(hp: Any) -> keras.Model:
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(3, "softmax")]
    )
    rate = hp.Float("rate", 1e-5, 1e-1, default=1e-5)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def trained(monitor: Monitor, kind: str, epochs: int = 3, **values: Any) -> tuple[keras.Model, FitResult]:
    maker: Any = CNN if kind == "own" else ForeignModels(dense, "dense")
    made = maker(INPUTS, extended=True, epochs=epochs, train_images=200, monitor=monitor)
    hp = keras_tuner.HyperParameters()
    hp.values.update({"width": 4, "depth": 1, "batch_size": 32, **values})
    keras.utils.set_random_seed(0)
    model = made.build(hp)
    result = made.fit(hp, model, TRAINING, JUDGED, seed=0)
    return made.classifier(model), result


@pytest.mark.parametrize("kind", ["own", "foreign"])
@pytest.mark.parametrize("name", METRICS)
def test_the_kept_weights_are_those_of_the_best_epoch_and_have_its_value(name: str, kind: str) -> None:
    mode: Any = "min" if name == "val_loss" else "max"
    classifier, result = trained(Monitor(name, mode), kind)
    curve = result.history[name]
    assert len(curve) == 3
    assert result.value == curve[result.best_epoch] == (min(curve) if mode == "min" else max(curve))
    probabilities = np.concatenate([classifier.predict_on_batch(JUDGED.images[at:][:500]) for at in (0, 500, 1000)])
    again = METRICS[name](LABELS, probabilities.astype(np.float64))
    assert again == pytest.approx(result.value, abs=1e-4)


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_a_function_of_the_users_is_called_with_labels_and_probabilities_after_each_epoch(kind: str) -> None:
    seen: list[tuple[Any, Any]] = []

    def rare_right(labels: Any, probabilities: Any) -> float:
        seen.append((labels, probabilities))
        return float(probabilities[labels == 2, 2].mean())

    classifier, result = trained(Monitor("val_rare_right", "max", rare_right), kind)
    assert len(seen) == 3
    for labels, probabilities in seen:
        np.testing.assert_array_equal(labels, JUDGED.labels)
        assert probabilities.shape == (VALIDATION, 3)
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, atol=1e-5)
    kept = evaluate(classifier, JUDGED.images, JUDGED.labels, classes=3)
    _, probabilities = seen[result.best_epoch]
    assert kept.accuracy == pytest.approx(METRICS["val_accuracy"](LABELS, probabilities), abs=2e-3)


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_what_judges_changes_no_training(kind: str) -> None:
    _, plain = trained(Monitor(), kind)
    _, judged = trained(Monitor("val_auc"), kind)
    assert judged.history.keys() - plain.history.keys() == {"val_auc"}
    for name in ("loss", "accuracy", "val_loss", "val_accuracy"):
        curve = plain.history[name]
        np.testing.assert_array_equal(curve, judged.history[name], err_msg=name)


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_a_curve_that_the_history_lacks_is_refused_with_those_that_it_has(kind: str) -> None:
    with pytest.raises(UnknownMonitor, match=r"no 'val_top_k' in the history .*loss, val_accuracy.* val_auc"):
        trained(Monitor("val_top_k"), kind)


@pytest.mark.parametrize("kind", ["own", "foreign"])
def test_a_training_that_was_never_judged_with_a_number_has_failed(kind: str) -> None:
    with pytest.raises(NoFiniteValue, match="val_odd was not finite after any of 3 epochs"):
        trained(Monitor("val_odd", "max", lambda labels, probabilities: float("nan")), kind)


def test_patience_and_plateau_follow_what_is_judged_by() -> None:
    falling = iter([5.0, 4.0, 3.0, 4.0, 4.0, 4.0, 4.0, 4.0, 4.0])
    monitor = Monitor("val_cost", "min", lambda labels, probabilities: next(falling))
    made = CNN(INPUTS, extended=True, epochs=9, train_images=200, patience=4, monitor=monitor)
    hp = keras_tuner.HyperParameters()
    hp.values.update({"width": 4, "depth": 1, "batch_size": 32, "schedule": "constant"})
    model = made.build(hp)
    result = made.fit(hp, model, TRAINING, JUDGED, seed=0)
    assert result.history["val_cost"] == [5.0, 4.0, 3.0, 4.0, 4.0, 4.0, 4.0], "four epochs after the best one"
    rates = result.history["learning_rate"]
    assert rates[4] == rates[0]
    assert rates[5] == pytest.approx(0.3 * rates[0]), "two epochs without a better value"


def test_metrics_are_what_is_known_of_them() -> None:
    labels = np.array([0, 0, 1, 1, 1, 2])
    probabilities = np.array(
        [[0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.5, 0.4, 0.1], [0.1, 0.8, 0.1], [0.4, 0.5, 0.1]]
    )
    found = {name: metric(labels, probabilities) for name, metric in METRICS.items()}
    assert found["val_accuracy"] == 0.5
    assert found["val_balanced_accuracy"] == pytest.approx((1 / 2 + 2 / 3 + 0) / 3)
    # 2 right / (pictures + predicted) of each class.
    assert found["val_f1_macro"] == pytest.approx((2 * 1 / (2 + 2) + 2 * 2 / (3 + 4) + 0) / 3)
    assert found["val_loss"] == pytest.approx(-np.log([0.8, 0.2, 0.6, 0.4, 0.8, 0.1]).mean())
    # Of 2 x 4, 3 x 3 and 1 x 5 pairs: 0.8 > all, 0.2 > 0.1 alone; 0.6 > 0.1, 0.5; 0.4 > 0.1; 0.8 > all; all alike.
    assert found["val_auc"] == pytest.approx(((4 + 1) / 8 + (2 + 1 + 3) / 9 + 2.5 / 5) / 3)
    alone = METRICS["val_auc"](np.array([0, 1]), np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0]]))
    assert alone == 1.0, "the class without pictures is left out"
    assert np.isnan(METRICS["val_auc"](np.array([1, 1]), probabilities[:2]))
