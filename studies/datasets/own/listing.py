"""Which pictures there are, and of which class: known before any of them is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Part = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class PictureFile:
    """One picture of a listing.

    Attributes:
        path: relative to the listing's root, with ``/`` between folders; or absolute.
        label: the number of its class.
    """

    path: str
    label: int


@dataclass(frozen=True)
class Listing:
    """Pictures in files.

    Attributes:
        root: what their paths are relative to.
        class_names: one per label, in the order of the labels.
        parts: the pictures of each part; "train" is always there.
        remarks: lines worth telling.
    """

    root: Path
    class_names: tuple[str, ...]
    parts: Mapping[Part, tuple[PictureFile, ...]]
    remarks: tuple[str, ...]
