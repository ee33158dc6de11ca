"""The way back from a backup into any database.

The backup is checked in full before anything is changed. Then its files are put in place, where they harm nobody, and
last all rows in one transaction. A power cut leaves either no study or a whole one, and the same command, given again,
does the work that is left. Files that no study names are `storage.leftovers`'s.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from optuna.trial import TrialState
from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from storage import attributes
from storage.backups.backup import refused
from storage.backups.data import attributes_of, place_data, require_data_of
from storage.backups.manifest import ARTIFACTS, CHECKPOINTS, ROWS, Backup, copy_file, open_rows, verify
from storage.connections import shown_url
from storage.database import Database
from storage.errors import BadInput, TuningError
from storage.opening import check_storage, open_database, open_to_read
from storage.prepared.own_data import MANIFEST
from storage.rows.giving_up import give_up
from storage.rows.sql_rows import SqlRows
from storage.rows.study_rows import copy_study, study_id_of
from storage.settings import Home
from storage.stores.chosen import artifact_files, checkpoint_files
from storage.stores.file_store import FileStore
from storage.stores.local import LocalFiles

REASON = "restored from a backup"


class StudyExists(BadInput):
    """A study of that name is there already."""


def restore(backup: Backup, url: str, home: Home, *, name: str | None = None) -> str:
    """Bring a study back, into any database; return its name.

    Trials that ran wait to be continued. The study gets a uid of its own: the original may still be somewhere, with the
    same name and under the same home, and the two must not share checkpoints. They may share artifacts.

    Args:
        backup: where it comes from.
        url: the SQLAlchemy URL of the database; one that is not there is made.
        home: where the files go.
        name: the study's; by default the one it had.

    Raises:
        BadInput: the backup is damaged, or the study exists already; nothing was changed.
        TuningError: there is no room; no study was made.
        StorageUnavailable: the database cannot be reached; no study was made.
    """
    name = name if name is not None else backup.study
    _require_absent(url, name, home)
    verify(backup)
    with open_rows(backup.folder / ROWS) as rows:
        require_data_of(backup, rows)
        has_uid = attributes.of_study(attributes_of(rows, backup.study), attributes.UID, str) is not None
    artifact_files(home, make=True)
    database = open_database(url, create=True)
    uid = uuid.uuid4().hex
    checkpoints = checkpoint_files(home, name, uid)
    try:
        with refused(home.root):
            files = _place_files(backup, home, checkpoints)
            # Also where no trial has one: the folder tells `gc` of a study in a database that it is not given.
            if has_uid:
                checkpoints.make()
        with open_rows(backup.folder / ROWS) as rows:
            made = _Made(name, uid, files, home.files)
            database.repeated(lambda: _insert(rows, backup.study, database, made))
    except StudyExists:
        checkpoints.remove("")
        raise
    finally:
        database.engine.dispose()
    return name


def _exists(url: str, name: str) -> StudyExists:
    return StudyExists(
        f"study {name!r} exists already in {shown_url(url)!r}. Give another name with --study, or delete it first:"
        f" tuning delete --study {name}"
    )


def _require_absent(url: str, name: str, home: Home) -> None:
    if (url == home.database_url and not home.root.exists()) or not check_storage(url):
        return
    database = open_to_read(url)
    try:
        database.get_study_id_from_name(name)
    except KeyError:
        return
    finally:
        database.engine.dispose()
    raise _exists(url, name)


def _place_files(backup: Backup, home: Home, checkpoints: FileStore) -> list[_Placed]:
    """Put all files in place; on an exception only artifacts and data are left, which the next restoration finds there.

    Nor would it be safe to remove those: another restoration may already count on them.
    """
    artifacts = artifact_files(home)
    placed = [_place(backup, path, artifacts) for path in backup.under(ARTIFACTS)]
    data = place_data(backup, home)
    try:
        for path in backup.under(CHECKPOINTS):
            files = checkpoints.folder(path.split("/")[1])
            files.make()
            _place(backup, path, files)
        checkpoints.sync()
    except BaseException:
        checkpoints.remove("")
        raise
    # All young again: to whoever frees leftovers, an old file that no row names yet would look like one.
    for file in placed:
        file.files.touch(file.name)
    return placed if data is None else [*placed, _Placed(LocalFiles(data), MANIFEST)]


@dataclass(frozen=True)
class _Placed:
    """A file that was put in place."""

    files: FileStore
    name: str

    @property
    def place(self) -> str:
        """Its path, or its URL."""
        return self.files.shown(self.name)

    @property
    def is_gone(self) -> bool:
        """Whether somebody has removed it since."""
        try:
            self.files.inside(self.name)
        except FileNotFoundError:
            return True
        return False


def _place(backup: Backup, path: str, files: FileStore) -> _Placed:
    known, name = backup.files[path], Path(path).name
    if not files.holds(name, known.sha256):
        with files.writing(name, suffix="") as beside:
            if copy_file((backup.folder / path).open("rb"), beside) != known:
                raise BadInput(
                    f"{backup.folder / path} was changed while it was restored. Give the same command again."
                )
    return _Placed(files, name)


@dataclass(frozen=True)
class _Made:
    """What a restoration makes: a study of that name and uid, with these files, and where those are kept."""

    name: str
    uid: str
    files: list[_Placed]
    kept_at: str


def _insert(rows: Connection, study: str, database: Database, made: _Made) -> None:
    with database.transaction() as target:
        url = database.engine.url.render_as_string()
        found = study_id_of(target, made.name)
        if found is not None:
            if SqlRows(target, found).study_system_attrs().get(attributes.RESTORED) == made.uid:
                return  # committed before: only the answer was lost
            raise _exists(url, made.name)
        original = study_id_of(rows, study)
        assert original is not None
        try:
            study_id = copy_study(rows, original, target, made.name)
        except IntegrityError as error:  # another process made it since
            raise _exists(url, made.name) from error
        _give_identity(target, study_id, made)
        _put_back_running(target, study_id)
        # After which report each failure came is said by ids, and the copy's reports have others.
        copied = SqlRows(target, study_id)
        copied.set_study_system_attr(attributes.FORGIVEN, copied.next_number())
        gone = next((file for file in made.files if file.is_gone), None)
        if gone is not None:
            raise TuningError(
                f"{gone.files.shown(gone.name)} was removed while it was restored. Give the same command again."
            )


def _give_identity(target: Connection, study_id: int, made: _Made) -> None:
    rows = SqlRows(target, study_id)
    rows.set_study_system_attr(attributes.RESTORED, made.uid)
    if attributes.of_study(rows.study_user_attrs(), attributes.UID, str) is not None:
        rows.set_study_user_attr(attributes.UID, made.uid)
        if made.kept_at or attributes.FILES in rows.study_user_attrs():
            rows.set_study_user_attr(attributes.FILES, made.kept_at)


def _put_back_running(target: Connection, study_id: int) -> None:
    """Let the trials that ran wait, as `Claims.put_back` does: no worker of the original is one of the copy's."""
    rows = SqlRows(target, study_id)
    for trial in rows.active():
        if trial.state == TrialState.RUNNING:
            give_up(rows, trial.trial_id, REASON, "interrupted")
