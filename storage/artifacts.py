"""Files of a trial: bytes first, then the record.

`optuna.artifacts.upload_artifact` writes the record before the bytes, and a crash between the two leaves a record of
nothing. Here the bytes are written, synced and in place before the database hears of them. The record is Optuna's own,
so that optuna-dashboard shows the file; beside it stands one of ours with the role, the SHA-256 and the size.
"""

from __future__ import annotations

import json
import mimetypes
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

import optuna
from optuna.storages import BaseStorage

from storage import attributes
from storage.errors import ClaimLost, TuningError
from storage.files import sha256_of
from storage.stores.file_store import FileStore


@dataclass(frozen=True)
class Artifact:
    """A file that a trial made.

    Attributes:
        id: its name in the store.
        role: what it is to the trial: `model`, `learning_curve`, `history`.
        filename: the name under which it is shown and downloaded.
        sha256: of its bytes, hexadecimal.
        size_bytes: how many those are.
    """

    id: str
    role: str
    filename: str
    sha256: str
    size_bytes: int


class ArtifactDamaged(TuningError):
    """An artifact's file is missing, or its bytes are not the recorded ones."""


class Artifacts:
    """All artifacts in one place.

    Args:
        files: where the files lie; a folder must exist.
    """

    def __init__(self, files: FileStore) -> None:
        self.files = files

    @property
    def store(self) -> OptunaStore:
        """Optuna's view of the same place."""
        return OptunaStore(self.files)

    def put(
        self, storage: BaseStorage, trial_id: int, role: str, filename: str, write: Callable[[Path], None]
    ) -> Artifact:
        """Keep a file with a trial.

        Args:
            storage: where the trial is, a `Ledger`, also behind Optuna's cache; it refuses the record if the trial is
                no longer this worker's.
            trial_id: the trial's id there.
            role: at most one artifact of a role is current; the newest counts.
            filename: decides the type by its suffix.
            write: writes the bytes to the path that it is given.

        Raises:
            ClaimLost: the trial was given to another worker.
            OSError: the file cannot be written; nothing is left of it.
        """
        artifact_id = _new_id()
        with self.files.writing(artifact_id, Path(filename).suffix) as beside:
            write(beside)
        return self._record(storage, trial_id, role, filename, artifact_id)

    @contextmanager
    def writing(self, storage: BaseStorage, trial_id: int, role: str, filename: str) -> Iterator[Path]:
        """Yield the path to write to; the end of the block, in whatever thread, does the rest of `put`.

        Raises:
            ClaimLost: the trial was given to another worker.
            OSError: the file cannot be written; nothing is left of it.
        """
        artifact_id = _new_id()
        with self.files.writing(artifact_id, Path(filename).suffix) as beside:
            yield beside
        self._record(storage, trial_id, role, filename, artifact_id)

    def _record(self, storage: BaseStorage, trial_id: int, role: str, filename: str, artifact_id: str) -> Artifact:
        written = self.files.local(artifact_id)
        artifact = Artifact(artifact_id, role, filename, sha256_of(written), written.stat().st_size)
        mimetype, encoding = mimetypes.guess_type(filename)
        shown = {
            "artifact_id": artifact_id,
            "filename": filename,
            "mimetype": mimetype or "application/octet-stream",
            "encoding": encoding,
        }
        key = attributes.OPTUNA_ARTIFACT + artifact_id
        try:
            with _together(storage, trial_id):
                storage.set_trial_system_attr(trial_id, key, json.dumps(shown))
                storage.set_trial_system_attr(trial_id, attributes.ARTIFACT + role, json.dumps(asdict(artifact)))
        except ClaimLost:
            # Refused, unless an attempt before it was not, and only its answer was lost. After any other error the
            # record may be there, too: a file too many is only space.
            if not _has(storage, trial_id, key):
                self.files.remove(artifact_id)
            raise
        return artifact

    def sweep(self) -> None:
        """Remove what killed workers left half-written."""
        self.files.sweep()

    def find(self, trial: optuna.trial.FrozenTrial, role: str) -> Artifact | None:
        """Return a trial's artifact of one role, or None."""
        stored = trial.system_attrs.get(attributes.ARTIFACT + role)
        return Artifact(**json.loads(stored)) if stored is not None else None

    def verified(self, trial: optuna.trial.FrozenTrial, role: str) -> Path:
        """Return the path of a trial's artifact after comparing its bytes with the record.

        Raises:
            ArtifactDamaged: there is none, its file is missing, or its bytes are others.
            OSError: it cannot be reached.
        """
        artifact = self.find(trial, role)
        if artifact is None:
            raise ArtifactDamaged(f"trial {trial.number} has no {role}. Take another trial with --trial.")
        shown = self.files.shown(artifact.id)
        try:
            file = self.files.local(artifact.id, artifact.sha256)
        except FileNotFoundError:
            raise ArtifactDamaged(
                f"the {role} of trial {trial.number} is missing: {shown}. Was TUNING_HOME moved? Set it to where the"
                " study ran, or take another trial with --trial."
            ) from None
        found = sha256_of(file)
        if found != artifact.sha256:
            raise ArtifactDamaged(
                f"the {role} of trial {trial.number} is damaged: {shown} has SHA-256 {found}, recorded was"
                f" {artifact.sha256}. Take another trial with --trial."
            )
        return file

    def remove(self, ids: Iterable[str]) -> int:
        """Remove files by id; return the bytes freed. No record of any study may name them."""
        there = sorted({Path(artifact_id).name for artifact_id in ids}.intersection(self.files.names()))
        freed = self.files.size_bytes(there)
        for name in there:
            self.files.remove(name)
        return freed


