"""Prepared data of somebody's own, as files: which a study needs, and which a home holds.

What is in them, `studies.datasets` knows.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from storage import attributes
from storage.settings import Home

MANIFEST = "dataset.json"
"""The file of a prepared folder that says what is in it; written last."""

_CHECKSUM = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class OwnData:
    """A prepared folder, as its manifest describes it.

    Attributes:
        folder: where it is.
        label: what the data are called.
        checksum: of all that was read; a study records it.
        arrays: the SHA-256 of the files that hold the examples, by their names.
    """

    folder: Path
    label: str
    checksum: str
    arrays: Mapping[str, str]


def recorded_checksum(attrs: Mapping[str, Any]) -> str | None:
    """Return the checksum of the data that a study records, published or somebody's own; None where it records none.

    Args:
        attrs: the study's user attributes.
    """
    return attributes.typed((attributes.of_study(attrs, attributes.DATA, dict) or {}).get("checksum"), str)


def is_of_own_data(attrs: Mapping[str, Any]) -> bool:
    """Return whether a study trains on data of somebody's own: these alone are given a form."""
    return (attributes.of_study(attrs, attributes.SPEC, dict) or {}).get("images") is not None


def read_own(folder: Path) -> OwnData | None:
    """Return what a prepared folder holds; None where there is no manifest of data of somebody's own."""
    try:
        said = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if not isinstance(said["own"], dict):
            return None
        label, checksum = str(said["name"]), str(said["checksum"])
        if "\0" in label or not _CHECKSUM.fullmatch(checksum):
            return None
        arrays = {str(name): str(entry["sha256"]) for name, entry in said["files"].items()}
        return OwnData(folder, label, checksum, arrays)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def find_own(home: Home, checksum: str) -> OwnData | None:
    """Return the prepared data of that checksum; None where a home does not hold them."""
    found = filter(None, map(read_own, home.own_datasets(checksum)))
    return next((own for own in found if own.checksum == checksum), None)


def keep(folder: Path) -> None:
    """Make a prepared folder young: whoever frees what no study records must not take it before it is recorded."""
    with suppress(OSError):  # somebody else's home, which is only read
        os.utime(folder)
