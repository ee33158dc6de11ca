"""Who only looks changes nothing: not a byte, not a file, whatever made the database and whoever has it open."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

import storage.reading
from storage import attributes
from storage.errors import BadInput, StorageUnavailable
from storage.opening import check_storage, may_write, open_database, open_to_read
from storage.settings import Home
from studies.declaration import Overrides, from_catalog, make_spec
from tuning.cli import run

OPTUNA_4 = Path(__file__).parents[1] / "contract" / "optuna_4.sql"
NAME = "mnist_sample"


def url_of(file: Path) -> str:
    return f"sqlite:///{file}"


@pytest.fixture
def file(home: Path) -> Path:
    return home / "studies.db"


def ours(file: Path) -> None:
    """A study of this service: idle, in WAL mode."""
    database = open_database(url_of(file), create=True)
    study_id = database.create_new_study([StudyDirection.MAXIMIZE], NAME)
    spec = make_spec(from_catalog(NAME), Overrides(), plan_name="cpu", model="models.cnn:CNN", strategy="none")
    database.set_study_user_attr(study_id, attributes.SPEC, spec.model_dump(mode="json"))
    trial_id = database.create_new_trial(study_id)
    database.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5])
    database.engine.dispose()


def stock(file: Path) -> None:
    """A study of Optuna's own, which does not use WAL."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    opened = optuna.storages.RDBStorage(url_of(file))
    study = optuna.create_study(study_name=NAME, storage=opened, direction="minimize")
    study.tell(study.ask(), 0.5)
    opened.engine.dispose()


def of_optuna_4(file: Path) -> None:
    with sqlite3.connect(file) as connection:
        connection.executescript(OPTUNA_4.read_text(encoding="utf-8"))
        connection.execute("UPDATE studies SET study_name = ?", (NAME,))
    connection.close()


def older(file: Path) -> None:
    """Of a version of Optuna that is to be upgraded: a table is not there yet, which opening it would add."""
    of_optuna_4(file)
    with sqlite3.connect(file) as connection:
        connection.execute("DROP TABLE trial_heartbeats")
        connection.execute("UPDATE alembic_version SET version_num = 'v2.4.0.a'")
    connection.close()


# Adds a study, and then holds the database open until a line comes.
_WRITE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("INSERT INTO studies (study_name) VALUES ('of another process')")
connection.execute(
    "INSERT INTO study_directions (direction, study_id, objective) SELECT 'MAXIMIZE', max(study_id), 0 FROM studies"
)
if sys.argv[2:] == ["spill"]:
    connection.execute("PRAGMA cache_size = 1")
    connection.execute("BEGIN")
    for number in range(300):
        row = (f"undone {number}" + "x" * 400,)
        connection.execute("INSERT INTO studies (study_name) VALUES (?)", row)
print("written", flush=True)
sys.stdin.readline()
"""


@contextmanager
def writer(file: Path, *how: str) -> Iterator[subprocess.Popen[str]]:
    """Another process that has written to a database and has it open."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE, str(file), *how], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def killed(file: Path, *how: str) -> None:
    with writer(file, *how) as process:
        process.send_signal(signal.SIGKILL)


@contextmanager
def idle(file: Path, make: Callable[[Path], None]) -> Iterator[None]:
    make(file)
    assert not wal_of(file).exists()
    yield


@contextmanager
def written_now(file: Path) -> Iterator[None]:
    ours(file)
    with writer(file):
        assert wal_of(file).stat().st_size > 0
        yield


@contextmanager
def left_by_a_killed_writer(file: Path) -> Iterator[None]:
    ours(file)
    killed(file)
    assert wal_of(file).stat().st_size > 0
    yield


@contextmanager
def copied_without_its_index(file: Path) -> Iterator[None]:
    with left_by_a_killed_writer(file):
        Path(f"{file}-shm").unlink()
        yield


