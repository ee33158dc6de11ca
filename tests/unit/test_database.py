"""The storage waits for what is busy, and guards what another worker owns."""

from __future__ import annotations

import pickle
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import Trial, TrialState
from sqlalchemy.exc import InterfaceError, InternalError, OperationalError, PendingRollbackError

from storage.claims import Claims
from storage.database import Database
from storage.errors import ClaimLost, StorageUnavailable
from storage.opening import open_database
from storage.rows.sql_trials import SqlTrials
from tests.databases import claimed, fresh_database, new_study, second_connection
from tests.processes import write_lock


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


@pytest.fixture
def database(file: Path) -> Iterator[Database]:
    with fresh_database(file) as opened:
        yield opened


def refusing(*_: Any) -> None:
    raise ValueError("given to a trial twice")


def rows(file: Path) -> list[str]:
    connection = sqlite3.connect(file)
    try:
        return list(connection.iterdump())
    finally:
        connection.close()


# --- Many writers ---


def test_write_ahead_logging_is_really_on(database: Database, file: Path) -> None:
    with database.engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL
        assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
    assert file.read_bytes()[18:20] == b"\x02\x02"  # the header's versions for writing and reading: WAL


def test_a_reader_does_not_wait_for_a_writer(database: Database, file: Path) -> None:
    claims = new_study(database)
    with write_lock(file):
        began = time.monotonic()
        assert claims.standing().budget == 3
        assert len(database.get_all_studies()) == 1
        assert time.monotonic() - began < 2.0


def test_a_write_waits_for_another_process_and_then_succeeds(database: Database, file: Path) -> None:
    claims = new_study(database)
    with write_lock(file) as release:
        timer = threading.Timer(0.5, release)
        timer.start()
        began = time.monotonic()
        assert claims.next() is not None
        assert time.monotonic() - began > 0.3
        timer.join()


def test_a_read_begins_no_write_transaction_and_a_write_begins_one_at_once(database: Database) -> None:
    said: list[str] = []
    sqlalchemy.event.listen(database.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
    study_id = database.create_new_study([StudyDirection.MAXIMIZE], "mnist")
    assert "BEGIN IMMEDIATE" in said
    said.clear()
    database.get_study_name_from_id(study_id)
    assert "BEGIN IMMEDIATE" not in said
    assert "BEGIN" in said


def test_a_transaction_that_fails_leaves_nothing(database: Database, file: Path) -> None:
    claims = new_study(database)
    before = rows(file)

    def write_half() -> None:
        with database.transaction() as connection:
            connection.execute(sqlalchemy.text("DELETE FROM study_user_attributes"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write_half()
    assert rows(file) == before
    assert claims.next() is not None  # and no lock is left


def test_what_is_written_together_is_one_transaction_and_seen_as_a_whole(database: Database, file: Path) -> None:
    claims = new_study(database)
    claim = claims.next()
    assert claim is not None
    commits: list[object] = []
    sqlalchemy.event.listen(database.engine, "commit", commits.append)
    before = rows(file)
    with claims.together(claim):
        for number in range(5):
            database.set_trial_user_attr(claim.trial_id, f"attribute {number}", number)
        database.set_trial_intermediate_value(claim.trial_id, 1, 0.5)
        assert rows(file) == before
    assert len(commits) == 1
    found = database.get_trial(claim.trial_id)
    assert {key: found.user_attrs[key] for key in found.user_attrs if key.startswith("attribute")} == {
        f"attribute {number}": number for number in range(5)
    }
    with claims.together(claim):
        database.set_trial_user_attr(claim.trial_id, "last", 1)
        database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.5])
    assert len(commits) == 2
    found = database.get_trial(claim.trial_id)
    assert (found.user_attrs["last"], found.intermediate_values, found.value) == (1, {1: 0.5}, 0.5)


def test_what_is_written_together_is_refused_as_a_whole(database: Database, file: Path) -> None:
    claims = new_study(database)
    claim = claims.next()
    assert claim is not None
    with second_connection(database) as other:
        Claims(other, claims._study_id, "another").put_back(claim, "silent")
    before = rows(file)

    def write() -> None:
        with claims.together(claim):
            database.set_trial_user_attr(claim.trial_id, "epochs", 1)
            database.set_trial_intermediate_value(claim.trial_id, 1, 0.5)

    with pytest.raises(ClaimLost):
        write()
    assert rows(file) == before


def test_what_was_written_before_an_error_is_kept_and_the_error_passes(database: Database) -> None:
    claims = new_study(database)
    claim = claims.next()
    assert claim is not None

    def write() -> None:
        with claims.together(claim):
            database.set_trial_param(claim.trial_id, "x", 0.5, FloatDistribution(0, 1))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        write()
    assert database.get_trial(claim.trial_id).params == {"x": 0.5}


def test_what_was_collected_before_a_state_that_is_not_written_is_not_written_either(database: Database) -> None:
    claims = new_study(database)
    claim = claimed(claims)

    def write() -> None:
        with claims.together(claim):
            database.set_trial_user_attr(claim.trial_id, "before", 1)
            with pytest.raises(ValueError, match="given to a trial twice"):
                database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.5])
            database.set_trial_user_attr(claim.trial_id, "after", 1)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(SqlTrials, "set_values", refusing)
        write()
    found = database.get_trial(claim.trial_id)
    assert found.state == TrialState.RUNNING
    assert {"before", "after"} & found.user_attrs.keys() == {"after"}


