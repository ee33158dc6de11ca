"""Data of somebody's own, read and decoded once into a prepared folder whose name says what is in it.

The source is never written. What was read of it is remembered, by the sizes and times of its files, so that the same
data are not decoded twice; a source that has changed makes another prepared folder, and the former one stays for the
studies that were made with it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, shown
from storage.scratch import scratch_folder, write_error
from storage.settings import Home
from studies.datasets.info import OwnDataset, SplitName
from studies.datasets.own.arrays import Arrays, read_npz
from studies.datasets.own.decoding import Decoded, decode
from studies.datasets.own.hugging_face import read_saved
from studies.datasets.own.kept import (
    SOURCES,
    as_asked,
    described,
    digests_name,
    may_be_mirrored,
    remember,
    remembered,
    with_checksum,
)
from studies.datasets.own.listing import Listing, Part, list_folder
from studies.datasets.own.reference import Source
from studies.datasets.own.tables import read_table
from studies.datasets.prepared import (
    LAYOUT,
    PreparedDataset,
    SplitArrays,
    publish,
    write_manifest,
    write_splits,
)
from studies.spec import Images

Report = Callable[[str], None]

_PARTS: dict[SplitName, tuple[Part, ...]] = {"train": ("train", "validation"), "test": ("test",)}

_READING = 1
"""The version of how sources are read: another one reads them anew."""


def prepare_own(source: Source, images: Images, home: Home, *, report: Report) -> PreparedDataset:
    """Return data of somebody's own, read and decoded unless that is done.

    Args:
        source: where they are.
        images: the form that pictures are given.
        home: where they are kept.
        report: called with one line about each step that takes time, and about all that is passed over.

    Raises:
        BadInput: the data are not as they must be, the home cannot be written, or there is no room for them.
        TuningError: the disk fails.
    """
    _require_outside(source, home)
    key = hashlib.sha256(f"{_READING}\n{source}\n{images.model_dump_json()}".encode(errors="surrogateescape"))
    reading = _Reading(source, images, home, key.hexdigest()[:16], report)
    return as_asked(reading.known(_stamp(source, None)) or reading.prepared(), images, source)


def _require_outside(source: Source, home: Home) -> None:
    if source.kind in ("folder", "saved") and home.root.resolve().is_relative_to(source.path.resolve()):
        raise BadInput(
            f"TUNING_HOME is {shown(home.root)}, inside of {shown(source.path)}: what is made there would be read as"
            " data. Set TUNING_HOME to a folder outside."
        )


@dataclass(frozen=True)
class _Reading:
    """One source being read into a home; `key` says which source, and in which form."""

    source: Source
    images: Images
    home: Home
    key: str
    report: Report

    def known(self, stamp: str | None) -> PreparedDataset | None:
        """What the source was read into when it had this stamp."""
        return remembered(self.home, self.key, stamp)

    def prepared(self) -> PreparedDataset:
        folder = self.home.decoding(self.source.label, self.key)
        before = _stamp(self.source, None)
        try:
            if self.source.kind == "saved":
                return self._alone(folder, lambda: read_saved(self.source.path, folder / "saved"), before)
            read = _read(self.source)
            stamp = _stamp(self.source, read) if isinstance(read, Listing) else before
            return self.known(stamp) or self._alone(folder, lambda: read, stamp)
        except OSError as error:
            raise write_error(error, folder.parent) from error

    def _alone(self, folder: Path, read: Callable[[], Listing | Arrays], stamp: str | None) -> PreparedDataset:
        """Decode and write what is read, while no other process does the same."""
        self.home.make(folder.parent)
        with _alone_in(folder, partial(self._waiting, folder)):
            if (known := self.known(stamp)) is not None:
                return known
            found = read()
            for line in found.remarks:
                self._say(line)
            dataset = self._write(found, folder)
            remember(self.home, self.key, stamp, dataset)
        return dataset

    def _waiting(self, folder: Path) -> None:
        self._say(f"another process is preparing it in {folder}; waiting for it")

    def _say(self, line: str) -> None:
        self.report(f"{self.source.label}: {line}")

    def _write(self, read: Listing | Arrays, folder: Path) -> PreparedDataset:
        if isinstance(read, Arrays):
            splits, given, sources = _of_arrays(read), _given_in(read.parts), {}
        else:
            decoded = decode(read, folder, image_size=self.images.size, fit=self.images.fit, report=self._say)
            splits, given, sources = _of_pictures(decoded), _given_in(decoded.parts), _checksums(decoded)
        with scratch_folder(self.home.own_dataset(self.source.label, "")) as scratch:
            digests: dict[SplitName, list[bytes]] = {split: [] for split in splits}
            told = {split: replace(arrays, images=_telling(arrays, digests[split])) for split, arrays in splits.items()}
            files = write_splits(scratch, told)
            for split, own in digests.items():
                np.save(scratch / digests_name(split), np.frombuffer(b"".join(own), np.uint64))
            info = self._info(read, splits, given, files)
            (scratch / SOURCES).write_text(json.dumps(sources), encoding="utf-8")
            write_manifest(scratch, info, str(self.source), files, splits=list(splits), own=described(info))
            if (same := with_checksum(self.home, info.checksum)) is not None:
                return PreparedDataset(info, same.folder)  # read before from another place
            target = self.home.own_dataset(self.source.label, info.checksum)
            publish(scratch, target, info.checksum)
        return PreparedDataset(info, target)

    def _info(
        self,
        read: Listing | Arrays,
        splits: Mapping[SplitName, SplitArrays],
        given_validation: int,
        files: Mapping[str, Mapping[str, Any]],
    ) -> OwnDataset:
        said = {
            "layout": LAYOUT,
            "classes": read.class_names,
            "fit": self.images.fit,
            "given_validation": given_validation,
            "files": {name: entry["sha256"] for name, entry in files.items()},
        }
        shape = splits["train"].shape[1:]
        return OwnDataset(
            name=self.source.label,
            title=self.source.label,
            shape=shape,
            dtype=splits["train"].dtype,
            class_names=read.class_names,
            natural_images=may_be_mirrored(shape, read.class_names, self.images),
            fit=self.images.fit,
            reference=str(self.source),
            content=hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest(),
            counts={split: arrays.shape[0] for split, arrays in splits.items()},
            given_validation=given_validation,
        )


def _read(source: Source) -> Listing | Arrays:
    if source.kind == "folder":
        return list_folder(source.path)
    return read_npz(source.path) if source.kind == "npz" else read_table(source.path)


def _stamp(source: Source, read: Listing | Arrays | None) -> str | None:
    """Tells whether files have changed, by their sizes and times; None where it takes reading the source to know."""
    digest = hashlib.sha256()
    files: Iterable[tuple[str, Path]]
    if isinstance(read, Listing):
        files = (
            (f"{part} {one.label} {one.path}", read.root / one.path) for part in read.parts for one in read.parts[part]
        )
    elif source.kind == "folder":
        return None
    else:
        inside = sorted(source.path.rglob("*")) if source.kind == "saved" else [source.path]
        files = [(str(file), file) for file in inside]
    for said, file in files:
        with suppress(OSError):  # gone, or never there: that is told when it is read
            status = file.stat()
            digest.update(f"{said}\0{status.st_size}\0{status.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return f"{'listing' if isinstance(read, Listing) else 'file'} {digest.hexdigest()}"


def _given_in(parts: Mapping[Part, Any]) -> int:
    """How many pictures were given to validate on."""
    if "validation" not in parts:
        return 0
    given = parts["validation"]
    return len(given[1] if isinstance(given, tuple) else given.labels)


def _of_arrays(read: Arrays) -> dict[SplitName, SplitArrays]:
    """The splits of arrays; what was given to validate on comes last in the training split."""
    splits: dict[SplitName, SplitArrays] = {}
    for split, names in _PARTS.items():
        own = [read.parts[name] for name in names if name in read.parts]
        if own:
            images, labels = [x for x, _ in own], np.concatenate([y for _, y in own])
            shape = (len(labels), *images[0].shape[1:])
            splits[split] = SplitArrays(shape, images[0].dtype.name, partial(iter, images), labels)
    return splits


def _of_pictures(decoded: Decoded) -> dict[SplitName, SplitArrays]:
    """The splits of decoded pictures, likewise."""
    splits: dict[SplitName, SplitArrays] = {}
    for split, names in _PARTS.items():
        own = [name for name in names if name in decoded.parts]
        if own:
            labels = np.concatenate([decoded.parts[name].labels for name in own])
            blocks = partial(chain.from_iterable, [decoded.blocks(name) for name in own])
            splits[split] = SplitArrays((len(labels), *decoded.shape), "uint8", blocks, labels)
    return splits


def _telling(arrays: SplitArrays, digests: list[bytes]) -> Callable[[], Iterator[npt.NDArray[Any]]]:
    """The images of a split, which leave a digest of each as they pass."""

    def blocks() -> Iterator[npt.NDArray[Any]]:
        for block in arrays.images():
            digests.extend(hashlib.blake2b(row.tobytes(), digest_size=8).digest() for row in block)
            yield block

    return blocks


def _checksums(decoded: Decoded) -> dict[str, list[tuple[str, str]]]:
    return {name: [(one.path, one.sha256) for one in part.sources] for name, part in decoded.parts.items()}


@contextmanager
def _alone_in(folder: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Make a folder and work in it while no other process does; remove it if the work is done.

    A process that is killed or interrupted leaves what it has done there, and the next one goes on with it.
    """
    folder.mkdir(exist_ok=True)
    lock = folder.with_name(f"{folder.name}.lock")
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        folder.mkdir(exist_ok=True)  # whoever was first has removed it
        try:
            yield
        except (OSError, KeyboardInterrupt):
            raise
        except BaseException:
            _remove(folder, lock)  # what is wrong with the data is so the next time, too
            raise
        _remove(folder, lock)


def _remove(folder: Path, lock: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    lock.unlink(missing_ok=True)
