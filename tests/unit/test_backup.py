"""A backup is consistent, whole and checked before it is used, and a restoration happens as a whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.artifacts import FileSystemArtifactStore, upload_artifact
from optuna.trial import TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.backups.backup import back_up
from storage.backups.manifest import MANIFEST, ROWS, Backup, read_backup, verify
from storage.backups.restore import REASON, StudyExists, restore
from storage.checkpoints import TrialCheckpoints
from storage.claims import Claims, Thaw
from storage.database import Database
from storage.errors import BadInput, TuningError
from storage.opening import open_database
from storage.rows.study_rows import named_artifacts
from storage.settings import Home
from storage.stores.local import LocalFiles
from studies.trials import is_frozen
from tests.databases import fresh_database, new_study, second_connection
from tests.processes import in_processes, keep_trials
from tests.studies_made import UID, all_facts, as_put_back, checkpoint, claimed, varied
from tuning.cli import run

database = varied

Disk = dict[str, bytes]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Home:
    """Another home, without anything in it."""
    (tmp_path / "elsewhere").mkdir()
    return Home(tmp_path / "elsewhere")


@pytest.fixture
def backup(database: Database, mine: Home, tmp_path: Path) -> Backup:
    return back_up(database, "mnist", tmp_path / "copy", mine)


def restored(backup: Backup, home: Home, name: str | None = None) -> str:
    return restore(backup, home.database_url, home, name=name)


def everything(folder: Path) -> Disk:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def studies(url: str) -> list[str]:
    database = open_database(url)
    names = [study.study_name for study in database.get_all_studies()]
    database.engine.dispose()
    return names


# --- There


def test_stock_optuna_opens_the_copy_and_finds_the_same_trials(database: Database, backup: Backup) -> None:
    stock = optuna.storages.RDBStorage(f"sqlite:///{backup.folder / ROWS}")
    study = optuna.load_study(study_name="mnist", storage=stock)
    assert all_facts(stock, "mnist") == all_facts(database, "mnist")
    assert study.user_attrs == database.get_study_user_attrs(database.get_study_id_from_name("mnist"))
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert stock.get_study_system_attrs(study._study_id)["theirs"] == {"a": [1, "ü"]}
    stock.engine.dispose()


def test_the_copy_holds_all_artifacts_and_the_checkpoints_of_unfinished_trials(backup: Backup) -> None:
    assert len(backup.under("artifacts")) == 18
    assert backup.under("checkpoints") == [
        "checkpoints/3/claim-1-epochs-4.checkpoint",
        "checkpoints/5/claim-1-epochs-4.checkpoint",
    ]
    assert backup.trials == {"complete": 1, "pruned": 1, "fail": 1, "waiting": 1, "running": 2}
    assert backup.left_out == {}
    assert set(everything(backup.folder)) == {*backup.files, MANIFEST}
    assert read_backup(backup.folder) == backup
    verify(backup)


@pytest.mark.slow
def test_a_study_that_is_written_to_meanwhile_is_copied_as_of_one_moment(
    database: Database, mine: Home, tmp_path: Path
) -> None:
    mine.make(mine.artifacts)
    claims = new_study(database, budget=10_000, name="live")
    stop = tmp_path / "stop"
    url = database.engine.url.render_as_string()
    writers = threading.Thread(
        target=in_processes, args=(2, keep_trials, url, claims._study_id, str(mine.artifacts), str(stop))
    )
    writers.start()
    try:
        while claims.standing().complete < 3:
            time.sleep(0.05)
        backups = [back_up(database, "live", tmp_path / str(n), mine) for n in range(3)]
        assert claims.standing().complete > backups[0].trials["complete"]
    finally:
        stop.touch()
        writers.join()
    for backup in backups:
        verify(backup)
        assert backup.left_out == {}
        stock = optuna.storages.RDBStorage(f"sqlite:///{backup.folder / ROWS}")
        trials = stock.get_all_trials(stock.get_study_id_from_name("live"))
        stock.engine.dispose()
        assert [trial.number for trial in trials] == list(range(len(trials)))
        for trial in (trial for trial in trials if trial.state == TrialState.COMPLETE):
            assert trial.params == {"x": 0.5, "y": trial.number}
            assert trial.intermediate_values == {1: 0.25, 2: 0.5}
            assert (
                Artifacts(LocalFiles(backup.folder / "artifacts")).verified(trial, "model").read_bytes() == b"weights"
            )


def test_a_folder_that_holds_something_is_refused_and_left_alone(
    database: Database, mine: Home, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter").write_text("dear")
    with pytest.raises(BadInput, match=r"is not empty.*Give a new folder with --out"):
        back_up(database, "mnist", tmp_path / "mine", mine)
    assert everything(tmp_path / "mine") == {"letter": b"dear"}
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot be read or written"):
        back_up(database, "mnist", tmp_path / "file", mine)


@pytest.mark.parametrize("made", [True, False], ids=["empty", "absent"])
def test_a_backup_that_fails_leaves_the_folder_as_it_was(
    database: Database, mine: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    folder = tmp_path / "copy"
    if made:
        folder.mkdir()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(TuningError, match=r"no room left under .*No space left on device"):
        back_up(database, "mnist", folder, mine)
    assert folder.exists() == made
    assert everything(folder) == {}


def test_an_artifact_that_is_damaged_or_missing_is_left_out_and_said(
    database: Database, mine: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str], elsewhere: Home
) -> None:
    trial = database.get_all_trials(database.get_study_id_from_name("mnist"))[0]
    artifacts = Artifacts(LocalFiles(mine.artifacts))
    model, history = (artifacts.find(trial, role) for role in ("model", "history"))
    assert model is not None and history is not None
    (mine.artifacts / model.id).write_bytes(b"other")
    (mine.artifacts / history.id).unlink()
    assert run(["backup", "--out", str(tmp_path / "copy")]) == 1
    said = capsys.readouterr().err
    assert "backed up study 'mnist': 6 trials, 16 artifacts, 2 checkpoints" in said
    assert f"left out: artifact {model.id} is damaged: it has SHA-256" in said
    assert f"left out: artifact {history.id} is missing" in said
    assert restored(read_backup(tmp_path / "copy"), elsewhere) == "mnist"


def test_a_study_deleted_meanwhile_is_no_backup(
    database: Database, mine: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deleted_after(connection: sqlalchemy.Connection) -> set[str]:
        named = named_artifacts(connection)
        with second_connection(database) as other:
            other.delete_study(other.get_study_id_from_name("mnist"))
        shutil.rmtree(mine.artifacts)
        return named

    monkeypatch.setattr("storage.backups.backup.named_artifacts", deleted_after)
    with pytest.raises(TuningError, match="not there, or not any more"):
        back_up(database, "mnist", tmp_path / "copy", mine)
    assert not (tmp_path / "copy").exists()


def test_a_checkpoint_that_is_replaced_meanwhile_is_not_missed(
    database: Database, mine: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = Path.iterdir

    def and_one_that_is_gone(folder: Path) -> Iterator[Path]:
        yield from listed(folder)
        if folder.name == "3":
            yield folder / "claim-1-epochs-3.checkpoint"
        elif folder.parent.name == "checkpoints":
            yield folder / "9"  # a trial that is over took its folder along

    monkeypatch.setattr(Path, "iterdir", and_one_that_is_gone)
    assert len(back_up(database, "mnist", tmp_path / "copy", mine).under("checkpoints")) == 2


@pytest.mark.parametrize("name", ["a b", "100%", "what?", "{x}", "#1", "ü"])
def test_any_path_will_do(database: Database, mine: Home, tmp_path: Path, elsewhere: Home, name: str) -> None:
    backup = back_up(database, "mnist", tmp_path / name / "copy", mine)
    assert restored(backup, elsewhere) == "mnist"


# --- And back


def test_a_restored_study_has_the_same_trials_and_its_running_ones_wait(
    database: Database, backup: Backup, elsewhere: Home
) -> None:
    before = all_facts(database, "mnist")
    assert restored(backup, elsewhere) == "mnist"
    back = open_database(elsewhere.database_url)
    after = all_facts(back, "mnist")
    assert after[:4] == before[:4]
    assert [as_put_back(trial) for trial in after] == [as_put_back(trial) for trial in before]
    study_id = back.get_study_id_from_name("mnist")
    for trial in back.get_all_trials(study_id)[4:]:
        assert trial.state == TrialState.WAITING
        assert trial.system_attrs[attributes.CLAIM]["id"] is None
        assert trial.system_attrs[attributes.CLAIM]["count"] == 1
        (given_up,) = trial.user_attrs[attributes.GIVEN_UP]
        assert (given_up["class"], given_up["reason"]) == ("interrupted", REASON)
        assert (given_up["worker"], given_up["moved"]) == ("me", trial.number == 5)
    back.engine.dispose()


def test_a_restored_study_goes_on(backup: Backup, elsewhere: Home) -> None:
    restored(backup, elsewhere)
    back = open_database(elsewhere.database_url)
    claims = Claims(back, back.get_study_id_from_name("mnist"), "another")
    taken = [claims.next() for _ in range(4)]
    assert [(claim.number, claim.count) for claim in taken if claim is not None] == [(3, 2), (4, 2), (5, 2), (6, 1)]
    uid = back.get_study_user_attrs(claims._study_id)[attributes.UID]
    folder = elsewhere.checkpoints("mnist", uid) / "5"
    found = TrialCheckpoints(LocalFiles(folder), fingerprint="f", trial=5).load()
    assert found is not None
    assert (found.epochs, found.content) == (4, b"state")
    for trial in back.get_all_trials(claims._study_id)[:6]:
        content = Artifacts(LocalFiles(elsewhere.artifacts)).verified(trial, "model").read_bytes()
        assert content == f"newest{trial.number}".encode()
    back.engine.dispose()


def test_a_copy_beside_its_original_shares_no_checkpoints_with_it(
    database: Database, mine: Home, backup: Backup
) -> None:
    before = everything(mine.root / "checkpoints")
    assert restored(backup, mine, "mnist again") == "mnist again"
    first, second = (database.get_study_id_from_name(name) for name in ("mnist", "mnist again"))
    assert database.get_study_user_attrs(first)[attributes.UID] == UID
    assert database.get_study_user_attrs(second)[attributes.UID] != UID
    after = everything(mine.root / "checkpoints")
    assert before.items() < after.items()
    assert len(after) == len(before) + 2
    assert len(everything(mine.artifacts)) == 18
    # And the study that was there is as it was.
    assert database.get_all_trials(first)[4].state == TrialState.RUNNING


def test_a_study_that_exists_is_refused_with_both_cures(database: Database, mine: Home, backup: Backup) -> None:
    before = all_facts(database, "mnist")
    with pytest.raises(StudyExists, match=r"'mnist' exists already.*another name with --study.*tuning delete"):
        restored(backup, mine)
    assert all_facts(database, "mnist") == before


def test_a_study_made_while_it_is_restored_is_left_alone(
    backup: Backup, elsewhere: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    utime = os.utime

    def made_by_another(file: Path, *times: Any) -> None:
        utime(file, *times)
        if file.parent == elsewhere.artifacts and "mnist" not in studies(elsewhere.database_url):
            other = open_database(elsewhere.database_url)
            new_study(other)
            other.engine.dispose()

    monkeypatch.setattr(os, "utime", made_by_another)
    with pytest.raises(StudyExists):
        restored(backup, elsewhere)
    back = open_database(elsewhere.database_url)
    assert back.get_all_trials(back.get_study_id_from_name("mnist")) == []
    back.engine.dispose()
    assert everything(elsewhere.root / "checkpoints") == {}


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-9])


@pytest.mark.parametrize("damage", [flip, cut, Path.unlink], ids=["tampered", "truncated", "missing"])
@pytest.mark.parametrize("part", ["studies.db", "artifacts", "checkpoints", "backup.json"])
def test_a_damaged_backup_is_refused_and_nothing_changes(
    backup: Backup, tmp_path: Path, part: str, damage: Callable[[Path], None]
) -> None:
    damage(backup.folder / next(path for path in [*sorted(backup.files), MANIFEST] if path.startswith(part)))
    target = Home(tmp_path / "new")
    with pytest.raises(BadInput, match=r"(Take another|take another)"):
        restored(read_backup(backup.folder), target)
    assert not target.root.exists()


def rewrite(backup: Backup, change: Callable[[dict[str, Any]], None]) -> None:
    """Change a manifest as someone would who knows how it is signed."""
    from storage.backups.manifest import _digest

    document = json.loads((backup.folder / MANIFEST).read_text())
    change(document)
    document["sha256"] = _digest(document)
    (backup.folder / MANIFEST).write_text(json.dumps(document))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda document: document["files"].pop(max(document["files"])), "names no studies.db"),
        (lambda document: document["files"].pop(min(document["files"])), "lacks artifact"),
        (lambda document: document.update(study="other"), "is not the database of"),
        (lambda document: document.update(trials={}), "is not the database of"),
        (lambda document: document["files"].update({"../x": document["files"][ROWS]}), "names '../x'"),
        (
            lambda document: document["files"].update({"artifacts/..": document["files"][ROWS]}),
            r"names 'artifacts/\.\.'",
        ),
        (lambda document: document["files"].update({"checkpoints/1/../2": {}}), "is damaged"),
        (lambda document: document.update(format=2), "has format 2"),
        (lambda document: document.pop("files"), "is damaged"),
    ],
)
def test_a_manifest_that_tells_something_else_is_refused(
    backup: Backup, tmp_path: Path, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    rewrite(backup, change)
    target = Home(tmp_path / "new")
    with pytest.raises(BadInput, match=says):
        restored(read_backup(backup.folder), target)
    assert not target.root.exists()


def test_a_folder_without_a_manifest_is_no_backup(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["restore", str(tmp_path)]) == 2
    assert "is no backup: backup.json cannot be read" in capsys.readouterr().err


def test_a_database_that_is_none_is_refused(backup: Backup, tmp_path: Path) -> None:
    (backup.folder / ROWS).write_bytes(b"not a database, but long enough to be looked at " * 99)
    broken = back_to(backup, ROWS)
    with pytest.raises(BadInput, match="cannot be read"):
        restored(broken, Home(tmp_path / "new"))


def back_to(backup: Backup, path: str) -> Backup:
    """Return a backup that calls a changed file its own."""
    from storage.backups.manifest import copy_file

    known = copy_file((backup.folder / path).open("rb"), backup.folder.parent / "thrown away")
    return Backup(**{**vars(backup), "files": {**backup.files, path: known}})


def test_an_artifact_that_is_there_is_kept_and_one_that_is_damaged_there_is_mended(
    backup: Backup, elsewhere: Home
) -> None:
    first, second = backup.under("artifacts")[:2]
    elsewhere.make(elsewhere.artifacts)
    shutil.copy(backup.folder / first, elsewhere.root / first)
    inode = (elsewhere.root / first).stat().st_ino
    os.utime(elsewhere.root / first, (0, 0))
    (elsewhere.root / second).write_bytes(b"damaged")
    restored(backup, elsewhere)
    assert (elsewhere.root / first).stat().st_ino == inode
    assert (elsewhere.root / first).stat().st_mtime > 0
    assert everything(elsewhere.artifacts) == everything(backup.folder / "artifacts")


def test_a_backup_is_read_from_a_folder_that_cannot_be_written(backup: Backup, elsewhere: Home) -> None:
    before = everything(backup.folder)
    for path in [backup.folder, *backup.folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    restored(backup, elsewhere)
    for path in [backup.folder, *backup.folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert everything(backup.folder) == before


class PowerCut(BaseException):
    """Nothing that runs after it is clean-up of ours: like a kill, but in this process."""


@contextmanager
def writes_fail(at: int, error: BaseException) -> Iterator[list[str]]:
    """Let the write of that number fail, counted from 0, be it a file's or the database's; yield what was written."""
    written: list[str] = []

    def count(what: str) -> None:
        written.append(what)
        if len(written) == at + 1:
            raise error

    replace = os.replace

    def counting_replace(source: Path, target: Path) -> None:
        count("file")
        replace(source, target)

    def counting_execute(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.split()[0] in {"INSERT", "UPDATE", "DELETE"}:
            count("row")

    def counting_commit(_connection: Any) -> None:
        if "row" in written:
            count("commit")

    hooks = (("before_cursor_execute", counting_execute), ("commit", counting_commit))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "replace", counting_replace)
        for name, hook in hooks:
            sqlalchemy.event.listen(sqlalchemy.Engine, name, hook)
        try:
            yield written
        finally:
            for name, hook in hooks:
                sqlalchemy.event.remove(sqlalchemy.Engine, name, hook)


@pytest.fixture
def small_backup(database: Database, mine: Home, tmp_path: Path) -> Backup:
    """A backup of a study with one finished and one running trial."""
    claims = new_study(database, name="small")
    database.set_study_user_attr(claims._study_id, attributes.UID, "fedcba9876543210")
    complete = claimed(database, claims, mine)
    database.set_trial_state_values(complete.trial_id, TrialState.COMPLETE, [0.5])
    claims.next()
    checkpoint(mine, "small", "fedcba9876543210", 1, 4)
    return back_up(database, "small", tmp_path / "small", mine)


@pytest.mark.slow
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), PowerCut()], ids=["full", "cut"])
def test_a_restoration_interrupted_at_any_write_is_done_by_the_next(
    small_backup: Backup, elsewhere: Home, error: BaseException
) -> None:
    kinds: set[str] = set()
    for at in range(100):
        with fresh_database(elsewhere.root / "studies.db") as target:
            with writes_fail(at, error) as written:
                done = attempted(small_backup, elsewhere)
            kinds.update(written)
            if not done:
                assert target.get_all_studies() == []
                restored(small_backup, elsewhere)
            (study,) = target.get_all_studies()
            assert [trial.state for trial in target.get_all_trials(study._study_id)] == [
                TrialState.COMPLETE,
                TrialState.WAITING,
            ]
        assert everything(elsewhere.artifacts) == everything(small_backup.folder / "artifacts")
        shutil.rmtree(elsewhere.root)
        elsewhere.root.mkdir()
        if done:
            break
    assert kinds == {"file", "row", "commit"}
    assert at == len(written) > 15


def attempted(backup: Backup, home: Home) -> bool:
    try:
        restored(backup, home)
    except (OSError, TuningError, PowerCut):
        return False
    return True


def test_a_commit_whose_answer_was_lost_is_found_again(
    backup: Backup, elsewhere: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_database(elsewhere.database_url, create=True).engine.dispose()
    monkeypatch.setattr(Database, "sleep", staticmethod(lambda _: None))
    repeated = Database.repeated

    def asked_twice(database: Database, call: Callable[[], Any]) -> Any:
        repeated(database, call)
        return repeated(database, call)

    monkeypatch.setattr(Database, "repeated", asked_twice)
    restored(backup, elsewhere)
    monkeypatch.undo()
    assert studies(elsewhere.database_url) == ["mnist"]


def test_a_restored_study_can_be_backed_up_and_restored_again(backup: Backup, elsewhere: Home, tmp_path: Path) -> None:
    restored(backup, elsewhere)
    back = open_database(elsewhere.database_url)
    again = back_up(back, "mnist", tmp_path / "again", elsewhere)
    restored(again, elsewhere, "third")
    first, third = all_facts(back, "mnist"), all_facts(back, "third")
    back.engine.dispose()
    assert first == third


def test_a_frozen_trial_is_still_frozen_in_the_copy(
    database: Database, mine: Home, tmp_path: Path, elsewhere: Home
) -> None:
    claims = Claims(database, database.get_study_id_from_name("mnist"), "me")
    claims.next()  # what was put back goes first
    frozen, interrupted = claimed(database, claims, mine), claimed(database, claims, mine)
    claims.progressed(frozen, 4)
    claims.put_back(frozen, "frozen after epoch 4", "frozen")
    claims.put_back(interrupted, "interrupted")
    file = mine.checkpoints("mnist", UID) / str(frozen.number) / checkpoint(mine, "mnist", UID, frozen.number, 4)
    before = all_facts(database, "mnist")[frozen.number]
    restored(back_up(database, "mnist", tmp_path / "copy", mine), elsewhere)

    back = open_database(elsewhere.database_url)
    study_id = back.get_study_id_from_name("mnist")
    assert all_facts(back, "mnist")[frozen.number] == before
    trial = back.get_all_trials(study_id)[frozen.number]
    assert is_frozen(trial)
    assert attributes.GIVEN_UP not in trial.user_attrs
    copied = elsewhere.checkpoints("mnist", back.get_study_user_attrs(study_id)[attributes.UID]) / str(frozen.number)
    assert [one.read_bytes() for one in copied.iterdir()] == [file.read_bytes()]
    again = Claims(back, study_id, "another")
    assert again.standing().frozen == 1
    numbers = [claim.number for claim in iter(lambda: again.next(None), None)]
    assert sorted(numbers) == [3, 4, 5, interrupted.number], "the frozen one waits until it is chosen"
    thawed = again.next(Thaw(frozen.number))
    assert thawed is not None
    assert (thawed.number, thawed.count) == (frozen.number, 2)
    back.engine.dispose()


def test_a_study_of_stock_optuna_comes_back(tmp_path: Path, elsewhere: Home) -> None:
    url = f"sqlite:///{elsewhere.root / 'theirs.db'}"
    stock = optuna.storages.RDBStorage(url)
    study = optuna.create_study(
        study_name="theirs", storage=stock, directions=["minimize", "maximize"], sampler=optuna.samplers.RandomSampler()
    )
    elsewhere.make(elsewhere.artifacts)
    (tmp_path / "note").write_text("kept")
    store = FileSystemArtifactStore(str(elsewhere.artifacts))
    for holder in (study, study.ask()):
        upload_artifact(artifact_store=store, file_path=str(tmp_path / "note"), study_or_trial=holder)
    study.optimize(lambda trial: (trial.suggest_float("x", 0, 1), trial.suggest_int("n", 1, 3)), n_trials=3)
    opened = open_database(url)
    backup = back_up(opened, "theirs", tmp_path / "copy", elsewhere)
    opened.engine.dispose()
    assert len(backup.under("artifacts")) == 2
    restored(backup, elsewhere)
    back = optuna.storages.RDBStorage(elsewhere.database_url)
    before, after = all_facts(stock, "theirs"), all_facts(back, "theirs")
    assert after[1:] == before[1:]
    assert as_put_back(after[0]) == as_put_back(before[0])
    waiting = back.get_all_trials(back.get_study_id_from_name("theirs"))[0]
    assert (waiting.state, waiting.user_attrs[attributes.GIVEN_UP][0]["reason"]) == (TrialState.WAITING, REASON)
    again = optuna.load_study(study_name="theirs", storage=back)
    assert again.directions == study.directions
    again.optimize(lambda trial: (trial.suggest_float("x", 0, 1), 0), n_trials=2)
    assert [trial.number for trial in again.trials] == [0, 1, 2, 3, 4]
    assert all(trial.state.is_finished() for trial in again.trials)
    back.engine.dispose()
    stock.engine.dispose()


def test_the_commands_copy_and_bring_back(
    database: Database, mine: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(tmp_path / "copy")
    assert run(["backup", "--study", "mnist", "--out", folder]) == 0
    assert f"backed up study 'mnist': 6 trials, 18 artifacts, 2 checkpoints, 0.1 MB, in {folder}" in (
        capsys.readouterr().err
    )
    assert run(["restore", folder]) == 2
    assert "exists already" in capsys.readouterr().err
    assert run(["restore", folder, "--study", "second"]) == 0
    captured = capsys.readouterr()
    assert "restored study 'second' of" in captured.err
    assert captured.out == ""
    connection = sqlite3.connect(mine.root / "studies.db")
    assert sorted(connection.execute("SELECT study_name FROM studies")) == [("mnist",), ("second",)]
    connection.close()


@pytest.mark.slow
def test_trials_pass_in_parts(database: Database, mine: Home, tmp_path: Path, elsewhere: Home) -> None:
    claims = new_study(database, name="large")
    with database.transaction() as connection:
        trials = [(claims._study_id, number) for number in range(2500)]
        connection.exec_driver_sql("INSERT INTO trials (study_id, number, state) VALUES (?, ?, 'COMPLETE')", trials)
        connection.exec_driver_sql(
            "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type)"
            " WITH RECURSIVE steps(step) AS (SELECT 1 UNION ALL SELECT step + 1 FROM steps WHERE step < 10)"
            f" SELECT trial_id, step, step, 'FINITE' FROM trials, steps WHERE study_id = {claims._study_id}"
        )
    tracemalloc.start()
    backup = back_up(database, "large", tmp_path / "copy", mine)
    restored(backup, elsewhere)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert backup.trials == {"complete": 2500}
    back = open_database(elsewhere.database_url)
    last = back.get_all_trials(back.get_study_id_from_name("large"))[-1]
    assert last.intermediate_values == {step: float(step) for step in range(1, 11)}
    back.engine.dispose()
    assert peak < 8e6
