"""What Optuna and this project ask of a storage, asked of SQLite and of PostgreSQL alike."""

from __future__ import annotations

import gc
import math
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.artifacts import get_all_artifact_meta
from optuna.storages import BaseStorage
from optuna.testing.pytest_storages import StorageTestCase
from optuna.trial import TrialState

from storage.artifacts import Artifacts
from storage.claims import Claim, Claims, End, StudyDeleted, Thaw
from storage.database import Database
from storage.errors import ClaimLost, StorageUnavailable
from storage.leases import BEAT_S, LEASE_S, LeaseWatch
from storage.opening import open_to_read
from storage.rows.sql_rows import INDEXES
from storage.stores.local import LocalFiles
from studies.forecast import effort_of, rate_per_hour
from studies.stored import find_study
from tests.databases import claimed, finish, new_study, second_connection, url_of
from tests.processes import in_processes, run_trials


class TestOptunasContract(StorageTestCase):
    """Optuna's own suite."""

    @pytest.fixture
    def storage(self, database: Database) -> BaseStorage:
        return database

    @pytest.mark.filterwarnings("ignore:.*was deleted while still open:ResourceWarning")
    def test_pickle_storage(self, storage: BaseStorage) -> None:
        super().test_pickle_storage(storage)
        gc.collect()  # it leaves its copy open: the remark comes now, not in another test


# --- Ours ---


@pytest.mark.long
def test_eight_processes_claim_five_hundred_trials_each_once(database: Database) -> None:
    study_id = new_study(database, budget=500)._study_id
    done = in_processes(8, run_trials, url_of(database), study_id)
    assert sorted(trial for each in done for trial in each) == [(number, 1) for number in range(500)]
    found = database.get_all_trials(study_id)
    assert [trial.number for trial in found] == list(range(500))
    assert {trial.state for trial in found} == {TrialState.COMPLETE}


def test_four_processes_claim_what_is_there_each_once(database: Database) -> None:
    claims = new_study(database, budget=30)
    for claim in [claims.next() for _ in range(10)]:
        assert claim is not None
        claims.put_back(claim, "interrupted")
    done = in_processes(4, run_trials, url_of(database), claims._study_id)
    expected = [(number, 2) for number in range(10)] + [(number, 1) for number in range(10, 30)]
    assert sorted(trial for each in done for trial in each) == expected


def test_a_trial_goes_from_worker_to_worker_and_the_first_one_is_shut_out(database: Database) -> None:
    first = new_study(database, budget=1, owner="first")
    lost = first.next()
    assert lost is not None
    database.set_trial_intermediate_value(lost.trial_id, 1, 0.25)
    with second_connection(database) as other:
        second = Claims(other, first._study_id, "second")
        assert second.next() is None
        now = [0.0]
        watch = LeaseWatch(second, lambda: now[0])
        assert watch.put_back_expired() == []
        while not (silent := watch.put_back_expired()):
            now[0] += BEAT_S
        assert LEASE_S < now[0] <= LEASE_S + BEAT_S
        assert [claim.number for claim in silent] == [0]
        taken = second.next()
        assert taken is not None
        assert (taken.trial_id, taken.count) == (lost.trial_id, 2)
        with pytest.raises(ClaimLost):
            first.beat(lost)
        for late in (
            lambda: database.set_trial_intermediate_value(lost.trial_id, 1, 0.5),
            lambda: database.set_trial_user_attr(lost.trial_id, "epochs", 9),
            lambda: database.set_trial_state_values(lost.trial_id, TrialState.COMPLETE, [0.5]),
        ):
            with pytest.raises(ClaimLost):
                late()
        other.set_trial_state_values(taken.trial_id, TrialState.COMPLETE, [0.75])
    trial = database.get_trial(lost.trial_id)
    assert (trial.value, trial.intermediate_values) == (0.75, {1: 0.25})
    assert "epochs" not in trial.user_attrs
    assert first.standing().done


