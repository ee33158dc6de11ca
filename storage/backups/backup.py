"""A copy of one study that outlives its database and its disk.

A study may be copied while it runs. Checkpoints come first, as far as they can be had; then all rows, as of one moment;
then the artifacts that these rows name, which are there because their bytes were written before their rows. A
checkpoint is thus never ahead of the rows, and a trial that is continued from it reports the epochs between again.
Prepared data of somebody's own never change, and are copied as they are.

The way back is `storage.backups.restore`.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from sqlalchemy import Connection, select

from storage import attributes
from storage.backups.data import attributes_of, copy_data
from storage.backups.manifest import (
    ARTIFACTS,
    CHECKPOINTS,
    ROWS,
    Backup,
    File,
    copy_file,
    count_trials,
    is_name,
    open_rows,
    plain_optuna,
    write_manifest,
)
from storage.database import Database
from storage.errors import BadInput, TuningError, disk_error, no_room
from storage.files import sha256_of, sync_folder, sync_tree
from storage.rows.ledger import UNFINISHED
from storage.rows.study_rows import copy_study, is_copy, named_artifacts, recorded_artifacts, study_id_of
from storage.rows.tables import TRIALS
from storage.settings import Home
from storage.stores.chosen import artifact_files, checkpoint_files, require_files
from storage.stores.file_store import FileStore


def back_up(database: Database, study: str, folder: Path, home: Home) -> Backup:
    """Copy a study, which may be running, into a new folder.

    Args:
        database: where the study is.
        study: its name.
        folder: is made, or empty; on an exception it is left as it was.
        home: where the study's files are.

    Raises:
        BadInput: the folder is not empty or cannot be written, or the study keeps its files elsewhere.
        TuningError: there is no such study, any more, or no room.
        StorageUnavailable: the database cannot be reached.
    """
    with refused(folder), _filling(folder):
        study_id = _require_study(database, study)
        recorded = partial(attributes.of_study, database.get_study_user_attrs(study_id))
        uid = recorded(attributes.UID, str)
        if uid is not None:
            require_files(home, study, recorded(attributes.FILES, str) or "")
        files: dict[str, File] = {}
        with database.reading() as connection:
            copied = uid is not None and is_copy(connection, study_id, uid)
        if uid is not None and not copied:
            files |= _copy_checkpoints(checkpoint_files(home, study, uid), folder / CHECKPOINTS)
        created = datetime.now(UTC).isoformat(timespec="seconds")
        database.repeated(lambda: _copy_rows(database, study, folder / ROWS))
        with open_rows(folder / ROWS) as rows:
            trials = count_trials(rows)
            named = named_artifacts(rows)
            digests = {artifact.id: artifact.sha256 for artifact in recorded_artifacts(rows)}
            files = _drop_finished(rows, folder, files)
            attrs = attributes_of(rows, study)
        artifacts, left_out = _copy_artifacts(artifact_files(home), folder / ARTIFACTS, named, digests)
        data, without_data = copy_data(home, attrs, folder)
        left_out |= without_data
        if left_out:
            _require_study(database, study)  # deleted meanwhile, its files went with it
        files |= {**artifacts, **data, ROWS: File(sha256_of(folder / ROWS), (folder / ROWS).stat().st_size)}
        sync_tree(folder)
        sync_folder(folder.absolute().parent)
        backup = Backup(folder, study, created, trials, files, left_out)
        write_manifest(backup)
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
        plain_optuna(lambda: sqlite3.connect(file)) as copy,
        copy.engine.begin() as target,
        database.reading() as connection,
    ):
        # SQLite in WAL mode gives every transaction one state of the database, others only when asked.
        asked = database.engine.dialect.name != "sqlite"
        source = connection.execution_options(isolation_level="REPEATABLE READ") if asked else connection
        study_id = study_id_of(source, study)
        if study_id is None:
            raise TuningError(f"study {study!r} was deleted while it was backed up")
        copy_study(source, study_id, target, study)


def _copy_checkpoints(source: FileStore, target: Path) -> dict[str, File]:
    """Copy what checkpoints there are: one that is replaced meanwhile is not missed, its trial goes on from another."""
    copied = {}
    for trial in source.folders():
        files = source.folder(trial)
        for name in files.names():
            path = f"{CHECKPOINTS}/{trial}/{name}"
            if not is_name(path):
                continue
            (target / trial).mkdir(parents=True, exist_ok=True)
            try:
                copied[path] = copy_file(files.open(name), target / trial / name)
            except FileNotFoundError:
                continue
    return copied


def _drop_finished(rows: Connection, folder: Path, files: dict[str, File]) -> dict[str, File]:
    """Remove copied checkpoints of trials that were over when the rows were read."""
    unfinished = set(rows.execute(select(TRIALS.c.number).where(TRIALS.c.state.in_(UNFINISHED))).scalars())
    kept = {path: file for path, file in files.items() if int(path.split("/")[1]) in unfinished}
    for path in files.keys() - kept.keys():
        (folder / path).unlink()
    for trial in (folder / CHECKPOINTS).glob("*"):
        if int(trial.name) not in unfinished:
            trial.rmdir()
    return kept


def _copy_artifacts(
    source: FileStore, target: Path, named: Iterable[str], recorded: Mapping[str, str]
) -> tuple[dict[str, File], dict[str, str]]:
    copied: dict[str, File] = {}
    left_out: dict[str, str] = {}
    for artifact in sorted(named):
        path = f"{ARTIFACTS}/{artifact}"
        if not is_name(path):
            left_out[artifact] = "is not the name of a file"
            continue
        try:
            copy = copy_file(source.open(artifact), target / artifact)
        except (FileNotFoundError, IsADirectoryError):
            left_out[artifact] = "is missing"
            continue
        if copy.sha256 != recorded.get(artifact, copy.sha256):
            left_out[artifact] = f"is damaged: it has SHA-256 {copy.sha256}, recorded was {recorded[artifact]}"
            (target / artifact).unlink()
        else:
            copied[path] = copy
    return copied, left_out


@contextmanager
def refused(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into an error with a next step."""
    try:
        yield
    except OSError as error:
        full = no_room(error, folder, "Make some and give the same command again.", TuningError)
        fact = f"{error.filename or folder} cannot be read or written"
        raise full or disk_error(error, fact, "Mend it, or give another folder.") from error
