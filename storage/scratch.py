"""Folders that come to be whole or not at all: written beside their place, synced, then renamed into it."""

from __future__ import annotations

import errno
import glob
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import BadInput, TuningError, disk_error, no_room
from storage.files import sync_folder, sync_tree

ABANDONED_AFTER_S = 24 * 60 * 60
"""A scratch folder this old belongs to a process that was killed: no download or decoding takes as long."""

_NO_PERMISSION = {errno.EACCES, errno.EPERM, errno.EROFS}


@contextmanager
def scratch_folder(target: Path, *, now_s: float | None = None) -> Iterator[Path]:
    """Make an empty folder beside ``target``, on the same file system, and remove it and what it holds at the end.

    Whoever is done renames the folder, or files in it, into their place. The folders that killed processes left
    beside the same target are removed first.

    Args:
        target: what is being made; its parent exists.
        now_s: the time, seconds since the epoch; the clock's by default.
    """
    prefix = f".{target.name}-"
    _sweep(target.parent, prefix, older_than_s=(time.time() if now_s is None else now_s) - ABANDONED_AFTER_S)
    # Not tempfile.mkdtemp: its folders are private, and what is renamed from one would stay so.
    folder = target.parent / f"{prefix}{secrets.token_hex(4)}"
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def publish(scratch: Path, target: Path, is_whole: Callable[[], bool]) -> None:
    """Sync a filled scratch folder and rename it to its place, unless another process has filled that first.

    Args:
        scratch: what `scratch_folder` made for the same target.
        target: the place.
        is_whole: called where a folder is in that place: whether it is as good; one that is not is replaced.

    Raises:
        OSError: the folder cannot be written.
    """
    sync_tree(scratch)
    try:
        scratch.rename(target)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
        if is_whole():
            return
        with scratch_folder(target) as aside:
            target.rename(aside / target.name)
            scratch.rename(target)
    sync_folder(target.parent)


def write_error(error: OSError, folder: Path, *, needed_bytes: int | None = None) -> TuningError:
    """Return what a user is told when writing under a folder failed.

    Args:
        error: what the operating system said.
        folder: where it was written.
        needed_bytes: how much room is needed in all, if that is known.
    """
    needs = f"It needs about {needed_bytes / 1e6:.0f} MB. " if needed_bytes else ""
    if full := no_room(error, folder, f"{needs}Free some, or set TUNING_HOME to another disk."):
        return full
    kind = BadInput if error.errno in _NO_PERMISSION else TuningError
    return disk_error(error, f"cannot write under {folder}", "Set TUNING_HOME to a folder that can be.", kind)


def _sweep(parent: Path, prefix: str, *, older_than_s: float) -> None:
    for entry in parent.glob(f"{glob.escape(prefix)}*"):
        try:
            if entry.stat().st_mtime < older_than_s:
                shutil.rmtree(entry, ignore_errors=True)
        except FileNotFoundError:
            continue  # its owner has just renamed or removed it