class OptunaStore:
    """What Optuna, and its dashboard, read and write artifacts through: an `optuna.artifacts.ArtifactStore`.

    Args:
        files: where the files lie.
    """

    def __init__(self, files: FileStore) -> None:
        self._files = files

    def open_reader(self, artifact_id: str) -> BinaryIO:
        """Open an artifact.

        Raises:
            ArtifactNotFound: it is not there.
        """
        try:
            return self._files.open(_named(artifact_id))
        except FileNotFoundError as error:
            raise _not_found(f"there is no artifact {artifact_id}") from error

    def write(self, artifact_id: str, content_body: BinaryIO) -> None:
        """Write an artifact whole."""
        with self._files.writing(_named(artifact_id)) as beside, beside.open("wb") as file:
            copyfileobj(content_body, file)

    def remove(self, artifact_id: str) -> None:
        """Remove an artifact.

        Raises:
            ArtifactNotFound: it is not there.
        """
        if _named(artifact_id) not in self._files.names():
            raise _not_found(f"there is no artifact {artifact_id}")
        self._files.remove(artifact_id)


def _has(storage: BaseStorage, trial_id: int, key: str) -> bool:
    """Return whether a trial, which may be gone, has a system attribute."""
    try:
        return key in storage.get_trial_system_attrs(trial_id)
    except KeyError:
        return False


def _together(storage: BaseStorage, trial_id: int) -> AbstractContextManager[None]:
    """Let what is written of a trial inside the block be one transaction."""
    ledger: Any = getattr(storage, "_backend", storage)  # behind Optuna's cache
    block: AbstractContextManager[None] = ledger.together(trial_id)
    return block


def _named(artifact_id: str) -> str:
    """Return an id that is the name of a file, and no path: the dashboard passes on what it was asked for."""
    if artifact_id != Path(artifact_id).name:
        raise _not_found(f"{artifact_id!r} is no artifact's name")
    return artifact_id


def _not_found(words: str) -> Exception:
    # Not imported above: Optuna's artifacts import boto3 where it is installed, and every command would wait for it.
    from optuna.artifacts.exceptions import ArtifactNotFound

    return ArtifactNotFound(words)


def _new_id() -> str:
    # For each call: two workers that both believe to own a trial never write the same file. Without a suffix, because
    # the dashboard serves nothing else.
    return str(uuid.uuid4())
