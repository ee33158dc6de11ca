"""What cannot be used is refused with one line and exit status 2, before anything is made."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from optuna.study import StudyDirection

from storage import attributes
from storage.claims import Claims
from storage.database import Database
from storage.opening import open_database
from storage.settings import STORAGE_VARIABLE
from studies.declaration import Overrides, from_catalog, make_spec
from tuning.cli import run


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    """A worker sets up logging for its own process, which here is the tests'."""
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = before


TUNE = ["tune", "--dataset", "mnist_sample"]


def everything(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], status: int = 2) -> str:
    """Run a command that must fail; return its one line on standard error."""
    assert run(arguments) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["tune"], "no data set was given"),
        (["tune", "--dataset", "mnist_sampel"], "unknown data set 'mnist_sampel'. Did you mean 'mnist_sample'?"),
        ([*TUNE, "--model", "resnett"], "unknown model 'resnett'. Did you mean 'resnet'?"),
        ([*TUNE, "--model", "none.py:Mine"], "there is no file"),
        ([*TUNE, "--space", "cor"], "unknown space 'cor'. Did you mean 'core'?"),
        ([*TUNE, "--trials", "0"], "--trials 0: must be from 1 to 1,000,000"),
        ([*TUNE, "--trials", "9" * 20], "must be from 1 to 1,000,000"),
        ([*TUNE, "--trials", "3", "--epochs", "6", "--budget-epochs", "7"], "8 are trained at least, one by each of 3"),
        ([*TUNE, "--workers", "1000000"], "--workers 1000000: must be at most 1024"),
        ([*TUNE, "--study", "x" * 300], "--study: a name of 300 bytes, and at most 200"),
        ([*TUNE, "--trials", "many"], "Invalid value for '--trials': Input should be a valid integer"),
        ([*TUNE, "--budget-epochs", "0"], "--budget-epochs 0: must be at least 1"),
        ([*TUNE, "--strategy", "promotoin"], "unknown strategy 'promotoin'. Did you mean 'promotion'?"),
        ([*TUNE, "--strategy", "none.py:Mine"], "there is no file"),
        ([*TUNE, "--from-study", "fashion"], "--from-study fashion: there is no study here yet"),
        ([*TUNE, "--epochs", "0"], "--epochs 0: must be at least 1"),
        ([*TUNE, "--train-images", "0"], "--train-images 0: must be at least 1"),
        (
            [*TUNE, "--train-images", "1601"],
            "1601 training images were asked for beside 400 validation images, of 2000",
        ),
        ([*TUNE, "--seed", "-1"], "--seed -1: must be at least 0"),
        ([*TUNE, "--workers", "0"], "--workers 0: must be at least 1"),
        ([*TUNE, "--workers", "some"], "--workers some: must be auto or a whole number"),
        ([*TUNE, "--workers-per-device", "0"], "--workers-per-device 0: must be at least 1"),
        ([*TUNE, "--workers-per-device", "2"], "--workers-per-device 2: there is no GPU here"),
        ([*TUNE, "--workers-per-device", "some"], "--workers-per-device some: must be auto or a whole number"),
        ([*TUNE, "--timeout", "soon"], "--timeout soon: must be a positive duration such as 90s"),
        ([*TUNE, "--timeout", "0"], "--timeout 0: must be a positive duration"),
        ([*TUNE, "--storage", "studies.db"], "storage 'studies.db' cannot be opened"),
        ([*TUNE, "--storage", "sqlite:////none/studies.db"], "the folder /none is not there or cannot be written"),
        ([*TUNE, "--storage", "postgresql+psycopg://u:s3cret@127.0.0.1:1/x"], "cannot be opened"),
        ([*TUNE, "--spec", "/none/mine.toml"], "/none/mine.toml: cannot be read"),
        ([*TUNE, "--nonsense"], "No such option"),
        (["tune", "--dataset"], "requires an argument"),
        (["nonsense"], "No such command"),
        ([*TUNE, "more"], "unexpected extra argument"),
        (["data", "prepare", "mnst"], "unknown data set 'mnst'. Did you mean 'mnist'?"),
        (["data", "prepare"], "Missing argument"),
        (["explore", "--dataset", "mnst"], "unknown data set 'mnst'"),
        (["compare", "mnist"], "compare takes the names of two studies, received 1"),
        (["compare", "mnist", "cifar10"], "there is no study in"),
        (["verify", "none.html"], "there is no study in"),
        (["report"], "there is no study in"),
        (["watch"], "there is no study in"),
        (["delete", "--study", "mnist", "--yes"], "there is no study in"),
        (["worker", "--study", "mnist"], "Missing option '--storage'"),
        (["worker", "--study", "mnist", "--storage", "sqlite://", "--as", "nonsense"], "launchers start their workers"),
    ],
    ids=lambda value: " ".join(value[-2:]) if isinstance(value, list) else "",
)
def test_bad_input_is_one_line_and_leaves_nothing(
    capsys: pytest.CaptureFixture[str], home: Path, arguments: list[str], says: str
) -> None:
    line = refused(capsys, arguments)
    assert says in line
    assert "s3cret" not in line
    assert everything(home) == []


