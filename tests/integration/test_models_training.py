"""How training goes: order, repeatability, schedules, which weights are kept, when it gives up."""

from __future__ import annotations

from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from models.classifier import Inputs
from models.cnn import CNN
from models.evaluation import evaluate
from models.training.feeding import FromHost, LabelledImages, ValidationBatches, epoch_order
from models.training.loop import FitResult, NonFiniteLoss
from models.training.steps import Batches, StepsPerCall

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


def toy(count: int, seed: int = 0) -> LabelledImages:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    images = random.integers(0, 160, (count, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, np.arange(count))


def train(
    *, seed: int = 0, epochs: int = 3, patience: int = 9, callbacks: Any = (), validation: int = 30, **values: Any
) -> tuple[CNN, keras.Model, FitResult]:
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    classifier = CNN(inputs, extended=True, epochs=epochs, train_images=70, patience=patience)
    hp = keras_tuner.HyperParameters()
    hp.values.update({"width": 4, "depth": 1, "batch_size": 16, **values})
    keras.utils.set_random_seed(seed)
    model = classifier.build(hp)
    result = classifier.fit(hp, model, toy(70), toy(validation, seed=1), seed=seed, callbacks=callbacks)
    return classifier, model, result


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    np.testing.assert_array_equal(epoch_order(3, 5, 50), np.random.default_rng([3, 5]).permutation(50))
    assert (epoch_order(3, 5, 50) != epoch_order(3, 6, 50)).any()
    assert (epoch_order(3, 5, 50) != epoch_order(4, 5, 50)).any()


def test_fit_sees_the_full_batches_of_each_epoch_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    data, seen = toy(70), list[Any]()
    read = FromHost.take

    def record(self: FromHost, positions: Any) -> Batches:
        batches = read(self, positions)
        seen.append(batches)
        return batches

    monkeypatch.setattr(FromHost, "take", record)
    train(epochs=3, seed=7)
    trained = [batches for batches in seen if len(batches.rows) % 16 == 0]
    images = np.concatenate([batches.images[batches.rows] for batches in trained])
    labels = np.concatenate([batches.labels[batches.rows] for batches in trained])
    rows = np.concatenate([epoch_order(7, epoch, 70)[:64] for epoch in range(3)])
    np.testing.assert_array_equal(images, data.images[rows])
    np.testing.assert_array_equal(labels, data.labels[rows])


def test_a_set_smaller_than_a_batch_is_one_batch() -> None:
    _, _, result = train(epochs=1, batch_size=128)
    assert len(result.history["loss"]) == 1


def test_a_call_grows_with_the_speed_of_its_steps_and_ends_with_the_epoch() -> None:
    calls = StepsPerCall(most=16)
    lengths = []
    for part in calls.parts(50):
        lengths.append(len(part))
        calls.took(len(part), 0.001 * len(part))
    assert lengths == [1, 4, 16, 16, 13]
    calls.took(16, 60.0)
    assert calls.steps == 1, "a worker hears its launcher between slow steps"


def test_validation_weighs_each_picture_once() -> None:
    batches = ValidationBatches(23, at_most=10)
    assert (batches.steps, batches.batch_size) == (3, 8)
    assert sorted(batches.positions[batches.weights > 0]) == list(range(23))
    assert batches.weights.mean() == pytest.approx(1.0)


def test_the_same_seed_gives_the_same_training_and_another_seed_another() -> None:
    values: dict[str, Any] = {"augmentation": 0.5, "dropout": 0.3, "optimizer": "sgd"}
    _, first, first_result = train(seed=1, **values)
    _, again, again_result = train(seed=1, **values)
    _, other, other_result = train(seed=2, **values)
    assert first_result == again_result
    assert first_result != other_result
    for one, two in zip(first.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first.get_weights(), other.get_weights(), strict=True))


def test_a_training_with_a_schedule_goes_to_its_end_and_one_without_runs_out_of_patience() -> None:
    # Nothing is learned at this rate.
    values: dict[str, Any] = {"epochs": 6, "patience": 2, "optimizer": "sgd", "learning_rate": 1e-12}
    _, _, scheduled = train(schedule="cosine", **values)
    _, _, constant = train(schedule="constant", **values)
    assert len(scheduled.history["val_accuracy"]) == 6
    assert len(constant.history["val_accuracy"]) < 6


@pytest.mark.parametrize(("epochs", "patience", "schedule"), [(3, 9, "cosine"), (6, 1, "constant")])
def test_the_value_is_that_of_the_weights_kept(
    epochs: int, patience: int, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("models.training.loop.VALIDATION_BATCH_SIZE", 8)
    classifier, model, result = train(
        epochs=epochs, patience=patience, schedule=schedule, validation=29, label_smoothing=0.2, learning_rate=0.05
    )
    data = toy(29, seed=1)
    found = evaluate(classifier.classifier(model), data.images, data.labels, classes=2)
    accuracies = result.history["val_accuracy"]
    assert result.best_epoch == int(np.argmax(accuracies))
    assert result.value == accuracies[result.best_epoch] == pytest.approx(found.accuracy)
    assert result.history["val_loss"][result.best_epoch] == pytest.approx(found.loss, rel=1e-4)


@pytest.mark.parametrize("schedule", ["cosine", "triangular"])
def test_a_schedule_warms_up_and_then_falls_to_zero(schedule: str) -> None:
    _, _, result = train(epochs=8, schedule=schedule, learning_rate=0.01)
    rates = np.array(result.history["learning_rate"])
    peak = int(np.argmax(rates))
    falls = rates[peak:-1] - rates[peak + 1 :]
    assert rates[0] < rates[peak]
    assert (falls > 0).all()
    # A line falls alike in each epoch.
    assert (falls.max() < 1.01 * falls.min()) == (schedule == "triangular")
    assert rates[-1] == pytest.approx(0.0, abs=1e-6)


def test_a_constant_learning_rate_falls_on_a_plateau() -> None:
    # No step changes a weight at this rate: once batch normalisation has its averages, the validation loss is still.
    _, _, result = train(epochs=20, patience=99, schedule="constant", optimizer="sgd", learning_rate=1e-12)
    rates = result.history["learning_rate"]
    assert rates[0] == pytest.approx(1e-12)
    assert rates[-1] < rates[0]


def test_label_smoothing_raises_the_training_loss_of_sure_answers() -> None:
    values: dict[str, Any] = {"optimizer": "adam", "learning_rate": 1e-2, "dropout": 0.0}
    _, _, sharp = train(epochs=6, label_smoothing=0.0, **values)
    _, _, smooth = train(epochs=6, label_smoothing=0.2, **values)
    assert smooth.history["loss"][-1] > sharp.history["loss"][-1]


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(NonFiniteLoss) as caught:
        train(optimizer="sgd", learning_rate=1e30, schedule="constant")
    assert caught.value.epoch in (0, 1)


def test_callbacks_given_come_last_and_may_raise() -> None:
    class Pruned(Exception):
        pass

    class Prune(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
            assert logs is not None and {"val_accuracy", "learning_rate"} <= logs.keys()
            raise Pruned

    with pytest.raises(Pruned):
        train(callbacks=[Prune()])
