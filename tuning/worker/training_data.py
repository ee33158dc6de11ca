"""What all trials of a study share: the data that they train on, and the hypermodel that makes their classifiers."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from models.classifier import Inputs
from models.cost import BATCH_SIZE, seconds_per_image
from models.evaluation import Metric, evaluate
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.monitor import LAST_EPOCH, Monitor
from models.tunable import Hypermodel, Tunable
from storage.errors import shown
from storage.settings import Home
from studies.phases.training import Training
from studies.spec import StudySpec
from studies.stored import StudyRecord
from studies.study_data import data_of, inputs_of, recorded_split, split_of
from tuning.pictures import Mistakes

if TYPE_CHECKING:
    import keras

logger = logging.getLogger(__name__)

MOST_BYTES: Final = 100_000_000
"""Of larger validation data, mistakes are looked for in as many as fit in here, evenly: the pictures tell the same."""


@dataclass(frozen=True)
class TrainingData:
    """The data that all trials of a study train on.

    Attributes:
        training, validation: the two parts of the training split, memory-mapped.
        everything: what validation and test leave of it: more than `training`, where a study trains on less.
        inputs: what a classifier must know of them.
        class_names: in the order of the labels, as they can be printed.
    """

    training: LabelledImages
    validation: LabelledImages
    everything: LabelledImages
    inputs: Inputs
    class_names: tuple[str, ...]


def open_training_data(study: StudyRecord, home: Home) -> TrainingData:
    """Return the study's data, memory-mapped; prepared first where this machine does not have it.

    Raises:
        BadInput: the data cannot be had, or are not those that the study records.
    """
    dataset = data_of(study, home)
    spec, recorded = study.spec, study.data
    assert recorded is not None, "data_of has read them"
    split = recorded_split(dataset, spec, recorded)
    images, labels = dataset.train_images, dataset.train_labels
    whole = split_of(dataset, spec.model_copy(update={"train_images": None}))
    return TrainingData(
        training=LabelledImages(images, labels, split.train),
        validation=LabelledImages(images, labels, split.validation),
        everything=LabelledImages(images, labels, whole.train),
        inputs=Inputs(**inputs_of(dataset, recorded, split)),
        class_names=tuple(map(shown, dataset.info.class_names)),
    )


@dataclass(frozen=True)
class Classifiers:
    """Makes the classifiers of a study's trials.

    Attributes:
        hypermodel: what the spec names.
        spec: the study's.
        data: the study's.
        models: the process's compiled models, which trainings of one signature share.
        metric: the function that a study of the user's own objective optimises; None for a curve of the history.
    """

    hypermodel: Hypermodel
    spec: StudySpec
    data: TrainingData
    models: CompiledModels
    metric: Metric | None = None

    def learned_from(self, training: Training | None = None) -> LabelledImages:
        """Return the images that a trial trains on; None stands for a trial of the search."""
        if training is None or training.learned == "searched":
            return self.data.training
        everything, validation = self.data.everything, self.data.validation
        if training.learned == "all":
            return everything
        return replace(everything, indices=np.concatenate([everything.indices, validation.indices]))

    def new(self, training: Training | None = None) -> Tunable:
        """Return the classifier of one trial, which knows nothing of the trials before.

        Args:
            training: what the trial trains with; None for what the spec says.
        """
        return self.hypermodel(
            self.data.inputs,
            extended=self.spec.space == "extended",
            epochs=self.spec.epochs if training is None else training.epochs,
            train_images=len(self.learned_from(training)),
            patience=self.spec.patience if training is None else training.patience,
            models=self.models,
            class_weights=self.spec.class_weights,
            defaults=self.spec.defaults,
            at_least=None if training is None else training.at_least,
            monitor=self._monitor if training is None or training.is_judged else LAST_EPOCH,
        )

    @property
    def _monitor(self) -> Monitor:
        return Monitor(self.spec.objective.curve, self.spec.objective.direction, self.metric)

    def cost(self, name: str, classifier: keras.Model, size_bytes: int) -> float:
        """Return what a trained classifier costs.

        Args:
            name: one of `studies.objectives.objective.MEASURED`.
            classifier: raw data to probabilities.
            size_bytes: of its file.
        """
        if name == "seconds_per_image":
            data = self.data.validation
            return seconds_per_image(classifier, data.batch(np.arange(BATCH_SIZE) % len(data))[0])
        return float({"weights": classifier.count_params(), "bytes": size_bytes}[name])

    def mistakes(self, classifier: keras.Model) -> Mistakes | None:
        """Return what a trained classifier takes for what on the validation images; None where it cannot be asked.

        Args:
            classifier: raw data to probabilities.
        """
        data, names = self.data.validation, self.data.class_names
        most = max(1, MOST_BYTES // max(1, data.images[:1].nbytes))
        places = np.linspace(0, len(data) - 1, min(len(data), most)).astype(np.int64)
        images, labels = data.batch(places)
        classifier.jit_compile = False  # one pass is not worth what XLA takes to compile it
        try:
            found = evaluate(classifier, images, labels, classes=len(names))
        except Exception as error:  # whatever a user's layers raise, the trial has its result
            logger.info("what the model takes for what cannot be said: %s: %s", type(error).__name__, error)
            return None
        worst = found.mistakes if self.data.inputs.are_pictures else ()
        return Mistakes(
            confusion=found.confusion,
            class_names=names,
            images=images[[one.place for one in worst]],
            labels=[(one.label_index, one.predicted) for one in worst],
            probabilities=[one.probability for one in worst],
        )
