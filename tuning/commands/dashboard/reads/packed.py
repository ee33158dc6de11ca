"""Pieces of an answer that are compressed once, and sent as one gzip stream whichever of them it is made of.

Each piece ends where a byte does and refers to none before it (RFC 1951, a full flush), so that any row of them is a
stream of DEFLATE; head and checksum around it make it a file of RFC 1952 with one member, which every browser reads.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable
from typing import Final

LEVEL: Final = 3
"""At the default one, 6, it takes twice as long for a seventh less."""

_HEAD: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_LAST: Final = b"\x03\x00"  # a last block, which is empty


class Piece:
    """Some bytes of an answer, of which only the compressed form is kept.

    Args:
        write: returns the bytes, the same each time.
    """

    __slots__ = ("_packed", "_write")

    def __init__(self, write: Callable[[], bytes]) -> None:
        self._write = write
        self._packed: bytes | None = None

    def plain(self) -> bytes:
        """Return the bytes."""
        return self._write()

    def packed(self, content: bytes) -> bytes:
        """Return the bytes, which are given, compressed once."""
        if self._packed is None:
            squeezing = zlib.compressobj(LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
            self._packed = squeezing.compress(content) + squeezing.flush(zlib.Z_FULL_FLUSH)
        return self._packed


def gzipped(pieces: Iterable[Piece]) -> list[bytes]:
    """Return a gzip stream of all that the pieces have, in parts."""
    checksum, length = 0, 0
    parts = [_HEAD]
    for piece in pieces:
        content = piece.plain()
        checksum = zlib.crc32(content, checksum)
        length += len(content)
        parts.append(piece.packed(content))
    return [*parts, _LAST, struct.pack("<LL", checksum, length & 0xFFFFFFFF)]
