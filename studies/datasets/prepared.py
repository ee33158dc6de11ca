"""Data sets decoded once to ``.npy`` files that every worker maps into memory.

A prepared folder holds two arrays per split and ``dataset.json``. It is made beside its place and renamed into it, so
that it is there with all its files or not at all, whoever else prepares it and whenever the power fails.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput
from storage.files import sync_file, sync_folder
from storage.scratch import scratch_folder, write_error
from storage.settings import Home
from studies.datasets.formats import read_images, read_labels
from studies.datasets.registry import DatasetInfo, SplitName, dataset_info
from studies.datasets.sources import Found, fetch

MANIFEST = "dataset.json"
LAYOUT = 1
"""The version of the folder's layout; a folder of another one is prepared again."""

_SPLITS: tuple[SplitName, ...] = ("train", "test")
_BLOCK_IMAGES = 2_048
_HASH_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True)
class PreparedDataset:
    """A data set on the disk, ready to be mapped.

    Attributes:
        info: what it is.
        folder: where it is.
    """

    info: DatasetInfo
    folder: Path

    @property
    def train_images(self) -> npt.NDArray[np.uint8]:
        """The training images, uint8 of shape ``(n, height, width, channels)``, mapped and read-only."""
        return _mapped(self.folder, "train", "images")

    @property
    def train_labels(self) -> npt.NDArray[np.int64]:
        """The training labels, int64 of shape ``(n,)``."""
        return _mapped(self.folder, "train", "labels").astype(np.int64)

    def test(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        """Return the test ``(images, labels)``, shaped as the training ones.

        Export alone calls this, once, for the model that was chosen: whatever else looks at the test split tunes on
        it.
        """
        return _mapped(self.folder, "test", "images"), _mapped(self.folder, "test", "labels").astype(np.int64)


def say(line: str) -> None:
    """Print a line to stderr."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def prepare(
    name: str, home: Home, *, data_dir: Path | None = None, report: Callable[[str], None] = say
) -> PreparedDataset:
    """Return the data set of that name, fetching, verifying and decoding it unless that is done.

    Any number of processes may call this at once: each does the work, the first to finish is kept.

    Args:
        name: the data set's.
        home: where it is kept.
        data_dir: a folder with the official files; the environment's ``DATA_DIR`` by default.
        report: called with one line about each step that takes time.

    Raises:
        BadInput: there is no such data set, ``data_dir`` holds wrong files, no source has it, or the home cannot be
            written, or there is no room for it.
        TuningError: the disk fails.
    """
    info = dataset_info(name)
    target = home.dataset(name)
    if _problem(info, target) is None:
        return PreparedDataset(info, target)
    found = fetch(info, home, data_dir=data_dir, report=report)
    report(f"{info.title}: verified, from {found.where}; decoding to {target}")
    home.make(target.parent)
    try:
        with scratch_folder(target) as scratch:
            _decode(info, found, scratch)
            _publish(info, scratch, target)
    except OSError as error:
        raise write_error(error, target.parent, needed_bytes=_size_bytes(info)) from error
    return PreparedDataset(info, target)


def open_prepared(name: str, home: Home, *, verify: bool = False) -> PreparedDataset:
    """Return a data set that has been prepared; this is what a worker does.

    Args:
        name: the data set's.
        home: where it is kept.
        verify: read every byte and compare checksums, rather than the files' sizes only.

    Raises:
        BadInput: there is no such data set, it has not been prepared, or its files are damaged.
    """
    info = dataset_info(name)
    folder = home.dataset(name)
    if problem := _problem(info, folder, verify=verify):
        raise BadInput(f"{info.title} is not prepared: {problem}. Run `tuning data prepare {name}`.")
    return PreparedDataset(info, folder)


def file_names() -> list[str]:
    """Return the names of the arrays in a prepared folder."""
    return [_file_name(split, content) for split in _SPLITS for content in ("images", "labels")]


def _file_name(split: SplitName, content: str) -> str:
    return f"{split}_{content}.npy"


def _mapped(folder: Path, split: SplitName, content: str) -> npt.NDArray[np.uint8]:
    path = folder / _file_name(split, content)
    try:
        return cast("npt.NDArray[np.uint8]", np.load(path, mmap_mode="r", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot map {path}: {error}. Delete {folder} and prepare it again.") from error


def _size_bytes(info: DatasetInfo) -> int:
    height, width, channels = info.shape
    return sum(info.images(split) for split in _SPLITS) * (height * width * channels + 1)


def _decode(info: DatasetInfo, found: Found, folder: Path) -> None:
    """Write the arrays, and the manifest last."""
    files: dict[str, dict[str, Any]] = {}
    for split in _SPLITS:
        own = [file for file in info.files if file.split == split]
        images = [read_images(info, file, found.contents[file.name]) for file in own if file.content != "labels"]
        labels = [read_labels(info, file, found.contents[file.name]) for file in own if file.content != "images"]
        for content, parts in (("images", images), ("labels", labels)):
            name = _file_name(split, content)
            files[name] = _write_array(folder / name, parts)
    manifest = {
        "layout": LAYOUT,
        "name": info.name,
        "checksum": info.checksum,
        "source": found.where,
        "classes": list(info.class_names),
        "files": files,
    }
    path = folder / MANIFEST
    path.write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
    sync_file(path)
    sync_folder(folder)


def _write_array(path: Path, parts: list[npt.NDArray[np.uint8]]) -> dict[str, Any]:
    """Write arrays one after the other into one ``.npy`` file; return its size and checksum."""
    shape = (sum(len(part) for part in parts), *parts[0].shape[1:])
    digest = hashlib.sha256()
    # Not np.lib.format.open_memmap: on a full disk a write into a mapping is a SIGBUS, a write to a file an OSError.
    with path.open("xb") as stream:
        for block in _blocks(parts, shape):
            stream.write(block)
            digest.update(block)
        stream.flush()
        os.fsync(stream.fileno())
        return {"size_bytes": stream.tell(), "sha256": digest.hexdigest(), "shape": list(shape)}


def _blocks(parts: list[npt.NDArray[np.uint8]], shape: tuple[int, ...]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a ``.npy`` file: the header, then the arrays in C order, which CIFAR's views are not in."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    yield header.getvalue()
    for part in parts:
        for start in range(0, len(part), _BLOCK_IMAGES):
            yield np.ascontiguousarray(part[start : start + _BLOCK_IMAGES]).data


def _publish(info: DatasetInfo, scratch: Path, target: Path) -> None:
    """Rename the scratch folder to its place, unless another process has filled that first."""
    try:
        scratch.rename(target)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        if _problem(info, target) is None:
            return
        with scratch_folder(target) as aside:  # damaged, or of an older layout
            target.rename(aside / target.name)
            scratch.rename(target)
    sync_folder(target.parent)


def _problem(info: DatasetInfo, folder: Path, *, verify: bool = False) -> str | None:
    """Return what is wrong with a prepared folder, or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{folder} does not hold it"
    except (OSError, ValueError) as error:
        return f"{folder / MANIFEST} cannot be read ({error})"
    if not isinstance(manifest, dict) or manifest.get("layout") != LAYOUT:
        return f"{folder} has another layout than {LAYOUT}"
    if manifest.get("checksum") != info.checksum:
        return f"{folder} was made from other files"
    try:
        damage = (_damage(folder / name, manifest["files"][name], verify) for name in file_names())
        return next(filter(None, damage), None)
    except (KeyError, TypeError):
        return f"{folder / MANIFEST} is incomplete"


def _damage(path: Path, entry: Mapping[str, Any], verify: bool) -> str | None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != entry["size_bytes"]:
            return f"{path} has {size_bytes} bytes, expected {entry['size_bytes']}"
        if verify and (digest := _sha256(path)) != entry["sha256"]:
            return f"{path} has SHA-256 {digest}, expected {entry['sha256']}"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