def test_no_trial_begins_while_its_study_is_deleted(database: Database) -> None:
    claims = new_study(database, budget=9)
    finish(database, claimed(claims))
    with second_connection(database) as other, ThreadPoolExecutor(1) as threads:
        worker = Claims(other, claims._study_id, "worker")
        asked: list[Future[Claim | None]] = []

        def meanwhile(_connection: Any, _cursor: Any, statement: str, *_more: Any) -> None:
            if statement.startswith("DELETE FROM") and not asked:
                asked.append(threads.submit(worker.next))
                time.sleep(0.2)

        sqlalchemy.event.listen(database.engine, "before_cursor_execute", meanwhile)
        database.delete_study(claims._study_id)
        with pytest.raises(StudyDeleted):
            asked[0].result(30)
    assert database.get_all_studies() == []


@pytest.mark.postgres
@pytest.mark.parametrize("what", ["kill", "cancel"])
def test_a_connection_lost_at_any_statement_of_a_reading_is_waited_for(postgres: Database, what: str) -> None:
    claims = new_study(postgres, budget=9)
    for _ in range(4):
        claim = claimed(claims)
        postgres.set_trial_intermediate_value(claim.trial_id, 1, 0.5)
    claims.put_back(claim, "frozen", "frozen")
    study = optuna.load_study(study_name="mnist", storage=postgres)
    expected = [(trial.number, trial.state, trial.intermediate_values) for trial in study.trials]
    postgres.sleep = lambda _: None
    server = sqlalchemy.create_engine(url_of(postgres), isolation_level="AUTOCOMMIT")
    lost_at, statements = 0, 0

    def lose(connection: Any, cursor: Any, *_more: Any) -> None:
        nonlocal statements
        statements += 1
        if statements != lost_at:
            return
        if what == "kill":
            with server.connect() as other:
                pid = connection.connection.dbapi_connection.info.backend_pid
                other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
        else:
            cursor.execute("SET LOCAL statement_timeout = 5")
            cursor.execute("SELECT pg_sleep(1)")

    sqlalchemy.event.listen(postgres.engine, "before_cursor_execute", lose)
    while statements >= lost_at:
        lost_at, statements = lost_at + 1, 0
        found = study.get_trials(deepcopy=False)
        assert [(trial.number, trial.state, trial.intermediate_values) for trial in found] == expected
    assert lost_at > 5
    server.dispose()


def test_trials_that_are_frozen_and_ended_at_once_do_not_raise_the_rate(database: Database) -> None:
    now = [time.time() - 3600]
    claims = new_study(database, budget=12, clock=lambda: now[0])
    began = []
    for _ in range(12):
        claim = claimed(claims)
        began.append(database.get_trial(claim.trial_id).datetime_start)
        now[0] += 60
        claims.progressed(claim, 1)
        assert claims.put_back(claim, "frozen after epoch 1", "frozen")
    # Ended much later, by another, which sees what is stored.
    now[0] = time.time()
    with second_connection(database) as other:
        ending = Claims(other, claims._study_id, "another", lambda: now[0])
        for number in range(12):
            claim = claimed(ending, End(number))
            other.set_trial_state_values(claim.trial_id, TrialState.PRUNED, [0.5])
    found = database.get_all_trials(claims._study_id)
    assert [trial.datetime_start for trial in found] == began
    assert rate_per_hour([effort_of(one) for one in found]) == pytest.approx(60, rel=0.05)


def test_what_a_power_cut_must_not_undo_waits_for_the_disk_and_the_rest_rides(database: Database) -> None:
    said: list[str] = []
    sqlalchemy.event.listen(database.engine, "before_cursor_execute", lambda *call: said.append(call[2]))
    claims = new_study(database)
    claim = claimed(claims)

    def rides(write: Callable[[], object]) -> bool:
        said.clear()
        write()
        return "SET LOCAL synchronous_commit = off" in said or _synchronous(database) == "1"

    storage, trial_id = database, claim.trial_id
    # A server may fall while its workers stand: they would end a trial whose reports it has lost.
    alone = database.engine.dialect.name == "sqlite"
    assert rides(lambda: storage.set_trial_intermediate_value(trial_id, 1, 0.5)) is alone
    x = optuna.distributions.FloatDistribution(0, 1)
    assert rides(lambda: storage.set_trial_param(trial_id, "x", 0.5, x)) is alone
    assert rides(lambda: storage.set_trial_user_attr(trial_id, "a", 1)) is alone
    assert not rides(lambda: claims.secure(claim))
    assert rides(lambda: claims.beat(claim))
    assert not rides(lambda: claims.put_back(claim, "frozen", "frozen"))
    assert not rides(lambda: claims.next(Thaw(0)))
    assert rides(lambda: storage.set_trial_user_attr(trial_id, "a", 2)) is alone
    assert not rides(lambda: storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [0.5]))
    assert not rides(lambda: storage.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "another"))
    assert not rides(lambda: claims.set_budget(9))


