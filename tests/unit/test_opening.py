"""A storage is opened, or refused in one line that says what to do; nothing that is there is harmed."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy

from storage.connections import shown_url, sqlite_file
from storage.errors import BadInput
from storage.opening import check_storage, open_database, open_to_read
from storage.settings import Home
from tests.databases import new_study
from tests.processes import in_processes, open_and_count_studies


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("", "cannot be opened.*Give a URL like sqlite:///studies.db"),
        ("studies.db", "storage 'studies.db' cannot be opened: .*Give a URL like"),
        ("nodb://host/name", "cannot be opened: .*nodb.*Give a URL like"),
        ("mysql://host/name", "cannot be opened: .*Give a URL like"),
        ("sqlite://", "lives in one process's memory.*Name a file"),
        ("sqlite:///:memory:", "lives in one process's memory.*Name a file"),
        ("sqlite:////proc", "cannot be opened: unable to open database file. Check that it exists"),
        ("postgresql+psycopg://user@127.0.0.1:1/name", "cannot be opened: .*Check that it exists"),
    ],
)
@pytest.mark.parametrize("call", [check_storage, open_database], ids=["check", "open"])
def test_a_url_that_cannot_be_used_is_bad_input_with_a_cure(call: Callable[[str], object], url: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        call(url)


def test_a_folder_that_is_not_there_is_said_to_whom_wants_to_make_a_study_in_it() -> None:
    url = "sqlite:////no/such/folder/studies.db"
    for call in (check_storage, lambda url: open_database(url, create=True)):
        with pytest.raises(BadInput, match=r"/no/such/folder is not there or cannot be written. Make it, or"):
            call(url)
    with pytest.raises(BadInput, match=r"there is no study in .* yet. Start one first"):
        open_database(url)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://u:s3cret@host:5432/db", "postgresql+psycopg://u:***@host:5432/db"),
        ("postgresql+psycopg://u:s3cret@host:54x2/db", "postgresql+psycopg://u:***@host:54x2/db"),
        ("postgresql+psycopg://u:s3@cret@host/db", "postgresql+psycopg://u:***@host/db"),
        ("postgresql+psycopg://u:s3/cret@host/db", "postgresql+psycopg://u:***@host/db"),
        ("postgresql+psycopg://u:s3cret@/db?host=/tmp/a@b", "postgresql+psycopg://u:***@/db?host=/tmp/a@b"),
        (
            "postgresql+psycopg://host/db?user=u&password=s3cret&x=1",
            "postgresql+psycopg://host/db?user=u&password=***&x=1",
        ),
        ("postgresql+psycopg://u@host/db", "postgresql+psycopg://u@host/db"),
        ("postgresql+psycopg://host:5432/db", "postgresql+psycopg://host:5432/db"),
        ("sqlite:////home/a:b@c/studies.db", "sqlite:////home/a:b@c/studies.db"),
    ],
)
def test_a_url_is_shown_without_its_password_whatever_else_is_wrong_with_it(url: str, shown: str) -> None:
    assert shown_url(url) == shown
    assert shown_url(shown) == shown


def test_a_password_is_not_shown(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as refused:
        check_storage("postgresql+psycopg://user:s3cret@127.0.0.1:1/name")
    assert "s3cret" not in str(refused.value)
    assert "user:***@127.0.0.1" in str(refused.value)


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_made(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.opening.os.access", lambda *_: False)
    with pytest.raises(BadInput, match=f"the folder {file.parent} is not there or cannot be written"):
        open_database(f"sqlite:///{file}", create=True)
    assert not file.exists()


def test_a_file_that_is_no_database_is_refused_and_left_alone(file: Path) -> None:
    file.write_text("learning_rate: 0.1\n" * 100)
    before = file.read_bytes()
    with pytest.raises(BadInput, match="file is not a database"):
        open_database(f"sqlite:///{file}", create=True)
    assert file.read_bytes() == before


@pytest.mark.parametrize("kept", [1_000, 9_000, 40_000])
def test_a_truncated_database_is_refused(file: Path, kept: int) -> None:
    opened = open_database(f"sqlite:///{file}", create=True)
    opened.engine.dispose()
    whole = file.read_bytes()
    assert len(whole) > 40_000
    file.write_bytes(whole[:kept])
    with pytest.raises(BadInput, match=r"(malformed|not a database)\. It may be damaged: bring it back from a backup"):
        open_database(f"sqlite:///{file}")


def test_another_programs_database_is_refused_and_left_alone(file: Path) -> None:
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.commit()
    connection.close()
    before = file.read_bytes()
    with pytest.raises(BadInput, match="is a database, but not Optuna's: it holds songs"):
        open_database(f"sqlite:///{file}", create=True)
    assert file.read_bytes() == before


def test_a_database_of_another_optuna_version_is_refused(file: Path) -> None:
    open_database(f"sqlite:///{file}", create=True).engine.dispose()
    connection = sqlite3.connect(file)
    connection.execute("UPDATE version_info SET schema_version = 1")
    connection.execute("UPDATE alembic_version SET version_num = 'v0.0.0.a'")
    connection.commit()
    connection.close()
    with pytest.raises(BadInput, match="another Optuna version"):
        open_database(f"sqlite:///{file}")


def test_a_database_that_another_program_keeps_its_schema_in_too_is_told_as_that(file: Path) -> None:
    open_database(f"sqlite:///{file}", create=True).engine.dispose()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'bd07f7e963c5'")
    with pytest.raises(BadInput, match=r"is shared with another program, whose schema version 'bd07f7e963c5' stands"):
        open_database(f"sqlite:///{file}")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("sqlite://studies.db", "Name a file after three slashes, such as sqlite:///studies.db"),
        (
            "sqlite:///{file}?mode=ro",
            r"Query string argument\(s\) 'mode' are not accepted.* Give a URL like sqlite:///",
        ),
    ],
)
def test_a_url_that_says_something_else_than_it_seems_to_is_refused(file: Path, url: str, words: str) -> None:
    open_database(f"sqlite:///{file}", create=True).engine.dispose()
    with pytest.raises(BadInput, match=words):
        open_to_read(url.format(file=file))


@pytest.mark.parametrize("empty", [False, True], ids=["missing", "empty"])
def test_a_database_that_is_not_there_yet_is_made_only_when_asked(file: Path, empty: bool) -> None:
    if empty:
        file.touch()
    url = f"sqlite:///{file}"
    assert not check_storage(url)
    with pytest.raises(BadInput, match=r"there is no study in .* yet. Start one first"):
        open_database(url)
    assert file.exists() == empty
    assert not empty or file.stat().st_size == 0
    opened = open_database(url, create=True)
    assert opened.get_all_studies() == []
    opened.engine.dispose()
    assert check_storage(url)


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    file = tmp_path / "déjà vu#1.db"
    opened = open_database(f"sqlite:///{file}", create=True)
    assert new_study(opened).next() is not None
    opened.engine.dispose()
    assert [entry.name for entry in tmp_path.iterdir()] == [file.name]


@pytest.mark.parametrize("folder", ["a{b}", "{}", "a{", "{{a}}", "100%"])
def test_a_folder_may_have_any_name(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir()
    home = Home(tmp_path / folder)
    open_database(home.database_url, create=True).engine.dispose()
    copy = pickle.loads(pickle.dumps(open_database(home.database_url)))
    new_study(copy)
    copy.engine.dispose()
    assert (tmp_path / folder / "studies.db").is_file()


def test_a_database_whose_making_was_cut_short_is_made_to_its_end(file: Path) -> None:
    open_database(f"sqlite:///{file}", create=True).engine.dispose()
    connection = sqlite3.connect(file)
    for table in ("trial_params", "trials", "version_info", "alembic_version"):
        connection.execute(f"DROP TABLE {table}")
    connection.commit()
    connection.close()
    assert not check_storage(f"sqlite:///{file}")
    with pytest.raises(BadInput, match=r"there is no study in .* yet"):
        open_database(f"sqlite:///{file}")
    with_all = open_database(f"sqlite:///{file}", create=True)
    assert new_study(with_all).next() is not None
    with_all.engine.dispose()


def test_only_a_sqlite_url_names_a_file() -> None:
    url = sqlalchemy.engine.make_url
    assert sqlite_file(url("sqlite:////a/b.db")) == Path("/a/b.db")
    assert sqlite_file(url("sqlite:///file:b.db?mode=ro&uri=true")) is None
    assert sqlite_file(url("postgresql+psycopg://host/name")) is None


@pytest.mark.slow
def test_six_processes_that_open_a_new_database_at_once_all_succeed(file: Path) -> None:
    assert in_processes(6, open_and_count_studies, f"sqlite:///{file}") == [0] * 6
