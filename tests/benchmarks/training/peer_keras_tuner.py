"""The peer KerasTuner: its Hyperband on the project's own hypermodel, started as the chief and as each worker.

It is run as its guide shows: `Distributed hyperparameter tuning
<https://keras.io/guides/keras_tuner/distributed_tuning/>`_. The roles come from the environment
(``KERASTUNER_TUNER_ID`` and the oracle's address). Training is Keras's own ``fit`` on arrays.
"""

from __future__ import annotations

import math
import os
import re
import sys
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np

from models.classifier import ImageClassifier, Inputs
from storage.settings import Home
from studies.datasets.preparing import open_prepared
from studies.declaration import Overrides, hypermodel_name, make_spec, read_declaration
from studies.spec import StudySpec, derive_seed
from studies.study_data import describe, split_of
from tests.benchmarks.throughput.peer_keras_tuner import stand_in_for_tensorboard
from tuning.worker.preparing.hypermodels import load_hypermodel

# More often than anyone waits for it: who runs this stops it when its epochs are trained.
ITERATIONS = 1_000
FACTOR = 3


class Reporting(keras.callbacks.Callback):
    """Appends each epoch's validation accuracy to a file that all workers share.

    Args:
        file: has a line for each epoch.
    """

    def __init__(self, file: Path) -> None:
        super().__init__()
        self._file = file

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        assert logs is not None
        # One write to a file opened for appending: lines of several processes do not mix.
        with self._file.open("ab", buffering=0) as stream:
            stream.write(f"{logs['val_accuracy']!r}\n".encode())


class PlainTraining(keras_tuner.HyperModel):
    """A hypermodel of the project, trained by Keras's own `fit`.

    Args:
        classifier: builds the models.
        reports: the file for `Reporting`.
    """

    def __init__(self, classifier: ImageClassifier, reports: Path) -> None:
        super().__init__()
        self._classifier = classifier
        self._images = classifier.train_images
        self._reports = reports

    def build(self, hp: Any) -> keras.Model:
        batch_size = self._classifier.recipe(hp).batch_size
        # The schedule counts full batches; `fit` trains on what is left over, too.
        self._classifier.train_images = batch_size * math.ceil(self._images / batch_size)
        return self._classifier.build(hp)

    def fit(self, hp: Any, model: keras.Model, *args: Any, callbacks: list[Any], **kwargs: Any) -> Any:
        every = [*callbacks, Reporting(self._reports)]
        return model.fit(*args, batch_size=hp.get("batch_size"), callbacks=every, **kwargs)


def main(home: Home, spec_file: Path, project: Path, reports: Path) -> None:
    """Be the chief, or a worker until the chief has no trial left."""
    stand_in_for_tensorboard()
    spec = _spec(spec_file)
    dataset = open_prepared(spec.dataset, home)
    split, described = split_of(dataset, spec), describe(dataset, spec)
    images, labels = dataset.train_images, dataset.train_labels.astype(np.int32)
    inputs = Inputs(
        shape=dataset.info.shape,
        classes=len(dataset.info.class_names),
        mean=tuple(described["mean"]),
        std=tuple(described["std"]),
        flips=dataset.info.natural_images,
    )
    classifier = load_hypermodel(spec.model, None)(
        inputs, extended=spec.space == "extended", epochs=spec.epochs, train_images=len(split.train)
    )
    assert isinstance(classifier, ImageClassifier)
    keras.utils.set_random_seed(derive_seed(spec.seed, "peer", _number()))
    tuner = keras_tuner.Hyperband(
        PlainTraining(classifier, reports),
        objective=keras_tuner.Objective("val_accuracy", "max"),
        max_epochs=spec.epochs,
        factor=FACTOR,
        hyperband_iterations=ITERATIONS,
        seed=spec.seed,
        directory=project,
        project_name="peer",
    )
    validation = images[split.validation], labels[split.validation]
    tuner.search(images[split.train], labels[split.train], validation_data=validation, verbose=0)


def _spec(file: Path) -> StudySpec:
    declared = read_declaration(file)
    model = hypermodel_name(declared.model)
    return make_spec(declared, Overrides(), plan_name="cpu", model=model, strategy=declared.strategy.name)


def _number() -> int:
    """Return the worker's number, so that each draws weights of its own."""
    found = re.search(r"\d+$", os.environ["KERASTUNER_TUNER_ID"])
    return int(found[0]) if found else 0


if __name__ == "__main__":
    main(Home(Path(sys.argv[1])), *map(Path, sys.argv[2:]))
