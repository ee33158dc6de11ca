"""Writing a file so that a power cut leaves the old one or the new one, never a part."""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A file beside its place that is as young may not be held yet by who made it.
HELD_AFTER_S = 5.0


@contextmanager
def replacing(target: Path, *, suffix: str | None = None, mode: int = 0o644) -> Iterator[Path]:
    """Yield a path beside `target` to write to; at the end it is synced and takes the target's place.

    On any exception the target is as it was and nothing is left beside it.

    Args:
        target: the file; its folder exists.
        suffix: of the path to write to, for writers that choose the format by it; the target's own by default.
        mode: who may read and write it.
    """
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem}-", suffix=target.suffix if suffix is None else suffix, dir=target.parent
    )
    beside = Path(name)
    try:
        with suppress(OSError):  # a file system without locks
            # Goes with the process, however that ends: see `sweep`.
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield beside
        sync_file(beside)
        beside.chmod(mode)  # mkstemp's own mode is private
        os.replace(beside, target)
        sync_folder(target.parent)
    finally:
        beside.unlink(missing_ok=True)
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove what killed processes left in a folder beside the files that they were replacing."""
    for file in folder.glob(".*-????????*"):
        with suppress(OSError):  # held, or gone since
            _remove_unless_held(file)


def _remove_unless_held(file: Path) -> None:
    if time.time() - file.stat().st_mtime < HELD_AFTER_S:
        return
    handle = os.open(file, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink()
    finally:
        os.close(handle)


def sync_file(file: Path) -> None:
    """Force a file's bytes to the disk."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: Path) -> None:
    """Force a folder's entries to the disk, where the system can (POSIX)."""
    sync_file(folder)


def sync_tree(folder: Path) -> None:
    """Force a folder to the disk with all that is in it; where it lies is the caller's to sync."""
    for parent, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(Path(parent, name))
        sync_folder(Path(parent))


def sha256_of(file: Path) -> str:
    """Return the SHA-256 of a file's bytes, hexadecimal."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
