"""The peer KerasTuner: one script, started as the chief and as each worker.

It is written as its guide shows: `Distributed hyperparameter tuning
<https://keras.io/guides/keras_tuner/distributed_tuning/>`_, with a hypermodel that tunes the batch size, too. The
roles come from the environment (``KERASTUNER_TUNER_ID`` and the oracle's address).
"""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import TrialStatus

from tests.benchmarks.throughput.configurations import BATCH_SIZES, DROPOUTS, LEARNING_RATES, OPTIMIZERS
from tests.benchmarks.throughput.peer_names import TUNER_PROJECT
from tests.benchmarks.throughput.peer_network import compiled
from tests.benchmarks.throughput.task import Folder, Task


class TunedNetwork(keras_tuner.HyperModel):
    """The network, with its batch size tuned in `fit`.

    Args:
        task: what is trained.
        shape: of the training images, `(n, height, width, channels)`.
    """

    def __init__(self, task: Task, shape: tuple[int, ...]) -> None:
        super().__init__()
        self._task = task
        self._shape = shape

    def build(self, hp: Any) -> keras.Model:
        low, high = LEARNING_RATES
        configuration = {
            "batch_size": hp.Choice("batch_size", list(BATCH_SIZES)),
            "optimizer": hp.Choice("optimizer", list(OPTIMIZERS)),
            "learning_rate": hp.Float("learning_rate", low, high, sampling="log"),
            "dropout": hp.Float("dropout", *DROPOUTS),
        }
        steps = self._task.epochs * math.ceil(self._shape[0] / configuration["batch_size"])
        return compiled(self._task, self._shape[1:], configuration, steps)

    def fit(self, hp: Any, model: keras.Model, *args: Any, **kwargs: Any) -> Any:
        return model.fit(*args, batch_size=hp.get("batch_size"), **kwargs)


class ListOracle(keras_tuner.Oracle):
    """Hands out the configurations of a task, one after the other."""

    def __init__(self, task: Task) -> None:
        super().__init__(objective=keras_tuner.Objective("val_accuracy", "max"), max_trials=len(task.configurations))
        self._configurations = task.configurations

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        return {"status": TrialStatus.RUNNING, "values": dict(self._configurations[int(trial_id)])}


def stand_in_for_tensorboard() -> None:
    """KerasTuner imports tensorboard in every trial and uses none of it; TensorFlow 2.21 no longer brings it."""
    if importlib.util.find_spec("tensorboard") is not None:
        return
    api = ModuleType("tensorboard.plugins.hparams.api")
    hparams = ModuleType("tensorboard.plugins.hparams")
    hparams.api = api  # type: ignore[attr-defined]
    names = ("tensorboard", "tensorboard.plugins")
    sys.modules |= {name: ModuleType(name) for name in names} | {hparams.__name__: hparams, api.__name__: api}


def main(folder: Folder, directory: str) -> None:
    """Be the chief, or a worker until the chief has no trial left."""
    stand_in_for_tensorboard()
    task, training, validation = folder.task, folder.part("training"), folder.part("validation")
    tuner = keras_tuner.Tuner(
        oracle=ListOracle(task),
        hypermodel=TunedNetwork(task, training[0].shape),
        directory=directory,
        project_name=TUNER_PROJECT,
    )
    tuner.search(*training, epochs=task.epochs, validation_data=validation, verbose=0)


if __name__ == "__main__":
    main(Folder(Path(sys.argv[1])), sys.argv[2])