@contextmanager
def left_in_the_middle_of_a_transaction(file: Path) -> Iterator[None]:
    stock(file)
    killed(file, "spill")
    assert Path(f"{file}-journal").stat().st_size > 0
    yield


def wal_of(file: Path) -> Path:
    return Path(f"{file}-wal")


STATES = {
    "ours": lambda file: idle(file, ours),
    "stock": lambda file: idle(file, stock),
    "optuna 4": lambda file: idle(file, of_optuna_4),
    "older": lambda file: idle(file, older),
    "written now": written_now,
    "killed": left_by_a_killed_writer,
    "without index": copied_without_its_index,
    "hot journal": left_in_the_middle_of_a_transaction,
}


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of each file in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def looking(file: Path, out: Path) -> list[list[str]]:
    """Every command that only looks, and refusals of those that write."""
    return [
        ["status"],
        ["status", "--json"],
        ["trials"],
        ["trials", "--format", "csv"],
        ["gc"],
        ["data", "list"],
        ["export"],
        ["predict", "no.png"],
        ["record", "--out", str(out / "table.npz")],
        ["backup", "--out", str(out / "backup")],
        ["tune", "--dataset", NAME, "--epochs", "9"],
        ["tune", "--dataset", NAME, "--study", "new", "--from-study", "nobody's"],
        ["worker", "--study", "nobody's", "--storage", url_of(file)],
        ["delete", "--study", "nobody's", "--yes"],
        ["delete", "--study", NAME],
        ["dashboard", "--port", "-1"],
    ]


@pytest.mark.parametrize("state", STATES)
def test_who_looks_changes_no_byte(
    state: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())  # a worker puts into it what its device wants
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    with STATES[state](file):
        before = contents(file.parent)
        for command in looking(file, tmp_path):
            status = run(command)
            said = capsys.readouterr()
            assert contents(file.parent) == before, command
            assert "Traceback" not in said.err
            if command[0] in ("status", "trials", "gc"):
                assert status == (2 if state == "older" else 0), said.err
            if state == "older" and command[0] not in ("data", "predict"):
                assert "optuna storage upgrade" in said.err


@pytest.mark.parametrize("state", ["written now", "killed", "without index", "hot journal"])
def test_what_was_committed_is_read_and_nothing_else(state: str, file: Path) -> None:
    with STATES[state](file):
        database = open_to_read(url_of(file))
        assert [study.study_name for study in database.get_all_studies()] == [NAME, "of another process"]
        database.engine.dispose()


@pytest.mark.parametrize("make", [ours, stock])
def test_what_is_written_later_is_read_as_well(make: Callable[[Path], None], file: Path) -> None:
    make(file)
    database = open_to_read(url_of(file))

    def names() -> list[str]:
        return [study.study_name for study in database.get_all_studies()]

    assert names() == [NAME]
    with writer(file):
        assert names() == [NAME, "of another process"]
    open_database(url_of(file)).engine.dispose()
    assert names() == [NAME, "of another process"]
    database.engine.dispose()


def test_what_is_opened_to_read_cannot_be_written(file: Path) -> None:
    ours(file)
    for opened in (open_to_read(url_of(file)), open_to_read(url_of(file))):
        with pytest.raises(StorageUnavailable, match="readonly"):
            opened.create_new_study([StudyDirection.MAXIMIZE], "new")
        opened.engine.dispose()
    with writer(file):
        opened = open_to_read(url_of(file))
        with pytest.raises(StorageUnavailable, match="readonly"):
            opened.create_new_study([StudyDirection.MAXIMIZE], "new")
        opened.engine.dispose()


def test_a_file_that_is_never_left_alone_is_locked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours(file)
    monkeypatch.setattr(storage.reading, "PAUSE_S", 0.0)
    copied = shutil.copyfile

    def changing(source: Path, target: Path) -> None:
        copied(source, target)
        os.utime(source)

    monkeypatch.setattr(shutil, "copyfile", changing)
    with pytest.raises(BadInput, match="database is locked"):
        open_to_read(url_of(file))


