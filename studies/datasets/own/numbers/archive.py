"""The arrays of an ``.npz`` file, read a block at a time; a pickle in it is never opened."""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, first_line, shown
from studies.datasets.own.numbers.values import BLOCK_BYTES, Values, require_memory

SUFFIX = ".npy"
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True)
class Archive:
    """An ``.npz`` file.

    Attributes:
        file: where it is.
        members: the sizes of its arrays with their headers, in bytes, by name.
    """

    file: Path
    members: dict[str, int]

    def values(self, name: str) -> Values:
        """Return the numbers of an array, not yet read.

        Raises:
            BadInput: it holds objects, or is damaged.
        """
        with self._opened(name) as stream:
            shape, fortran, dtype = self._header(name, stream)

        def blocks() -> Iterator[npt.NDArray[Any]]:
            length = max(1, BLOCK_BYTES // dtype.itemsize)
            left = math.prod(shape)
            with self._opened(name) as stream:
                self._header(name, stream)
                while left:
                    count = min(length, left)
                    yield np.frombuffer(_exactly(stream, count * dtype.itemsize), dtype)
                    left -= count

        return Values(shown(name), shape, dtype, blocks, "F" if fortran else "C")

    def array(self, name: str) -> npt.NDArray[Any]:
        """Return an array: labels, which are few.

        Raises:
            BadInput: it holds objects, or is damaged.
        """
        values = self.values(name)
        require_memory(self.members[name], f"{shown(self.file)}: {shown(name)}")
        blocks = list(values.blocks())
        flat = np.concatenate(blocks) if blocks else np.zeros(0, values.dtype)
        return flat.reshape(values.shape, order=values.order)

    @contextmanager
    def _opened(self, name: str) -> Iterator[IO[bytes]]:
        with _readable(self.file), zipfile.ZipFile(self.file) as archive, archive.open(name + SUFFIX) as stream:
            yield stream

    def _header(self, name: str, stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read is None:
            raise BadInput(f"{shown(self.file)}: {shown(name)} has records with names. Give an array of numbers.")
        shape, fortran, dtype = read(stream)
        if dtype.hasobject:
            raise BadInput(
                f"{shown(self.file)}: {shown(name)} holds Python objects, kept as a pickle, and pickles are not "
                "opened: they may run anything. Save it with a type, such as x.astype('float32') or y.astype('str')."
            )
        held = self.members[name] - stream.tell()
        if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != held or not dtype.itemsize:
            raise BadInput(
                f"{shown(self.file)}: {shown(name)} says that it is {dtype} of shape {shape}, but it has {held} bytes."
            )
        return shape, fortran, dtype


def open_archive(file: Path) -> Archive:
    """Return an ``.npz`` file, of which only the list of its arrays has been read.

    Raises:
        BadInput: it cannot be read, or is none.
    """
    with _readable(file), zipfile.ZipFile(file) as archive:
        entries = [entry for entry in archive.infolist() if entry.filename.endswith(SUFFIX)]
    members = {entry.filename.removesuffix(SUFFIX): entry.file_size for entry in entries}
    if not members:
        raise BadInput(f"{shown(file)} holds no arrays. Write it with numpy.savez: x_train=..., y_train=....")
    return Archive(file, members)


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except _DAMAGED as error:
        raise BadInput(
            f"{shown(file)} is no .npz file, or is truncated or damaged ({first_line(error)}). Write it with "
            "numpy.savez."
        ) from error
    except OSError as error:
        raise BadInput(f"cannot read {shown(file)}: {error.strerror or error}.") from error


def _exactly(stream: IO[bytes], count: int) -> bytes:
    content = io.BytesIO()
    while content.tell() < count:
        block = stream.read(count - content.tell())
        if not block:
            raise EOFError("it ends too early")
        content.write(block)
    return content.getvalue()
