"""How the peers train what they found: for the time that is left, with the epochs that fit into it.

They have the project's own hypermodel, so that its space and its network, with its own augmentation and label
smoothing, are the same for all. Training is Keras's own ``fit`` on arrays (`plain_fit`), or the project's loop
(`own_fit`).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import keras
import keras_tuner
import numpy as np

from models.backend import seed_generators, set_defaults, set_precision
from models.classifier import ImageClassifier, Inputs
from models.evaluation import evaluate
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.model import TrainingModel
from storage.settings import Home
from studies.datasets.preparing import open_prepared
from studies.declaration import Overrides, from_catalog, hypermodel_name, make_spec
from studies.study_data import describe, inputs_of, split_of, test_part
from tests.benchmarks.best.sizing import Pace, epochs_that_fit
from tests.benchmarks.best.task import Answer, Task
from tuning.machine.precision import cores_precision
from tuning.worker.preparing.hypermodels import load_hypermodel

# Steps of the throwaway start, in each of its two epochs: the first one builds and traces.
THROWAWAY_STEPS: Final = 20
VALIDATION_BATCH_SIZE: Final = 500


class Material:
    """What a task trains on.

    Args:
        task: which data set, model and seed.

    Attributes:
        task: the same.
        train, validation: rows of the training split, `(n,)`.
        models: compiled ones, which trainings of the project's own loop share; a peer's `fit` has a new one each time.
    """

    def __init__(self, task: Task) -> None:
        set_defaults()
        # As the service computes on these cores.
        set_precision(cores_precision())
        declared = from_catalog(task.dataset)
        spec = make_spec(
            declared,
            Overrides(seed=task.seed),
            plan_name="cpu",
            model=hypermodel_name(task.model),
            strategy=declared.strategy.name,
        ).model_copy(update={"train_images": None})  # a plan may search with fewer images than it trains with
        self._dataset = open_prepared(task.dataset, Home(Path(task.home)))
        self._split = split_of(self._dataset, spec)
        self._inputs = Inputs(**inputs_of(self._dataset, describe(self._dataset, spec), self._split))
        self._hypermodel = load_hypermodel(spec.model, None)
        # What the catalog has in place of a network's own defaults is its plan's network's.
        own = declared.plan_for("cpu").model or declared.model
        self._defaults = spec.defaults if task.model == own else {}
        self.task = task
        self.train, self.validation = self._split.train, self._split.validation
        self.models = CompiledModels()

    def classifier(self, epochs: int, train_images: int, models: CompiledModels | None = None) -> ImageClassifier:
        """Return the hypermodel in its core space, for trainings of so many epochs and images."""
        made = self._hypermodel(
            self._inputs,
            extended=False,
            epochs=epochs,
            train_images=train_images,
            models=models,
            defaults=self._defaults,
        )
        assert isinstance(made, ImageClassifier)
        return made

    def arrays(self, rows: Any) -> tuple[Any, Any]:
        """Return images `(n, height, width, channels)` uint8 and labels `(n,)` int32 of rows, in memory."""
        return self._dataset.train_images[rows], self._dataset.train_labels[rows].astype(np.int32)

    def part(self, rows: Any) -> LabelledImages:
        """Return rows as the project's own loop takes them."""
        return LabelledImages(self._dataset.train_images, self._dataset.train_labels, rows)

    def test(self) -> tuple[Any, Any]:
        """Return the test images and labels. Read once, in the end."""
        return test_part(self._dataset, self._split)

    @property
    def test_images(self) -> int:
        """How many there are."""
        return len(self.test()[1])


class RunsOut(keras.callbacks.Callback):
    """Raise when a time has come.

    Args:
        at: seconds since 1970.
        error: what is raised.
    """

    def __init__(self, at: float, error: Callable[[], Exception]) -> None:
        super().__init__()
        self._at = at
        self._error = error

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        if time.time() > self._at:
            raise self._error()


class _Clock(keras.callbacks.Callback):
    """Notes when epochs begin, are judged and end, in seconds since some moment."""

    def __init__(self) -> None:
        super().__init__()
        self.began: list[float] = []
        self.judged: list[float] = []
        self.ended: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.began.append(time.monotonic())

    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        self.judged.append(time.monotonic())

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.ended.append(time.monotonic())


class _Kept(_Clock):
    """Ends a training before an epoch that would not fit any more, and counts the epochs.

    Args:
        until: when it has to be over, in seconds since 1970.
    """

    def __init__(self, until: float) -> None:
        super().__init__()
        self._until = until
        self.validation: list[float] = []

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        super().on_epoch_end(epoch, logs)
        self.validation.append(float((logs or {})["val_accuracy"]))
        if time.time() + self.ended[-1] - self.began[-1] > self._until:
            self.model.stop_training = True


