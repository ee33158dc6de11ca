"""One trial on the device that the environment names, through `ImageClassifier` or with stock ``fit``.

Says ``warm`` after its first epoch, in which everything is traced and compiled, waits for a line, and then says how
long the other epochs took. Both forms train the same network with the same recipe, at the defaults of its
hyperparameters; with ``fit`` it is made of stock layers and compiled as anybody would, but for the augmentation, which
Keras has no layer for.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
from keras import layers

from models.backend import set_precision
from models.classifier import ImageClassifier, Inputs
from models.cnn import CNN
from models.resnet import ResNet
from models.training.augmentation import RandomAugmentation
from models.training.feeding import LabelledImages
from tests.benchmarks.throughput import peer_network
from tests.benchmarks.throughput.measures import layer_flops
from tests.benchmarks.throughput.task import Folder

MODELS: Mapping[str, type[ImageClassifier]] = {"cnn": CNN, "resnet": ResNet}
SEED = 0


class EpochClock(keras.callbacks.Callback):
    """Takes the time of each epoch after the first, and keeps the validation accuracies."""

    def __init__(self) -> None:
        super().__init__()
        self._since = 0.0
        self.epoch_s: list[float] = []
        self.val_accuracy: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.val_accuracy.append(float((logs or {})["val_accuracy"]))
        if epoch > 0:
            self.epoch_s.append(time.perf_counter() - self._since)
        else:
            say(event="warm")
            sys.stdin.readline()
        self._since = time.perf_counter()


def say(**words: Any) -> None:
    """Print a line of JSON."""
    print(json.dumps(words), flush=True)


def main(model_name: str, how: str, precision: str, folder: Folder) -> None:
    """Train a model of that name; `how` is `trial` or `fit`."""
    set_precision(precision)
    task = folder.task
    (images, labels), (validation_images, validation_labels) = (
        folder.part(part, mapped=how == "trial") for part in ("training", "validation")
    )
    inputs = Inputs(
        shape=images.shape[1:],
        classes=task.classes,
        mean=tuple(task.mean),
        std=tuple(task.std),
        flips=images.shape[-1] > 1,
    )
    hypermodel = MODELS[model_name](
        inputs, extended=False, epochs=task.epochs, train_images=len(images), patience=task.epochs
    )
    hp, clock = keras_tuner.HyperParameters(), EpochClock()
    keras.utils.set_random_seed(SEED)
    if how == "trial":
        model = hypermodel.build(hp)
        training = LabelledImages(images, labels, np.arange(len(images)))
        validation = LabelledImages(validation_images, validation_labels, np.arange(len(validation_images)))
        hypermodel.fit(hp, model, training, validation, seed=SEED, callbacks=[clock])
    else:
        batch_size = hypermodel.recipe(hp).batch_size
        model = stock(hypermodel, hp, steps=task.epochs * math.ceil(len(images) / batch_size))
        model.fit(
            images,
            labels,
            batch_size=batch_size,
            epochs=task.epochs,
            validation_data=(validation_images, validation_labels),
            callbacks=[clock],
            verbose=0,
        )
    say(
        event="done",
        epoch_s=clock.epoch_s,
        val_accuracy=max(clock.val_accuracy),
        forward_flops=forward_flops(model),
        backend=keras.backend.backend(),
    )


def stock(hypermodel: ImageClassifier, hp: Any, *, steps: int) -> keras.Model:
    """Return a hypermodel's model and recipe in stock Keras, compiled for a training of so many steps."""
    recipe, inputs = hypermodel.recipe(hp), hypermodel.inputs
    x = pixels = keras.Input(inputs.shape)
    if recipe.augmentation > 0.0:
        augmentation = RandomAugmentation(flips=inputs.flips, fill=inputs.mean)
        augmentation.strength.assign(recipe.augmentation)
        x = augmentation(x)
    x = layers.Normalization(mean=inputs.mean, variance=[std**2 for std in inputs.std])(x)
    x = layers.Dropout(recipe.dropout)(hypermodel.backbone(hp, x))
    model = keras.Model(pixels, layers.Dense(inputs.classes, dtype="float32")(x))
    rate = peer_network.schedule(recipe.learning_rate, steps)
    return peer_network.compile_model(model, peer_network.optimizer(recipe.optimizer, rate, recipe.weight_decay))


def forward_flops(model: keras.Model) -> int:
    """Return the floating-point operations of one image's way through the convolutions and dense layers."""
    counted = (layers.Conv2D, layers.Dense)
    return sum(
        layer_flops(tuple(layer.kernel.shape), tuple(layer.output.shape))
        for layer in model._flatten_layers(include_self=False)
        if isinstance(layer, counted)
    )


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Folder(Path(sys.argv[4])))
