"""What is left over under a home: files that no study needs any more.

Artifacts are named by rows, and a home may serve several databases, which it does not know. So an artifact that no row
names is freed only under these conditions: every database that is given was read, and the home's own default one if it
is there; the listing of the files came before the reading of the rows; the file is older than an hour, because its
bytes come before its row; and nothing in the home speaks of a study that is in none of these databases. Its logs or its
checkpoints would: then it is in a database that was not given, or it was deleted by another program, and only the user
knows which. Naming such a study frees its logs and checkpoints, and with them the doubt.

Prepared data of somebody's own that no study of these databases records are freed under the same conditions, once
nobody has asked for them for a month: they can be read anew from where they came, which is never touched. So are the
bases that studies began with. Features can be computed anew from both, and go after a month without a question.

What needs no database to be told (files that a killed process was still writing) and what belongs to a finished trial
of a known study is freed in any case, once it is old enough.
"""

from __future__ import annotations

import fcntl
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from optuna.trial import TrialState
from sqlalchemy import select

from storage import attributes
from storage.database import Database
from storage.prepared.bases import recorded_base
from storage.prepared.own_data import OwnData, read_own, recorded_checksum
from storage.rows.study_rows import named_artifacts
from storage.rows.tables import STUDIES
from storage.scratch import ABANDONED_AFTER_S
from storage.settings import Home, owner_of
from storage.stores.chosen import all_checkpoint_files, artifact_files
from storage.stores.file_store import FileStore
from storage.stores.local import LocalFiles

MIN_AGE_S = 3600.0
"""No younger file is ever freed: a worker writes an artifact's bytes before its row."""
COMPILED_MIN_AGE_S = 30 * 24 * 3600.0
"""Nor a younger compiled program: it saves the next study compiling it again."""
COPIES_MIN_AGE_S = COMPILED_MIN_AGE_S
"""Nor a copy of an object that was used since: it saves fetching it again."""
SHIPPED_MIN_AGE_S = COMPILED_MIN_AGE_S
"""Nor files that a launcher sent here and a worker was started with since."""
DATA_MIN_AGE_S = COMPILED_MIN_AGE_S
"""Nor younger prepared data: they save the next study reading and decoding the same pictures."""

Kind = Literal[
    "artifacts",
    "checkpoints",
    "damaged checkpoints",
    "logs",
    "unfinished files",
    "scratch folders",
    "compiled programs",
    "copies",
    "prepared data sets",
    "notes of prepared data",
    "bases",
    "features",
    "shipped files",
]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# What `storage.files.replacing` and `storage.scratch` call what they are still writing.
_UNFINISHED = re.compile(r"\..+-[a-z0-9_]{8}(\.[^.]+)?")
_SCRATCH = re.compile(r"\..+-[0-9a-f]{8}")
# The lock of a decoding, beside its folder.
_LOCK = re.compile(r"\..+-[0-9a-f]{8}\.lock")
_OF_A_UID = re.compile(r"[0-9a-f]{8}|")


@dataclass(frozen=True)
class Leftover:
    """A file or folder that may go.

    Attributes:
        files: where it is.
        name: what it is called there.
        kind: what it was, for the listing.
        size_bytes: of all that it holds.
        min_age_s: how old it must be, all that it holds.
    """

    files: FileStore
    name: str
    kind: Kind
    size_bytes: int
    min_age_s: float

    @property
    def place(self) -> str:
        """Its path, or its URL."""
        return self.files.shown(self.name)


@dataclass
class Leftovers:
    """What was found.

    Attributes:
        free: what nobody needs.
        doubtful: artifacts that no row names and data that no study records, while a database may be unknown.
        strangers: folders of studies that are in none of the databases: the reason of the doubt.
    """

    free: list[Leftover] = field(default_factory=list)
    doubtful: list[Leftover] = field(default_factory=list)
    strangers: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Known:
    """What the databases say.

    That is: studies' names and uids, the trials by checkpoint folder whose own folders in it are wanted, the artifacts,
    the checksums of the data that studies train on, and the beginnings of those of the bases that they begin with.
    """

    names: set[str]
    uids: set[str]
    wanted: Mapping[str, set[str]]
    artifacts: set[str]
    data: set[str]
    bases: set[str]