def test_a_claim_that_was_lost_takes_the_place_of_the_error_in_the_block(database: Database) -> None:
    claims = new_study(database)
    claim = claimed(claims)

    def write() -> None:
        with claims.together(claim):
            database.set_trial_user_attr(claim.trial_id, "epochs", 1)
            with second_connection(database) as other:
                Claims(other, claims._study_id, "another").put_back(claim, "silent")
            raise ZeroDivisionError

    with pytest.raises(ClaimLost) as lost:
        write()
    assert isinstance(lost.value.__context__, ZeroDivisionError)


def test_a_pickled_database_is_opened_again_with_its_hooks(database: Database) -> None:
    copy = pickle.loads(pickle.dumps(database))
    said: list[str] = []
    sqlalchemy.event.listen(copy.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
    copy.create_new_study([StudyDirection.MAXIMIZE], "mnist")
    assert "BEGIN IMMEDIATE" in said
    assert [study.study_name for study in database.get_all_studies()] == ["mnist"]
    copy.engine.dispose()


# --- Busy or away ---


def operational(text: str) -> OperationalError:
    return OperationalError("SELECT 1", {}, sqlite3.OperationalError(text))


def internal(state: str) -> InternalError:
    """What SQLAlchemy makes of psycopg's internal errors, which say what they are by a code."""
    original = sqlite3.InternalError(state)
    original.sqlstate = state  # type: ignore[attr-defined]
    return InternalError("SELECT 1", {}, original)


class Failing:
    """Fails so many times, then returns 7."""

    def __init__(self, times: int, error: Exception) -> None:
        self.times = times
        self.calls = 0
        self.error = error

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.times:
            raise self.error
        return 7


@pytest.mark.parametrize(
    "error",
    [
        operational("database is locked"),
        operational("server closed the connection unexpectedly"),
        operational("disk I/O error"),
        operational("unable to open database file"),
        InterfaceError("SELECT 1", {}, sqlite3.InterfaceError("connection already closed")),
        PendingRollbackError("Can't reconnect until invalid transaction is rolled back."),
        internal("25P02"),
    ],
    ids=str,
)
def test_a_call_is_repeated_with_growing_pauses_while_the_database_is_busy(
    database: Database, error: Exception
) -> None:
    pauses: list[float] = []
    database.sleep = pauses.append
    call = Failing(12, error)
    assert database.repeated(call) == 7
    assert call.calls == 13
    assert len(pauses) == 12
    assert 0.02 < pauses[0] < 0.1
    assert 2.0 < max(pauses) <= 7.5
    assert pauses[3] > pauses[0]


@pytest.mark.parametrize(
    "text",
    ["attempt to write a readonly database", "database or disk is full", "no such table: trials",
     "file is not a database", "database disk image is malformed"],
)  # fmt: skip
def test_what_cannot_succeed_is_not_repeated(database: Database, text: str) -> None:
    def must_not_wait(_: float) -> None:
        pytest.fail("it waited")

    database.sleep = must_not_wait
    call = Failing(1, operational(text))
    with pytest.raises(StorageUnavailable, match=f"did not take a call: {text}"):
        database.repeated(call)
    assert call.calls == 1


def test_another_internal_error_is_not_repeated(database: Database) -> None:
    call = Failing(1, internal("XX001"))
    with pytest.raises(StorageUnavailable, match="did not take a call: XX001"):
        database.repeated(call)
    assert call.calls == 1


def test_an_outage_is_waited_out_only_for_so_long(database: Database) -> None:
    database.sleep = lambda _: None
    database.outage_s = 0.05
    with pytest.raises(StorageUnavailable, match="did not take a call: database is locked"):
        database.repeated(Failing(10**9, operational("database is locked")))


def test_an_outage_is_waited_out_once_and_ends_with_the_first_answer(database: Database) -> None:
    database.sleep = lambda _: None
    database.outage_s = 0.05
    locked = operational("database is locked")
    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            database.repeated(Failing(10**9, locked))
        again = Failing(10**9, locked)
        with pytest.raises(StorageUnavailable):
            database.repeated(again)
        assert again.calls == 1
        assert database.repeated(Failing(0, locked)) == 7
        assert database.repeated(Failing(2, locked)) == 7


def test_an_error_that_is_not_the_databases_passes_through(database: Database) -> None:
    call = Failing(1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        database.repeated(call)
    assert call.calls == 1


def fail_next_commits(database: Database, times: int, *, after: bool) -> list[str]:
    """Let the next commits fail: before they happen, or after, so that only the answer is lost."""
    failed: list[str] = []
    execute = database.engine.dialect.do_commit

    def do_commit(connection: Any) -> None:
        if after:
            execute(connection)
        if len(failed) < times:
            failed.append("commit")
            raise sqlite3.OperationalError("server closed the connection unexpectedly")
        if not after:
            execute(connection)

    database.engine.dialect.do_commit = do_commit  # type: ignore[method-assign,assignment]
    return failed


@pytest.mark.parametrize("after", [False, True], ids=["commit failed", "answer lost"])
def test_a_trial_is_finished_once_although_the_database_went_away(database: Database, after: bool) -> None:
    database.sleep = lambda _: None
    claim = new_study(database).next()
    assert claim is not None
    failed = fail_next_commits(database, 1, after=after)
    assert database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.5])
    assert failed
    assert database.get_trial(claim.trial_id).value == 0.5


