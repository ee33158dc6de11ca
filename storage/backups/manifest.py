"""What a backup is, and whether one is whole.

A backup is a folder: `studies.db`, a plain Optuna database with one study, `artifacts/`, `checkpoints/`, `data/` with
the prepared data of a study of somebody's own, and `backup.json`, which names every file with its SHA-256. That is
written last: a folder without it is no backup.
"""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import quote

import optuna
from optuna.storages import RDBStorage
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from storage.errors import BadInput
from storage.files import replacing, sha256_of
from storage.rows.study_rows import named_artifacts, study_id_of
from storage.rows.tables import TRIALS

FORMAT = 1
MANIFEST = "backup.json"
ROWS = "studies.db"
ARTIFACTS = "artifacts"
CHECKPOINTS = "checkpoints"
DATA = "data"

# What a manifest may name, so that no file is ever written outside its place.
_NAMES = re.compile(
    rf"{re.escape(ROWS)}|{ARTIFACTS}/[^/\0]+|{CHECKPOINTS}/\d+/[^/\0.][^/\0]*\.checkpoint"
    rf"|{DATA}/[^/\0.][^/\0]*/\w+\.(json|npy)"
)


@dataclass(frozen=True)
class File:
    """What a backup knows of one of its files.

    Attributes:
        sha256: of its bytes, hexadecimal.
        size_bytes: how many those are.
    """

    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class Backup:
    """A backup as its manifest describes it.

    Attributes:
        folder: where it is.
        study: the study's name.
        created: the moment of its rows, ISO 8601, UTC.
        trials: how many there are of each state.
        files: by their path in the folder.
        left_out: what rows name but could not be had, each with what was wrong: artifacts by their ids, and `data`.
    """

    folder: Path
    study: str
    created: str
    trials: dict[str, int]
    files: dict[str, File]
    left_out: dict[str, str]

    @property
    def size_bytes(self) -> int:
        """The size of all files together."""
        return sum(file.size_bytes for file in self.files.values())

    def under(self, part: str) -> list[str]:
        """Return the paths of the files in one of the backup's folders."""
        return [path for path in self.files if path.startswith(f"{part}/")]


def copy_file(source: BinaryIO, target: Path) -> File:
    """Copy what is left of an open file, close it, and say what its bytes were."""
    digest, size = hashlib.sha256(), 0
    with source as reading, target.open("wb") as writing:
        while part := reading.read(1 << 20):
            digest.update(part)
            size += len(part)
            writing.write(part)
    return File(digest.hexdigest(), size)


def is_name(path: str) -> bool:
    """Return whether a file of a backup may have that path in it."""
    return _NAMES.fullmatch(path) is not None and path not in (f"{ARTIFACTS}/.", f"{ARTIFACTS}/..")


@contextmanager
def plain_optuna(connect: Callable[[], sqlite3.Connection]) -> Iterator[RDBStorage]:
    """Open a backup's database with Optuna's own storage, or make it.

    Args:
        connect: connects to the file.
    """
    # By a function, not by a URL: in a URL, a path with a question mark or a brace would be another one. One file and
    # one writer: no WAL, which would leave two more files.
    opened = RDBStorage("sqlite://", engine_kwargs={"creator": connect, "poolclass": NullPool})
    try:
        yield opened
    finally:
        opened.scoped_session.remove()
        opened.engine.dispose()


@contextmanager
def open_rows(file: Path) -> Iterator[Connection]:
    """Open a backup's database without writing to it, also where nothing can be written.

    Raises:
        BadInput: it is not one, or of another Optuna version.
    """
    uri = f"file:{quote(str(file.resolve()))}?mode=ro&immutable=1"
    try:
        with plain_optuna(lambda: sqlite3.connect(uri, uri=True)) as storage, storage.engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error) as error:
        raise BadInput(f"{file} cannot be read: {error}. Take another backup.") from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise BadInput(f"{file} is of another Optuna version: {error}") from error


def count_trials(rows: Connection) -> dict[str, int]:
    """Return how many trials there are of each state, by its name in lower case."""
    counted = rows.execute(select(TRIALS.c.state, func.count()).group_by(TRIALS.c.state))
    return {state.name.lower(): count for state, count in counted}


def write_manifest(backup: Backup) -> None:
    """Write what makes a folder a backup; all that it names is there and synced."""
    document = {"format": FORMAT, "optuna": optuna.__version__, **asdict(backup)}
    del document["folder"]
    document["sha256"] = _digest(document)
    with replacing(backup.folder / MANIFEST) as beside:
        beside.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def _digest(document: Mapping[str, Any]) -> str:
    rest = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def read_backup(folder: Path) -> Backup:
    """Return the backup in a folder, of which only the manifest is read.

    Raises:
        BadInput: there is none, its manifest is damaged, or it was written by a later version.
    """
    file = folder / MANIFEST
    try:
        document = json.loads(file.read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise BadInput(
                f"{file} has format {document['format']}, this version reads {FORMAT}. Take another version."
            )
        if document["sha256"] != _digest(document):
            raise ValueError("its SHA-256 is another one")
        files = {path: File(**known) for path, known in document["files"].items()}
        kept = {key: document[key] for key in ("study", "created", "trials", "left_out")}
    except OSError as error:
        raise BadInput(
            f"{folder} is no backup: {MANIFEST} cannot be read ({error.strerror}). An interrupted backup leaves none:"
            " take another folder."
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BadInput(f"{file} is damaged: {error}. Take another backup.") from error
    return Backup(folder, files=files, **kept)


def verify(backup: Backup) -> None:
    """Compare every file of a backup with its manifest, and its rows with its artifacts. Changes nothing.

    Raises:
        BadInput: a file is missing or damaged, or the rows are not those of the manifest.
    """
    for path, known in backup.files.items():
        file = backup.folder / path
        if not is_name(path):
            raise BadInput(
                f"{backup.folder / MANIFEST} names {path!r}, which is no file of a backup. Take another one."
            )
        try:
            size, found = file.stat().st_size, sha256_of(file)
        except OSError as error:
            raise BadInput(f"{file} cannot be read: {error.strerror}. Take another backup.") from error
        if (found, size) != (known.sha256, known.size_bytes):
            raise BadInput(
                f"{file} is damaged: it has {size} bytes with SHA-256 {found}, recorded were {known.size_bytes} with"
                f" {known.sha256}. Take another backup."
            )
    if ROWS not in backup.files:
        raise BadInput(f"{backup.folder / MANIFEST} names no {ROWS}. Take another backup.")
    with open_rows(backup.folder / ROWS) as rows:
        if study_id_of(rows, backup.study) is None or count_trials(rows) != backup.trials:
            raise BadInput(f"{backup.folder / ROWS} is not the database of {MANIFEST}. Take another backup.")
        here = {path.partition("/")[2] for path in backup.under(ARTIFACTS)}
        missing = named_artifacts(rows) - here - backup.left_out.keys()
    if missing:
        raise BadInput(f"{backup.folder} lacks artifact {min(missing)}, which a trial names. Take another backup.")