def test_a_copy_that_is_old_as_soon_as_it_is_made_is_read_all_the_same(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours(file)
    connect = storage.reading.FileReader.connect

    def written_right_after(self: storage.reading.FileReader) -> storage.reading.ReadConnection:
        connection = connect(self)
        os.utime(file)
        return connection

    monkeypatch.setattr(storage.reading.FileReader, "connect", written_right_after)
    database = open_to_read(url_of(file))
    for _ in range(2):
        assert [study.study_name for study in database.get_all_studies()] == [NAME]
    database.engine.dispose()


def test_nothing_is_left_of_a_copy(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours(file)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    database = open_to_read(url_of(file))
    assert len(database.get_all_studies()) == 1
    assert list(tmp_path.iterdir()) == []
    database.engine.dispose()


@pytest.mark.parametrize("what", ["version_info", "alembic_version"])
def test_a_making_that_was_cut_short_before_its_version_is_no_database_yet(file: Path, what: str) -> None:
    open_database(url_of(file), create=True).engine.dispose()
    with sqlite3.connect(file) as connection:
        connection.execute(f"DELETE FROM {what}")
    connection.close()
    assert not check_storage(url_of(file))
    with pytest.raises(BadInput, match="there is no study in"):
        open_to_read(url_of(file))
    open_database(url_of(file), create=True).engine.dispose()
    assert check_storage(url_of(file))


# As root reads: all that the commands import. Then somebody else, who may not write, gives them.
_AS_NOBODY = """
import os, sys
from pathlib import Path
import tuning.launch.launcher, tuning.commands.delete
from tuning.cli import run
out, *studies = sys.argv[1:]
commands = [["status"], ["trials"], ["gc"], ["backup", "--out", out], ["predict", "no.png"], ["export"]]
refused = [["tune", "--dataset", "mnist_sample"], ["delete", "--study", "mnist_sample", "--yes"]]
for command in (["status"], ["gc"], ["trials"], ["export"], [*refused[0], "--epochs", "9"]):
    run(command)
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
try:
    Path(os.environ["TUNING_HOME"], "file").touch()
except PermissionError:
    print("nobody: writes no")
for command in commands + refused:
    status = run(command)
    print("nobody:", command[0], status, flush=True)
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
@pytest.mark.parametrize("live", [False, True], ids=["idle", "written now"])
def test_who_may_not_write_may_look(live: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    # pytest's own folders are root's alone.
    with tempfile.TemporaryDirectory() as folder:
        home, out = Path(folder, "home"), Path(folder, "out")
        home.mkdir()
        out.mkdir()
        out.chmod(0o777)
        Path(folder).chmod(0o755)
        file = home / "studies.db"
        with written_now(file) if live else idle(file, ours):
            before = contents(home)
            finished = subprocess.run(
                [sys.executable, "-c", _AS_NOBODY, str(out / "backup")],
                env={**os.environ, "TUNING_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])},
                capture_output=True,
                text=True,
                check=False,
            )
            assert finished.returncode == 0, finished.stderr
            ends = ["writes no", "status 0", "trials 0", "gc 0", "backup 0"]
            ends += ["predict 2", "export 1", "tune 2", "delete 2"]  # none of its trials has a model
            said = [line for line in finished.stdout.splitlines() if line.startswith("nobody")]
            assert said == [f"nobody: {end}" for end in ends]
            assert "cannot be written" in finished.stderr
            assert contents(home) == before


def test_whether_a_database_may_be_written_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours(file)
    assert may_write(Home(file.parent).database_url)
    assert may_write("postgresql+psycopg://host/name")
    monkeypatch.setattr("storage.opening.os.access", lambda *_: False)
    assert not may_write(url_of(file))
    with pytest.raises(BadInput, match=r"cannot be written: .*You may look at its studies"):
        open_database(url_of(file))
    open_to_read(url_of(file)).engine.dispose()
