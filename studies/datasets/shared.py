"""Prepared data in the place where a study's files are, for machines without them: bytes first, manifest last."""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Callable
from pathlib import Path

from storage.prepared.own_data import MANIFEST
from storage.scratch import publish, scratch_folder
from storage.settings import Home
from storage.stores.chosen import dataset_files
from studies.datasets.prepared import PreparedDataset, manifest_of, problem_with
from studies.datasets.preparing import prepare, say
from studies.spec import Images


def share(dataset: PreparedDataset, home: Home) -> None:
    """Put a prepared data set where other machines take it from, unless it is there.

    Raises:
        OSError: it cannot be written.
    """
    files = dataset_files(home, dataset.folder.name)
    if MANIFEST in files.names():
        return
    files.make()
    names = sorted(file.name for file in dataset.folder.iterdir() if file.is_file() and file.name != MANIFEST)
    for name in [*names, MANIFEST]:
        with files.writing(name) as beside:
            shutil.copyfile(dataset.folder / name, beside)


def obtain(
    reference: str,
    home: Home,
    *,
    name: str,
    checksum: str,
    images: Images | None = None,
    report: Callable[[str], None] = say,
) -> Path:
    """Have a prepared data set on this machine, and return its folder: once, however many processes ask at once.

    Args:
        reference: the data set's name, or the path of data of one's own.
        home: where it is kept.
        name: of its folder.
        checksum: of the data.
        images: the form that pictures of one's own were given.
        report: takes one line about each step that takes time.

    Raises:
        BadInput: it is nowhere to be had.
    """
    folder = home.dataset(name)
    home.make(folder.parent)
    with (folder.parent / f".{name}.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if problem_with(folder, checksum) is None:
            return folder
        if _taken(folder, home, checksum, report):
            return folder
        return prepare(reference, home, images=images, checksum=checksum, report=report).folder


def _taken(folder: Path, home: Home, checksum: str, report: Callable[[str], None]) -> bool:
    files = dataset_files(home, folder.name)
    if MANIFEST not in files.names():
        return False
    report(f"taking the prepared data from {files.shown()}")
    with scratch_folder(folder) as scratch:
        for name in files.names():
            if name.startswith("."):
                continue
            with files.open(name) as source, (scratch / name).open("wb") as target:
                shutil.copyfileobj(source, target, 1 << 20)
        if problem_with(scratch, checksum, verify=True) is not None:
            return False
        publish(scratch, folder, lambda: problem_with(folder, checksum) is None)
    return manifest_of(folder) is not None
