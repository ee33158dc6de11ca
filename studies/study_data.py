"""What a study trains on: its split of a prepared data set, recorded in the study and checked by every worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from storage.errors import BadInput, shown
from storage.prepared.bases import is_base
from storage.settings import Home
from studies.datasets.info import OwnDataset
from studies.datasets.own.kept import difference, digests_of, with_checksum
from studies.datasets.own.reference import place_that_is_gone
from studies.datasets.prepared import Array, Labels, PreparedDataset
from studies.datasets.preparing import prepare
from studies.datasets.splits import Split, channel_statistics, stratified_split
from studies.phases.training import Learned
from studies.spec import HYPERMODELS, Images, StudySpec, model_name
from studies.stored import StudyData, StudyRecord

LEAST_SPREAD = 1e-6
"""Of the numbers of a channel: Keras's Normalization divides by 1e-7 at least."""


def split_of(dataset: PreparedDataset, spec: StudySpec) -> Split:
    """Return the study's split of a data set's training split; it follows from the spec alone.

    Raises:
        BadInput: the spec asks for more images than there are.
    """
    info = dataset.info
    return stratified_split(
        dataset.train_labels,
        validation_images=spec.validation_images,
        train_images=spec.train_images,
        seed=spec.seed,
        test_images=spec.test_images or 0,
        given_validation=info.given_validation if isinstance(info, OwnDataset) else 0,
        least=1 if isinstance(info, OwnDataset) else 0,
    )


def images_of(record: StudyRecord, dataset: PreparedDataset, learned: Learned) -> int:
    """Return how many images a trial of a study trains on, see `studies.phases.training.Training`."""
    assert record.data is not None, "seen to by whoever has its data"
    if learned == "searched":
        return record.data["train"]
    left = dataset.info.images("train") - record.data.get("test", 0)
    return left if learned == "validation too" else left - record.data["validation"]


def test_part(dataset: PreparedDataset, split: Split) -> tuple[Array, Labels]:
    """Return the test ``(images, labels)``, of the data set or split off from it. Export alone calls this, once."""
    if split.test is None:
        return dataset.test()
    return dataset.train_images[split.test], dataset.train_labels[split.test]


def describe(dataset: PreparedDataset, spec: StudySpec) -> StudyData:
    """Return what a study records of its data. Reads the training part once, for its mean and standard deviation.

    Raises:
        BadInput: the spec asks for more images than there are, or for a model that these data are not for; or the data
            lie too close together to be normalised.
    """
    _require_pictures(dataset, spec)
    split = split_of(dataset, spec)
    mean, std = channel_statistics(dataset.train_images, split.train)
    _require_spread(spec, std)
    recorded = StudyData(
        checksum=dataset.info.checksum,
        split=split.fingerprint,
        train=len(split.train),
        validation=len(split.validation),
        mean=list(mean),
        std=list(std),
        class_counts=class_counts(dataset, split),
    )
    if split.test is not None:
        recorded["test"] = len(split.test)
    return recorded


def _require_pictures(dataset: PreparedDataset, spec: StudySpec) -> None:
    """Refuse numbers that are no pictures to models that look for what lies side by side: the project's own, bases."""
    info = dataset.info
    if info.is_picture or not (spec.model in HYPERMODELS.values() or is_base(spec.model)):
        return
    size = "x".join(map(str, info.shape))
    raise BadInput(
        f"{model_name(spec.model)} takes pictures, and {spec.dataset} has {size} numbers ({info.dtype}) in each"
        " example. Give MODEL=file.py:Class, a model of your own."
    )


def class_counts(dataset: PreparedDataset, split: Split) -> list[int]:
    """Return how many images of each class the training part of a split has."""
    counts: list[int] = np.bincount(dataset.train_labels[split.train], minlength=len(dataset.info.class_names)).tolist()
    return counts


def _require_spread(spec: StudySpec, std: Sequence[float]) -> None:
    """Refuse numbers such as lengths in metres of what is measured in nanometres: a model would see them all alike."""
    place, least = min(enumerate(std), key=lambda channel: channel[1])
    if least < LEAST_SPREAD:
        raise BadInput(
            f"{spec.dataset}: the numbers at place {place} of the last axis have a standard deviation of {least:.2g},"
            f" and what is below {LEAST_SPREAD:g} is not normalised. Give them in other units, such as {least:.0e}."
        )


