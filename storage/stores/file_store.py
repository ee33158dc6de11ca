"""What artifacts and checkpoints need of the place where they lie, whatever that is: one interface.

`storage.stores.local` is a folder that this machine sees, `storage.stores.remote` an object store behind fsspec. One
suite of tests runs on both, `tests/contract/test_file_store.py`.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol


@dataclass(frozen=True)
class Stored:
    """What is known of a stored file, or of a folder as such.

    Attributes:
        size_bytes: of its content; 0 for a folder.
        changed: when it was written, seconds since 1970, by the clock of who keeps it.
    """

    size_bytes: int
    changed: float


class FileStore(Protocol):
    """One folder of files and of further folders. A file is there whole or not at all, whatever happens to its writer.

    What cannot be reached, read or written is an `OSError`; what is not there, a `FileNotFoundError`.
    """

    def shown(self, name: str = "") -> str:
        """Return how the folder, or what is called `name` in it, is named to people."""

    def folder(self, name: str) -> FileStore:
        """Return a folder in this one, which need not be there."""

    def make(self) -> None:
        """Have the folder there, though nothing may be in it."""

    def writing(self, name: str, suffix: str | None = None) -> AbstractContextManager[Path]:
        """Yield a path on this machine to write to; at the end of the block its bytes are in place, and there to stay.

        On any exception what was called `name` is as it was, and nothing else is left.

        Args:
            name: of the file.
            suffix: of the path to write to, for writers that choose the format by it; the name's own by default.
        """

    def sync(self) -> None:
        """Have on the disk what is called how in this folder, and what the folder is called."""

    def holds(self, name: str, sha256: str) -> bool:
        """Return whether a file of these bytes is known to be there, and can be touched."""

    def touch(self, name: str) -> None:
        """Have a file count as just written, which it was, or which is known to be there."""

    def local(self, name: str, sha256: str = "") -> Path:
        """Return a path on this machine with a file's bytes, which is only read.

        Args:
            name: of the file.
            sha256: what its bytes are; a copy that is kept here and has others is not taken.
        """

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""

    def open(self, name: str) -> BinaryIO:
        """Open a file to read it."""

    def names(self) -> list[str]:
        """Return the names of the files in this folder; none where it is not there."""

    def folders(self) -> list[str]:
        """Return the names of the folders in this one, likewise."""

    def inside(self, name: str) -> list[Stored]:
        """Return what is known of a file, or of a folder and all that is in it, however deep."""

    def size_bytes(self, names: list[str]) -> int:
        """Return the size of files together; one that is not there has none."""

    def rename(self, name: str, new: str) -> None:
        """Call a file otherwise."""

    def remove(self, name: str) -> None:
        """Remove a file, or a folder with all that can be removed in it; one that is not there is removed."""

    def sweep(self) -> None:
        """Remove what killed processes left half-written in this folder, on this machine."""
