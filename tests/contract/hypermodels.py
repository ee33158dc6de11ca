"""Hypermodels in the shapes that people write, small: of 8x8 pictures, and none knows this project."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers


@dataclass(frozen=True)
class Shape:
    """A hypermodel, and the data that it is for.

    Attributes:
        found: what a user names.
        shape: of a picture.
        classes: how many.
        compared: whether KerasTuner runs it as it is, and in the same order.
    """

    found: Any
    shape: tuple[int, ...] = (8, 8, 1)
    classes: int = 4
    compared: bool = True


SHAPES: dict[str, Shape] = {}


def named(**known: Any) -> Callable[[Any], Any]:
    def add(found: Any) -> Any:
        SHAPES[found.__name__] = Shape(found, **known)
        return found

    return add


def dense(hp: Any, x: Any, outputs: int = 4, activation: str | None = "softmax") -> Any:
    x = layers.Dense(hp.Int("units", 4, 16, step=4), activation="relu")(layers.Flatten()(x))
    return layers.Dense(outputs, activation=activation)(x)


def functional(hp: Any, outputs: int = 4, activation: str | None = "softmax", shape: Any = (8, 8, 1)) -> Any:
    image = keras.Input(shape)
    return keras.Model(image, dense(hp, image, outputs, activation))


def compiled(model: Any, loss: Any = "sparse_categorical_crossentropy", metrics: Any = ("accuracy",)) -> Any:
    model.compile("adam", loss, metrics=list(metrics))
    return model


# --- Models ---


@named()
def of_a_graph(hp: Any) -> Any:
    model = functional(hp)
    rate = hp.Float("learning_rate", 1e-3, 1e-2, sampling="LOG")
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@named()
def sequential_that_is_not_built(hp: Any) -> Any:
    units = hp.Int("units", 4, 16, step=4)
    return compiled(keras.Sequential([layers.Flatten(), layers.Dense(units), layers.Dense(4, activation="softmax")]))


@named(shape=(8, 8, 3))
def logits_with_its_own_augmentation(hp: Any) -> Any:
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Rescaling(1 / 255),
            layers.RandomFlip("horizontal"),
            layers.RandomRotation(hp.Float("rotation", 0.0, 0.2, step=0.1)),
            layers.Conv2D(hp.Int("filters", 2, 6, step=2), 3),
            layers.BatchNormalization(),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(hp.Float("dropout", 0.1, 0.5)),
            layers.Dense(4),
        ]
    )
    return compiled(model, keras.losses.SparseCategoricalCrossentropy(from_logits=True))


@named(compared=False)
def bare_probabilities(hp: Any) -> Any:
    return functional(hp)


@named(compared=False)
def bare_logits(hp: Any) -> Any:
    return functional(hp, activation=None)


@named(classes=2, compared=False)
def bare_single_unit(hp: Any) -> Any:
    return functional(hp, 1, "sigmoid")


@named()
def one_hot(hp: Any) -> Any:
    return compiled(functional(hp), "categorical_crossentropy")


@named(classes=2)
def one_sigmoid_unit(hp: Any) -> Any:
    return compiled(functional(hp, 1, "sigmoid"), "binary_crossentropy")


@named(classes=2)
def one_logit(hp: Any) -> Any:
    return compiled(functional(hp, 1, None), keras.losses.BinaryCrossentropy(from_logits=True))


class Net(keras.Model):
    def __init__(self, units: int) -> None:
        super().__init__()
        self.last = layers.Dense(4, activation="softmax")
        self.first = keras.Sequential([layers.Flatten(), layers.Dense(units, activation="relu"), layers.Dropout(0.2)])

    def call(self, x: Any, training: bool = False) -> Any:
        return self.last(self.first(x, training=training))


@named()
def subclassed(hp: Any) -> Any:
    return compiled(Net(hp.Int("units", 4, 16, step=4)))


class Stepping(keras.Model):
    def train_step(self, data: Any) -> Any:
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            given = self(x, training=True)
            loss = self.compute_loss(y=y, y_pred=given)
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        for metric in self.metrics:
            metric.update_state(loss) if metric.name == "loss" else metric.update_state(y, given)
        return {metric.name: metric.result() for metric in self.metrics}


@named()
def with_a_step_of_its_own(hp: Any) -> Any:
    image = keras.Input((8, 8, 1))
    return compiled(Stepping(image, dense(hp, image)))


class Mirrored(keras.Model):
    def test_step(self, *data: Any) -> Any:
        *state, (x, y) = data
        return super().test_step(*state, (x[:, :, ::-1] ** 2, y))


@named(compared=False)
def with_a_validation_of_its_own(hp: Any) -> Any:
    image = keras.Input((8, 8, 1))
    return compiled(Mirrored(image, dense(hp, image)))


@named()
def without_metrics(hp: Any) -> Any:
    return compiled(functional(hp), metrics=())


@named()
def judged_by_f1(hp: Any) -> Any:
    return compiled(functional(hp), "categorical_crossentropy", [keras.metrics.F1Score(average="macro")])


@named()
def accuracy_by_another_name(hp: Any) -> Any:
    metrics = ["sparse_categorical_accuracy", keras.metrics.SparseTopKCategoricalAccuracy(2, name="accuracy")]
    return compiled(functional(hp), metrics=metrics)


@named()
def focal_loss(hp: Any) -> Any:
    return compiled(functional(hp), keras.losses.CategoricalFocalCrossentropy(), ["acc"])


def surprise(y: Any, given: Any) -> Any:
    return keras.ops.mean(keras.losses.sparse_categorical_crossentropy(y, given))


@named()
def loss_of_its_own(hp: Any) -> Any:
    return compiled(functional(hp), surprise)


@named()
def rows_in_order(hp: Any) -> Any:
    rows = keras.Input((8, 8))
    x = layers.SimpleRNN(hp.Int("units", 4, 8))(rows)
    return compiled(keras.Model(rows, layers.Dense(4, activation="softmax")(x)))


@named()
def flat(hp: Any) -> Any:
    return compiled(functional(hp, shape=(64,)))


@named()
def whole_numbers(hp: Any) -> Any:
    image = keras.Input((8, 8, 1), dtype="uint8")
    scaled = layers.Rescaling(1 / 255)(image)
    return compiled(keras.Model(image, dense(hp, scaled)))


@named()
def learning_rate_that_falls(hp: Any) -> Any:
    falling = keras.optimizers.schedules.CosineDecay(hp.Float("rate", 1e-3, 1e-2), 20)
    model = functional(hp)
    model.compile(keras.optimizers.SGD(falling, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@named()
def several_steps_in_a_call(hp: Any) -> Any:
    model = functional(hp)
    optimizer = keras.optimizers.AdamW(weight_decay=hp.Choice("decay", [0.01, 0.1]), clipnorm=1.0)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"], steps_per_execution=2)
    return model


@named()
def with_a_lambda(hp: Any) -> Any:
    image = keras.Input((8, 8, 1))
    return compiled(keras.Model(image, dense(hp, layers.Lambda(lambda x: x / 255.0)(image))))


@named()
def without_parameters() -> Any:
    image = keras.Input((8, 8, 1))
    return compiled(keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(image))))


# --- Spaces ---


@named()
def conditions_in_a_loop(hp: Any) -> Any:
    x = image = keras.Input((8, 8, 1))
    x = layers.Flatten()(x)
    for i in range(hp.Int("depth", 1, 3, default=2)):
        with hp.conditional_scope("depth", list(range(i + 1, 4))):
            x = layers.Dense(hp.Int(f"units_{i}", 4, 12, step=4), activation="relu")(x)
            hp.Fixed(f"tag_{i}", 0.3)
    return compiled(keras.Model(image, layers.Dense(4, activation="softmax")(x)))


@named()
def parents_by_name(hp: Any) -> Any:
    depth = hp.Int("depth", 1, 3, default=3)
    sizes = [hp.Int(f"n{i}", 4, 8, parent_name="depth", parent_values=list(range(i + 1, 4))) for i in range(depth)]
    x = image = keras.Input((8, 8, 1))
    x = layers.Flatten()(x)
    for size in sizes:
        x = layers.Dense(size)(x)
    return compiled(keras.Model(image, layers.Dense(4, activation="softmax")(x)))


@named()
def one_name_twice(hp: Any) -> Any:
    x = image = keras.Input((8, 8, 1))
    x = layers.Conv2D(hp.Int("filters", 2, 6, step=2), 3)(x)
    x = layers.Conv2D(hp.Int("filters", 2, 8, step=3), hp.Choice("kernel", [1, 3]))(x)
    return compiled(keras.Model(image, layers.Dense(4, activation="softmax")(layers.Flatten()(x))))


@named()
def steps_that_multiply(hp: Any) -> Any:
    x = layers.Dense(hp.Int("units", 4, 32, step=2, sampling="log"))
    model = keras.Sequential([layers.Flatten(), x, layers.Dense(4, activation="softmax")])
    rate = hp.Float("rate", 1e-4, 1e-1, step=10, sampling="log")
    model.compile(keras.optimizers.RMSprop(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


@named()
def its_own_batch_size(hp: Any) -> Any:
    hp.Choice("batch_size", [8, 24])
    return compiled(functional(hp))


class Mlp(keras_tuner.HyperModel):
    def build(self, hp: Any) -> Any:
        return keras.Sequential([layers.Flatten(), layers.Dense(hp.Int("units", 4, 16, step=4), activation="relu")])


class Convolutions(keras_tuner.HyperModel):
    def build(self, hp: Any) -> Any:
        filters = hp.Int("units", 2, 6, step=2)
        return keras.Sequential([layers.Conv2D(filters, 3, activation="relu"), layers.GlobalMaxPooling2D()])


@named()
class HypermodelsInside(keras_tuner.HyperModel):
    def build(self, hp: Any) -> Any:
        image = keras.Input((8, 8, 1))
        kind = hp.Choice("kind", ["mlp", "cnn"])
        x = image
        for name, inside in (("mlp", Mlp()), ("cnn", Convolutions())):
            with hp.conditional_scope("kind", [name]):
                if kind == name:
                    with hp.name_scope(name):
                        x = inside.build(hp)(image)
        return compiled(keras.Model(image, layers.Dense(4, activation="softmax")(x)))


@named()
class ToldOfTheData(keras_tuner.HyperModel):
    def __init__(self, input_shape: Any, num_classes: int, width: int = 8) -> None:
        super().__init__()
        self.given = input_shape, num_classes, width

    def build(self, hp: Any) -> Any:
        shape, classes, width = self.given
        image = keras.Input(shape)
        x = layers.Dense(width, activation=hp.Choice("activation", ["relu", "tanh"]))(layers.Flatten()(image))
        return compiled(keras.Model(image, layers.Dense(classes, activation="softmax")(x)))


@named()
class PartlyNotTunable(keras_tuner.HyperModel):
    def build(self, hp: Any) -> Any:
        image = keras.Input((8, 8, 1))
        x = Mlp(tunable=False).build(hp)(image)
        x = layers.Dropout(hp.Float("dropout", 0.0, 0.5))(x)
        return compiled(keras.Model(image, layers.Dense(4, activation="softmax")(x)))


# --- Trainings of their own ---


class Fitting(keras_tuner.HyperModel):
    def build(self, hp: Any) -> Any:
        return compiled(functional(hp))


@named()
class SetsItsBatches(Fitting):
    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        kwargs["epochs"] = hp.Int("epochs", 1, 2)
        return model.fit(*args, batch_size=hp.Choice("batch_size", [16, 32]), **kwargs)


@named(compared=False)
class SaysItsEpochsTwice(Fitting):
    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        return model.fit(*args, epochs=hp.Int("epochs", 2, 3), verbose=0, **kwargs)


@named()
class FlipsItsData(Fitting):
    def fit(self, hp: Any, model: Any, x: Any, y: Any, **kwargs: Any) -> Any:
        flipped = x[:, :, ::-1] if hp.Boolean("flip") else x
        return model.fit(flipped, y, class_weight={0: hp.Float("weight", 1.0, 3.0), 1: 1.0, 2: 1.0, 3: 1.0}, **kwargs)


@named()
class FitsTwice(Fitting):
    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        model.fit(*args, **kwargs)
        model.optimizer.learning_rate.assign(1e-4)
        return max(model.fit(*args, **kwargs).history["val_accuracy"])


@named(compared=False)
class TakesNoCallbacks(Fitting):
    def fit(self, hp: Any, model: Any, x: Any, y: Any, validation_data: Any = None, epochs: int = 1) -> Any:
        history = model.fit(x, y, validation_data=validation_data, epochs=epochs, shuffle=False, verbose=0)
        return {name: curve[-1] for name, curve in history.history.items()}


class Looping(keras_tuner.HyperModel):
    """After KerasTuner's guide "Tune hyperparameters in your custom training loop"."""

    def build(self, hp: Any) -> Any:
        return functional(hp)

    def fit(
        self, hp: Any, model: Any, x: Any, y: Any, validation_data: Any, callbacks: Any = None, **kwargs: Any
    ) -> Any:
        optimizer = keras.optimizers.SGD(hp.Float("rate", 1e-4, 1e-2, sampling="log"))
        loss = keras.losses.SparseCategoricalCrossentropy()
        self.hear(callbacks or [], model)
        lowest = np.inf
        for epoch in range(kwargs.get("epochs", 1)):
            self.train(model, optimizer, loss, x, y, hp.Choice("batch_size", [32, 64]))
            said = float(loss(validation_data[1], model(validation_data[0])))
            for callback in callbacks or []:
                callback.on_epoch_end(epoch, logs={"val_loss": said})
            lowest = min(lowest, said)
        return lowest

    def hear(self, callbacks: Any, model: Any) -> None:
        for callback in callbacks:
            callback.set_model(model)

    def train(self, model: Any, optimizer: Any, loss: Any, x: Any, y: Any, size: int) -> None:
        import tensorflow as tf

        for start in range(0, len(x), size):
            with tf.GradientTape() as tape:
                value = loss(y[start : start + size], model(x[start : start + size], training=True))
            gradients = tape.gradient(value, model.trainable_weights)
            optimizer.apply_gradients(zip(gradients, model.trainable_weights, strict=True))


@named()
class LoopsByItself(Looping):
    pass


@named(compared=False)
class LoopsUnheard(Looping):
    def fit(
        self, hp: Any, model: Any, x: Any, y: Any, validation_data: Any, callbacks: Any = None, **kwargs: Any
    ) -> Any:
        return super().fit(hp, model, x, y, validation_data, None, **kwargs)


@named(compared=False)
class SplitsItsData(Fitting):
    def fit(self, hp: Any, model: Any, x: Any, y: Any, validation_data: Any = None, **kwargs: Any) -> Any:
        return model.fit(x, y, validation_split=0.25, **kwargs)


@named(compared=False)
class GivesAnotherNumber(Fitting):
    def fit(self, hp: Any, model: Any, *args: Any, **kwargs: Any) -> Any:
        model.fit(*args, **kwargs)
        return 0.99
