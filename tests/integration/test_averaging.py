"""Averaged weights are judged and kept; the training goes on with its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest

from models.backend import seed_generators
from models.classifier import Inputs
from models.cnn import CNN
from models.evaluation import evaluate
from models.recipe import Recipe, UnusableDefault, replaced
from models.training.averaging import AveragedWeights
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.loop import FitResult
from models.training.model import TrainingModel

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

Weights = list[np.ndarray[Any, Any]]


def toy(count: int, seed: int = 0) -> LabelledImages:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    images = random.integers(0, 160, (count, 8, 8, 1)) + 40 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, np.arange(count))


class Watch(keras.callbacks.Callback):
    """Notes the network's weights before the training, after each step, and at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Weights] = []
        self.epochs: list[Weights] = []

    def _now(self) -> Weights:
        return [np.array(one) for one in self.model.network.get_weights()]

    def on_train_begin(self, logs: Any = None) -> None:
        self.steps.append(self._now())

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps.append(self._now())

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.epochs.append(self._now())


def train(
    averaging: float,
    *,
    epochs: int = 3,
    models: CompiledModels | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    **values: Any,
) -> tuple[CNN, TrainingModel, FitResult]:
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    classifier = CNN(
        inputs, extended=True, epochs=epochs, train_images=96, models=models, defaults={"averaging": averaging}
    )
    hp = keras_tuner.HyperParameters()
    hp.values.update({"width": 16, "depth": 1, "batch_size": 32, "optimizer": "sgd", "learning_rate": 0.05, **values})
    seed_generators(1)
    model = classifier.build(hp)
    return classifier, model, classifier.fit(hp, model, toy(96), toy(61, seed=1), seed=1, callbacks=callbacks)


def test_the_training_goes_on_with_its_own_weights() -> None:
    with_averages, without = Watch(), Watch()
    _, _, averaged = train(0.9, callbacks=[with_averages])
    _, _, plain = train(0.0, callbacks=[without])
    assert len(with_averages.epochs) == 3
    for mine, other in zip([*with_averages.epochs], [*without.epochs], strict=True):
        for one, two in zip(mine, other, strict=True):
            np.testing.assert_array_equal(one, two)
    assert averaged.history["loss"] == plain.history["loss"]
    assert averaged.history["val_loss"] != plain.history["val_loss"], "judged is something else"


def test_the_average_is_of_every_step_and_of_the_moving_statistics_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.training.feeding.FromHost.most", 1)
    watch = Watch()
    _, model, _ = train(0.8, callbacks=[watch])
    assert model.averages is not None
    expected = [weight.astype(np.float64) for weight in watch.steps[0]]
    for step, weights in enumerate(watch.steps[1:], start=1):
        decay = min(0.8, (1 + step) / (10 + step))
        expected = [decay * mean + (1 - decay) * weight for mean, weight in zip(expected, weights, strict=True)]
    moving = [index for index, one in enumerate(model.network.weights) if "moving" in one.path]
    assert moving, "the network has batch normalisation"
    with model.judged_weights():
        for index, found in enumerate(model.network.get_weights()):
            np.testing.assert_allclose(found, expected[index], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_value_is_that_of_the_averages_of_the_best_epoch_which_are_handed_over(schedule: str) -> None:
    watch = Watch()
    classifier, model, result = train(0.9, epochs=5, schedule=schedule, callbacks=[watch])
    data = toy(61, seed=1)
    found = evaluate(classifier.classifier(model), data.images, data.labels, classes=2)
    assert result.value == max(result.history["val_accuracy"]) == pytest.approx(found.accuracy)
    assert result.history["val_loss"][result.best_epoch] == pytest.approx(found.loss, rel=1e-4)
    own = watch.epochs[result.best_epoch]
    kept = model.network.get_weights()
    assert any((one != other).any() for one, other in zip(own, kept, strict=True)), "not the training's own weights"


def test_the_decay_is_a_value_and_nothing_of_it_is_left_in_the_next_training() -> None:
    models = CompiledModels()
    _, model, first = train(0.9, models=models)
    _, again, second = train(0.5, models=models)
    assert again is model
    assert model.steps.traces == 1
    assert first.history["loss"] == second.history["loss"] and first.history["val_loss"] != second.history["val_loss"]
    assert train(0.9, models=models)[2] == first
    _, other, plain = train(0.0, models=models)
    assert other is not model and other.averages is None
    assert plain == train(0.0)[2]


def test_what_does_not_change_is_exactly_its_average_and_what_counts_is_left_alone() -> None:
    still = keras.Variable(np.float32(0.1) * np.arange(7, dtype=np.float32))
    count = keras.Variable(np.arange(3), dtype="int32")
    averages = AveragedWeights([still, count])
    averages.begin(0.97)
    for number in range(50):
        count.assign([number, number, number])
        averages.step()
    with averages.in_place():
        np.testing.assert_array_equal(np.array(still), np.float32(0.1) * np.arange(7, dtype=np.float32))
        np.testing.assert_array_equal(np.array(count), [49, 49, 49])


def test_what_is_raised_while_averages_are_judged_leaves_the_trainings_own_weights() -> None:
    weight = keras.Variable(np.zeros(2, np.float32))
    averages = AveragedWeights([weight])
    averages.begin(0.9)
    weight.assign([1.0, 1.0])
    seen: list[Any] = []

    def judge() -> None:
        with averages.in_place():
            seen.append(np.array(weight))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        judge()
    np.testing.assert_array_equal(seen[0], [0.0, 0.0])
    np.testing.assert_array_equal(np.array(weight), [1.0, 1.0])


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("averaging", 1.0, "from 0 to below 1"),
        ("averaging", -0.1, "from 0 to below 1"),
        ("label_smoothing", 1, "from 0 to below 1"),
        ("augmentation", 1.5, "from 0 to 1"),
        ("learning_rate", 0, "above 0"),
        ("weight_decay", -1e-3, "at least 0"),
        ("optimizer", "adamm", "one of sgd, adam, adamw"),
        ("schedule", "step", "one of constant, cosine, triangular"),
        ("batch_size", 0, "at least 1"),
    ],
)
def test_a_default_out_of_its_bounds_is_refused(name: str, value: Any, allowed: str) -> None:
    recipe = Recipe(batch_size=32, optimizer="sgd", learning_rate=0.1, dropout=0.1)
    with pytest.raises(UnusableDefault, match=rf"`defaults\.{name}` must be {allowed}\. Received: "):
        replaced(recipe, {name: value})


def test_every_part_of_a_recipe_may_be_replaced_by_itself() -> None:
    recipe = Recipe(batch_size=32, optimizer="sgd", learning_rate=0.1, dropout=0.1)
    assert replaced(recipe, vars(recipe)) == recipe