def test_a_wrong_spec_file_is_refused_with_its_key(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('dataset = "mnist_sample"\n[plan.cpu]\ntrials = 0\nepochs = 1\n')
    assert f"{file}: plan.cpu.trials = 0:" in refused(capsys, ["tune", "--spec", str(file)])
    file.write_text('dataset = "mnst"\n[plan.cpu]\ntrials = 1\nepochs = 1\n')
    assert "unknown data set 'mnst'" in refused(capsys, ["tune", "--spec", str(file)])
    assert everything(home) == []


def test_a_spec_for_another_data_set_is_refused(capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('dataset = "mnist_sample"\n[plan.cpu]\ntrials = 1\nepochs = 1\n')
    line = refused(capsys, ["tune", "--dataset", "cifar10_sample", "--spec", str(file)])
    assert "--dataset cifar10_sample" in line
    assert everything(home) == []


def test_a_database_that_is_not_optunas_is_refused_and_left_alone(
    capsys: pytest.CaptureFixture[str], home: Path, tmp_path: Path
) -> None:
    file = tmp_path / "songs.db"
    connection = sqlite3.connect(file)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()
    before = file.read_bytes()
    assert "not Optuna's: it holds songs" in refused(capsys, [*TUNE, "--storage", f"sqlite:///{file}"])
    assert file.read_bytes() == before
    assert everything(home) == []


def test_a_home_with_a_file_in_the_way_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TUNING_HOME", str(tmp_path / "file" / "home"))
    assert "Set TUNING_HOME to a folder that can be written" in refused(capsys, TUNE)
    assert everything(tmp_path) == [tmp_path / "file"]


def test_a_home_that_cannot_be_written_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, home: Path
) -> None:
    monkeypatch.setattr("storage.settings.os.access", lambda *_: False)
    assert "Set TUNING_HOME" in refused(capsys, TUNE)
    assert everything(home) == []


def stored_study(home: Path, name: str = "mnist_sample") -> Database:
    database = open_database(f"sqlite:///{home}/studies.db", create=True)
    spec = make_spec(
        from_catalog("mnist_sample"), Overrides(), plan_name="cpu", model="models.cnn:CNN", strategy="none"
    )
    study_id = database.create_new_study([StudyDirection.MAXIMIZE], name)
    database.set_study_user_attr(study_id, attributes.SPEC, spec.model_dump(mode="json"))
    return database


def test_a_study_with_another_spec_is_refused_by_its_first_difference(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    database = stored_study(home)
    before = everything(home)
    line = refused(capsys, [*TUNE, "--epochs", "9", "--seed", "5"])
    assert "study 'mnist_sample' exists with another spec: seed is 0 there, 5 here" in line
    assert "take STUDY=another" in line
    assert "make delete STUDY=mnist_sample" in line
    assert everything(home) == before
    database.engine.dispose()


def test_a_study_of_another_program_is_refused(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    database = open_database(f"sqlite:///{home}/studies.db", create=True)
    database.create_new_trial(database.create_new_study([StudyDirection.MAXIMIZE], "mnist_sample"))
    database.engine.dispose()
    assert "has trials but no spec: another program made it" in refused(capsys, TUNE)


def test_an_unknown_study_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    stored_study(home).engine.dispose()
    line = refused(capsys, ["delete", "--study", "mnist_sampel", "--yes"])
    assert "unknown study 'mnist_sampel'. Did you mean 'mnist_sample'?" in line


def test_a_study_is_deleted_with_its_files_and_nothing_around_it(
    capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    stored_study(home, "..").engine.dispose()
    (home / "logs" / "other").mkdir(parents=True)
    assert run(["delete", "--study", "..", "--yes"]) == 0
    assert "deleted study '..': 0 trials" in capsys.readouterr().err
    assert (home / "logs" / "other").is_dir()
    database = open_database(f"sqlite:///{home}/studies.db")
    assert database.get_all_studies() == []
    database.engine.dispose()


def test_a_worker_is_told_by_the_environment_where_its_study_is(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored_study(home).engine.dispose()
    monkeypatch.setenv(STORAGE_VARIABLE, f"sqlite:///{home}/studies.db")
    line = refused(capsys, ["worker", "--study", "mnist_sampel"])
    assert "unknown study 'mnist_sampel'. Did you mean 'mnist_sample'?" in line


def test_a_running_study_is_not_deleted(
    capsys: pytest.CaptureFixture[str], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = stored_study(home)
    claims = Claims(database, database.get_study_id_from_name("mnist_sample"), "me")
    claims.set_budget(1)
    claim = claims.next()
    assert claim is not None
    monkeypatch.setattr("tuning.commands.delete.time.sleep", lambda _: claims.beat(claim))
    line = refused(capsys, ["delete", "--study", "mnist_sample", "--yes"], status=1)
    assert "is running trial 0. Stop it first" in line
    monkeypatch.setattr("tuning.commands.delete.time.sleep", lambda _: None)
    assert run(["delete", "--study", "mnist_sample", "--yes"]) == 0
    database.engine.dispose()


def test_the_data_sets_are_listed_for_machines(capsys: pytest.CaptureFixture[str], home: Path) -> None:
    assert run(["data", "list", "--json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "mnist_sample" in json.dumps(json.loads(captured.out))
    assert everything(home) == []


@pytest.mark.parametrize("arguments", [["--help"], ["tune", "--help"], ["-h"], ["data", "--help"]])
def test_help_goes_to_standard_output(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert run(arguments) == 0
    captured = capsys.readouterr()
    assert "Usage: tuning" in captured.out
    assert captured.err == ""


def test_without_a_command_the_help_is_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert "tune" in capsys.readouterr().err


def test_ctrl_c_ends_with_130(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("tuning.launch.launcher.tune", interrupted)
    assert run(TUNE) == 130
    assert "Traceback" not in capsys.readouterr().err
