"""What a path that is given as a data set means: pictures in folders, arrays, a table, or a saved data set."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from storage.errors import BadInput, shown, unknown_name

Kind = Literal["folder", "npz", "table", "saved"]

SAVED = "hf:"
"""Comes before the folder of a data set that the package `datasets` has saved."""

_TABLES = (".csv", ".tsv", ".csv.gz", ".tsv.gz", ".jsonl")
_METADATA = ("metadata.csv", "metadata.jsonl")
_ARCHIVES = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"7z\xbc\xaf": "7z", b"Rar!": "rar"}
_PICTURES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\0", b"MM\0*", b"RIFF")
_WAYS = "a folder with a folder of pictures for each class, a file.npz, a file.csv, or hf:FOLDER"


@dataclass(frozen=True)
class Source:
    """Data of somebody's own.

    Attributes:
        kind: how they are read.
        path: the absolute path of the folder or file.
    """

    kind: Kind
    path: Path

    def __str__(self) -> str:
        return f"{SAVED if self.kind == 'saved' else ''}{self.path}"

    @property
    def label(self) -> str:
        """What they are called where nobody says otherwise: the folder's or the file's own name."""
        # Hugging Face's metadata.csv lies in the folder that has the name.
        named = self.path.parent if self.path.name in _METADATA else self.path
        name = shown(named.name).removesuffix(".gz") or "data"
        is_file = named.is_file() or (name.lower().endswith((*_TABLES, ".npz")) and not named.is_dir())
        return Path(name).stem if is_file else name


def source_of(reference: str, names: Collection[str]) -> Source:
    """Return what a reference that is no data set's name means. Of a file, its first bytes are read.

    Args:
        reference: a path, absolute or from the current folder; `hf:` may come before it.
        names: of the data sets that have one.

    Raises:
        BadInput: there is nothing of that name, or it is something that cannot be read as data.
    """
    saved = reference.startswith(SAVED)
    given = reference.removeprefix(SAVED)
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", given):
        raise BadInput(
            f"{reference} is an address, and nothing is fetched from it. Fetch and unpack it yourself, then give"
            f" {_WAYS}."
        )
    if not given:
        raise BadInput(f"{reference!r} names no data. Give {_WAYS}.")
    path = place_of(given)
    if not _is_utf8(str(path)):
        raise BadInput(f"the path {shown(path)} is not UTF-8, and a study records it. Rename it, or give a link to it.")
    try:
        if saved:
            return _saved(path, reference)
        if path.is_dir():
            table = next((path / name for name in _METADATA if (path / name).is_file()), None)
            return Source("folder", path) if table is None else Source("table", table)
        if path.is_file():
            return Source(_kind_of(path), path)
    except OSError as error:
        raise BadInput(f"cannot read {shown(path)}: {error.strerror}. Give data that can be read.") from error
    if _names_a_place(given):
        raise BadInput(
            f"there is no {shown(path)}. Give the path of {_WAYS}; a data set that has a name is given by it."
        )
    raise unknown_name("data set", reference, names, then=f"Data of your own are given by a path: {_WAYS}.")


def place_of(reference: str) -> Path:
    """Return the absolute path that a reference means, whether there is anything or not."""
    # Not Path.expanduser, which raises where there is no such user.
    return Path(os.path.abspath(os.path.expanduser(reference.removeprefix(SAVED))))


def place_that_is_gone(reference: str) -> Source | None:
    """Return what a path would mean as a folder where there is nothing; None where there is, or where it is a name."""
    place = place_of(reference)
    if not _names_a_place(reference) or not _is_utf8(str(place)) or os.path.lexists(place):
        return None
    return Source("saved" if reference.startswith(SAVED) else "folder", place)


def _names_a_place(reference: str) -> bool:
    return os.sep in reference or reference.startswith(("~", SAVED))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _saved(path: Path, reference: str) -> Source:
    if not path.is_dir():
        raise BadInput(f"{reference}: there is no folder {path}. Give one that the package datasets has saved.")
    return Source("saved", path)


def _kind_of(file: Path) -> Kind:
    name = file.name.lower()
    if name.endswith(_TABLES):
        return "table"
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(member.endswith(".npy") for member in archive.namelist()):
                return "npz"
        raise _archive(file, "zip")
    with file.open("rb") as stream:
        head = stream.read(512)
    for magic, kind in _ARCHIVES.items():
        if head.startswith(magic):
            raise _archive(file, kind)
    if head[257:262] == b"ustar":
        raise _archive(file, "tar")
    if head.startswith(_PICTURES):
        raise BadInput(
            f"{shown(file)} is a single picture. Give the folder that has a folder of pictures for each class; to ask"
            " what a picture shows, take: make predict IMAGE=..."
        )
    if name.endswith(".npz"):
        raise BadInput(f"{shown(file)} is no npz file, or a damaged one. Write it again with numpy.savez.")
    raise BadInput(f"{shown(file)} is no file of data that is known here. Give {_WAYS}.")


def _archive(file: Path, kind: str) -> BadInput:
    return BadInput(f"{shown(file)} is an archive ({kind}). Unpack it, then give the folder that it held.")
