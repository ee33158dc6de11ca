"""A study whose files are in one place for many machines is backed up, restored, tidied and deleted as any other."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.backups.backup import back_up
from storage.backups.manifest import read_backup
from storage.backups.restore import restore
from storage.database import Database
from storage.errors import BadInput
from storage.leftovers import find_leftovers, free
from storage.opening import open_database
from storage.settings import Home
from storage.stores.chosen import all_checkpoint_files, artifact_files, checkpoint_files
from studies.status import disk_use
from studies.stored import StudyRecord, find_study
from tests.databases import fresh_database
from tests.object_store import ObjectStore, object_store
from tests.studies_made import UID, varied_study
from tuning.cli import run


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectStore]:
    with object_store() as started:
        yield started


@pytest.fixture(params=["mounted folder", "object store"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "mounted folder":
        return f"file://{tmp_path / 'shared'}"
    store: ObjectStore = request.getfixturevalue("server")
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store.bucket()


@pytest.fixture
def here(url: str, home: Path) -> Home:
    return Home(home, url)


@pytest.fixture
def database(here: Home) -> Iterator[Database]:
    with fresh_database(here.root / "studies.db") as opened:
        claims = varied_study(opened, here)
        opened.set_study_user_attr(claims._study_id, attributes.FILES, here.files)
        yield opened


def test_nothing_of_it_is_under_the_home_but_copies(database: Database, here: Home) -> None:
    assert {entry.name for entry in here.root.iterdir()} <= {"studies.db", "studies.db-wal", "studies.db-shm", "copies"}
    assert len(artifact_files(here).names()) == 18
    assert all_checkpoint_files(here).folders() == [f"mnist-{UID[:8]}"]
    used = disk_use(find_study(database, "mnist"), Home(here.root / "another", here.files))
    assert used["artifacts"] > 0 and used["checkpoints"] > 0


def test_it_is_restored_from_a_backup_wherever_its_copy_is_to_be_kept(
    database: Database, here: Home, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match=r"keeps its files at .*and FILES is not set\. Give FILES="):
        back_up(database, "mnist", tmp_path / "backup", Home(here.root))
    backup = back_up(database, "mnist", tmp_path / "backup", Home(tmp_path / "another", here.files))
    assert (backup.left_out, len(backup.under("artifacts")), len(backup.under("checkpoints"))) == ({}, 18, 2)
    for target in (Home(tmp_path / "third"), Home(tmp_path / "fourth", here.files)):
        target.root.mkdir()
        restore(read_backup(tmp_path / "backup"), target.database_url, target, name="again")
        restored = open_database(target.database_url)
        study = find_study(restored, "again")
        record = StudyRecord.of(study)
        assert record.files == target.files
        trial = next(trial for trial in study.get_trials() if trial.state == TrialState.COMPLETE)
        assert Artifacts(artifact_files(target)).verified(trial, "model").read_bytes() == b"newest0"
        assert len(checkpoint_files(target, "again", record.uid).folders()) == 2
        restored.engine.dispose()


def test_what_no_study_needs_is_freed_and_nothing_else(database: Database, here: Home) -> None:
    files = artifact_files(here)
    with files.writing("11111111-2222-3333-4444-000000000001") as beside:
        beside.write_bytes(b"12345")
    assert find_leftovers(here, [database]).free == []  # too young

    def in_two_hours() -> float:
        return time.time() + 7200

    found = find_leftovers(here, [database], clock=in_two_hours)
    assert {leftover.place.rpartition("/")[2] for leftover in found.free} == {
        "11111111-2222-3333-4444-000000000001",
        "0",
    }
    freed = free(found.free, clock=in_two_hours)
    assert sorted(leftover.kind for leftover in freed) == ["artifacts", "checkpoints"]
    assert (len(files.names()), len(checkpoint_files(here, "mnist", UID).folders())) == (18, 2)
    all_checkpoint_files(here).folder("far-98765432").make()
    assert len(find_leftovers(here, [database], clock=in_two_hours).strangers) == 1


def test_it_is_deleted_with_its_files_where_it_says_they_are(
    database: Database, here: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = find_study(database, "mnist")
    database.set_study_user_attr(study._study_id, attributes.SPEC, {})
    for trial in study.get_trials():
        if trial.state == TrialState.RUNNING:
            database.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    assert run(["delete", "--study", "mnist", "--yes"]) == 2
    assert f"Give FILES={here.files}" in capsys.readouterr().err
    monkeypatch.setenv("TUNING_FILES", here.files)
    assert run(["delete", "--study", "mnist", "--yes"]) == 0
    assert (artifact_files(here).names(), all_checkpoint_files(here).folders()) == ([], [])