def _synchronous(database: Database) -> str:
    if database.engine.dialect.name != "sqlite":
        return ""
    with database.engine.connect() as connection:
        return str(connection.exec_driver_sql("PRAGMA synchronous").scalar())


def test_the_indexes_are_added_where_they_are_missing_and_claims_are_the_same_without(database: Database) -> None:
    assert INDEXES.keys() <= _indexes(database)
    with database.transaction() as connection:
        for name in INDEXES:
            connection.exec_driver_sql(f"DROP INDEX {name}")
    claims = new_study(database, budget=2)
    finish(database, claimed(claims))
    expected = claims.standing()
    with second_connection(database) as again:
        assert INDEXES.keys() <= _indexes(again)
        assert Claims(again, claims._study_id, "me").standing() == expected
    stock = optuna.storages.RDBStorage(url_of(database))
    optuna.load_study(study_name="mnist", storage=stock).optimize(objective, n_trials=1)
    stock.engine.dispose()
    assert claims.standing().complete == 2


def _indexes(database: Database) -> set[str | None]:
    tables = {on.partition(" ")[0] for on in INDEXES.values()}
    inspected = sqlalchemy.inspect(database.engine)
    return {index["name"] for table in tables for index in inspected.get_indexes(table)}


def test_a_study_that_is_continued_was_tuned_last_though_none_of_its_trials_is_new(database: Database) -> None:
    now = [time.time() + 3600]
    old, new = (new_study(database, name=name, clock=lambda: now[0]) for name in ("old", "new"))
    begun = claimed(old)
    now[0] += 1
    claimed(new)
    assert find_study(database, None).study_name == "new"
    old.put_back(begun, "interrupted")
    now[0] += 1
    assert claimed(old, None).number == 0
    assert find_study(database, None).study_name == "old"


def write(file: Path) -> None:
    file.write_bytes(b"weights")


def test_an_artifact_is_kept_and_found(database: Database, tmp_path: Path) -> None:
    artifacts = Artifacts(LocalFiles(tmp_path))
    claim = new_study(database).next()
    assert claim is not None
    artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    trial = database.get_trial(claim.trial_id)
    assert artifacts.verified(trial, "model").read_bytes() == b"weights"
    assert [meta.filename for meta in get_all_artifact_meta(trial, storage=database)] == ["model.keras"]
    with second_connection(database) as other:
        Claims(other, other.get_study_id_from_name("mnist"), "another").put_back(claim, "silent")
    before = set(tmp_path.iterdir())
    with pytest.raises(ClaimLost):
        artifacts.put(database, claim.trial_id, "model", "model.keras", write)
    assert set(tmp_path.iterdir()) == before


def objective(trial: optuna.Trial) -> float:
    x = trial.suggest_float("x", 0, 1)
    return x * trial.suggest_int("n", 1, 5)


def summary(study: optuna.Study) -> list[Any]:
    trials = study.get_trials()
    return [[t.number, t.state, t.value, t.params, t.intermediate_values, t.user_attrs] for t in trials]


def test_a_database_made_here_opens_in_stock_optuna_and_agrees(database: Database) -> None:
    claims = new_study(database, budget=5)
    study = optuna.load_study(study_name="mnist", storage=database)
    while (claim := claims.next()) is not None:
        study.get_trials()
        trial = optuna.trial.Trial(study, claim.trial_id)
        value = objective(trial)
        trial.report(value, 1)
        study.tell(trial, value)
    stock = optuna.storages.RDBStorage(url_of(database))
    same = optuna.load_study(study_name="mnist", storage=stock)
    assert len(same.trials) == 5
    assert summary(same) == summary(study)
    assert same.best_trial.number == study.best_trial.number
    assert same.best_params == study.best_params
    assert same.direction == optuna.study.StudyDirection.MAXIMIZE
    stock.engine.dispose()