def find_leftovers(
    home: Home,
    databases: Iterable[Database],
    *,
    study: str | None = None,
    clock: Callable[[], float] = time.time,
) -> Leftovers:
    """Return what is left over under a home. Changes nothing.

    Args:
        home: where to look.
        databases: all that the home serves.
        study: look only at what is left of this study. If none of the databases knows it, it counts as gone for good.
        clock: seconds since the epoch.

    Raises:
        StorageUnavailable: a database cannot be reached.
    """
    now = clock()
    # Files first: what appears after this listing is not looked at, and a row that names a file of it is read.
    artifacts = artifact_files(home)
    listed = artifacts.names() if study is None else []
    prepared = list(filter(None, map(read_own, home.own_datasets()))) if study is None else []
    notes = home.all_read_before() if study is None else []
    checkpoints = all_checkpoint_files(home)
    folders = checkpoints.folders()
    bases = home.bases() if study is None else []
    logs = sorted(_entries(home.logs("").parent))
    known = _read(home, databases, folders)
    found = Leftovers()
    for name in folders:
        if name in known.wanted:
            if study is None or _is_of(name, home, study):
                found.free += _of_trials(checkpoints.folder(name), known.wanted[name], now)
        elif study is None:
            found.strangers.append(checkpoints.shown(name))
        elif _is_of(name, home, study):
            found.free += _old_enough(checkpoints, name, "checkpoints", MIN_AGE_S, now)
    known_logs = {home.logs(name).name for name in known.names}
    for folder in (entry for entry in logs if entry.is_dir()):
        owner = owner_of(folder)
        if owner in known.uids if owner is not None else folder.name in known_logs:
            continue
        if study is None:
            found.strangers.append(str(folder))
        elif folder == home.logs(study) or _is_of(folder.name, home, study):
            found.free += _old_path(folder, "logs", MIN_AGE_S, now)
    if study is None:
        unrecorded = _unrecorded(prepared, known.data, now)
        orphans = [*_orphans(artifacts, listed, known.artifacts, now), *unrecorded, *_bases(bases, known.bases, now)]
        (found.doubtful if found.strangers else found.free).extend(orphans)
        going = {leftover.place for leftover in unrecorded if not found.strangers}
        found.free += _notes(notes, {own.checksum for own in prepared if str(own.folder) not in going}, now)
        found.free += _unfinished_files(artifacts, listed, [checkpoints.folder(name) for name in folders], now)
        found.free += _scratch_folders(home, now)
        found.free += _had_again(home, now)
    return found


def free(leftovers: Iterable[Leftover], *, clock: Callable[[], float] = time.time) -> list[Leftover]:
    """Remove what may go and is still old enough; return what was removed."""
    removed = []
    for leftover in leftovers:
        files, name = leftover.files, leftover.name
        # Looked at again: a restoration makes an old artifact young before it names it, a new study its data.
        if not _old_enough(files, name, leftover.kind, leftover.min_age_s, clock()):
            continue
        if isinstance(files, LocalFiles) and _is_being_filled(files.path / name):
            continue
        with suppress(OSError):  # what cannot be removed is not counted as removed
            files.remove(name)
        try:
            files.inside(name)
        except FileNotFoundError:
            removed.append(leftover)
    return removed


def _read(home: Home, databases: Iterable[Database], folders: list[str]) -> _Known:
    names: set[str] = set()
    uids: set[str] = set()
    wanted: dict[str, set[str]] = {}
    artifacts: set[str] = set()
    data: set[str] = set()
    bases: set[str] = set()
    for database in databases:
        for study_id, name, attrs in _studies(database):
            uid = attributes.of_study(attrs, attributes.UID, str) or ""
            names.add(name)
            uids.add(uid)
            data.add(recorded_checksum(attrs) or "")
            bases.add(recorded_base(attrs) or "")
            trials = _unfinished_trials(database, study_id)
            if attributes.of_study(attrs, attributes.FUNCTION, str) is not None:
                trials |= _complete_trials(database, study_id)
            wanted[home.checkpoints_name(name, uid, lambda: folders)] = trials
        artifacts |= _all_named(database)
    return _Known(names, uids, wanted, artifacts, data, bases - {""})


def _studies(database: Database) -> list[tuple[int, str, Mapping[str, Any]]]:
    def attempt() -> list[tuple[int, str]]:
        with database.reading() as connection:
            return [(row[0], row[1]) for row in connection.execute(select(STUDIES.c.study_id, STUDIES.c.study_name))]

    known: list[tuple[int, str, Mapping[str, Any]]] = []
    for study_id, name in database.repeated(attempt):
        try:
            known.append((study_id, name, database.get_study_user_attrs(study_id)))
        except KeyError:
            continue  # deleted since
    return known


def _unfinished_trials(database: Database, study_id: int) -> set[str]:
    def attempt() -> set[str]:
        with database.rows(study_id, write=False) as rows:
            return {str(number) for number in rows.unfinished()}

    found: set[str] = database.repeated(attempt)
    return found


def _complete_trials(database: Database, study_id: int) -> set[str]:
    """What a function of the user's left in the folder of a trial that is COMPLETE is its result."""
    complete = database.get_all_trials(study_id, deepcopy=False, states=(TrialState.COMPLETE,))
    return {str(trial.number) for trial in complete}


def _all_named(database: Database) -> set[str]:
    def attempt() -> set[str]:
        with database.reading() as connection:
            return named_artifacts(connection)

    found: set[str] = database.repeated(attempt)
    return found


def _is_of(folder: str, home: Home, study: str) -> bool:
    """Return whether a folder of checkpoints or logs is called as a study of that name is, whatever its uid."""
    prefix = home.checkpoints_name(study, "", list)
    return folder.startswith(prefix) and _OF_A_UID.fullmatch(folder.removeprefix(prefix)) is not None


