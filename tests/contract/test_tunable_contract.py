"""What a worker relies on, of an `ImageClassifier` as of a hypermodel that knows nothing of it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.keras

EPOCHS = 4


def own() -> Any:
    """A class of this project's, with all that draws random numbers."""
    from keras import layers

    from models.classifier import ImageClassifier
    from models.recipe import Recipe

    class Own(ImageClassifier):
        defaults = Recipe(batch_size=32, optimizer="adamw", learning_rate=1e-2, dropout=0.3, augmentation=0.3)

        def backbone(self, hp: Any, x: Any) -> Any:
            return layers.Dense(hp.Int("units", 4, 8), activation="relu")(layers.Flatten()(x))

    return Own


def foreign() -> Any:
    """A function that knows only Keras, likewise."""
    import keras
    from keras import layers

    from models.foreign.meaning import hypermodel_of

    def build(hp: Any) -> Any:
        model = keras.Sequential(
            [
                layers.RandomTranslation(0.2, 0.2),
                layers.Rescaling(1 / 255),
                layers.Flatten(),
                layers.Dense(hp.Int("units", 4, 8), activation="relu"),
                layers.BatchNormalization(),
                layers.Dropout(0.3),
                layers.Dense(2, activation="softmax"),
            ]
        )
        model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["acc"])
        return model

    return hypermodel_of(build, "build")


def subclassed() -> Any:
    from models.foreign.meaning import hypermodel_of
    from tests.contract.hypermodels import Net, compiled

    def build(hp: Any) -> Any:
        return compiled(Net(hp.Int("units", 4, 8)))

    return hypermodel_of(build, "build")


def two_optimizers(where: str) -> Any:
    """A model whose own step trains its parts by two optimizers, which are attributes, in a dict, or nowhere."""
    import keras
    from keras import layers

    from models.foreign.meaning import hypermodel_of

    made: dict[str, Any] = {}

    class Parted(keras.Model):
        def __init__(self, units: int) -> None:
            super().__init__()
            self.features = keras.Sequential([layers.Flatten(), layers.Dense(units, "relu"), layers.Dropout(0.2)])
            self.head = layers.Dense(4, activation="softmax")
            optimizers = {"features": keras.optimizers.Adam(1e-2), "head": keras.optimizers.SGD(1e-2, momentum=0.9)}
            if where == "attributes":
                self.first, self.second = optimizers.values()
            elif where == "dict":
                self.optimizers = optimizers
            made.update(optimizers)

        def call(self, x: Any, training: bool = False) -> Any:
            return self.head(self.features(x, training=training))

        def train_step(self, data: Any) -> Any:
            import tensorflow as tf

            x, y = data
            with tf.GradientTape(persistent=True) as tape:
                given = self(x, training=True)
                loss = self.compute_loss(y=y, y_pred=given)
            for name, optimizer in made.items():
                weights = getattr(self, name).trainable_variables
                optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
            return {**self.compute_metrics(x, y, given), "loss": loss}

    def build(hp: Any) -> Any:
        model = Parted(hp.Int("units", 4, 8))
        model.compile(loss="sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    return hypermodel_of(build, "build")


def noisy(source: str) -> Any:
    """A model that learns from noise of Keras's own generator, of one of its module, or of TensorFlow's."""
    import keras
    import tensorflow as tf
    from keras import layers

    from models.foreign.meaning import hypermodel_of

    of_a_module = keras.random.SeedGenerator(3)

    class Noise(layers.Layer):
        def call(self, x: Any, training: bool = False) -> Any:
            seed = of_a_module if source == "module" else None
            draw = tf.random.normal if source == "tensorflow" else partial(keras.random.normal, seed=seed)
            return x + draw(keras.ops.shape(x)) if training else x

    def build(hp: Any) -> Any:
        model = keras.Sequential(
            [layers.Rescaling(1 / 255), layers.Flatten(), Noise(), layers.Dense(4, activation="softmax")]
        )
        model.compile(keras.optimizers.Adam(1e-2), "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    return hypermodel_of(build, "build")


def attributes() -> Any:
    return two_optimizers("attributes")


def in_a_dict() -> Any:
    return two_optimizers("dict")


def transferred() -> Any:
    """A base, which is frozen in the first half of the epochs."""
    import keras
    from keras import layers

    from models.transfer.bases import Base
    from models.transfer.hypermodel import TransferModels

    keras.utils.set_random_seed(0)
    base = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Rescaling(1 / 255),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Dropout(0.3),
            layers.Conv2D(8, 3, activation="relu"),
        ]
    )
    return TransferModels(lambda inputs: Base(base, inputs, shape=(8, 8)), "base", mixed=False)


class Kept(Exception):
    """The training was broken off after its state was kept."""


class Keeper:
    def __init__(self, after: int) -> None:
        self._after = after
        self.content = b""

    def due(self, epochs: int) -> bool:
        return epochs == self._after

    def keep(self, state: Any) -> None:
        self.content = state.to_bytes()
        raise Kept


