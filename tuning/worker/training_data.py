"""What all trials of a study share: the data that they train on, and the hypermodel that makes their classifiers."""

from __future__ import annotations

from dataclasses import dataclass

from models.classifier import Inputs
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.tunable import Hypermodel, Tunable
from storage.settings import Home
from studies.phases.training import Training
from studies.spec import StudySpec
from studies.stored import StudyRecord
from studies.study_data import data_of, inputs_of, recorded_split, split_of


@dataclass(frozen=True)
class TrainingData:
    """The data that all trials of a study train on.

    Attributes:
        training, validation: the two parts of the training split, memory-mapped.
        everything: what validation and test leave of it: more than `training`, where a study trains on less.
        inputs: what a classifier must know of them.
    """

    training: LabelledImages
    validation: LabelledImages
    everything: LabelledImages
    inputs: Inputs


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
    )


@dataclass(frozen=True)
class Classifiers:
    """Makes the classifiers of a study's trials.

    Attributes:
        hypermodel: what the spec names.
        spec: the study's.
        data: the study's.
        models: the process's compiled models, which trainings of one signature share.
    """

    hypermodel: Hypermodel
    spec: StudySpec
    data: TrainingData
    models: CompiledModels

    def learned_from(self, training: Training | None = None) -> LabelledImages:
        """Return the images that a trial trains on; None stands for a trial of the search."""
        return self.data.everything if training is not None and training.learned == "all" else self.data.training

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
        )
