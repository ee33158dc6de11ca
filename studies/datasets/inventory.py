"""Which data sets there are, and what of them is on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.errors import BadInput
from storage.settings import Home
from studies.datasets.prepared import open_prepared
from studies.datasets.registry import DATASETS, DatasetInfo
from studies.datasets.sources import nearby

State = Literal["prepared", "downloaded", "not here"]


@dataclass(frozen=True)
class InventoryEntry:
    """What ``data list`` shows of one data set.

    Attributes:
        name: as the command line takes it.
        title: as people write it.
        train_images: images in the training split.
        test_images: images in the test split.
        classes: how many classes.
        shape: ``(height, width, channels)`` of an image.
        state: ``prepared`` is ready to train on, ``downloaded`` needs no network to become so.
        size_bytes: what it takes on the disk, 0 if it is not here.
        where: the folder, None if it is not here.
    """

    name: str
    title: str
    train_images: int
    test_images: int
    classes: int
    shape: tuple[int, int, int]
    state: State
    size_bytes: int
    where: Path | None


def inventory(home: Home) -> list[InventoryEntry]:
    """Return an entry for each data set that exists, looking at file names and sizes only."""
    return [_entry(info, home) for info in DATASETS.values()]


def _entry(info: DatasetInfo, home: Home) -> InventoryEntry:
    state, where = _state(info, home)
    return InventoryEntry(
        name=info.name,
        title=info.title,
        train_images=info.images("train"),
        test_images=info.images("test"),
        classes=len(info.class_names),
        shape=info.shape,
        state=state,
        size_bytes=_size_bytes(where) if where else 0,
        where=where,
    )


def _state(info: DatasetInfo, home: Home) -> tuple[State, Path | None]:
    try:
        return "prepared", open_prepared(info.name, home).folder
    except BadInput:
        where = nearby(info, home)
        return ("downloaded", where) if where else ("not here", None)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
