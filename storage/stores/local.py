"""Files in a folder that this machine sees: on its own disk, or on one that is mounted from elsewhere."""

from __future__ import annotations

import os
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO

from storage.files import replacing, sha256_of, sweep, sync_folder
from storage.stores.file_store import Stored


class LocalFiles:
    """A `FileStore`: a folder.

    Args:
        path: the folder's; it need not be there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def shown(self, name: str = "") -> str:
        """Return a path."""
        return str(self.path / name)

    def folder(self, name: str) -> LocalFiles:
        """Return a folder in this one."""
        return LocalFiles(self.path / name)

    def make(self) -> None:
        """Create the folder, and those that it lies in."""
        self.path.mkdir(parents=True, exist_ok=True)

    def writing(self, name: str, suffix: str | None = None) -> AbstractContextManager[Path]:
        """Yield a path beside the file, which is synced and takes its place."""
        return replacing(self.path / name, suffix=suffix)

    def sync(self) -> None:
        """Force the folder's entries to the disk, and its own in the one that it lies in."""
        if self.path.is_dir():
            sync_folder(self.path)
            sync_folder(self.path.parent)

    def holds(self, name: str, sha256: str) -> bool:
        """Return whether a file of these bytes is there."""
        file = self.path / name
        return file.is_file() and sha256_of(file) == sha256

    def touch(self, name: str) -> None:
        """Set a file's time to now."""
        os.utime(self.path / name)

    def local(self, name: str, sha256: str = "") -> Path:
        """Return the file itself: the caller compares its bytes."""
        file = self.path / name
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {file}")
        return file

    def read(self, name: str) -> bytes:
        """Return a file's bytes."""
        return (self.path / name).read_bytes()

    def open(self, name: str) -> BinaryIO:
        """Open a file."""
        return (self.path / name).open("rb")

    def names(self) -> list[str]:
        """Return the names of what is no folder."""
        return sorted(entry.name for entry in self._entries() if not entry.is_dir())

    def folders(self) -> list[str]:
        """Return the names of the folders."""
        return sorted(entry.name for entry in self._entries() if entry.is_dir())

    def inside(self, name: str) -> list[Stored]:
        """Return what is known of a path and all that is under it; a link is not followed."""
        path = self.path / name
        inside = [path, *path.rglob("*")] if path.is_dir() and not path.is_symlink() else [path]
        known = [(entry.lstat(), entry.is_dir()) for entry in inside]
        return [Stored(0 if folder else stat.st_size, stat.st_mtime) for stat, folder in known]

    def size_bytes(self, names: list[str]) -> int:
        """Return the size of files together."""
        total = 0
        for name in names:
            try:
                # Without a `Path`: there are tens of thousands, and to make one takes longer than to ask.
                total += os.lstat(os.path.join(self.path, name)).st_size
            except FileNotFoundError:
                continue
        return total

    def rename(self, name: str, new: str) -> None:
        """Rename a file in one step."""
        os.replace(self.path / name, self.path / new)

    def remove(self, name: str) -> None:
        """Remove a file, or a folder."""
        path = self.path / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)  # others may be removing it, too
        else:
            path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what killed processes left beside the files that they were replacing."""
        sweep(self.path)

    def _entries(self) -> list[Path]:
        try:
            return list(self.path.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []
