"""A study's files are found by its own uid: a rename loses none, and two studies of one name replace nothing."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from sqlalchemy.engine import make_url

from storage import attributes
from storage.connections import place_of
from storage.rows.study_rows import is_copy
from storage.settings import Home, database_of, mark, owner_of
from studies.stored import StudyRecord, require_own_uid
from tests.databases import claimed, finish, fresh_database, new_study, url_of
from tuning.bundles.choice import own_folder
from tuning.commands.delete import delete_study

MINE, OTHER = "0123456789abcdef", "fedcba9876543210"


@pytest.fixture
def made(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def with_files(home: Home, folder: Path, uid: str) -> Path:
    home.make(folder)
    mark(folder, uid)
    return folder


# --- Where they are


def test_checkpoints_are_found_after_the_study_was_renamed(made: Home) -> None:
    before = made.make(made.checkpoints("mnist", MINE))
    assert made.checkpoints("renamed", MINE) == before
    assert made.checkpoints("mnist", OTHER) != before
    assert made.checkpoints("renamed", OTHER).name == "renamed-fedcba98"


def test_logs_and_a_bundle_are_found_after_the_study_was_renamed(made: Home) -> None:
    logs = with_files(made, made.logs("mnist", MINE), MINE)
    bundle = with_files(made, made.export("mnist", MINE), MINE)
    assert (logs.name, bundle.name) == ("mnist", "mnist")
    assert made.logs("renamed", MINE) == logs
    assert made.exported("renamed", MINE) == bundle


def test_of_two_studies_of_one_name_the_second_has_folders_beside_the_firsts(made: Home) -> None:
    for folder in (made.logs, made.export):
        first = with_files(made, folder("mnist", MINE), MINE)
        second = with_files(made, folder("mnist", OTHER), OTHER)
        assert (first.name, second.name) == ("mnist", "mnist-fedcba98")
        assert (folder("mnist", MINE), folder("mnist", OTHER)) == (first, second)
    assert made.exported("mnist", MINE) != made.exported("mnist", OTHER)
    assert owner_of(made.export("mnist", OTHER)) == OTHER


def test_a_study_without_a_bundle_is_not_given_that_of_another(made: Home) -> None:
    with_files(made, made.export("mnist", MINE), MINE)
    assert made.exported("mnist", OTHER) is None
    assert made.exported("another", MINE) == made.export("mnist", MINE)


def test_a_bundle_of_an_earlier_version_goes_by_its_name(made: Home) -> None:
    before = made.make(made.export("mnist"))
    assert owner_of(before) is None
    assert made.exported("mnist", MINE) == before == made.export("mnist", MINE)
    assert made.exported("another", MINE) is None


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe"])
def test_a_mark_that_cannot_be_read_says_nothing(made: Home, content: bytes) -> None:
    folder = with_files(made, made.export("mnist", MINE), MINE)
    (folder / ".study").write_bytes(content)
    assert owner_of(folder) is None


def test_a_mark_says_in_which_database_the_study_is_where_that_matters(made: Home) -> None:
    folder = with_files(made, made.export("mnist", MINE), MINE)
    assert (owner_of(folder), database_of(folder)) == (MINE, None)
    mark(folder, MINE, "sqlite:///studies.db")
    assert (owner_of(folder), database_of(folder)) == (MINE, "sqlite:///studies.db")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("sqlite:///studies.db", "sqlite:////elsewhere/studies.db"),
        ("postgresql+psycopg://u:first@h/db", "postgresql+psycopg://u:second@h/db"),
    ],
)
def test_a_database_is_told_by_its_place_alone(one: str, other: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (place_of(make_url(one)) == place_of(make_url(other))) == one.startswith("postgresql")
    assert "first" not in place_of(make_url(one))
    here = place_of(make_url(one))
    monkeypatch.chdir("/")
    assert (place_of(make_url(one)) == here) == one.startswith("postgresql"), "a relative path is another elsewhere"


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///file:studies.db?mode=ro&uri=true"])
def test_a_database_whose_url_does_not_say_where_it_is_has_no_place(url: str) -> None:
    assert place_of(make_url(url)) == ""


# --- Whose they are


def test_a_study_that_optuna_copied_gets_a_uid_of_its_own_and_the_first_keeps_its(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "studies.db") as database:
        first = new_study(database)
        database.set_study_user_attr(first._study_id, attributes.UID, MINE)
        optuna.copy_study(from_study_name="mnist", from_storage=database, to_storage=database, to_study_name="copied")
        study, copied = (optuna.load_study(study_name=name, storage=database) for name in ("mnist", "copied"))
        with database.reading() as connection:
            assert is_copy(connection, copied._study_id, MINE)
            assert not is_copy(connection, study._study_id, MINE)
        for one in (study, copied):
            require_own_uid(database, one)
        assert StudyRecord.of(study).uid == MINE
        assert StudyRecord.of(copied).uid not in ("", MINE)


def test_to_delete_a_copy_leaves_the_files_of_what_it_was_copied_from(tmp_path: Path, made: Home) -> None:
    with fresh_database(tmp_path / "studies.db") as database:
        first = new_study(database)
        finish(database, claimed(first))
        database.set_study_user_attr(first._study_id, attributes.UID, MINE)
        optuna.copy_study(from_study_name="mnist", from_storage=database, to_storage=database, to_study_name="copied")
        checkpoints, logs = made.make(made.checkpoints("mnist", MINE)), with_files(made, made.logs("mnist"), MINE)
        assert delete_study(url_of(database), "copied", made, confirm=lambda _: True) == 0
        assert checkpoints.is_dir()
        assert logs.is_dir()
        assert delete_study(url_of(database), "mnist", made, confirm=lambda _: True) == 0
        assert not checkpoints.exists()
        assert not logs.exists()


def test_the_bundle_of_a_deleted_study_stays_until_the_next_one_of_its_name_is_exported(
    tmp_path: Path, made: Home
) -> None:
    with fresh_database(tmp_path / "studies.db") as database:
        first = new_study(database)
        database.set_study_user_attr(first._study_id, attributes.UID, MINE)
        bundle = with_files(made, made.export("mnist", MINE), MINE)
        delete_study(url_of(database), "mnist", made, confirm=lambda _: True)
        assert bundle.is_dir()
        assert made.export("mnist", OTHER) == bundle


@pytest.mark.parametrize(
    ("owner", "elsewhere", "folder", "said"),
    [
        (None, "", "mnist", None),
        (MINE, "here", "mnist", None),
        (OTHER, "here", "mnist", "held the bundle of a study of that name that was deleted: it is replaced"),
        (OTHER, "there", "mnist-01234567", "holds the bundle of another study of that name in there: this one is"),
        (OTHER, "", "mnist-01234567", "of that name: this one is beside it. Remove that folder if that study is gone"),
        ("known", "here", "mnist-01234567", "holds the bundle of another study of that name: this one is beside it"),
    ],
)
def test_a_bundle_takes_the_place_of_another_studys_only_where_that_is_known_to_be_gone(
    tmp_path: Path, made: Home, owner: str | None, elsewhere: str, folder: str, said: str | None
) -> None:
    with fresh_database(tmp_path / "studies.db") as database:
        first = new_study(database)
        database.set_study_user_attr(first._study_id, attributes.UID, MINE)
        optuna.create_study(study_name="another", storage=database).set_user_attr(attributes.UID, "known")
        there = made.make(made.export("mnist"))
        if owner is not None:
            mark(there, owner, elsewhere)
        study = optuna.load_study(study_name="mnist", storage=database)
        found, words = own_folder(study, StudyRecord.of(study), made, "here")
        assert found.name == folder
        assert (words is None) == (said is None)
        assert (said or "") in (words or "")
        assert own_folder(study, StudyRecord.of(study), made, "")[0].name == (
            "mnist" if owner in (None, MINE) else "mnist-01234567"
        ), "where no database is known, nothing is known to be gone"