# (classifier, hp, model, training rows, validation rows, callbacks): trains, and leaves the best epoch's weights.
Fit = Callable[[Material, ImageClassifier, Any, TrainingModel, Any, Sequence[keras.callbacks.Callback]], None]


def plain_fit(
    material: Material,
    classifier: ImageClassifier,
    hp: Any,
    model: TrainingModel,
    rows: Any,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train by Keras's own ``fit``, and keep the weights of the best epoch."""
    best = keras.callbacks.EarlyStopping(
        monitor="val_accuracy", mode="max", patience=classifier.epochs, restore_best_weights=True
    )
    model.fit(
        *material.arrays(rows),
        batch_size=min(classifier.recipe(hp).batch_size, len(rows)),
        epochs=classifier.epochs,
        validation_data=material.arrays(material.validation),
        validation_batch_size=VALIDATION_BATCH_SIZE,
        callbacks=[best, *callbacks],
        verbose=0,
    )


def own_fit(
    material: Material,
    classifier: ImageClassifier,
    hp: Any,
    model: TrainingModel,
    rows: Any,
    callbacks: Sequence[keras.callbacks.Callback],
) -> None:
    """Train by the project's own loop, which keeps the weights of the best epoch."""
    training, validation = material.part(rows), material.part(material.validation)
    classifier.fit(hp, model, training, validation, seed=material.task.seed, callbacks=callbacks)


def steps_of_epoch(classifier: ImageClassifier, hp: Any, images: int, fit: Fit) -> int:
    """Return how many steps an epoch has: ``fit`` trains on the batch that is left over, too."""
    batch_size = min(classifier.recipe(hp).batch_size, images)
    return math.ceil(images / batch_size) if fit is plain_fit else images // batch_size


def built(material: Material, hp: Any, *, epochs: int, images: int, fit: Fit) -> tuple[ImageClassifier, TrainingModel]:
    """Return a classifier and its model, whose schedule ends with the last step of the last epoch."""
    classifier = material.classifier(epochs, images, material.models if fit is own_fit else None)
    # The classifier counts full batches.
    steps = steps_of_epoch(classifier, hp, images, fit)
    classifier.train_images = steps * min(classifier.recipe(hp).batch_size, images)
    return classifier, classifier.build(hp)


def pace_of(material: Material, hp: Any, fit: Fit) -> Pace:
    """Return what a training takes, by a throwaway start."""
    asked = time.monotonic()
    batch_size = material.classifier(1, len(material.train)).recipe(hp).batch_size
    rows = material.train[: THROWAWAY_STEPS * batch_size]
    clock = _Clock()
    classifier, model = built(material, hp, epochs=2, images=len(rows), fit=fit)
    fit(material, classifier, hp, model, rows, [clock])
    steps = steps_of_epoch(classifier, hp, len(rows), fit)
    last_s = clock.ended[1] - clock.began[1]
    return Pace(
        start_s=max(0.0, clock.ended[0] - asked - last_s),
        step_s=(clock.judged[1] - clock.began[1]) / steps,
        validation_s=clock.ended[1] - clock.judged[1],
    )


def handed_over(material: Material, hp: Any, fit: Fit, *, searched: str = "") -> Answer:
    """Train a configuration for the time that is left, and read the test split once.

    Args:
        material: what is trained on.
        hp: `keras_tuner.HyperParameters` with the values of the configuration; empty for the defaults.
        fit: how.
        searched: what was done before, for people.
    """
    task = material.task
    pace = pace_of(material, hp, fit)
    until = task.ends_at - pace.test_s(material.test_images, len(material.validation))
    steps = steps_of_epoch(material.classifier(1, len(material.train)), hp, len(material.train), fit)
    epochs = epochs_that_fit(until - time.time(), pace, steps)
    seed_generators(task.seed)
    classifier, model = built(material, hp, epochs=epochs, images=len(material.train), fit=fit)
    kept = _Kept(until)
    fit(material, classifier, hp, model, material.train, [kept])
    images, labels = material.test()
    found = evaluate(classifier.classifier(model), images, labels, classes=model.output_shape[-1])
    return Answer(found.accuracy, max(kept.validation), len(kept.ended), epochs, dict(hp.values), searched)


def with_values(values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Return hyperparameters that have these values."""
    hp = keras_tuner.HyperParameters()
    hp.values.update(values)
    return hp