class Trained:
    """One training of a hypermodel, from its state if one is given."""

    def __init__(self, hypermodel: Any, classes: int, keeper: Keeper | None = None, content: bytes = b"") -> None:
        import keras
        import keras_tuner

        from models.backend import seed_generators
        from models.training.state import TrainingState
        from tests.contract.test_foreign_contract import Data

        class Listening(keras.callbacks.Callback):
            def on_train_batch_end(listening, batch: int, logs: Any = None) -> None:  # noqa: N805
                self.steps += 1

            def on_epoch_end(listening, epoch: int, logs: Any = None) -> None:  # noqa: N805
                self.heard.append((epoch, float(logs["val_accuracy"])))

        self.steps, self.heard = 0, list[tuple[int, float]]()
        data = Data((8, 8, 1), classes)
        self.tunable = hypermodel(
            data.inputs, extended=False, epochs=EPOCHS, train_images=len(data.training), patience=EPOCHS
        )
        self.hp = keras_tuner.HyperParameters()
        seed_generators(5)
        self.model = self.tunable.build(self.hp)
        self.result = self.tunable.fit(
            self.hp, self.model, data.training, data.validation, seed=2, callbacks=[Listening()], keeper=keeper,
            resume=TrainingState.from_bytes(content) if content else None,
        )  # fmt: skip
        self.data = data


# What makes them, of how many classes, and after which epochs a training is broken off: one in two phases also in the
# second.
HYPERMODELS = [
    (own, 2, (2,)),
    (foreign, 2, (2,)),
    (subclassed, 4, (2,)),
    (attributes, 4, (2,)),
    (in_a_dict, 4, (2,)),
    (transferred, 2, (2, 3)),
]


@pytest.mark.parametrize(
    ("made", "classes", "broken_off"), HYPERMODELS, ids=[made.__name__ for made, *_ in HYPERMODELS]
)
def test_a_training_is_heard_and_one_that_was_broken_off_is_continued_to_the_last_bit(
    made: Any, classes: int, broken_off: tuple[int, ...]
) -> None:
    from models.evaluation import evaluate

    hypermodel = made()
    whole = Trained(hypermodel, classes)
    result, tunable = whole.result, whole.tunable
    assert [epoch for epoch, _ in whole.heard] == list(range(EPOCHS))
    assert [value for _, value in whole.heard] == result.history["val_accuracy"]
    assert result.value == max(result.history["val_accuracy"]) == result.history["val_accuracy"][result.best_epoch]
    assert all(math.isfinite(result.history[name][result.best_epoch]) for name in ("val_loss", "val_balanced_accuracy"))
    assert whole.steps >= EPOCHS
    assert tunable.runs_whole() is None
    assert not any("generator" in note for note in tunable.notes())
    assert tunable.weight_count(whole.model) == tunable.untrained(whole.hp).count_params()
    assert tunable.traces(whole.model) > 0
    weights = [np.asarray(one) for one in whole.model.get_weights()]

    for after in broken_off:
        keeper = Keeper(after)
        with pytest.raises(Kept):
            Trained(made(), classes, keeper)
        again = Trained(made(), classes, content=keeper.content)
        assert [epoch for epoch, _ in again.heard] == list(range(after, EPOCHS))
        assert again.result.history["val_accuracy"] == result.history["val_accuracy"]
        assert again.result.history["loss"] == result.history["loss"]
        assert again.result.best_epoch == result.best_epoch
        for one, other in zip(weights, again.model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, other)

    data = whole.data
    images, labels = data.validation.batch(np.arange(len(data.validation)))
    found = evaluate(tunable.classifier(whole.model), images, labels, classes=classes)
    assert found.accuracy == pytest.approx(result.value, abs=1e-6)


def test_a_training_by_an_optimizer_that_nobody_finds_runs_whole() -> None:
    keeper = Keeper(2)
    done = Trained(two_optimizers("nowhere"), 4, keeper)
    assert keeper.content == b""
    assert [epoch for epoch, _ in done.heard] == list(range(EPOCHS))
    assert str(done.tunable.runs_whole()).startswith("an optimizer that trains the model is no attribute of it")


@pytest.mark.parametrize(("source", "kept"), [("keras", True), ("module", False), ("tensorflow", False)])
def test_the_same_trial_draws_the_same_noise_and_what_cannot_be_kept_of_it_is_told(source: str, kept: bool) -> None:
    from models.foreign.hypermodel import OTHER_GENERATORS
    from models.training.state import TrainingState

    made, keeper = noisy(source), Keeper(2)
    whole = Trained(made, 4)
    assert (OTHER_GENERATORS not in whole.tunable.notes()) is kept
    with pytest.raises(Kept):
        Trained(made, 4, keeper)
    assert TrainingState.from_bytes(keeper.content).history["loss"] == whole.result.history["loss"][:2]
    again = Trained(made, 4, content=keeper.content)
    assert (again.result.history["loss"] == whole.result.history["loss"]) is kept
