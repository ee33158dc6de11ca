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
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from optuna.artifacts import FileSystemArtifactStore
from optuna.storages import BaseStorage

from storage import attributes
from storage.errors import ClaimLost, TuningError
from storage.files import replacing, sha256_of, sweep


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
    """All artifacts under one folder.

    Args:
        folder: where the files lie; it must exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def store(self) -> FileSystemArtifactStore:
        """Optuna's view of the same folder."""
        return FileSystemArtifactStore(str(self.folder))

    def put(
        self, storage: BaseStorage, trial_id: int, role: str, filename: str, write: Callable[[Path], None]
    ) -> Artifact:
        """Keep a file with a trial.

        Args:
            storage: where the trial is; it refuses the record if the trial is no longer this worker's.
            trial_id: the trial's id there.
            role: at most one artifact of a role is current; the newest counts.
            filename: decides the type by its suffix.
            write: writes the bytes to the path that it is given.

        Raises:
            ClaimLost: the trial was given to another worker.
            OSError: the file cannot be written; nothing is left of it.
        """
        artifact_id = _new_id()
        with replacing(self.folder / artifact_id, suffix=Path(filename).suffix) as beside:
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
        with replacing(self.folder / artifact_id, suffix=Path(filename).suffix) as beside:
            yield beside
        self._record(storage, trial_id, role, filename, artifact_id)

    def _record(self, storage: BaseStorage, trial_id: int, role: str, filename: str, artifact_id: str) -> Artifact:
        target = self.folder / artifact_id
        artifact = Artifact(artifact_id, role, filename, sha256_of(target), target.stat().st_size)
        mimetype, encoding = mimetypes.guess_type(filename)
        shown = {
            "artifact_id": artifact_id,
            "filename": filename,
            "mimetype": mimetype or "application/octet-stream",
            "encoding": encoding,
        }
        try:
            storage.set_trial_system_attr(trial_id, attributes.OPTUNA_ARTIFACT + artifact_id, json.dumps(shown))
        except ClaimLost:
            # Refused for certain. After any other error the record may be there: a file too many is only space.
            target.unlink(missing_ok=True)
            raise
        storage.set_trial_system_attr(trial_id, attributes.ARTIFACT + role, json.dumps(asdict(artifact)))
        return artifact

    def sweep(self) -> None:
        """Remove what killed workers left half-written."""
        sweep(self.folder)

    def find(self, trial: optuna.trial.FrozenTrial, role: str) -> Artifact | None:
        """Return a trial's artifact of one role, or None."""
        stored = trial.system_attrs.get(attributes.ARTIFACT + role)
        return Artifact(**json.loads(stored)) if stored is not None else None

    def verified(self, trial: optuna.trial.FrozenTrial, role: str) -> Path:
        """Return the path of a trial's artifact after comparing its bytes with the record.

        Raises:
            ArtifactDamaged: there is none, its file is missing, or its bytes are others.
        """
        artifact = self.find(trial, role)
        if artifact is None:
            raise ArtifactDamaged(f"trial {trial.number} has no {role}. Take another trial with --trial.")
        file = self.folder / artifact.id
        if not file.is_file():
            raise ArtifactDamaged(
                f"the {role} of trial {trial.number} is missing: {file}. Was TUNING_HOME moved? Set it to where the"
                " study ran, or take another trial with --trial."
            )
        found = sha256_of(file)
        if found != artifact.sha256:
            raise ArtifactDamaged(
                f"the {role} of trial {trial.number} is damaged: {file} has SHA-256 {found}, recorded was"
                f" {artifact.sha256}. Take another trial with --trial."
            )
        return file

    def remove(self, ids: Iterable[str]) -> int:
        """Remove files by id; return the bytes freed. No record of any study may name them."""
        freed = 0
        for artifact_id in ids:
            file = self.folder / Path(artifact_id).name
            if file.is_file():
                freed += file.stat().st_size
                file.unlink()
        return freed


def _new_id() -> str:
    # For each call: two workers that both believe to own a trial never write the same file. Without a suffix, because
    # the dashboard serves nothing else.
    return str(uuid.uuid4())
