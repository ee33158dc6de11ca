"""A copy of one study that outlives its database and its disk, and the way back.

A backup is a folder: `studies.db`, a plain Optuna database with this one study, `artifacts/`, `checkpoints/` and
`backup.json`, which names every file with its SHA-256. That is written last: a folder without it is no backup.

A study may be copied while it runs. Checkpoints come first, as far as they can be had; then all rows, as of one moment;
then the artifacts that these rows name, which are there because their bytes were written before their rows. A
checkpoint is thus never ahead of the rows, and a trial that is continued from it reports the epochs between again.

The way back is `storage.backups.restore`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import optuna
from optuna.storages import RDBStorage
from optuna.trial import TrialState
from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from storage import attributes
from storage.database import Database
from storage.errors import BadInput, TuningError, disk_error, no_room
from storage.files import replacing, sha256_of, sync_folder, sync_tree
from storage.rows.study_rows import TRIALS, copy_study, named_artifacts, recorded_artifacts, study_id_of
from storage.settings import Home

FORMAT = 1
MANIFEST = "backup.json"
ROWS = "studies.db"
ARTIFACTS = "artifacts"
CHECKPOINTS = "checkpoints"

# What a manifest may name, so that no file is ever written outside its place.
_NAMES = re.compile(rf"{re.escape(ROWS)}|{ARTIFACTS}/[^/\0]+|{CHECKPOINTS}/\d+/[^/\0.][^/\0]*\.checkpoint")
_UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


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
        left_out: artifacts that rows name but that could not be had, each with what was wrong.
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


def back_up(database: Database, study: str, folder: Path, home: Home) -> Backup:
    """Copy a study, which may be running, into a new folder.

    Args:
        database: where the study is.
        study: its name.
        folder: is made, or empty; on an exception it is left as it was.
        home: where the study's files are.

    Raises:
        BadInput: the folder is not empty or cannot be written.
        TuningError: there is no such study, any more, or no room.
        StorageUnavailable: the database cannot be reached.
    """
    with refused(folder), _filling(folder):
        study_id = _require_study(database, study)
        uid = database.get_study_user_attrs(study_id).get(attributes.UID)
        files: dict[str, File] = {}
        if uid is not None:
            files |= _copy_checkpoints(home.checkpoints(study, str(uid)), folder / CHECKPOINTS)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        database.repeated(lambda: _copy_rows(database, study, folder / ROWS))
        with open_rows(folder / ROWS) as rows:
            trials = _count_trials(rows)
            named = named_artifacts(rows)
            recorded = {artifact.id: artifact.sha256 for artifact in recorded_artifacts(rows)}
            files = _drop_finished(rows, folder, files)
        copied, left_out = _copy_artifacts(home.artifacts, folder / ARTIFACTS, named, recorded)
        if left_out:
            _require_study(database, study)  # deleted meanwhile, its files went with it
        files |= {**copied, ROWS: File(sha256_of(folder / ROWS), (folder / ROWS).stat().st_size)}
        sync_tree(folder)
        sync_folder(folder.absolute().parent)
        backup = Backup(folder, study, created, trials, files, left_out)
        _write_manifest(backup)
        return backup


def _require_study(database: Database, study: str) -> int:
    try:
        return database.get_study_id_from_name(study)
    except KeyError:
        raise TuningError(
            f"study {study!r} is not there, or not any more. See which there are: tuning status."
        ) from None


@contextmanager
def _filling(folder: Path) -> Iterator[None]:
    """Make a folder, or take an empty one; on an exception it is as before."""
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise BadInput(f"{folder} is not empty, and a backup never overwrites. Give a new folder with --out.")
    # Whoever makes this one owns the folder, should two backups begin at once.
    (folder / ARTIFACTS).mkdir()
    try:
        yield
    except BaseException:
        for entry in folder.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if made:
            folder.rmdir()
        raise


def _copy_rows(database: Database, study: str, file: Path) -> None:
    file.unlink(missing_ok=True)
    with (
        _plain_optuna(lambda: sqlite3.connect(file)) as copy,
        copy.engine.begin() as target,
        database.reading() as session,
    ):
        # SQLite in WAL mode gives every transaction one state of the database, others only when asked.
        asked = database.engine.dialect.name != "sqlite"
        options = {"isolation_level": "REPEATABLE READ"} if asked else {}
        source = session.connection(execution_options=options)
        study_id = study_id_of(source, study)
        if study_id is None:
            raise TuningError(f"study {study!r} was deleted while it was backed up")
        copy_study(source, study_id, target, study)


@contextmanager
def _plain_optuna(connect: Any) -> Iterator[RDBStorage]:
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
        with _plain_optuna(lambda: sqlite3.connect(uri, uri=True)) as storage, storage.engine.connect() as connection:
            yield connection
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error) as error:
        raise BadInput(f"{file} cannot be read: {error}. Take another backup.") from error
    except RuntimeError as error:  # Optuna's word for a schema of another version
        raise BadInput(f"{file} is of another Optuna version: {error}") from error


def _count_trials(rows: Connection) -> dict[str, int]:
    counted = rows.execute(select(TRIALS.c.state, func.count()).group_by(TRIALS.c.state))
    return {state.name.lower(): count for state, count in counted}


def _copy_checkpoints(source: Path, target: Path) -> dict[str, File]:
    """Copy what checkpoints there are: one that is replaced meanwhile is not missed, its trial goes on from another."""
    copied = {}
    # Not `glob`, which fails where a folder goes while it looks: a trial that ends takes its own along.
    files = [file for trial in _listed(source) for file in _listed(trial) if file.suffix == ".checkpoint"]
    for file in files:
        path = f"{CHECKPOINTS}/{file.parent.name}/{file.name}"
        if not _NAMES.fullmatch(path):
            continue
        (target / file.parent.name).mkdir(parents=True, exist_ok=True)
        try:
            copied[path] = copy_file(file, target / file.parent.name / file.name)
        except FileNotFoundError:
            continue
    return copied


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _drop_finished(rows: Connection, folder: Path, files: dict[str, File]) -> dict[str, File]:
    """Remove copied checkpoints of trials that were over when the rows were read."""
    unfinished = set(rows.execute(select(TRIALS.c.number).where(TRIALS.c.state.in_(_UNFINISHED))).scalars())
    kept = {path: file for path, file in files.items() if int(path.split("/")[1]) in unfinished}
    for path in files.keys() - kept.keys():
        (folder / path).unlink()
    for trial in (folder / CHECKPOINTS).glob("*"):
        if int(trial.name) not in unfinished:
            trial.rmdir()
    return kept


def _copy_artifacts(
    source: Path, target: Path, named: Iterable[str], recorded: Mapping[str, str]
) -> tuple[dict[str, File], dict[str, str]]:
    copied: dict[str, File] = {}
    left_out: dict[str, str] = {}
    for artifact in sorted(named):
        path = f"{ARTIFACTS}/{artifact}"
        if not _NAMES.fullmatch(path) or artifact in (".", ".."):
            left_out[artifact] = "is not the name of a file"
            continue
        try:
            copy = copy_file(source / artifact, target / artifact)
        except (FileNotFoundError, IsADirectoryError):
            left_out[artifact] = "is missing"
            continue
        if copy.sha256 != recorded.get(artifact, copy.sha256):
            left_out[artifact] = f"is damaged: it has SHA-256 {copy.sha256}, recorded was {recorded[artifact]}"
            (target / artifact).unlink()
        else:
            copied[path] = copy
    return copied, left_out


def copy_file(source: Path, target: Path) -> File:
    """Copy a file's bytes, and say what they were."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as reading, target.open("wb") as writing:
        while part := reading.read(1 << 20):
            digest.update(part)
            size += len(part)
            writing.write(part)
    return File(digest.hexdigest(), size)


def _write_manifest(backup: Backup) -> None:
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
        if not _NAMES.fullmatch(path) or path == f"{ARTIFACTS}/..":
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
        if study_id_of(rows, backup.study) is None or _count_trials(rows) != backup.trials:
            raise BadInput(f"{backup.folder / ROWS} is not the database of {MANIFEST}. Take another backup.")
        here = {path.partition("/")[2] for path in backup.under(ARTIFACTS)}
        missing = named_artifacts(rows) - here - backup.left_out.keys()
    if missing:
        raise BadInput(f"{backup.folder} lacks artifact {min(missing)}, which a trial names. Take another backup.")


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into an error with a next step."""
    try:
        yield
    except OSError as error:
        full = no_room(error, folder, "Make some and give the same command again.", TuningError)
        fact = f"{error.filename or folder} cannot be read or written"
        raise full or disk_error(error, fact, "Mend it, or give another folder.") from error
