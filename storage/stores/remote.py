"""Files in an object store, through fsspec, with copies on this machine.

An object is there once all of it was sent, so a writer that is killed leaves nothing of it. Artifacts and checkpoints
never change under their names; a copy of one is as good as the object, once its checksum was compared.
"""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

from storage.errors import BadInput, first_line
from storage.files import replacing, sha256_of, sweep
from storage.settings import FILES_EXTRAS
from storage.stores.file_store import Stored
from storage.stores.local import LocalFiles

COPIES_BYTES = 10 * 2**30
"""How large all copies together may grow; then those that were used the longest ago go."""

_MADE = ".made"
"""An object store has no empty folders: this object is what is in one."""


class RemoteFiles:
    """A `FileStore`: what is under one prefix of an object store.

    Args:
        url: such as `s3://bucket/tuning`.
        copies: the folder on this machine for copies.
        all_copies: the one in which those of the whole store are; the same by default.
    """

    def __init__(self, url: str, copies: Path, all_copies: Path | None = None) -> None:
        self._url = url.rstrip("/")
        self._prefix = self._url.partition("://")[2]
        self._copies = copies
        self._all_copies = all_copies or copies
        self._made = False

    @cached_property
    def _system(self) -> Any:
        return file_system(self._url.partition("://")[0])

    def shown(self, name: str = "") -> str:
        """Return a URL."""
        return f"{self._url}/{name}" if name else self._url

    def folder(self, name: str) -> RemoteFiles:
        """Return what is under a further part of the prefix."""
        return RemoteFiles(f"{self._url}/{name}", self._copies / name, self._all_copies)

    def make(self) -> None:
        """Put an object there that is nothing else's."""
        if not self._made:
            with self._reaching(_MADE):
                self._system.pipe_file(self._at(_MADE), b"")
            self._made = True

    @contextmanager
    def writing(self, name: str, suffix: str | None = None) -> Iterator[Path]:
        """Yield a path among the copies; its bytes are sent, and it stays as a copy."""
        self._copies.mkdir(parents=True, exist_ok=True)
        with replacing(self._copies / name, suffix=suffix) as beside:
            yield beside
            self._send(beside, name)
        self._make_room()

    def _send(self, file: Path, name: str) -> None:
        size = file.stat().st_size
        with self._reaching(name):
            self._system.put_file(str(file), self._at(name))
            sent = int(self._system.info(self._at(name))["size"])
        if sent != size:
            raise OSError(errno.ECONNABORTED, f"{sent} of {size} bytes arrived", self.shown(name))

    def sync(self) -> None:
        """Do nothing: what was sent is there."""

    def holds(self, name: str, sha256: str) -> bool:
        """Return False: what is there cannot be touched, only sent once more."""
        return False

    def touch(self, name: str) -> None:
        """Do nothing: it was just sent."""

    def local(self, name: str, sha256: str = "") -> Path:
        """Return a copy's path, which is fetched where it is not here or has other bytes."""
        copy = self._copies / Path(name).name
        if copy.is_file() and (not sha256 or sha256_of(copy) == sha256):
            with suppress(OSError):
                os.utime(copy)  # the last that goes
            return copy
        self._copies.mkdir(parents=True, exist_ok=True)
        with replacing(copy) as beside, self._reaching(name):
            self._system.get_file(self._at(name), str(beside))
        self._make_room()
        return copy

    def read(self, name: str) -> bytes:
        """Return the bytes of the object, or of its copy."""
        with self.open(name) as file:
            return file.read()

    def open(self, name: str) -> BinaryIO:
        """Open the copy, or what is fetched for the time that it is open."""
        with suppress(FileNotFoundError):
            return (self._copies / Path(name).name).open("rb")
        self._copies.mkdir(parents=True, exist_ok=True)
        fetched = tempfile.NamedTemporaryFile(prefix=".open-", dir=self._copies)  # noqa: SIM115 the caller closes it
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(fetched, fcntl.LOCK_EX)  # against `sweep`
            with self._reaching(name):
                self._system.get_file(self._at(name), fetched.name)
        except BaseException:
            fetched.close()
            raise
        return cast(BinaryIO, fetched)

    def names(self) -> list[str]:
        """Return the names of the objects."""
        return self._listed("file")

    def folders(self) -> list[str]:
        """Return the next parts of longer names."""
        return self._listed("directory")

    def _listed(self, kind: str) -> list[str]:
        with self._reaching(""):
            try:
                found = self._system.ls(self._prefix, detail=True, refresh=True)
            except FileNotFoundError:
                return []
        names = {entry["name"].rstrip("/").rpartition("/")[2] for entry in found if entry["type"] == kind}
        return sorted(names - {_MADE, "", self._prefix.rpartition("/")[2]} if kind == "directory" else names - {_MADE})

    def inside(self, name: str) -> list[Stored]:
        """Return what is known of an object, or of all whose names go on so."""
        with self._reaching(name):
            found = self._system.find(self._at(name), detail=True, refresh=True)
        if not found:
            raise FileNotFoundError(errno.ENOENT, "No such object", self.shown(name))
        return [Stored(int(info["size"] or 0), _changed(info)) for info in found.values()]

    def size_bytes(self, names: list[str]) -> int:
        """Return the size of objects together, which takes one listing."""
        if not names:
            return 0
        wanted = {self._at(name) for name in names}
        with self._reaching(""):
            try:
                found = self._system.ls(self._prefix, detail=True, refresh=True)
            except FileNotFoundError:
                return 0
        return sum(int(entry["size"] or 0) for entry in found if entry["name"] in wanted)

    def rename(self, name: str, new: str) -> None:
        """Copy an object, then remove the first."""
        with self._reaching(name):
            self._system.cp_file(self._at(name), self._at(new))
            self._system.rm_file(self._at(name))
        self._forget(name)

    def remove(self, name: str) -> None:
        """Remove an object, or all whose names go on so, and the copies."""
        with self._reaching(name):
            # Not `rm`, to which the brackets and stars of a name are a pattern.
            for path in self._system.find(self._at(name), refresh=True):
                self._system.rm_file(path)
        self._forget(name)

    def _forget(self, name: str) -> None:
        with suppress(OSError):
            LocalFiles(self._copies).remove(name)

    def sweep(self) -> None:
        """Remove what was being sent from here, or fetched."""
        sweep(self._copies)

    def _at(self, name: str) -> str:
        return f"{self._prefix}/{name}" if name else self._prefix

    @contextmanager
    def _reaching(self, name: str) -> Iterator[None]:
        """Turn whatever a back end raises into an `OSError` that names what was to be reached."""
        try:
            yield
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, "it is not there", self.shown(name)) from error
        except OSError as error:
            # EIO is a disk's word for what it has lost. Here it is anything that has no other number.
            number = error.errno if error.errno not in (None, errno.EIO) else errno.ENETUNREACH
            raise OSError(number, error.strerror or first_line(error), self.shown(name)) from error
        except Exception as error:  # a back end's own: no credentials, no such host, an answer that it does not know
            raise OSError(errno.ENETUNREACH, first_line(error), self.shown(name)) from error

    def _make_room(self) -> None:
        """Let the copies that were used the longest ago go, where all of them take too much room."""
        known = []
        for parent, _, names in os.walk(self._all_copies):  # unlike `rglob`, it bears that others remove folders
            for file in (Path(parent, name) for name in names):
                with suppress(OSError):
                    stat = file.stat()
                    known.append((stat.st_mtime, stat.st_size, file))
        total = sum(size for _, size, _ in known)
        for _, size, file in sorted(known):
            if total <= COPIES_BYTES:
                return
            if not file.name.startswith("."):
                file.unlink(missing_ok=True)
                total -= size


@lru_cache
def file_system(scheme: str) -> Any:
    """Return what fsspec has for the scheme of a URL.

    Raises:
        BadInput: it is not installed.
    """
    try:
        import fsspec

        # Others write, too: what was listed once is not remembered.
        return fsspec.filesystem(scheme, use_listings_cache=False, skip_instance_cache=True)
    except ImportError as error:
        extra = FILES_EXTRAS.get(scheme, "")
        raise BadInput(
            f"FILES={scheme}://... needs a package that is not installed ({first_line(error)}). Install it with:"
            f" .venv/bin/python -m pip install '.[{extra}]'"
        ) from error


def _changed(info: dict[str, Any]) -> float:
    """Return when an object was written: each back end has its own word for it."""
    found = next((info[key] for key in ("LastModified", "mtime", "updated", "created") if info.get(key)), None)
    if isinstance(found, str):
        found = datetime.fromisoformat(found)
    return found.timestamp() if isinstance(found, datetime) else float(found or 0.0)
