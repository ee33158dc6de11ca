"""Trained models that studies begin with: how a study names one, and its file, which every worker of a home finds.

That is a model of `keras.applications` without its last layers, whose weights are in a file, or any model that Keras
saved. The name has a checksum: `keras.applications:EfficientNetV2B0@0123456789abcdef`, `file.keras@0123456789abcdef`.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from storage import attributes
from storage.errors import BadInput, disk_error
from storage.files import replacing, sha256_of
from storage.settings import Home

APPLICATIONS_PREFIX = "keras.applications:"

DIGITS = 16
"""How many hexadecimal digits of the SHA-256 of a base's file its name has."""


def is_base(model: str) -> bool:
    """Return whether the name of a model, given or recorded, is that of a base."""
    file = model.rpartition("@")[0] or model
    return model.startswith(APPLICATIONS_PREFIX) or (".py:" not in model and ".keras" in (model[-6:], file[-6:]))


def application_in(model: str) -> str | None:
    """Return which model of `keras.applications` a name is of; None for a saved model."""
    return model.removeprefix(APPLICATIONS_PREFIX).partition("@")[0] if model.startswith(APPLICATIONS_PREFIX) else None


def recorded_as(what: str, checksum: str) -> str:
    """Return how a study names a base.

    Args:
        what: `keras.applications:NAME`, or the name of a saved model's file.
        checksum: the SHA-256 of the file, hexadecimal.
    """
    return f"{what}@{checksum[:DIGITS]}"


def digits_of(model: str) -> str:
    """Return the beginning of the SHA-256 of a base's file that its recorded name has; empty where it has none."""
    return model.rpartition("@")[2] if "@" in model else ""


def keep_base(home: Home, file: Path, checksum: str) -> Path:
    """Copy a file into a home, unless it is there, and return its place there.

    Args:
        home: where it is kept.
        file: as somebody gave it.
        checksum: its SHA-256.

    Raises:
        BadInput: it cannot be read, is another one by now, or there is no room for it.
    """
    target = home.base(checksum) / file.name
    if not target.exists() or sha256_of(target) != checksum:
        home.make(target.parent)
        try:
            with replacing(target) as beside:
                shutil.copyfile(file, beside)
                if sha256_of(beside) != checksum:
                    raise BadInput(f"{file} was changed while it was copied. Start again when it is complete.")
        except OSError as error:
            raise disk_error(error, f"cannot copy {file} to {target}", "Make room, or mend the file.") from error
    with suppress(OSError):  # somebody else's home, which is only read
        os.utime(target)
    return target


def find_base(home: Home, digits: str) -> Path | None:
    """Return the file whose SHA-256 begins with these digits; None where a home does not hold it whole."""
    files = (file for folder in home.bases(digits) for file in sorted(folder.glob("[!.]*")))
    return next((file for file in files if file.is_file() and sha256_of(file).startswith(digits)), None)


def recorded_base(attrs: Mapping[str, Any]) -> str | None:
    """Return the digits in the name of the base that a study records; None where it begins with none.

    Args:
        attrs: the study's user attributes.
    """
    model = attributes.typed((attributes.of_study(attrs, attributes.SPEC, dict) or {}).get("model"), str)
    return digits_of(model) or None if model is not None and is_base(model) else None
