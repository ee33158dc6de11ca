"""What a model is built of where Keras cannot load it as one file: a user's file, a trial's parameters and its weights.

Here is what is kept for that, and where in a folder it lies; `tuning.bundles.loading` builds the model. No Keras.

The copy of the user's file has the name that the study records, which holds a checksum of its content and of the
modules' that it imports from its folder. Nothing else lies beside it: what is imported from there has been checked.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from studies.spec import StudySpec
from tuning.own_modules import files_of

WEIGHTS = "model.weights.h5"
"""The weights."""
CODE = "model_code"
"""The folder of the user's file and of what that imports beside it."""


class Building(TypedDict):
    """What a user's file is given to build a model.

    Attributes:
        model: the class, as a study records it: `file.py:Class@checksum`.
        inputs: the fields of `models.classifier.Inputs`.
        extended, epochs, train_images, patience: the other arguments of the class.
        parameters: the trial's.
        precision: the Keras dtype policy.
        mirrored: whether what is built is to say the mean of a picture and its mirror image; left out, it is not.
    """

    model: str
    inputs: dict[str, Any]
    extended: bool
    epochs: int
    train_images: int
    patience: int
    parameters: dict[str, Any]
    precision: str
    mirrored: NotRequired[bool]


def building_of(
    spec: StudySpec, inputs: Mapping[str, Any], *, train_images: int, parameters: Mapping[str, Any], precision: str
) -> Building:
    """Return what a study's model is built of.

    Args:
        spec: the study's.
        inputs: what the study says of its data, see `studies.study_data.inputs_of`.
        train_images: how many an epoch has.
        parameters: by name, those that a trial samples.
        precision: the Keras dtype policy.
    """
    return Building(
        model=spec.model,
        inputs=dict(inputs),
        extended=spec.space == "extended",
        epochs=spec.epochs,
        train_images=train_images,
        patience=spec.patience,
        parameters=dict(parameters),
        precision=precision,
    )


def copy_code(file: Path, folder: Path) -> None:
    """Copy a user's file and the modules that it imports from its folder to where a model in `folder` is built."""
    for source in files_of(file):
        target = folder / CODE / source.relative_to(file.parent)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
