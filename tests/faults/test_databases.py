"""A database that is full, read-only, locked, away, replaced or truncated: clear words, and nothing made worse."""

from __future__ import annotations

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from storage import connections
from storage.claims import Claim, Claims
from storage.database import Database
from storage.errors import ClaimLost, StorageUnavailable
from storage.opening import open_database
from tests.databases import fresh_database, new_study, second_connection
from tests.faults.breaking import SmallDisk, moved_away, small_disk, truncate
from tests.integration.command_line import CommandLine
from tests.processes import write_lock

pytestmark = pytest.mark.faults


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def database(file: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_S", 0.2)
    with fresh_database(file) as opened:
        yield opened


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", "2m") as mounted:
        yield mounted


@pytest.fixture
def on_disk(disk: SmallDisk) -> Iterator[Database]:
    """A database on a small disk, which waits two seconds at most."""
    with fresh_database(disk.folder / "studies.db") as opened:
        opened.outage_s = 2.0
        yield opened


def claimed(claims: Claims) -> Claim:
    claim = claims.next()
    assert claim is not None
    return claim


def complete(database: Database, claim: Claim) -> None:
    database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [float(claim.number)])


def require_whole(file: Path, trials: int) -> None:
    """Check that a database is sound and holds so many trials, all complete with their own values."""
    with closing(sqlite3.connect(file)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        rows = connection.execute(
            "SELECT number, state, value FROM trials JOIN trial_values USING (trial_id) ORDER BY number"
        )
        assert rows.fetchall() == [(number, "COMPLETE", float(number)) for number in range(trials)]


def finish_all(database: Database, claims: Claims) -> None:
    while (claim := claims.next()) is not None:
        complete(database, claim)
    assert claims.standing().done


def test_a_full_disk_is_said_and_the_study_goes_on_when_there_is_room(disk: SmallDisk, on_disk: Database) -> None:
    claims = new_study(on_disk, budget=3)
    complete(on_disk, claimed(claims))
    held = claimed(claims)
    filling = disk.fill()

    def note_until_refused() -> None:
        for number in range(1000):
            on_disk.set_trial_user_attr(held.trial_id, f"note {number}", "words " * 200)

    with pytest.raises(StorageUnavailable, match=r"full|I/O error") as refused:
        note_until_refused()
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith("give the same command again: no finished trial is lost.")
    filling.unlink()
    complete(on_disk, held)
    finish_all(on_disk, claims)
    require_whole(disk.folder / "studies.db", 3)


def test_a_disk_that_becomes_read_only_is_said_and_the_study_goes_on_afterwards(
    disk: SmallDisk, on_disk: Database
) -> None:
    claims = new_study(on_disk, budget=2)
    held = claimed(claims)
    on_disk.engine.dispose()  # the system refuses while a file is open for writing
    disk.remount("ro")
    with pytest.raises(StorageUnavailable, match=r"readonly|unable to open"):
        complete(on_disk, held)
    disk.remount("rw")
    complete(on_disk, held)
    finish_all(on_disk, claims)
    require_whole(disk.folder / "studies.db", 2)


def meanwhile(end: Callable[[], None], after_s: float) -> threading.Timer:
    timer = threading.Timer(after_s, end)
    timer.start()
    return timer


def test_a_database_that_is_locked_for_longer_than_sqlite_waits_is_waited_for(database: Database, file: Path) -> None:
    claims = new_study(database, budget=2)
    with write_lock(file) as release:
        timer = meanwhile(release, 1.0)
        held = claimed(claims)
        timer.join()
    complete(database, held)
    finish_all(database, claims)
    require_whole(file, 2)


def test_a_database_that_is_away_for_a_while_is_waited_for_and_none_is_made_in_its_place(
    database: Database, file: Path
) -> None:
    claims = new_study(database, budget=3)
    complete(database, claimed(claims))
    held = claimed(claims)
    done = threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        try:
            complete(database, held)
        except BaseException as error:
            errors.append(error)
        done.set()

    with moved_away(file):
        worker = threading.Thread(target=work)
        worker.start()
        assert not done.wait(0.7)
        assert not file.exists()
    assert done.wait(10)
    worker.join()
    assert not errors
    finish_all(database, claims)
    require_whole(file, 3)


def test_what_is_written_after_a_restored_backup_is_written_into_it(database: Database, file: Path) -> None:
    claims = new_study(database, budget=2)
    complete(database, claimed(claims))
    with closing(sqlite3.connect(file)) as source, closing(sqlite3.connect(file.with_suffix(".backup"))) as target:
        source.backup(target)
    lost = claimed(claims)
    with moved_away(file):
        shutil.copy(file.with_suffix(".backup"), file)
        # What this process claimed is unknown there, and what it knows of it must not be written.
        with pytest.raises(ClaimLost):
            complete(database, lost)
        finish_all(database, claims)
        database.engine.dispose()
        require_whole(file, 2)


def test_a_database_that_is_truncated_meanwhile_is_said_and_not_written_to(database: Database, file: Path) -> None:
    database.outage_s = 1.0
    claims = new_study(database, budget=3)
    complete(database, claimed(claims))
    # What a connection has read it does not read again before another one has written.
    with second_connection(database) as other:
        other.create_new_study([StudyDirection.MAXIMIZE], "another")
        with other.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    truncate(file, 20_000)
    kept = file.read_bytes()
    with pytest.raises(StorageUnavailable, match=r"malformed|not a database|I/O error"):
        claims.next()
    database.engine.dispose()
    assert file.read_bytes() == kept


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        (("status",), 0),
        (("status",), 20_000),
        # An empty file is a database that is not made yet.
        (("tune", "--dataset", "mnist_sample"), 1_000),
        (("tune", "--dataset", "mnist_sample"), 20_000),
    ],
)
def test_a_command_on_a_truncated_database_says_so_in_one_line_and_leaves_it(
    tmp_path: Path, command: tuple[str, ...], kept: int
) -> None:
    command_line = CommandLine(tmp_path / "home")
    command_line.home.mkdir()
    file = command_line.home / "studies.db"
    opened = open_database(command_line.url, create=True)
    new_study(opened)
    opened.engine.dispose()
    truncate(file, kept)
    before = file.read_bytes()
    finished = command_line.run(*command, status=2)
    (line,) = finished.stderr.splitlines()
    assert line.startswith("error: ")
    assert "malformed" in line or "not a database" in line or "there is no study" in line
    assert file.read_bytes() == before


def test_a_read_only_home_is_refused_in_one_line_before_anything_is_made(tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home")
    with small_disk(command.home, "1m") as disk:
        disk.remount("ro")
        finished = command.run("tune", "--dataset", "mnist_sample", status=2)
        (line,) = finished.stderr.splitlines()
        assert "cannot be written" in line
        assert "TUNING_HOME" in line
        assert list(command.home.iterdir()) == []
