"""The hypermodel that a spec means: one of the project's own, or one of the file that this process was started with.

A spec read from a database is data. It may choose between what is already here; nothing that it says is imported.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from storage.errors import unknown_name
from studies.spec import HYPERMODELS
from tuning.user_classes import UserFile, load_class

if TYPE_CHECKING:
    from models.classifier import ImageClassifier


def load_hypermodel(name: str, user_file: UserFile | None) -> type[ImageClassifier]:
    """Return the hypermodel that a spec names. Imports Keras.

    Raises:
        BadInput: it is neither one of the project's own nor that of the file this process was started with.
    """
    if name in HYPERMODELS.values():
        module, _, class_name = name.partition(":")
        loaded: type[ImageClassifier] = getattr(importlib.import_module(module), class_name)
        return loaded
    if ".py:" not in name:
        raise unknown_name("model", name, HYPERMODELS)
    return load_class("model", name, user_file, _image_classifier)


def _image_classifier() -> type[ImageClassifier]:
    from models.classifier import ImageClassifier

    return ImageClassifier
