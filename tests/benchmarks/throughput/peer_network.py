"""The network of ``models/cnn.py`` and its recipe in stock Keras, as a user of the peers would write them down."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers

from tests.benchmarks.throughput.configurations import Configuration
from tests.benchmarks.throughput.task import Task

WIDTH = 24
WARM_UP = 0.15
WEIGHT_DECAY = 0.02


def compiled(task: Task, shape: tuple[int, ...], configuration: Configuration, steps: int) -> keras.Model:
    """Return the model of a configuration, ready for `fit`.

    Args:
        task: whose data it is for.
        shape: of an image, `(height, width, channels)`.
        configuration: its hyperparameters.
        steps: how many steps the training has.
    """
    model = network(task, shape, layers.Dropout(configuration["dropout"]))
    return compile_model(
        model, optimizer(str(configuration["optimizer"]), schedule(configuration["learning_rate"], steps))
    )


def network(task: Task, shape: tuple[int, ...], dropout: Any) -> keras.Model:
    """Return the model from raw pixels `(batch, height, width, channels)` to logits `(batch, classes)`."""
    pixels = keras.Input(shape)
    x = layers.Normalization(mean=task.mean, variance=[std**2 for std in task.std])(pixels)
    for stage in range(2):
        x = layers.Conv2D(WIDTH * 2**stage, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
        x = layers.MaxPooling2D(2)(x)
        x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(4 * WIDTH, activation="relu")(x)
    return keras.Model(pixels, layers.Dense(task.classes)(dropout(x)))


def compile_model(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """Compile a model for class numbers as labels, and return it."""
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


def schedule(peak: Any, steps: int) -> keras.optimizers.schedules.LearningRateSchedule:
    """Return a cosine decay to zero after a linear warm-up."""
    warm_up = max(1, round(WARM_UP * steps))
    return keras.optimizers.schedules.CosineDecay(
        initial_learning_rate=peak / 10, warmup_target=peak, warmup_steps=warm_up, decay_steps=max(1, steps - warm_up)
    )


def optimizer(name: str, rate: Any, weight_decay: float = WEIGHT_DECAY) -> keras.optimizers.Optimizer:
    """Return the optimizer `sgd`, `adam` or `adamw`; `adam` has no weight decay."""
    if name == "adam":
        return keras.optimizers.Adam(rate)
    if name == "adamw":
        made = keras.optimizers.AdamW(rate, weight_decay=weight_decay)
    else:
        made = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    made.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return made
