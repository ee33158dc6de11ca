"""What a spec names as its model, as the hypermodel that it means. `load_hypermodel` imports Keras.

A spec read from a database is data. It may choose between what is already here; nothing that it says is imported.
"""

from __future__ import annotations

import importlib
import os
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from storage.errors import BadInput, unknown_name
from storage.prepared.bases import application_in, is_base
from storage.settings import Home
from studies.spec import HYPERMODELS, KERAS_TUNER_MODELS
from tuning.machine.bases import recorded_file
from tuning.user_classes import UserFile, load_from

if TYPE_CHECKING:
    from models.tunable import Hypermodel


def load_hypermodel(name: str, user_file: UserFile | None, home: Home | None = None) -> Hypermodel:
    """Return the hypermodel that a spec names. Imports Keras.

    Args:
        name: the spec's.
        user_file: the file that this process was started with.
        home: where the bases of studies are kept; by default the one that the environment says.

    Raises:
        BadInput: it is neither one of the project's own nor that of the file this process was started with, or the file
            of a base is not here.
    """
    if is_base(name):
        from models.transfer.named import transfer_models

        found = recorded_file(name, home or Home.from_environment(), os.environ)
        return transfer_models(name, found.path, application_in(name), published=found.published)
    if name in HYPERMODELS.values():
        module, _, class_name = name.partition(":")
        loaded: Hypermodel = getattr(importlib.import_module(module), class_name)
        return loaded
    if name in KERAS_TUNER_MODELS:
        from models.foreign.meaning import keras_tuners

        return keras_tuners(name.partition(":")[2])
    if ".py:" not in name:
        raise unknown_name("model", name, HYPERMODELS)
    notes: list[str] = []

    def importing() -> AbstractContextManager[None]:
        from models.foreign.scripts import searches_left_out

        return searches_left_out(notes)

    named = load_from("model", name, user_file, importing)
    from models.classifier import UnusableModel
    from models.foreign.meaning import hypermodel_of

    assert user_file is not None, "seen to by load_from"
    try:
        return hypermodel_of(named, user_file.class_name, notes)
    except UnusableModel as error:
        raise BadInput(f"{user_file}: {error}. Mend the file, or name something else in it.") from error
