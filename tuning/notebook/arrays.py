"""Arrays that are handed over as a data set: written to a file of the form that `DATASET` takes. No Keras."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from storage.errors import BadInput, no_room
from storage.files import replacing
from storage.settings import Home

_WAYS = "Give (x, y), or ((x, y), (x_test, y_test)) as keras.datasets returns it"


def kept_arrays(arrays: Any, home: Home, name: str | None) -> str:
    """Return the path of a file with arrays; the same arrays have the same path, so a study goes on with them.

    Args:
        arrays: `(x, y)`, or `((x, y), (x_test, y_test))`.
        home: where it is written.
        name: what the data are called.

    Raises:
        BadInput: they are of another form, or there is no room for them.
    """
    members = _members(arrays)
    digest = hashlib.sha256()
    for key, values in members.items():
        digest.update(f"{key} {values.dtype} {values.shape}\n".encode())
        digest.update(np.ascontiguousarray(values).data)
    file = home.given(name or "arrays", digest.hexdigest())
    if not file.exists():
        home.make(file.parent)
        try:
            with replacing(file) as beside, beside.open("wb") as stream:
                np.savez(stream, allow_pickle=False, **members)
        except OSError as error:
            refused = no_room(error, file.parent, "Free some, or set TUNING_HOME to another disk.")
            if refused is None:
                raise
            raise refused from error
    return str(file)


def _members(arrays: Any) -> dict[str, np.ndarray[Any, Any]]:
    try:
        first, second = arrays
        pairs = [("", first, second)]
        if isinstance(first, tuple | list) and isinstance(second, tuple | list) and len(first) == len(second) == 2:
            pairs = [("_train", *first), ("_test", *second)]
        found = {
            f"{role}{part}": np.asarray(one) for part, *pair in pairs for role, one in zip("xy", pair, strict=True)
        }
    except (TypeError, ValueError) as error:
        raise BadInput(f"dataset: these are no arrays of examples and labels. {_WAYS}.") from error
    for key, values in found.items():
        if values.dtype.hasobject or not values.ndim:
            raise BadInput(f"dataset: {key} has the type {values.dtype} and the shape {values.shape}. {_WAYS}.")
    return found