def _of_trials(files: FileStore, wanted: set[str], now: float) -> Iterator[Leftover]:
    for trial in files.folders():
        if trial not in wanted:
            yield from _old_enough(files, trial, "checkpoints", MIN_AGE_S, now)
            continue
        kept = files.folder(trial)
        for name in kept.names():
            if name.endswith(".damaged"):
                yield from _old_enough(kept, name, "damaged checkpoints", MIN_AGE_S, now)


def _orphans(files: FileStore, listed: list[str], named: set[str], now: float) -> list[Leftover]:
    # What is not called as an artifact is not ours to judge.
    unnamed = [name for name in listed if _UUID.fullmatch(name) and name not in named]
    return [leftover for name in unnamed for leftover in _old_enough(files, name, "artifacts", MIN_AGE_S, now)]


def _unrecorded(prepared: Iterable[OwnData], recorded: set[str], now: float) -> list[Leftover]:
    """Prepared data that no study trains on."""
    unrecorded = [own.folder for own in prepared if own.checksum not in recorded]
    return [one for folder in unrecorded for one in _old_path(folder, "prepared data sets", DATA_MIN_AGE_S, now)]


def _notes(notes: Iterable[Path], prepared: set[str], now: float) -> Iterator[Leftover]:
    """Notes of what a source was read into, where that is not here any more."""
    for note in notes:
        try:
            named = json.loads(note.read_text(encoding="utf-8"))["checksum"]
        except FileNotFoundError:
            continue
        except (OSError, ValueError, KeyError, TypeError):
            named = None  # damaged
        if named not in prepared:
            yield from _old_path(note, "notes of prepared data", MIN_AGE_S, now)


def _unfinished_files(
    artifacts: FileStore, listed: list[str], checkpoints: list[FileStore], now: float
) -> Iterator[Leftover]:
    trials = (study.folder(trial) for study in checkpoints for trial in study.folders())
    for files, names in chain([(artifacts, listed)], ((trial, trial.names()) for trial in trials)):
        for name in filter(_UNFINISHED.fullmatch, names):
            yield from _old_enough(files, name, "unfinished files", MIN_AGE_S, now)


def _scratch_folders(home: Home, now: float) -> Iterator[Leftover]:
    for parent in (home.downloads.parent, home.downloads, home.export("").parent):
        for folder in sorted(_entries(parent)):
            if _SCRATCH.fullmatch(folder.name) and folder.is_dir() and not _is_being_filled(folder):
                yield from _old_path(folder, "scratch folders", ABANDONED_AFTER_S, now)
            elif _LOCK.fullmatch(folder.name) and folder.is_file() and not _is_being_filled(folder):
                yield from _old_path(folder, "unfinished files", ABANDONED_AFTER_S, now)


def _is_being_filled(path: Path) -> bool:
    """Whether a process holds the lock that a path is, or that lies beside a folder: a decoding may take days."""
    lock = path if path.name.endswith(".lock") else path.with_name(f"{path.name}.lock")
    try:
        with lock.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass  # there is none, or a file system without locks
    return False


def _had_again(home: Home, now: float) -> Iterator[Leftover]:
    """What is made, computed, fetched or sent again where somebody needs it."""
    yield from _old_files(home.compiled("").parent, "compiled programs", COMPILED_MIN_AGE_S, now)
    yield from _old_files(home.features, "features", DATA_MIN_AGE_S, now)
    yield from _old_files(home.all_copies, "copies", COPIES_MIN_AGE_S, now)
    for folder in sorted(_entries(home.all_shipped)):
        yield from _old_path(folder, "shipped files", SHIPPED_MIN_AGE_S, now)


def _bases(folders: Iterable[Path], recorded: set[str], now: float) -> Iterator[Leftover]:
    """Bases that no study begins with."""
    for folder in folders:
        if not any(folder.name.startswith(digits) for digits in recorded):
            yield from _old_path(folder, "bases", DATA_MIN_AGE_S, now)


def _old_files(root: Path, kind: Kind, min_age_s: float, now: float) -> Iterator[Leftover]:
    for file in sorted(root.rglob("*")):
        if file.is_file():
            yield from _old_path(file, kind, min_age_s, now)


def _old_path(path: Path, kind: Kind, min_age_s: float, now: float) -> list[Leftover]:
    return _old_enough(LocalFiles(path.parent), path.name, kind, min_age_s, now)


def _old_enough(files: FileStore, name: str, kind: Kind, min_age_s: float, now: float) -> list[Leftover]:
    """Return a leftover for a file or a folder, or nothing if it, or anything in it, is too young or gone."""
    try:
        known = files.inside(name)
    except FileNotFoundError:
        return []  # it is being changed
    if now - max(stored.changed for stored in known) < min_age_s:
        return []
    return [Leftover(files, name, kind, sum(stored.size_bytes for stored in known), min_age_s)]


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
