"""A model that was saved, as one file or as weights beside the user's file that builds it.

Imported without Keras. A user's file is run only where a caller says so, and only if it is the one that was recorded;
no function that was pickled or marshalled is ever loaded, and no bytecode is read that lies beside the file.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from storage.errors import BadInput
from tuning.building import CODE, Building
from tuning.bundles.bundle import open_bundle
from tuning.keras_settings import settle_keras
from tuning.user_classes import UserFile, load_from


def load(folder: Path | str, *, run_code: bool = False) -> Any:
    """Return the Keras model of a bundle: pixels 0..255 `(batch, height, width, channels)` to class probabilities.

    Args:
        folder: the bundle's.
        run_code: whether the user's file in the bundle may be run, where the model is built by one.

    Raises:
        BadInput: there is no bundle, it is damaged, or its code would have to be run.
    """
    bundle = open_bundle(Path(folder), pictures=False)
    if bundle.code is not None and not run_code:
        raise BadInput(f"{folder}: its model is built by {bundle.code}. Read that file, then give run_code=True.")
    settle_keras(os.environ)
    return loaded(bundle.model, bundle.building)


def loaded(model: Path, building: Building | None) -> Any:
    """Return a saved model; with `building`, code is run that lies beside it.

    Args:
        model: a `.keras` file, or the weights.
        building: what else the model is built of, if it is weights.

    Raises:
        Exception: Keras or the user's code raises what it likes.
    """
    import keras

    if building is None:
        return keras.saving.load_model(model, compile=False)
    from models.mirrored import mirrored

    rebuilt = _network(model.parent / CODE, building)
    rebuilt.load_weights(model)
    return mirrored(rebuilt) if building.get("mirrored") else rebuilt


def _network(folder: Path, building: Building) -> Any:
    import keras
    import keras_tuner

    from models.backend import set_precision
    from models.classifier import Inputs
    from models.foreign.meaning import hypermodel_of
    from models.foreign.scripts import searches_left_out

    # Nothing may lie beside the file that its checksum does not cover, this process's bytecode either.
    sys.dont_write_bytecode = True
    code = UserFile.named(building["model"], folder)
    found = load_from("model", building["model"], code, lambda: searches_left_out([]))
    hypermodel = hypermodel_of(found, code.class_name)
    # A card is JSON, which has no tuples.
    inputs: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in building["inputs"].items()
    }
    maker = hypermodel(
        Inputs(**inputs),
        extended=building["extended"],
        epochs=building["epochs"],
        train_images=building["train_images"],
        patience=building["patience"],
    )
    hp = keras_tuner.HyperParameters()
    hp.values = dict(building["parameters"])
    before = keras.config.dtype_policy()
    set_precision(building["precision"])
    try:
        return maker.untrained_classifier(hp)
    finally:
        keras.config.set_dtype_policy(before)
