"""Which data sets there are, and what of them is on this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.errors import BadInput
from storage.settings import Home
from studies.datasets.info import DatasetInfo, OwnDataset
from studies.datasets.own.kept import own_prepared
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared
from studies.datasets.registry import DATASETS, OfficialDataset
from studies.datasets.sources import nearby

State = Literal["prepared", "downloaded", "not here"]


@dataclass(frozen=True)
class InventoryEntry:
    """What ``data list`` shows of one data set.

    Attributes:
        name: as the command line takes it: a name, or the path of data of somebody's own.
        title: as people write it.
        train_images: images in the training split.
        test_images: images in the test split; 0 where a study splits them off.
        classes: how many classes.
        shape: of one image, ``(height, width, channels)``.
        state: ``prepared`` is ready to train on, ``downloaded`` needs no network to become so.
        size_bytes: what it takes on the disk, 0 if it is not here.
        where: the folder, None if it is not here.
    """

    name: str
    title: str
    train_images: int
    test_images: int
    classes: int
    shape: tuple[int, ...]
    state: State
    size_bytes: int
    where: Path | None


def inventory(home: Home) -> list[InventoryEntry]:
    """Return an entry for each data set that is published, and for what is prepared of somebody's own.

    It looks at file names and sizes only.
    """
    published = [_entry(info.name, info, *_state(info, home)) for info in DATASETS.values()]
    return published + [_own_entry(dataset) for dataset in own_prepared(home)]


def _own_entry(dataset: PreparedDataset) -> InventoryEntry:
    assert isinstance(dataset.info, OwnDataset)
    return _entry(dataset.info.reference, dataset.info, "prepared", dataset.folder)


def _entry(name: str, info: DatasetInfo, state: State, where: Path | None) -> InventoryEntry:
    return InventoryEntry(
        name=name,
        title=info.title,
        train_images=info.images("train"),
        test_images=info.images("test"),
        classes=len(info.class_names),
        shape=info.shape,
        state=state,
        size_bytes=_size_bytes(where) if where else 0,
        where=where,
    )


def _state(info: OfficialDataset, home: Home) -> tuple[State, Path | None]:
    try:
        return "prepared", open_prepared(info.name, home).folder
    except BadInput:
        where = nearby(info, home)
        return ("downloaded", where) if where else ("not here", None)


def _size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
