"""What Keras reads of a user's own settings when it is imported, and a study must not depend on. No Keras.

`models.backend.set_defaults` sets the rest, once it is imported: what only `~/.keras/keras.json` can say.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

from storage.errors import BadInput

BACKENDS = ("tensorflow", "jax")

# What Keras takes in its file; with anything else there it cannot be imported.
_ALLOWED: Mapping[str, tuple[str, ...]] = {
    "floatx": ("float16", "float32", "float64"),
    "image_data_format": ("channels_last", "channels_first"),
}

# They end each training early without a word.
_DROPPED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")


def settle_keras(environ: MutableMapping[str, str]) -> None:
    """Have Keras, imported after this, run on the backend that the environment says, else on TensorFlow.

    Args:
        environ: of this process; it is changed. Said in it, a backend goes before that of `keras.json`.

    Raises:
        BadInput: Keras cannot be imported with the user's `keras.json`.
    """
    require_keras_json(environ)
    for name in _DROPPED:
        environ.pop(name, None)
    environ.update(KERAS_NNX_ENABLED="false", KERAS_BACKEND=environ.get("KERAS_BACKEND") or BACKENDS[0])


def require_keras_json(environ: Mapping[str, str]) -> None:
    """Refuse a `keras.json` with which Keras cannot be imported; one that is no JSON it passes over.

    Raises:
        BadInput: it is such a one.
    """
    file = keras_folder(environ) / "keras.json"
    try:
        why = _unusable(json.loads(file.read_text(encoding="utf-8")))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return
    except OSError as error:
        why = f"it cannot be read: {error.strerror}"
    if why is not None:
        raise BadInput(
            f"Keras cannot be imported with {file}: {why}. Mend the file or move it away: a study takes nothing of it."
        )


def keras_folder(environ: Mapping[str, str]) -> Path:
    """Return the folder where Keras keeps its settings and what it has downloaded."""
    if "KERAS_HOME" in environ:
        return Path(environ["KERAS_HOME"]).expanduser()
    home = Path.home()
    return (home if os.access(home, os.W_OK) else Path("/tmp")) / ".keras"  # noqa: S108 # Keras's own


def _unusable(found: Any) -> str | None:
    if not isinstance(found, dict):
        return "it holds no object"
    for name, allowed in _ALLOWED.items():
        if found.get(name, allowed[0]) not in allowed:
            return f"{name} is {json.dumps(found[name])}, allowed is {', '.join(allowed)}"
    if not isinstance(found.get("epsilon", 1e-7), float):
        return f"epsilon is {json.dumps(found['epsilon'])}, allowed is a number with a point, such as 1.0e-7"
    return None


def require_backend(environ: MutableMapping[str, str]) -> None:
    """Refuse a backend on which models do not train.

    Raises:
        BadInput: it is one of these.
    """
    backend = environ["KERAS_BACKEND"]
    if backend not in BACKENDS:
        raise BadInput(f"KERAS_BACKEND={backend}: models train on {' or '.join(BACKENDS)}. Set one of these, or none.")
