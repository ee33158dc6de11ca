"""What a name in a user's file means: an `ImageClassifier`, or a hypermodel that knows nothing of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from keras_tuner import applications

from models.classifier import ImageClassifier
from models.foreign.hypermodel import ForeignModels
from models.tunable import Hypermodel


def hypermodel_of(found: Any, name: str, notes: Sequence[str] = ()) -> Hypermodel:
    """Return what makes the trials' models of what a user named.

    Args:
        found: a class derived from `ImageClassifier`, or what `ForeignModels` takes.
        name: its name, for people.
        notes: what is to be said of it besides, one line each.

    Raises:
        UnusableModel: it is none of these.
    """
    if isinstance(found, type) and issubclass(found, ImageClassifier):
        return found
    return ForeignModels(found, name, notes=notes)


def keras_tuners(name: str) -> Hypermodel:
    """Return what makes the trials' models of one of KerasTuner's own hypermodels, `HyperResNet` for example."""
    return ForeignModels(getattr(applications, name), name)
