"""Features of pictures as files that all workers of a home share: the first that needs them computes them.

A file comes to its place whole or not at all, and the note beside it, written last, has its checksum: what does not fit
is computed anew. Nobody needs them to be kept: `tuning gc` frees those that nobody has asked for.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from models.training.feeding import LabelledImages
from models.transfer.features import rows_digest
from storage.errors import BadInput, TuningError, disk_error
from storage.files import replacing, sha256_of, sweep
from storage.settings import Home
from tuning.words import duration

logger = logging.getLogger(__name__)

Array = npt.NDArray[Any]
TELLING_S = 5.0
"""After so long the user is told how long it will take."""

Make = Callable[[LabelledImages], Iterator[Array]]


class KeptFeatures:
    """A `models.transfer.features.FeatureStore` in a home.

    Args:
        home: where they are kept.
        checksum: of the data.
        parts: the parts of the data that a study trains on and judges with; of others nothing is kept.
        say: takes a line for the user, where computing them takes long.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        home: Home,
        checksum: str,
        parts: Sequence[LabelledImages],
        say: Callable[[str], None] = logger.info,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._home = home
        self._checksum = checksum
        self._parts = parts
        self._say = say
        self._clock = clock
        # Those that this process has verified, mapped.
        self._mapped: dict[str, Array] = {}

    def __call__(self, images: LabelledImages, key: str, make: Make) -> Array:
        """Return the features of pictures; of a piece of a part, those of the part are computed.

        Raises:
            TuningError: there is no room for them.
        """
        part = next((part for part in self._parts if _has(part, images)), None)
        if part is None:
            return np.concatenate(list(make(images)))
        features = self._of_part(part, key, make)
        if len(part) == len(images) and np.array_equal(part.indices, images.indices):
            return features
        order = np.argsort(part.indices)
        return features[order[np.searchsorted(part.indices, images.indices, sorter=order)]]

    def _of_part(self, part: LabelledImages, key: str, make: Make) -> Array:
        name = hashlib.sha256(f"{key}\0{self._checksum}\0{rows_digest(part)}".encode()).hexdigest()
        if name not in self._mapped:
            folder = self._home.make(self._home.features)
            file = folder / f"{name}.npy"
            try:
                with _locked(folder / f"{name}.lock"):
                    if not _is_whole(file):
                        sweep(folder)  # what killed workers left takes as much room as what is to come
                        _write(file, len(part), self._told(len(part), make(part)))
                self._mapped[name] = np.load(file, mmap_mode="r", allow_pickle=False)
            except OSError as error:
                fact = f"the features of {len(part):,} pictures cannot be kept in {folder}"
                raise disk_error(error, fact, "Make room, or set TUNING_HOME to another disk.", TuningError) from error
            for one in (file, _note(file)):
                with suppress(OSError):  # somebody else's home, which is only read
                    os.utime(one)
        return self._mapped[name]

    def _told(self, pictures: int, blocks: Iterator[Array]) -> Iterator[Array]:
        """The blocks of features, with a line for the user as soon as it is clear that all of them take long."""
        began, done, told = self._clock(), 0, False
        for block in blocks:
            yield block
            done += len(block)
            passed_s = self._clock() - began
            if not told and passed_s >= TELLING_S and done < pictures:
                told = True
                left_s = passed_s / done * (pictures - done)
                self._say(
                    f"computing the features of {pictures:,} pictures, once for all trials: {duration(left_s)} left"
                )
        logger.info("features of %d pictures computed in %.1f s", pictures, self._clock() - began)


def _has(part: LabelledImages, images: LabelledImages) -> bool:
    inside: bool = part.images is images.images and not np.setdiff1d(images.indices, part.indices).size
    return inside


def _write(file: Path, pictures: int, blocks: Iterator[Array]) -> None:
    first = next(blocks)
    with replacing(file) as beside:
        # Not a mapping: on a full disk a write into it is a SIGBUS, a write to a file an OSError.
        with beside.open("wb") as stream:
            header = {"descr": "<f4", "fortran_order": False, "shape": (pictures, *first.shape[1:])}
            np.lib.format.write_array_header_1_0(stream, header)
            for block in _each(first, blocks):
                stream.write(np.ascontiguousarray(block, "<f4").data)
        note = json.dumps({"sha256": sha256_of(beside), "size_bytes": beside.stat().st_size})
    with replacing(_note(file)) as beside:
        beside.write_text(note + "\n", encoding="utf-8")


def _each(first: Array, others: Iterator[Array]) -> Iterator[Array]:
    yield first
    yield from others


def _is_whole(file: Path) -> bool:
    try:
        note = json.loads(_note(file).read_text(encoding="utf-8"))
        return bool(file.stat().st_size == note["size_bytes"] and sha256_of(file) == note["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _note(file: Path) -> Path:
    return file.with_suffix(".json")


@contextmanager
def _locked(lock: Path) -> Iterator[None]:
    """Hold a lock; it goes with the process, however that ends."""
    try:
        handle = lock.open("ab")
    except OSError as error:
        raise BadInput(f"{lock} cannot be written: {error.strerror}. Set TUNING_HOME to another.") from error
    with handle:
        with suppress(OSError):  # a file system without locks: two may compute the same
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
