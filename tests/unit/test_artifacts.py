"""Bytes first, then the record: no record without its bytes, no bytes that are not the recorded ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.artifacts import get_all_artifact_meta

from storage.artifacts import ArtifactDamaged, Artifacts
from storage.claims import Claim, Claims
from storage.database import Database
from storage.errors import ClaimLost, StorageUnavailable
from storage.rows.sql_trials import SqlTrials
from storage.stores.local import LocalFiles
from tests.databases import new_study, second_connection


@pytest.fixture
def artifacts(tmp_path: Path) -> Artifacts:
    (tmp_path / "artifacts").mkdir()
    return Artifacts(LocalFiles(tmp_path / "artifacts"))


def folder_of(artifacts: Artifacts) -> Path:
    assert isinstance(artifacts.files, LocalFiles)
    return artifacts.files.path


@pytest.fixture
def claim(database: Database) -> Claim:
    claim = new_study(database).next()
    assert claim is not None
    return claim


def write(file: Path) -> None:
    file.write_bytes(b"weights")


def write_better(file: Path) -> None:
    file.write_bytes(b"better")


def test_what_was_kept_is_found_again_by_its_role(database: Database, artifacts: Artifacts, claim: Claim) -> None:
    kept = artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    trial = database.get_trial(claim.trial_id)
    assert artifacts.find(trial, "model") == kept
    assert artifacts.find(trial, "history") is None
    assert (kept.size_bytes, kept.filename) == (7, "model.keras")
    assert artifacts.verified(trial, "model").read_bytes() == b"weights"


def test_the_newest_of_a_role_counts(database: Database, artifacts: Artifacts, claim: Claim) -> None:
    artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    artifacts.put(database, claim.trial_id, "model", "model.keras", write_better)
    assert artifacts.verified(database.get_trial(claim.trial_id), "model").read_bytes() == b"better"


def test_stock_optuna_lists_and_downloads_it(
    database: Database, artifacts: Artifacts, claim: Claim, tmp_path: Path
) -> None:
    kept = artifacts.put(database, claim.trial_id, "learning_curve", "learning_curve.png", write)
    study = optuna.load_study(study_name="mnist", storage=database)
    (listed,) = get_all_artifact_meta(study.trials[0], storage=database)
    assert (listed.artifact_id, listed.filename, listed.mimetype) == (kept.id, "learning_curve.png", "image/png")
    optuna.artifacts.download_artifact(
        artifact_store=artifacts.store, file_path=str(tmp_path / "copy"), artifact_id=kept.id
    )
    assert (tmp_path / "copy").read_bytes() == b"weights"


def test_the_bytes_are_in_place_before_the_database_hears_of_them(
    database: Database, artifacts: Artifacts, claim: Claim, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[list[bytes]] = []
    record = database.set_trial_system_attr

    def noting(trial_id: int, key: str, value: Any) -> None:
        seen.append([file.read_bytes() for file in folder_of(artifacts).iterdir()])
        record(trial_id, key, value)

    monkeypatch.setattr(database, "set_trial_system_attr", noting)
    artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    assert seen == [[b"weights"], [b"weights"]]


def test_a_write_that_fails_leaves_neither_bytes_nor_record(
    database: Database, artifacts: Artifacts, claim: Claim
) -> None:
    def fail(file: Path) -> None:
        file.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        artifacts.put(database, claim.trial_id, "model", "model.keras", fail)
    assert list(folder_of(artifacts).iterdir()) == []
    assert get_all_artifact_meta(database.get_trial(claim.trial_id), storage=database) == []


def test_a_worker_that_lost_its_trial_leaves_no_file(database: Database, artifacts: Artifacts, claim: Claim) -> None:
    with second_connection(database) as other:
        Claims(other, other.get_study_id_from_name("mnist"), "another").put_back(claim, "silent")
    with pytest.raises(ClaimLost):
        artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    assert list(folder_of(artifacts).iterdir()) == []


@pytest.mark.parametrize("cached", [False, True])
def test_a_file_has_both_of_its_records_or_none(
    database: Database, artifacts: Artifacts, claim: Claim, monkeypatch: pytest.MonkeyPatch, cached: bool
) -> None:
    record, calls = SqlTrials.write_attr, []

    def second_fails(self: SqlTrials, table: Any, owner: Any, key: str, value: Any) -> None:
        calls.append(key)
        if len(calls) == 2:
            raise StorageUnavailable("away")
        record(self, table, owner, key, value)

    monkeypatch.setattr(SqlTrials, "write_attr", second_fails)
    storage = optuna.load_study(study_name="mnist", storage=database)._storage if cached else database
    with pytest.raises(StorageUnavailable):
        artifacts.put(storage, claim.trial_id, "model", "model.keras", write)
    assert len(calls) == 2
    trial = database.get_trial(claim.trial_id)
    assert get_all_artifact_meta(trial, storage=database) == []
    assert artifacts.find(trial, "model") is None


@pytest.mark.parametrize("error", [ClaimLost("lost"), StorageUnavailable("away")], ids=["lost", "away"])
def test_a_file_that_optuna_lists_is_never_removed(
    database: Database, artifacts: Artifacts, claim: Claim, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    write_all = database._write_all

    def answer_lost(*given: Any) -> None:
        write_all(*given)
        raise error  # as it is when the call is repeated

    monkeypatch.setattr(database, "_write_all", answer_lost)
    with pytest.raises(type(error)):
        artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    (listed,) = get_all_artifact_meta(database.get_trial(claim.trial_id), storage=database)
    assert (folder_of(artifacts) / listed.artifact_id).read_bytes() == b"weights"


def test_damage_is_found(database: Database, artifacts: Artifacts, claim: Claim) -> None:
    kept = artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    (folder_of(artifacts) / kept.id).write_bytes(b"weightZ")
    with pytest.raises(ArtifactDamaged, match=r"the model of trial 0 is damaged: .* Take another trial with --trial"):
        artifacts.verified(database.get_trial(claim.trial_id), "model")


def test_a_missing_file_is_found(database: Database, artifacts: Artifacts, claim: Claim) -> None:
    kept = artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    (folder_of(artifacts) / kept.id).unlink()
    with pytest.raises(ArtifactDamaged, match=r"is missing: .*Was TUNING_HOME moved\?"):
        artifacts.verified(database.get_trial(claim.trial_id), "model")


def test_a_trial_without_the_artifact_is_named(database: Database, artifacts: Artifacts, claim: Claim) -> None:
    with pytest.raises(ArtifactDamaged, match=r"trial 0 has no model\. Take another trial"):
        artifacts.verified(database.get_trial(claim.trial_id), "model")


def test_all_files_of_a_trial_are_removed_and_no_other(database: Database, artifacts: Artifacts, claim: Claim) -> None:
    (folder_of(artifacts) / "other").write_bytes(b"stays")
    kept = [artifacts.put(database, claim.trial_id, "model", "model.keras", write).id for _ in range(2)]
    assert artifacts.remove(kept) == 14
    assert [file.name for file in folder_of(artifacts).iterdir()] == ["other"]


def test_an_id_that_is_a_path_removes_nothing_outside(artifacts: Artifacts, tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"stays")
    assert artifacts.remove(["../precious"]) == 0
    assert (tmp_path / "precious").exists()
