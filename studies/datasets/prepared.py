"""Data sets decoded once to ``.npy`` files that every worker maps into memory.

A prepared folder holds two arrays per split and ``dataset.json``. It is made beside its place and renamed into it, so
that it is there with all its files or not at all, whoever else prepares it and whenever the power fails.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage import scratch as scratch_folders
from storage.errors import BadInput
from storage.files import sha256_of
from storage.prepared.own_data import MANIFEST
from studies.datasets.info import DatasetInfo, SplitName

LAYOUT = 1
"""The version of the folder's layout; a folder of another one is prepared again."""

SPLITS: tuple[SplitName, ...] = ("train", "test")
BLOCK_IMAGES = 2_048

Array = npt.NDArray[Any]
Labels = npt.NDArray[np.int64]


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
    def train_images(self) -> Array:
        """The training images, uint8 of shape ``(n, height, width, channels)``, mapped and read-only.

        Arrays of one's own that are no pictures are float32, or uint8, of shape ``(n, ...)``.
        """
        return _mapped(self.folder, "train", "images")

    @property
    def train_labels(self) -> Labels:
        """The training labels, int64 of shape ``(n,)``."""
        return _mapped(self.folder, "train", "labels").astype(np.int64)

    def test(self) -> tuple[Array, Labels]:
        """Return the test ``(images, labels)``, shaped as the training ones.

        Export alone calls this, once, for the model that was chosen: whatever else looks at the test split tunes on
        it.
        """
        return _mapped(self.folder, "test", "images"), _mapped(self.folder, "test", "labels").astype(np.int64)


@dataclass(frozen=True)
class SplitArrays:
    """One split on its way to the disk.

    Attributes:
        shape: of all its images, ``(n, ...)``.
        dtype: of its images, ``uint8`` or ``float32``.
        images: called for its images, a block of ``(k, ...)`` at a time.
        labels: ``(n,)``, not negative.
    """

    shape: tuple[int, ...]
    dtype: str
    images: Callable[[], Iterable[Array]]
    labels: npt.NDArray[np.integer[Any]]

    @property
    def size_bytes(self) -> int:
        """What its images take on the disk."""
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize


def file_names(splits: Iterable[SplitName] = SPLITS) -> list[str]:
    """Return the names of the arrays in a prepared folder."""
    return [_file_name(split, content) for split in splits for content in ("images", "labels")]


def write_splits(folder: Path, splits: Mapping[SplitName, SplitArrays]) -> dict[str, dict[str, Any]]:
    """Write the arrays of each split into an empty folder; return the size, checksum and shape of each file.

    Raises:
        OSError: the folder cannot be written.
    """
    files: dict[str, dict[str, Any]] = {}
    for split, arrays in splits.items():
        label_type = "uint8" if not len(arrays.labels) or arrays.labels.max() < 256 else "int32"
        contents = {
            "images": (arrays.shape, arrays.dtype, arrays.images()),
            "labels": (arrays.labels.shape, label_type, [arrays.labels.astype(label_type)]),
        }
        for content, (shape, dtype, blocks) in contents.items():
            name = _file_name(split, content)
            files[name] = _write_array(folder / name, shape, dtype, blocks)
    return files


def write_manifest(
    folder: Path, info: DatasetInfo, source: str, files: Mapping[str, Mapping[str, Any]], **more: Any
) -> None:
    """Write the manifest, last of all that is in a folder.

    Args:
        folder: what `write_splits` filled.
        info: what it is.
        source: where it is from.
        files: what `write_splits` returned.
        more: further keys.

    Raises:
        OSError: the folder cannot be written.
    """
    manifest = {
        "layout": LAYOUT,
        "name": info.name,
        "checksum": info.checksum,
        "source": source,
        "classes": list(info.class_names),
        "files": files,
        **more,
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")


def publish(scratch: Path, target: Path, checksum: str) -> None:
    """Sync a filled folder and rename it to its place, unless another process has filled that first.

    One that is there but damaged, or of an older layout, is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    scratch_folders.publish(scratch, target, lambda: problem_with(target, checksum) is None)


def manifest_of(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a prepared folder; None where there is none that can be read."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("layout") == LAYOUT else None


def problem_with(folder: Path, checksum: str, *, verify: bool = False) -> str | None:
    """Return what is wrong with a prepared folder, or None.

    Args:
        folder: the data set's.
        checksum: of the data set that it should hold.
        verify: read every byte and compare checksums, rather than the files' sizes only.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return f"{folder} does not hold it"
    except (OSError, ValueError) as error:
        return f"{folder / MANIFEST} cannot be read ({error})"
    if not isinstance(manifest, dict) or manifest.get("layout") != LAYOUT:
        return f"{folder} has another layout than {LAYOUT}"
    if manifest.get("checksum") != checksum:
        return f"{folder} was made from other files"
    try:
        splits = manifest.get("splits", SPLITS)
        damage = (_damage(folder / name, manifest["files"][name], verify) for name in file_names(splits))
        return next(filter(None, damage), None)
    except (KeyError, TypeError):
        return f"{folder / MANIFEST} is incomplete"


def _file_name(split: SplitName, content: str) -> str:
    return f"{split}_{content}.npy"


def _mapped(folder: Path, split: SplitName, content: str) -> Array:
    path = folder / _file_name(split, content)
    try:
        mapped: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot map {path}: {error}. Delete {folder} and prepare it again.") from error
    return mapped


def _write_array(path: Path, shape: tuple[int, ...], dtype: str, parts: Iterable[Array]) -> dict[str, Any]:
    """Write arrays one after the other into one ``.npy`` file; return its size and checksum."""
    digest = hashlib.sha256()
    # Not np.lib.format.open_memmap: on a full disk a write into a mapping is a SIGBUS, a write to a file an OSError.
    with path.open("xb") as stream:
        for block in _blocks(shape, dtype, parts):
            stream.write(block)
            digest.update(block)
        return {"size_bytes": stream.tell(), "sha256": digest.hexdigest(), "shape": list(shape)}


def _blocks(shape: tuple[int, ...], dtype: str, parts: Iterable[Array]) -> Iterator[bytes | memoryview]:
    """Yield the bytes of a ``.npy`` file: the header, then the arrays in C order, which CIFAR's views are not in."""
    header = io.BytesIO()
    descr = np.lib.format.dtype_to_descr(np.dtype(dtype).newbyteorder("<"))
    np.lib.format.write_array_header_1_0(header, {"descr": descr, "fortran_order": False, "shape": shape})
    yield header.getvalue()
    for part in parts:
        for start in range(0, len(part), BLOCK_IMAGES):
            yield np.ascontiguousarray(part[start : start + BLOCK_IMAGES]).reshape(-1).view(np.uint8).data


def _damage(path: Path, entry: Mapping[str, Any], verify: bool) -> str | None:
    try:
        size_bytes = path.stat().st_size
        if size_bytes != entry["size_bytes"]:
            return f"{path} has {size_bytes} bytes, expected {entry['size_bytes']}"
        if verify and (digest := sha256_of(path)) != entry["sha256"]:
            return f"{path} has SHA-256 {digest}, expected {entry['sha256']}"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
    return None
