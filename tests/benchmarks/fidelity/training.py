"""One training at one fidelity, in a worker process; its compiled models serve the next ones."""

from __future__ import annotations

import time

import keras_tuner

from models.backend import seed_generators
from models.classifier import Inputs
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.loop import NonFiniteLoss
from studies.datasets.splits import channel_statistics, stratified_split
from studies.declaration import from_catalog, hypermodel_name
from studies.spec import derive_seed
from tests.benchmarks.fidelity.trainings import DRAWN_WITH, Job, Trained, configuration
from tests.benchmarks.throughput.data import prepared
from tuning.worker.preparing.hypermodels import load_hypermodel

_MODELS = CompiledModels()


def trained(job: Job) -> Trained:
    """Train a configuration and return its validation accuracy after the last epoch."""
    began = time.monotonic()
    dataset = prepared(job.dataset)
    images, labels = dataset.train_images, dataset.train_labels
    split = stratified_split(labels, validation_images=job.validation_images, train_images=job.images, seed=DRAWN_WITH)
    mean, std = channel_statistics(images, split.train)
    info, declared = dataset.info, from_catalog(job.dataset)
    classifier = load_hypermodel(hypermodel_name(job.model), None)(
        Inputs(images.shape[1:], len(info.class_names), tuple(mean), tuple(std), info.natural_images),
        extended=False,
        epochs=job.epochs,
        train_images=job.images,
        models=_MODELS,
        defaults={**declared.defaults, **declared.plan_for("cpu").defaults},
    )
    hp = keras_tuner.HyperParameters()
    hp.values.update(configuration(job.number))
    # Weights and order of their own: the same luck in short and long would make them look more alike than they are.
    seed = derive_seed(DRAWN_WITH, "training", job.number, job.images, job.epochs)
    seed_generators(seed)
    model = classifier.build(hp)
    parts = (LabelledImages(images, labels, rows) for rows in (split.train, split.validation))
    try:
        accuracy = classifier.fit(hp, model, *parts, seed=seed).history["val_accuracy"][-1]
    except NonFiniteLoss:
        accuracy = None
    return Trained(job, accuracy, round(time.monotonic() - began, 2))
