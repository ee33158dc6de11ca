"""The two official layouts: idx (MNIST) and the CIFAR binary records. Nothing here opens a pickle.

A file is read whole and believed only if its magic number, its dimensions and its length are those expected.
"""

from __future__ import annotations

import gzip
import lzma
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput
from studies.datasets.registry import OfficialDataset, OfficialFile

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.uint8]

COMPRESSED = (".gz", ".xz")
"""The suffixes that an official file may have on top of its own name."""

DAMAGED = (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError)
"""What the decompressors raise for a file that is truncated or is not what its name says."""

_UNSIGNED_BYTE = 0x08
_GZIP, _XZ = b"\x1f\x8b", b"\xfd7zXZ\x00"


def read_content(path: Path, *, limit_bytes: int | None = None) -> bytes:
    """Return the uncompressed content of a plain, ``.gz`` or ``.xz`` file; what it is, its first bytes tell.

    Args:
        path: the file.
        limit_bytes: read no further than one byte past this length, which is enough to know that it is too long.

    Raises:
        BadInput: the file cannot be read, or its compressed stream is truncated or damaged.
    """
    try:
        with _open(path) as stream:
            return stream.read(-1 if limit_bytes is None else limit_bytes + 1)
    except DAMAGED as error:
        raise BadInput(f"{path} is truncated or damaged ({error}). Fetch it again.") from error
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror or error}.") from error


def read_idx(content: bytes, where: str, *, dimensions: int) -> Pixels:
    """Return the array of an idx file of unsigned bytes, as a read-only view of its content.

    The layout: two zero bytes, the type, the number of dimensions, one big-endian 32-bit size per dimension, the
    values (http://yann.lecun.com/exdb/mnist).

    Args:
        content: the uncompressed file.
        where: the file, as an error names it.
        dimensions: how many are expected: 3 for images ``(n, height, width)``, 1 for labels ``(n,)``.

    Raises:
        BadInput: the magic number is another, or the file is shorter or longer than its header says.
    """
    header = 4 + 4 * dimensions
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if content[:4] != magic:
        found = content[:4].hex() or "nothing"
        raise BadInput(f"{where} is no idx file of {dimensions} dimensions: it starts with {found}, not {magic.hex()}.")
    if len(content) < header:
        raise BadInput(f"{where} is truncated: {len(content)} bytes, shorter than its header of {header}.")
    shape = tuple(int(size) for size in np.frombuffer(content, dtype=">u4", count=dimensions, offset=4))
    values = 1
    for size in shape:
        values *= size
    _expect_length(content, header + values, where)
    return np.frombuffer(content, dtype=np.uint8, offset=header).reshape(shape)


def read_cifar(content: bytes, where: str, *, label_bytes: int, images: int) -> tuple[Pixels, Labels]:
    """Return ``(images, labels)`` of a CIFAR binary file, as read-only views of its content.

    A record is the label (CIFAR-10) or the coarse and the fine label (CIFAR-100, whose fine one is taken), then
    1,024 red, 1,024 green and 1,024 blue bytes, row by row (https://www.cs.toronto.edu/~kriz/cifar.html).

    Args:
        content: the uncompressed file.
        where: the file, as an error names it.
        label_bytes: 1 for CIFAR-10, 2 for CIFAR-100.
        images: the number of records expected. The format has no header that would tell it.

    Returns:
        Images of shape ``(n, 32, 32, 3)`` and labels of shape ``(n,)``.

    Raises:
        BadInput: the file is shorter or longer than that.
    """
    record = label_bytes + 3 * 32 * 32
    _expect_length(content, images * record, where)
    records = np.frombuffer(content, dtype=np.uint8).reshape(images, record)
    pixels = records[:, label_bytes:].reshape(images, 3, 32, 32).transpose(0, 2, 3, 1)
    return pixels, records[:, label_bytes - 1]


def read_images(info: OfficialDataset, file: OfficialFile, content: bytes) -> Pixels:
    """Return the images of an official file, ``(n, height, width, channels)``.

    Raises:
        BadInput: the content is not what the data set's format says.
    """
    if info.format == "idx":
        images = read_idx(content, file.name, dimensions=3)[..., np.newaxis]
    else:
        images = _records(info, file, content)[0]
    if images.shape != (file.images, *info.shape):
        raise BadInput(f"{file.name} holds images of shape {images.shape}, expected {(file.images, *info.shape)}.")
    return images


def read_labels(info: OfficialDataset, file: OfficialFile, content: bytes) -> Labels:
    """Return the labels of an official file, ``(n,)``.

    Raises:
        BadInput: the content is not what the data set's format says, or a label has no class.
    """
    labels = read_idx(content, file.name, dimensions=1) if info.format == "idx" else _records(info, file, content)[1]
    if len(labels) != file.images:
        raise BadInput(f"{file.name} holds {len(labels)} labels, expected {file.images}.")
    if len(labels) and int(labels.max()) >= len(info.class_names):
        raise BadInput(
            f"{file.name} holds the label {int(labels.max())}, but {info.title} has {len(info.class_names)} classes."
        )
    return labels


def _records(info: OfficialDataset, file: OfficialFile, content: bytes) -> tuple[Pixels, Labels]:
    return read_cifar(content, file.name, label_bytes=2 if info.format == "cifar100" else 1, images=file.images)


def _expect_length(content: bytes, expected: int, where: str) -> None:
    if len(content) == expected:
        return
    problem = "is truncated" if len(content) < expected else "has bytes after its end"
    raise BadInput(f"{where} {problem}: {len(content)} bytes, expected {expected}. Fetch it again.")


def _open(path: Path) -> IO[bytes] | gzip.GzipFile | lzma.LZMAFile:
    with path.open("rb") as stream:
        start = stream.read(6)
    if start.startswith(_GZIP):
        return gzip.open(path, "rb")
    if start.startswith(_XZ):
        return lzma.open(path, "rb")
    return path.open("rb")
