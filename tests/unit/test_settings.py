"""Every path lies under TUNING_HOME, whatever a study is called."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.engine import make_url

from storage.connections import sqlite_file
from storage.errors import BadInput
from storage.settings import CHECKOUT, Home


def test_the_home_is_runs_in_the_checkout_by_default() -> None:
    assert Home.from_environment({}).root == CHECKOUT / "runs"
    assert Home.from_environment({"TUNING_HOME": ""}).root == CHECKOUT / "runs"


def test_the_home_is_absolute_wherever_the_command_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Home.from_environment({"TUNING_HOME": "here"}).root == tmp_path / "here"


def test_a_tilde_is_the_users_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Home.from_environment({"TUNING_HOME": "~/tuning"}).root == tmp_path / "tuning"


def test_the_default_database_lies_in_the_home_whatever_that_is_called(tmp_path: Path) -> None:
    home = Home(tmp_path / "50%20off? déjà#1")
    assert sqlite_file(make_url(home.database_url)) == home.root / "studies.db"


def test_the_default_database_lies_in_the_home(tmp_path: Path) -> None:
    assert Home(tmp_path).database_url == f"sqlite:///{tmp_path}/studies.db"


def _checkpoints(home: Home, study: str) -> Path:
    return home.checkpoints(study, "uid")


FOLDERS: list[Callable[[Home, str], Path]] = [_checkpoints, Home.export, Home.logs]


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("study", ["", ".", "..", "../..", "/etc", "a/b", "../artifacts", "%", "%2E"])
def test_no_study_name_leads_out_of_its_own_folder(
    tmp_path: Path, folder: Callable[[Home, str], Path], study: str
) -> None:
    home = Home(tmp_path)
    parent = folder(home, "mnist").parent
    assert folder(home, study).resolve().parent == parent
    assert folder(home, study) != parent


def test_two_studies_never_share_a_folder(tmp_path: Path) -> None:
    names = ["", "%", ".", "..", "%2E", "%2E%2E", "a/b", "a%2Fb", "a%b", "a b", "mnist"]
    assert len({Home(tmp_path).logs(name) for name in names}) == len(names)


def test_an_ordinary_name_is_the_folders_name(tmp_path: Path) -> None:
    assert Home(tmp_path).export("mnist cnn_2").name == "mnist cnn_2"


def test_a_folder_is_made_with_its_parents(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    assert home.make(home.logs("mnist")).is_dir()
    assert home.make(home.logs("mnist")).is_dir()


def test_a_home_that_cannot_be_made_is_bad_input_with_a_cure(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    home = Home(tmp_path / "file")
    with pytest.raises(BadInput, match=r"cannot create the folder.*Set TUNING_HOME to"):
        home.make(home.artifacts)


def test_a_home_that_cannot_be_written_is_bad_input_with_a_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.settings.os.access", lambda *_: False)
    with pytest.raises(BadInput, match=r"cannot be written. Set TUNING_HOME to"):
        Home(tmp_path).make(tmp_path / "logs")


def test_what_must_be_in_folders_is_refused_where_files_are_in_an_object_store(tmp_path: Path) -> None:
    Home(tmp_path).require_folders()
    Home(tmp_path, "file:///mnt/shared").require_folders()
    with pytest.raises(BadInput, match=r"FILES=s3://bucket: .*Leave it out"):
        Home(tmp_path, "s3://bucket").require_folders()


def test_a_home_tells_other_processes_where_its_files_are(tmp_path: Path) -> None:
    for home in (Home(tmp_path), Home(tmp_path, "file:///mnt/shared")):
        assert Home.from_environment(home.environment) == home
