"""Prepared data of somebody's own go with a backup of their study, and are freed when no study needs them."""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.backups.backup import back_up
from storage.backups.manifest import Backup, File, is_name, read_backup, write_manifest
from storage.backups.restore import restore
from storage.database import Database
from storage.errors import BadInput
from storage.files import sha256_of
from storage.leftovers import DATA_MIN_AGE_S, Leftovers, find_leftovers, free
from storage.prepared.own_data import find_own
from storage.scratch import ABANDONED_AFTER_S
from storage.settings import Home
from studies.datasets.own.kept import own_prepared, with_checksum
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared, prepare
from studies.spec import Images
from tests.databases import fresh_database, new_study
from tests.picture_folders import write
from tests.studies_made import age, varied
from tuning.cli import run

database = varied


def arrays(file: Path, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    np.savez(file, x_train=rng.integers(0, 256, (40, 6, 6, 1), dtype=np.uint8), y_train=np.arange(40) % 2)
    return file


def prepared(home: Home, file: Path) -> PreparedDataset:
    return prepare(str(file), home, report=lambda _: None)


def train_on(database: Database, study: str, dataset: PreparedDataset, reference: str) -> None:
    """Let a study record data of somebody's own as those that it trains on."""
    study_id = database.get_study_id_from_name(study)
    spec = {"dataset": reference, "images": Images().model_dump(mode="json")}
    data = {"checksum": dataset.info.checksum, "split": "", "train": 30, "validation": 10, "mean": [0.0], "std": [1.0]}
    database.set_study_user_attr(study_id, attributes.SPEC, spec)
    database.set_study_user_attr(study_id, attributes.DATA, data)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.fixture
def dataset(database: Database, mine: Home, tmp_path: Path) -> PreparedDataset:
    """What the study of the database trains on; the file that it came from is gone."""
    file = arrays(tmp_path / "mine.npz")
    dataset = prepared(mine, file)
    train_on(database, "mnist", dataset, str(file))
    file.unlink()
    return dataset


@pytest.fixture
def elsewhere(tmp_path: Path) -> Home:
    return Home(tmp_path / "elsewhere")


# --- Backup and restoration


def test_a_backup_takes_the_prepared_data_along_and_a_home_without_the_source_has_them_again(
    database: Database, dataset: PreparedDataset, mine: Home, elsewhere: Home, tmp_path: Path
) -> None:
    backup = back_up(database, "mnist", tmp_path / "copy", mine)
    assert {Path(path).name for path in backup.under("data")} == set(contents(dataset.folder))
    assert backup.left_out == {}
    shutil.rmtree(mine.root)
    restore(read_backup(tmp_path / "copy"), elsewhere.database_url, elsewhere)
    there = open_prepared(str(tmp_path / "mine.npz"), elsewhere, checksum=dataset.info.checksum, verify=True)
    assert there.folder.parent == elsewhere.root / "datasets"
    assert there.info == dataset.info
    assert there.folder.stat().st_mode & 0o777 == 0o755


def test_what_is_restored_where_it_is_already_is_shared_and_young_again(
    database: Database, dataset: PreparedDataset, mine: Home, tmp_path: Path
) -> None:
    backup = back_up(database, "mnist", tmp_path / "copy", mine)
    age(dataset.folder, 2 * DATA_MIN_AGE_S)
    inode = (dataset.folder / "train_images.npy").stat().st_ino
    restore(backup, mine.database_url, mine, name="again")
    assert (dataset.folder / "train_images.npy").stat().st_ino == inode
    assert time.time() - dataset.folder.stat().st_mtime < 60
    assert len(own_prepared(mine)) == 1


def test_what_was_read_there_from_a_place_of_another_name_is_shared_too(
    database: Database, dataset: PreparedDataset, mine: Home, elsewhere: Home, tmp_path: Path
) -> None:
    backup = back_up(database, "mnist", tmp_path / "copy", mine)
    theirs = prepared(elsewhere, arrays(tmp_path / "theirs.npz"))
    restore(backup, elsewhere.database_url, elsewhere)
    assert [own.folder for own in own_prepared(elsewhere)] == [theirs.folder]
    images = theirs.folder / "train_images.npy"
    images.write_bytes(bytes(images.stat().st_size))
    restore(backup, elsewhere.database_url, elsewhere, name="again")
    there = open_prepared("", elsewhere, checksum=dataset.info.checksum, verify=True)
    assert there.folder == theirs.folder


@pytest.mark.parametrize("name", ["train_images.npy", "train_labels.npy", "train_digests.npy", "dataset.json"])
def test_damaged_data_in_the_place_of_whole_ones_are_replaced(
    database: Database, dataset: PreparedDataset, mine: Home, tmp_path: Path, name: str
) -> None:
    backup, whole = back_up(database, "mnist", tmp_path / "copy", mine), contents(dataset.folder)
    damaged = dataset.folder / name
    damaged.write_bytes(bytes(len(whole[name])))
    restore(backup, mine.database_url, mine, name="again")
    assert contents(dataset.folder) == whole


def test_a_backup_of_published_data_is_as_it_was(database: Database, mine: Home, tmp_path: Path) -> None:
    backup = back_up(database, "mnist", tmp_path / "copy", mine)
    assert backup.under("data") == []
    assert not (tmp_path / "copy" / "data").exists()


@pytest.mark.parametrize("wrong", ["missing", "damaged", "partly gone"])
def test_data_that_cannot_be_had_are_left_out_and_said(
    database: Database,
    dataset: PreparedDataset,
    mine: Home,
    tmp_path: Path,
    wrong: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    images = dataset.folder / "train_images.npy"
    if wrong == "missing":
        shutil.rmtree(dataset.folder)
    elif wrong == "damaged":
        images.write_bytes(bytes(images.stat().st_size))
    else:
        images.unlink()
    assert run(["backup", "--study", "mnist", "--out", str(tmp_path / "copy")]) == 1
    said = {"missing": "are not prepared under", "damaged": "are damaged: ", "partly gone": "are damaged: "}[wrong]
    assert f"left out: the study's data {said}" in capsys.readouterr().err
    backup = read_backup(tmp_path / "copy")
    assert backup.under("data") == []
    assert not (tmp_path / "copy" / "data").exists()
    restore(backup, mine.database_url, mine, name="again")


def forged(backup: Backup, path: str, content: bytes) -> Backup:
    """The backup of somebody who knows how its manifest is signed, with one more file in it."""
    file = backup.folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content)
    other = replace(backup, files={**backup.files, path: File(sha256_of(file), file.stat().st_size)})
    write_manifest(other)
    return read_backup(backup.folder)


@pytest.mark.parametrize(
    "path",
    [
        "data/../x.npy",
        "data/./x.npy",
        "data/x.npy",
        "data/a/b/x.npy",
        "data/a/../../x.npy",
        "data/a/.npy",
        "data/a/x.py",
    ],
)
def test_what_a_manifest_may_not_name(path: str) -> None:
    assert not is_name(path)


def test_a_forged_backup_writes_nothing_outside_the_place_of_prepared_data(
    database: Database, dataset: PreparedDataset, mine: Home, elsewhere: Home, tmp_path: Path
) -> None:
    backup = back_up(database, "mnist", tmp_path / "copy", mine)
    path = f"data/{dataset.folder.name}/dataset.json"
    manifest = json.loads((backup.folder / path).read_text())
    forged(backup, path, json.dumps({**manifest, "name": "../../outside"}).encode())
    restore(read_backup(backup.folder), elsewhere.database_url, elsewhere)
    assert not (tmp_path / "outside").exists()
    assert [folder.name for folder in elsewhere.own_datasets()] == [f"%2E.%2F..%2Foutside-{dataset.info.checksum[:8]}"]


@pytest.mark.parametrize("change", [{"checksum": "0" * 64}, {"own": None}, {"files": {"more.npy": {"sha256": "0"}}}])
def test_data_that_are_not_those_of_the_study_are_refused_before_anything_is_made(
    database: Database, dataset: PreparedDataset, mine: Home, elsewhere: Home, tmp_path: Path, change: dict[str, object]
) -> None:
    backup = back_up(database, "mnist", tmp_path / "copy", mine)
    path = f"data/{dataset.folder.name}/dataset.json"
    manifest = json.loads((backup.folder / path).read_text())
    other = forged(backup, path, json.dumps({**manifest, **change}).encode())
    with pytest.raises(BadInput, match=r"holds other data than the study trains on\. Take another backup\."):
        restore(other, elsewhere.database_url, elsewhere)
    assert not elsewhere.root.exists()


def test_a_backup_with_two_sets_of_data_is_refused(
    database: Database, dataset: PreparedDataset, mine: Home, elsewhere: Home, tmp_path: Path
) -> None:
    backup = forged(back_up(database, "mnist", tmp_path / "copy", mine), "data/other-00000000/dataset.json", b"{}")
    with pytest.raises(BadInput, match="names the data of several studies"):
        restore(backup, elsewhere.database_url, elsewhere)


# --- What is left over


def found(home: Home, *databases: Database) -> Leftovers:
    return find_leftovers(home, databases)


def paths(leftovers: Leftovers) -> set[Path]:
    return {Path(leftover.place) for leftover in leftovers.free}


def notes(home: Home) -> set[Path]:
    return set(home.all_read_before())


def test_data_that_no_study_records_are_freed_after_a_month_and_their_source_never(
    database: Database, dataset: PreparedDataset, mine: Home, tmp_path: Path
) -> None:
    its = notes(mine)
    source = arrays(mine.root / "other.npz", seed=1)
    other = prepared(mine, source)
    age(mine.root / "datasets", DATA_MIN_AGE_S - 60)
    assert not paths(found(mine, database)) & {other.folder, *notes(mine)}
    age(mine.root / "datasets", DATA_MIN_AGE_S + 60)
    leftovers = found(mine, database)
    assert {Path(leftover.place) for leftover in leftovers.free if "prepared" in leftover.kind} == {
        other.folder,
        *(notes(mine) - its),
    }
    free(leftovers.free)
    assert not other.folder.exists()
    assert dataset.folder.is_dir()
    assert notes(mine) == its
    assert source.is_file()


def test_data_that_a_study_of_any_database_records_stay(database: Database, mine: Home, tmp_path: Path) -> None:
    other = prepared(mine, arrays(tmp_path / "other.npz", seed=1))
    with fresh_database(tmp_path / "second.db") as second:
        new_study(second, budget=1, name="theirs")
        train_on(second, "theirs", other, str(tmp_path / "other.npz"))
        age(mine.root / "datasets", 2 * DATA_MIN_AGE_S)
        assert other.folder not in paths(found(mine, database, second))
        assert other.folder in paths(found(mine, database))


def test_a_stranger_s_study_may_need_data(
    database: Database, mine: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = prepared(mine, arrays(tmp_path / "other.npz", seed=1))
    mine.make(mine.logs("stranger"))
    age(mine.root / "datasets", 2 * DATA_MIN_AGE_S)
    leftovers = found(mine, database)
    assert not paths(leftovers) & {other.folder, *notes(mine)}
    assert [Path(leftover.place) for leftover in leftovers.doubtful] == [other.folder]
    assert run(["gc", "--yes"]) == 0
    assert "kept: 1 prepared data sets that no study names" in capsys.readouterr().err
    assert other.folder.is_dir()


def test_data_that_are_asked_for_are_young_again(database: Database, mine: Home, tmp_path: Path) -> None:
    file = arrays(tmp_path / "other.npz", seed=1)
    other = prepared(mine, file)
    age(mine.root / "datasets", 2 * DATA_MIN_AGE_S)
    leftovers = found(mine, database)
    assert other.folder in paths(leftovers)
    prepared(mine, file)
    assert other.folder not in {Path(leftover.place) for leftover in free(leftovers.free)}
    assert other.folder.is_dir()


def test_notes_of_what_is_not_here_any_more_are_freed(database: Database, mine: Home, tmp_path: Path) -> None:
    other = prepared(mine, arrays(tmp_path / "other.npz", seed=1))
    damaged = mine.read_before("0" * 16)
    damaged.write_text("{")
    shutil.rmtree(other.folder)
    age(mine.root / "datasets", 2 * 3600)
    assert notes(mine) <= paths(found(mine, database))
    assert len(notes(mine)) == 2


def test_what_an_interrupted_decoding_left_is_freed_when_it_is_old_and_nobody_works_on_it(
    database: Database, mine: Home
) -> None:
    folder = mine.decoding("some [pictures]", "0123456789abcdef")
    lock = folder.with_name(f"{folder.name}.lock")
    write(folder / "0-train-000000.npy", b"chunk")
    lock.touch()
    age(mine.root / "datasets", ABANDONED_AFTER_S - 60)
    assert not paths(found(mine, database)) & {folder, lock}
    age(mine.root / "datasets", ABANDONED_AFTER_S + 60)
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert not paths(found(mine, database)) & {folder, lock}
    leftovers = found(mine, database)
    assert {folder, lock} <= paths(leftovers)
    with lock.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        free(leftovers.free)
        assert folder.is_dir() and lock.is_file()
    free(leftovers.free)
    assert not folder.exists() and not lock.exists()


def test_delete_leaves_prepared_data(
    database: Database, dataset: PreparedDataset, mine: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    for trial in database.get_all_trials(database.get_study_id_from_name("mnist")):
        if not trial.state.is_finished():
            database.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    assert run(["delete", "--study", "mnist", "--yes"]) == 0
    assert with_checksum(mine, dataset.info.checksum) is not None
    assert "deleted study 'mnist'" in capsys.readouterr().err


# --- Names


@pytest.mark.parametrize("label", [".hidden", "x" * 251, "ü" * 125, "50% [*]?", "a\nb", "-", "own"])
def test_prepared_data_are_found_again_whatever_they_are_called(
    database: Database, mine: Home, tmp_path: Path, label: str
) -> None:
    file = arrays(tmp_path / f"{label}.npz")
    dataset = prepared(mine, file)
    assert not dataset.folder.name.startswith(".")
    found = find_own(mine, dataset.info.checksum)
    assert found is not None and found.folder == dataset.folder
    age(mine.root / "datasets", 2 * ABANDONED_AFTER_S)
    assert prepared(mine, file).folder == dataset.folder
    age(mine.root / "datasets", 2 * ABANDONED_AFTER_S)
    assert dataset.folder not in paths(find_leftovers(mine, [database]))