def test_a_study_made_by_stock_optuna_opens_here_and_goes_on(database: Database) -> None:
    stock = optuna.storages.RDBStorage(url_of(database))
    theirs = optuna.create_study(study_name="theirs", storage=stock, direction="maximize")
    theirs.optimize(objective, n_trials=3)
    with second_connection(database) as opened:
        mine = optuna.load_study(study_name="theirs", storage=opened)
        assert summary(mine) == summary(theirs)
        claims = Claims(opened, mine._study_id, "me")
        claims.set_budget(4)
        claim = claims.next()
        assert claim is not None
        assert claim.number == 3
        opened.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [9.0])
        assert claims.standing().done
    assert theirs.best_trial.number == 3
    stock.engine.dispose()


def test_what_is_opened_to_read_is_read_and_cannot_be_written(database: Database) -> None:
    claims = new_study(database)
    finish(database, claimed(claims))
    reading = open_to_read(url_of(database))
    assert optuna.load_study(study_name="mnist", storage=reading).best_value == 0.5
    assert Claims(reading, claims._study_id, "looks").standing() == claims.standing()
    with pytest.raises(StorageUnavailable, match=r"read.?only"):
        reading.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "new")
    with pytest.raises(StorageUnavailable, match=r"read.?only"):
        Claims(reading, claims._study_id, "looks").set_budget(9)
    finish(database, claimed(claims), value=0.75)
    assert optuna.load_study(study_name="mnist", storage=reading).best_value == 0.75
    reading.engine.dispose()


# --- Heartbeats of stock Optuna ---


def stale(database: Database, study_id: int) -> list[int]:
    """Return which trials stock Optuna takes for dead."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        stock = optuna.storages.RDBStorage(url_of(database), heartbeat_interval=60)
    try:
        return stock._get_stale_trial_ids(study_id)
    finally:
        stock.engine.dispose()


def test_stock_optuna_takes_a_trial_that_beats_for_alive_whatever_this_machines_clock_says(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Slow(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Slow:
            return super().now(tz) - timedelta(hours=1)

    monkeypatch.setattr("storage.rows.sql_trials.datetime", Slow)
    study_id = new_study(database)._study_id
    trial_id = database.create_new_trial(study_id)
    for _ in range(2):
        database.record_heartbeat(trial_id)
        assert stale(database, study_id) == []


@pytest.mark.postgres
def test_stock_optuna_takes_a_trial_that_beats_for_alive_whatever_the_time_zone_of_the_server(
    postgres: Database,
) -> None:
    with postgres.engine.connect() as connection:
        connection.exec_driver_sql(f"ALTER DATABASE {postgres.engine.url.database} SET timezone TO 'Asia/Tokyo'")
        connection.commit()
    postgres.engine.dispose()  # what connects from now on has it
    study_id = new_study(postgres)._study_id
    trial_id = postgres.create_new_trial(study_id)
    for _ in range(2):
        postgres.record_heartbeat(trial_id)
        assert stale(postgres, study_id) == []


@pytest.mark.postgres
@pytest.mark.parametrize("idle", [True, False])
def test_a_connection_that_the_server_closed_is_dropped_before_it_is_used_if_it_was_idle_and_else_waited_for(
    postgres: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, idle: bool
) -> None:
    monkeypatch.setattr("storage.connections.IDLE_S", 0.0 if idle else math.inf)
    postgres.sleep = lambda _: None
    claim = claimed(new_study(postgres, budget=1))
    postgres.set_trial_intermediate_value(claim.trial_id, 1, 0.5)
    server = sqlalchemy.create_engine(url_of(postgres), isolation_level="AUTOCOMMIT")
    with server.connect() as other:
        others = "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        other.exec_driver_sql(f"SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity {others}")
    postgres.set_trial_intermediate_value(claim.trial_id, 2, 0.75)
    server.dispose()
    assert postgres.get_trial(claim.trial_id).intermediate_values == {1: 0.5, 2: 0.75}
    assert ("busy or away" in caplog.text) is not idle


@pytest.mark.postgres
def test_a_worker_keeps_one_connection_though_its_heart_beats_while_it_reads(postgres: Database) -> None:
    claims = new_study(postgres, budget=1)
    claim = claims.next()
    assert claim is not None
    with postgres.reading():
        claims.beat(claim)
    with postgres.engine.connect() as connection:
        asked = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        for _ in range(100):  # the server takes a moment to see a connection go
            if (there := connection.exec_driver_sql(asked).scalar_one()) == 1:
                break
            time.sleep(0.05)
    assert there == 1
