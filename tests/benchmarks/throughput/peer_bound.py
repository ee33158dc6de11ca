"""The bound: nothing but stock ``fit``, one model for each signature, and nothing kept.

The process says ``ready`` once Keras is imported; each line that it then reads is the number of a configuration, which
it answers with a line of JSON when it has trained it.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt
from keras import layers

from tests.benchmarks.throughput import peer_network
from tests.benchmarks.throughput.configurations import Configuration
from tests.benchmarks.throughput.task import Folder, Task

Part = tuple[npt.NDArray[Any], npt.NDArray[Any]]

VALIDATION_BATCH_SIZE = 500
READERS = 2


class Batches(keras.utils.PyDataset):
    """Batches read by threads, the fastest way to feed ``fit`` on a CPU; training ones full and in random order."""

    def __init__(self, part: Part, batch_size: int, *, shuffled: bool) -> None:
        super().__init__(workers=READERS)
        self._images, self._labels = part
        self._batch_size = batch_size
        self._shuffled = shuffled
        self._order = np.arange(len(self._images))
        self.on_epoch_begin()

    def on_epoch_begin(self) -> None:
        if self._shuffled:
            np.random.default_rng().shuffle(self._order)

    @property
    def num_batches(self) -> int:
        full, rest = divmod(len(self._images), self._batch_size)
        return full + (1 if rest and not self._shuffled else 0)

    def __getitem__(self, index: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        rows = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._images[rows], self._labels[rows]


class Dropout(layers.Layer):
    """Dropout whose rate is a value, so that another one needs no other graph."""

    def __init__(self) -> None:
        super().__init__()
        self.rate = self.add_weight(shape=(), initializer="zeros", trainable=False, name="rate")
        self._seeds = keras.random.SeedGenerator()

    def call(self, inputs: Any, training: bool = False) -> Any:
        if not training:
            return inputs
        kept = keras.ops.cast(
            keras.random.uniform(keras.ops.shape(inputs), seed=self._seeds) >= self.rate, inputs.dtype
        )
        return inputs * kept / (1.0 - self.rate)


class Scaled(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule whose peak is a value, likewise."""

    def __init__(self, steps: int) -> None:
        self.peak = keras.Variable(0.0, trainable=False)
        self._shape = peer_network.schedule(1.0, steps)

    def __call__(self, step: Any) -> Any:
        return self.peak * self._shape(step)


class Signature:
    """A compiled model that is trained again and again.

    Args:
        task: what is trained.
        training, validation: its images and labels.
        batch_size, optimizer: what does not change.
    """

    def __init__(self, task: Task, training: Part, validation: Part, batch_size: int, optimizer: str) -> None:
        self._epochs = task.epochs
        self._batches = Batches(training, batch_size, shuffled=True)
        self._validation = Batches(validation, VALIDATION_BATCH_SIZE, shuffled=False)
        self._rate = Scaled(task.epochs * self._batches.num_batches)
        self._dropout = Dropout()
        self._model = peer_network.compile_model(
            peer_network.network(task, training[0].shape[1:], self._dropout),
            peer_network.optimizer(optimizer, self._rate),
        )
        self._model.optimizer.build(self._model.trainable_variables)

    def train(self, configuration: Configuration) -> float:
        """Train a configuration from fresh weights; return its best validation accuracy."""
        renew(self._model)
        self._dropout.rate.assign(configuration["dropout"])
        self._rate.peak.assign(configuration["learning_rate"])
        history = self._model.fit(
            self._batches, epochs=self._epochs, validation_data=self._validation, shuffle=False, verbose=0
        )
        return float(max(history.history["val_accuracy"]))


def renew(model: keras.Model) -> None:
    """Give a model the weights and its optimizer the state of a new one."""
    for layer in model.layers:
        if hasattr(layer, "kernel"):
            # A clone: an initializer gives the same values again.
            layer.kernel.assign(layer.kernel_initializer.clone()(layer.kernel.shape))
        if getattr(layer, "bias", None) is not None:
            layer.bias.assign(keras.ops.zeros(layer.bias.shape))
        if isinstance(layer, layers.BatchNormalization):
            for variable in (layer.gamma, layer.moving_variance):
                variable.assign(keras.ops.ones(variable.shape))
            for variable in (layer.beta, layer.moving_mean):
                variable.assign(keras.ops.zeros(variable.shape))
    for variable in model.optimizer.variables:  # the learning rate is none of them, but a schedule
        variable.assign(keras.ops.zeros(variable.shape, variable.dtype))


def main(folder: Folder) -> None:
    """Train what is asked for until the input ends."""
    signatures: dict[tuple[Any, Any], Signature] = {}
    task, training, validation = folder.task, folder.part("training"), folder.part("validation")
    print("ready", flush=True)
    for line in sys.stdin:
        number = int(line)
        configuration = task.configurations[number]
        key = (configuration["batch_size"], configuration["optimizer"])
        if key not in signatures:
            signatures[key] = Signature(task, training, validation, int(key[0]), str(key[1]))
        print(json.dumps({"number": number, "value": signatures[key].train(configuration)}), flush=True)


if __name__ == "__main__":
    main(Folder(Path(sys.argv[1])))