@pytest.mark.parametrize("after", [False, True])
def test_a_study_is_deleted_although_the_database_went_away(database: Database, after: bool) -> None:
    study_id = new_study(database)._study_id
    fail_next_commits(database, 1, after=after)
    database.delete_study(study_id)
    assert database.get_all_studies() == []


def test_a_study_that_is_not_there_is_not_deleted(database: Database) -> None:
    with pytest.raises(KeyError):
        database.delete_study(7)
    assert database.create_new_study([StudyDirection.MAXIMIZE], "mnist") == 1


def test_finishing_a_finished_trial_is_refused_where_no_answer_was_lost(database: Database) -> None:
    claim = new_study(database).next()
    assert claim is not None
    database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.5])
    with pytest.raises(optuna.exceptions.UpdateFinishedTrialError):
        database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.5])


@pytest.mark.parametrize("after", [False, True], ids=["commit failed", "answer lost"])
def test_a_write_survives_a_database_that_goes_away(database: Database, after: bool) -> None:
    database.sleep = lambda _: None
    claim = new_study(database).next()
    assert claim is not None
    failed = fail_next_commits(database, 2, after=after)
    database.set_trial_user_attr(claim.trial_id, "epochs", 3)
    assert len(failed) == 2
    assert database.get_trial_user_attrs(claim.trial_id)["epochs"] == 3


# --- The fence ---

WRITES: dict[str, Callable[[Database, int], object]] = {
    "set_trial_param": lambda d, t: d.set_trial_param(t, "x", 0.5, FloatDistribution(0, 1)),
    "set_trial_state_values": lambda d, t: d.set_trial_state_values(t, TrialState.COMPLETE, [1.0]),
    "put back": lambda d, t: d.set_trial_state_values(t, TrialState.WAITING),
    "set_trial_intermediate_value": lambda d, t: d.set_trial_intermediate_value(t, 1, 0.5),
    "set_trial_user_attr": lambda d, t: d.set_trial_user_attr(t, "epochs", 1),
    "set_trial_system_attr": lambda d, t: d.set_trial_system_attr(t, "fixed_params", {}),
    "record_heartbeat": lambda d, t: d.record_heartbeat(t),
    "suggest": lambda d, t: Trial(optuna.load_study(study_name="mnist", storage=d), t).suggest_float("x", 0, 1),
    "report": lambda d, t: Trial(optuna.load_study(study_name="mnist", storage=d), t).report(0.5, 1),
    "set_user_attr": lambda d, t: Trial(optuna.load_study(study_name="mnist", storage=d), t).set_user_attr("a", 1),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("now", ["another's", "waiting", "deleted"])
def test_a_worker_that_lost_its_claim_writes_nothing(
    database: Database, file: Path, write: Callable[[Database, int], object], now: str
) -> None:
    claims = new_study(database)
    mine = claims.next()
    assert mine is not None
    other = open_database(f"sqlite:///{file}")
    others = Claims(other, other.get_study_id_from_name("mnist"), "another")
    assert others.put_back(mine, "its worker was silent")
    if now == "another's":
        taken = others.next()
        assert taken is not None
        assert taken.trial_id == mine.trial_id
    elif now == "deleted":
        other.delete_study(other.get_study_id_from_name("mnist"))
    other.engine.dispose()
    before = rows(file)
    # A study that is gone is a KeyError of Optuna's where it is looked up first.
    with pytest.raises((ClaimLost, KeyError) if now == "deleted" else ClaimLost):
        write(database, mine.trial_id)
    assert rows(file) == before


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
def test_a_worker_that_holds_its_claim_writes(
    database: Database, file: Path, write: Callable[[Database, int], object]
) -> None:
    claim = new_study(database).next()
    assert claim is not None
    before = rows(file)
    write(database, claim.trial_id)
    assert rows(file) != before


def test_a_trial_that_nobody_claimed_here_is_not_fenced(database: Database, file: Path) -> None:
    claim = new_study(database).next()
    assert claim is not None
    other = open_database(f"sqlite:///{file}")  # the dashboard, say
    other.set_trial_user_attr(claim.trial_id, "note", "interesting")
    other.engine.dispose()
    assert database.get_trial(claim.trial_id).user_attrs["note"] == "interesting"
