"""The files of a trial are kept once it is over, and what the disk refuses is not the trial's fault."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import numpy as np
import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from storage.artifacts import Artifacts
from storage.claims import Claim, Claims
from storage.database import Database
from storage.errors import StorageUnavailable
from storage.stores.local import LocalFiles
from tests.databases import claimed, fresh_database, new_study, trials
from tuning.pictures import Mistakes
from tuning.worker.trial_files import TrialFiles


class Kept:
    """A study with a claimed trial, and where its files go."""

    def __init__(self, database: Database, folder: Path) -> None:
        self.database = database
        self.claims: Claims = new_study(database)
        self.claim: Claim = claimed(self.claims)
        self.folder = folder / "artifacts"
        self.folder.mkdir()
        self.artifacts = Artifacts(LocalFiles(self.folder))
        self.checkpoints = folder / "checkpoints"
        study = optuna.load_study(study_name="mnist", storage=database)
        self.files = TrialFiles(study, "f", self.claims, self.artifacts, LocalFiles(self.checkpoints))

    @property
    def trial(self) -> FrozenTrial:
        return trials(self.database)[self.claim.number]


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    with fresh_database(tmp_path / "studies.db") as database:
        yield Kept(database, tmp_path)


def full(file: Path) -> NoReturn:
    raise OSError(28, "No space left on device")


def test_a_model_is_written_at_once_and_found_when_it_is_kept(kept: Kept) -> None:
    weights = [b"the trial's"]
    written = kept.files.write_model(kept.claim, lambda file: void(file.write_bytes(weights[0])), unused)
    weights[0] = b"the next trial's"
    assert kept.artifacts.find(kept.trial, "model") is None
    assert written.size_bytes == 11
    written.keep()
    assert kept.artifacts.verified(kept.trial, "model").read_bytes() == b"the trial's"


def test_the_weights_are_kept_of_a_model_that_cannot_be_saved(kept: Kept) -> None:
    def save(file: Path) -> NoReturn:
        file.write_bytes(b"half of it")
        raise NotImplementedError("nobody wrote get_config")

    def save_weights(file: Path) -> None:
        assert file.name.endswith(".weights.h5")  # by which Keras chooses what it writes
        with file.open("wb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as HDF5 does
            stream.write(b"weights")

    kept.files.write_model(kept.claim, save, save_weights).keep()
    artifact = kept.artifacts.find(kept.trial, "model")
    assert artifact is not None and artifact.filename == "model.weights.h5"
    assert kept.artifacts.verified(kept.trial, "model").read_bytes() == b"weights"
    assert [file.name for file in kept.folder.iterdir()] == [artifact.id]


def unused(_: Path) -> NoReturn:
    pytest.fail("the other way was taken")


def void(_: object) -> None:
    """Return nothing, where a callback must."""


def test_a_curve_is_kept_as_data_and_as_a_picture_with_the_best_epoch_counted_from_one(kept: Kept) -> None:
    kept.files.keep_curve(kept.claim, {"val_accuracy": [0.5, 0.75, 0.7]}, best_epoch=1)
    document = json.loads(kept.artifacts.verified(kept.trial, "history").read_text())
    assert document == {"val_accuracy": [0.5, 0.75, 0.7], "best_epoch": 2}
    assert kept.artifacts.verified(kept.trial, "learning_curve").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("classes", "wrong", "kept_roles"),
    [(2, 1, {"confusion_matrix", "mistakes"}), (2, 0, {"confusion_matrix"}), (300, 1, {"mistakes"})],
)
def test_mistakes_are_kept_as_pictures_where_there_are_any_and_the_classes_can_be_told_apart(
    kept: Kept, classes: int, wrong: int, kept_roles: set[str]
) -> None:
    images, names = np.zeros((wrong, 4, 4, 1), np.uint8), [f"class {number}" for number in range(classes)]
    mistakes = Mistakes(np.eye(classes, dtype=np.int64), names, images, [(0, 1)] * wrong, [0.5] * wrong)
    kept.files.keep_mistakes(kept.claim, mistakes)
    roles = {role for role in ("confusion_matrix", "mistakes") if kept.artifacts.find(kept.trial, role) is not None}
    assert roles == kept_roles
    for role in roles:
        assert kept.artifacts.verified(kept.trial, role).read_bytes().startswith(b"\x89PNG")


def test_a_disk_without_room_is_told_with_the_file_and_the_folder(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StorageUnavailable, match=r"model\.keras of trial 0 cannot be written to .*No space left"):
        kept.files.write_model(kept.claim, full, unused)
    monkeypatch.setattr("tuning.worker.trial_files.draw_learning_curve", lambda *_, file, **__: full(file))
    with pytest.raises(StorageUnavailable, match=r"learning_curve\.png of trial 0"):
        kept.files.keep_curve(kept.claim, {"val_accuracy": [0.5]}, best_epoch=None)
    assert kept.artifacts.find(kept.trial, "model") is None


def test_checkpoints_are_removed_of_trials_that_are_over_and_of_no_others(kept: Kept) -> None:
    other = claimed(kept.claims)
    for claim in (kept.claim, other):
        kept.files.checkpoints_of(claim).save(claim=1, epochs=3, content=b"three")
    kept.database.set_trial_state_values(kept.claim.trial_id, TrialState.COMPLETE, [0.5])
    kept.files.tidy()
    assert [folder.name for folder in kept.checkpoints.iterdir()] == [str(other.number)]
