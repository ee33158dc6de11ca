"""What Keras reads of a user's own settings when it is imported, and a study must not depend on.

`models.backend.set_defaults` sets the rest, once it is imported: what only `~/.keras/keras.json` can say.
"""

from __future__ import annotations

from collections.abc import MutableMapping

from storage.errors import BadInput

BACKENDS = ("tensorflow", "jax")

# They end each training early without a word.
_DROPPED = ("KERAS_MAX_EPOCHS", "KERAS_MAX_STEPS_PER_EPOCH")


def settle_keras(environ: MutableMapping[str, str]) -> None:
    """Have Keras, imported after this, run on the backend that the environment says, else on TensorFlow.

    Args:
        environ: of this process; it is changed. Said in it, a backend goes before that of `keras.json`.
    """
    for name in _DROPPED:
        environ.pop(name, None)
    environ.update(KERAS_NNX_ENABLED="false", KERAS_BACKEND=environ.get("KERAS_BACKEND") or BACKENDS[0])


def require_backend(environ: MutableMapping[str, str]) -> None:
    """Refuse a backend on which models do not train.

    Raises:
        BadInput: it is one of these.
    """
    backend = environ["KERAS_BACKEND"]
    if backend not in BACKENDS:
        raise BadInput(f"KERAS_BACKEND={backend}: models train on {' or '.join(BACKENDS)}. Set one of these, or none.")