def repeated_images(dataset: PreparedDataset, split: Split) -> dict[str, int]:
    """Return how many validation and test images are training images, too, pixel for pixel. No pixel is read.

    Those of the data sets that are published are not looked for.
    """
    if not isinstance(dataset.info, OwnDataset):
        return {}
    digests = digests_of(dataset, "train")
    test = digests_of(dataset, "test") if split.test is None else digests[split.test]
    learned = digests[split.train]
    counts = {"validation": np.isin(digests[split.validation], learned).sum(), "test": np.isin(test, learned).sum()}
    return {part: int(count) for part, count in counts.items() if count}


def inputs_of(dataset: PreparedDataset, recorded: StudyData, split: Split) -> dict[str, Any]:
    """Return what a model is told of its data: the fields of `models.classifier.Inputs`.

    Args:
        dataset: the data set.
        recorded: what the study records of it.
        split: the study's.
    """
    return {
        "shape": tuple(dataset.info.shape),
        "classes": len(dataset.info.class_names),
        "mean": tuple(recorded["mean"]),
        "std": tuple(recorded["std"]),
        "flips": dataset.info.natural_images,
        "dtype": dataset.train_images.dtype.name,
        "class_counts": tuple(class_counts(dataset, split)),
    }


def recorded_split(dataset: PreparedDataset, spec: StudySpec, recorded: StudyData) -> Split:
    """Return the study's split after comparing it and the data set with what the study records.

    Raises:
        BadInput: the data set or the split is another one.
    """
    if dataset.info.checksum != recorded["checksum"]:
        raise BadInput(
            f"the data set {spec.dataset!r} here has checksum {dataset.info.checksum}, the study was made with"
            f" {recorded['checksum']}. Take STUDY=another for a new study."
        )
    split = split_of(dataset, spec)
    if split.fingerprint != recorded["split"]:
        raise BadInput(
            f"the split of {spec.dataset!r} here is {split.fingerprint}, the study was made with {recorded['split']}:"
            " another version of this service made it. Take STUDY=another for a new study."
        )
    return split


def data_of(study: StudyRecord, home: Home) -> PreparedDataset:
    """Return what a study trains on, prepared first where this machine does not have it.

    Raises:
        BadInput: it cannot be had, or is not what the study records.
        TuningError: the disk fails.
    """
    spec, recorded = study.spec, study.data
    if recorded is None:
        raise BadInput(f"study {study.name!r} records no data. Start it with: tuning tune --dataset {spec.dataset}")
    if spec.images is not None and with_checksum(home, recorded["checksum"]) is None:
        elsewhere = f"Bring its data to this place, or prepare them from where they are: {_preparing(spec.images)}"
        if place_that_is_gone(spec.dataset) is not None:
            raise BadInput(
                f"study {study.name!r} trains on {shown(spec.dataset)}, and here is neither that nor what was read of"
                f" it. {elsewhere}"
            )
        dataset = prepare(spec.dataset, home, images=spec.images)
        require_unchanged(dataset, home, study, then=elsewhere)
        return dataset
    return prepare(spec.dataset, home, images=spec.images, checksum=recorded["checksum"])


def _preparing(images: Images) -> str:
    """Return the command that prepares pictures in a form."""
    size = ["--image-size", "x".join(map(str, images.size))] if images.size is not None else []
    fit = ["--fit", images.fit] if images.fit != Images().fit else []
    return " ".join(["tuning", "data", "prepare", *size, *fit, "PATH"])


def require_unchanged(dataset: PreparedDataset, home: Home, study: StudyRecord, then: str = "") -> None:
    """Refuse data of somebody's own that are not those that a study was made with, wherever they lie.

    Args:
        dataset: the data.
        home: where what they were may be.
        study: which has begun.
        then: the next step; by default that of the user who tunes.

    Raises:
        BadInput: they are others; the message says how, as far as what they were is still here.
    """
    assert study.data is not None and isinstance(dataset.info, OwnDataset)
    if dataset.info.checksum != study.data["checksum"]:
        how = difference(with_checksum(home, study.data["checksum"]), dataset)
        before = study.spec.dataset
        moved = f", {shown(before)}" if before != dataset.info.reference else ""
        raise BadInput(
            f"{shown(dataset.info.reference)} is not what study {study.name!r} was made with{moved}"
            f"{': ' * bool(how)}{how}. {then or 'Take STUDY=another for a new study, or give it what it had.'}"
        )
