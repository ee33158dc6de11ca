"""The peer KerasTuner: Hyperband, then a retraining of the best, in one process with all threads.

As its guide shows: `Getting started with KerasTuner <https://keras.io/guides/keras_tuner/getting_started/>`_, "Retrain
the model". The most epochs of a trial are chosen so that an iteration of Hyperband fits into the search's time, at the
end of which it is stopped in any case.
"""

from __future__ import annotations

import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import keras
import keras_tuner

from tests.benchmarks.best.peer_training import (
    VALIDATION_BATCH_SIZE,
    Material,
    RunsOut,
    built,
    handed_over,
    pace_of,
    plain_fit,
    steps_of_epoch,
    with_values,
)
from tests.benchmarks.best.sizing import HYPERBAND_FACTOR, hyperband_epochs
from tests.benchmarks.best.task import Task
from tests.benchmarks.throughput.peer_keras_tuner import stand_in_for_tensorboard


class TimeIsUp(keras_tuner.errors.FatalError):
    """The search's time is over; of all errors in a trial KerasTuner lets only fatal ones pass."""


class PlainTraining(keras_tuner.HyperModel):
    """The project's hypermodel, trained by Keras's own `fit`.

    Args:
        material: what is trained on.
        epochs: the most of a trial, where the schedule ends.

    Attributes:
        trained: epochs of all trials.
    """

    def __init__(self, material: Material, epochs: int) -> None:
        super().__init__()
        self._material = material
        self._epochs = epochs
        self.trained = 0

    def build(self, hp: Any) -> keras.Model:
        images = len(self._material.train)
        return built(self._material, hp, epochs=self._epochs, images=images, fit=plain_fit)[1]

    def fit(self, hp: Any, model: keras.Model, *args: Any, callbacks: list[Any], **kwargs: Any) -> Any:
        ends = RunsOut(self._material.task.searched_until, TimeIsUp)
        counted = keras.callbacks.LambdaCallback(on_epoch_end=self._count)
        return model.fit(*args, batch_size=hp.get("batch_size"), callbacks=[*callbacks, counted, ends], **kwargs)

    def _count(self, epoch: int, logs: Any) -> None:
        self.trained += 1


def main(task_file: Path, answer: Path, project: Path) -> None:
    """Search, train, and write down what came of it."""
    stand_in_for_tensorboard()
    task = Task.read(task_file)
    keras.utils.set_random_seed(task.seed)
    material, defaults = Material(task), with_values({})
    pace = pace_of(material, defaults, plain_fit)
    images = len(material.train)
    steps = steps_of_epoch(material.classifier(1, images), defaults, images, plain_fit)
    max_epochs = hyperband_epochs((task.searched_until - time.time()) / pace.epoch_s(steps))
    hypermodel = PlainTraining(material, max_epochs)
    tuner = keras_tuner.Hyperband(
        hypermodel,
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_epochs=max_epochs,
        factor=HYPERBAND_FACTOR,
        seed=task.seed,
        directory=project,
        project_name="peer",
    )
    with suppress(TimeIsUp):
        tuner.search(
            *material.arrays(material.train),
            validation_data=material.arrays(material.validation),
            validation_batch_size=VALIDATION_BATCH_SIZE,
            verbose=0,
        )
    found = tuner.get_best_hyperparameters(1)
    searched = f"{len(tuner.oracle.trials)} trials of at most {max_epochs} epochs, {hypermodel.trained} in all"
    del tuner
    handed_over(material, found[0] if found else defaults, plain_fit, searched=searched).write(answer)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
