"""What a base's name in a study means: a model of `keras.applications` with weights, or a saved one."""

from __future__ import annotations

from pathlib import Path

from models.classifier import Inputs
from models.transfer.bases import Base, base_from_file, base_from_weights
from models.transfer.hypermodel import TransferModels


def transfer_models(name: str, file: Path, application: str | None, *, published: bool) -> TransferModels:
    """Return what makes the trials' models of a base.

    Args:
        name: as a study records it, which says what is in the file.
        file: the weights of a model of `keras.applications`, or a saved model.
        application: the name of the former; None for the latter.
        published: whether the weights are the ones that Keras would fetch.
    """

    def load(inputs: Inputs) -> Base:
        if application is None:
            return base_from_file(file, inputs)
        return base_from_weights(application, file, inputs, published=published)

    # A saved model says itself what each of its layers computes in.
    return TransferModels(load, name, mixed=application is not None)
