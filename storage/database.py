"""Optuna's relational storage, made to survive many writers.

Optuna opens SQLite with a rollback journal and deferred transactions, so two processes can read the same state and
both act on it (optuna#4002), and a reader that becomes a writer fails at once with "database is locked" (optuna#820).
Here SQLite runs in WAL mode, every writing call is one `BEGIN IMMEDIATE` transaction, and readers never wait. On
PostgreSQL the same calls are ordinary transactions with row locks.

What a power cut must not undo is on the disk before its caller is told: that a trial was taken up, put back, is over.
What a trial writes meanwhile rides: it is there for everybody at once, and on the disk with the next such transaction,
before it; on PostgreSQL, whose server may fall without this machine, only beats do. A trial that is COMPLETE has all
that it reported.

A trial that this process has claimed is fenced: each write to it first checks, in the same transaction, that the claim
is still this process's. A process that was paused past its lease therefore writes nothing when it wakes up.

A trial whose training is over is not recorded as such before its files are in place. The process that trained it need
not wait for them: it announces the result, and sees the trial as ended from then on, alone.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from collections.abc import Callable, Collection, Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial, wraps
from typing import Any, TypeVar, cast

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy import event, select
from sqlalchemy.exc import SQLAlchemyError

from storage.connections import engine_options, passes, place_of, shown_url, sqlite_file, words_of
from storage.errors import ClaimLost, StorageUnavailable
from storage.rows.sql_rows import SqlRows
from storage.rows.sql_trials import SqlTrials
from storage.rows.tables import STUDY_SYSTEM, STUDY_USER, TRIALS
from storage.rows.trial_rows import read_trial, read_trials, require_study
from storage.rows.waiting_trials import WaitingTrials, waiting_contents

logger = logging.getLogger(__name__)

# For how long an outage is waited out: calls are repeated while the database is busy or away.
OUTAGE_S = 180.0

_NO_TRIAL_AFTER = 2**31 - 1  # the largest id of a trial: Optuna's column is an INTEGER, which PostgreSQL bounds

Method = TypeVar("Method", bound=Callable[..., Any])


def _read(method: Method) -> Method:
    @wraps(method)
    def call(self: Database, *args: Any, **kwargs: Any) -> Any:
        return self.repeated(lambda: method(self, *args, **kwargs))

    return cast(Method, call)


def _write(method: Method) -> Method:
    @wraps(method)
    def call(self: Database, *args: Any, **kwargs: Any) -> Any:
        def attempt() -> Any:
            with self.writing():
                return method(self, *args, **kwargs)

        return self.repeated(attempt)

    return cast(Method, call)


TrialWrite = Callable[[SqlTrials], None]


class _Thread(threading.local):
    """What a thread is doing: how deep it is in writing, whether that rides, and what it collects for which trial."""

    def __init__(self) -> None:
        self.writing = 0
        self.rides = False
        self.trial_id: int | None = None
        self.collected: list[TrialWrite] = []


@dataclass(frozen=True)
class Result:
    """How a trial's training ended: its last state, and the value that it has then, if any.

    Attributes:
        state: the last one.
        value: of its objective; None where it has none.
        others: of further objectives.
    """

    state: TrialState
    value: float | None
    others: tuple[float, ...] = ()

    @property
    def values(self) -> list[float] | None:
        """The value as Optuna takes it."""
        return None if self.value is None else [self.value, *self.others]


def _require_unfinished(trial_id: int, state: TrialState) -> None:
    # Optuna's own check reads the trial once more, to say its number.
    if state.is_finished():
        raise optuna.exceptions.UpdateFinishedTrialError(f"the trial with the id {trial_id} is over: it is not changed")


class Database(RDBStorage):
    """Optuna's relational storage, made safe for many processes. Open it with `open_database` or `open_to_read`.

    Args:
        url: a SQLAlchemy URL of a database of this version of Optuna, or of a new one.
        read_only: whether it is only read: then it is whole, nothing of it is changed, and writes fail.
    """

    sleep: Callable[[float], None] = staticmethod(time.sleep)
    outage_s = OUTAGE_S

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        self._thread = _Thread()
        self._fences: dict[int, str] = {}
        self._announced: dict[int, Result] = {}
        self._away_since: float | None = None
        self._waiting = WaitingTrials()
        # Optuna takes braces for places to fill in.
        super().__init__(
            url.replace("{", "{{").replace("}", "}}"),
            engine_kwargs=engine_options(url, read_only=read_only),
            skip_compatibility_check=True,
            skip_table_creation=read_only,
        )
        self.read_only = read_only
        begin = self._begin_sqlite if self.engine.dialect.name == "sqlite" else self._begin_postgresql
        event.listen(self.engine, "begin", begin)

    def __reduce__(self) -> tuple[Callable[[], Database], tuple[()]]:
        # Opened again by its URL: pickled part by part, SQLAlchemy would drop its event hooks.
        return partial(Database, self.url, read_only=self.read_only), ()

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return shown_url(self.engine.url.render_as_string(hide_password=False))

    @property
    def place(self) -> str:
        """What tells it from other databases, wherever it is opened; see `place_of`."""
        return place_of(self.engine.url)

    def _begin_sqlite(self, connection: sqlalchemy.Connection) -> None:
        if self._thread.writing == 0:
            connection.exec_driver_sql("BEGIN")
            return
        synchronous = "NORMAL" if self._thread.rides else "FULL"
        if connection.info.get("synchronous", "FULL") != synchronous:
            connection.exec_driver_sql(f"PRAGMA synchronous = {synchronous}")
            connection.info["synchronous"] = synchronous
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    def _begin_postgresql(self, connection: sqlalchemy.Connection) -> None:
        if self._thread.rides:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")

    @contextmanager
    def writing(self, *, rides: bool = False) -> Iterator[None]:
        """Make the transactions that this thread begins inside the block immediate ones.

        Args:
            rides: whether a power cut may undo them, with all that rides after them.
        """
        thread, before = self._thread, self._thread.rides
        thread.writing, thread.rides = thread.writing + 1, rides
        try:
            yield
        finally:
            thread.writing, thread.rides = thread.writing - 1, before

    @contextmanager
    def transaction(self, *, rides: bool = False) -> Iterator[sqlalchemy.Connection]:
        """Yield a connection whose work is one write transaction: committed at the end, undone by any exception.

        Args:
            rides: see `writing`.
        """
        with self.writing(rides=rides), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def reading(self) -> Iterator[sqlalchemy.Connection]:
        """Yield a connection that waits for no writer; what it changes is undone.

        On SQLite all that it reads is of one moment, on PostgreSQL what one statement reads.
        """
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def rows(self, study_id: int, *, write: bool, rides: bool = False) -> Iterator[SqlRows]:
        """Yield a study's rows inside one transaction; see `storage.rows.ledger.Ledger`."""
        with self.transaction(rides=rides) if write else self.reading() as connection:
            yield SqlRows(connection, study_id)

    def repeated(self, call: Callable[[], Any]) -> Any:
        """Return `call()`, repeated with growing, jittered pauses while the database is busy or away.

        It must be harmless to repeat. An outage is the database's, not a call's: once it has lasted for that long, each
        further call is tried once.

        Raises:
            StorageUnavailable: it kept failing for `outage_s` seconds, or cannot succeed.
        """
        began = time.monotonic()
        pause = 0.05
        while True:
            try:
                result = call()
            except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
                now, since = time.monotonic(), self._away_since
                if since is None:
                    since = self._away_since = now
                if not passes(error) or now > min(began, since) + self.outage_s:
                    raise self._unavailable(error) from error
                logger.warning("the database is busy or away, waiting: %s", words_of(error))
                self.sleep(pause * random.uniform(0.5, 1.5))
                pause = min(2 * pause, 5.0)
            else:
                self._away_since = None
                return result

    def _unavailable(self, error: Exception) -> StorageUnavailable:
        file = sqlite_file(self.engine.url)
        if file is not None and not file.exists():
            return StorageUnavailable(
                f"the database is gone: there is no {file} any more. Bring it back and give the same command again:"
                " only a backup has what it held."
            )
        return StorageUnavailable(
            f"the database did not take a call: {words_of(error)}. Mend that and give the same command again: no"
            " finished trial is lost."
        )

    def fence(self, trial_id: int, claim_id: str) -> None:
        """From now on, let this process write to a trial only while it holds the claim `claim_id`."""
        self._fences[trial_id] = claim_id

    def unfence(self, trial_id: int) -> None:
        """Forget the claim on a trial."""
        self._fences.pop(trial_id, None)

    def announce(self, trial_id: int, result: Result) -> None:
        """Show a trial with its result to this process, before it is recorded.

        Whatever reads trials sees it so; `Study.best_trial` alone, which the database answers, does not.
        """
        self._announced[trial_id] = result

    def withdraw(self, trial_id: int) -> None:
        """Show a trial as it is recorded again. Who read it meanwhile may remember the result: Optuna's cache does."""
        self._announced.pop(trial_id, None)

    def _as_announced(self, trial: FrozenTrial) -> FrozenTrial:
        result = self._announced.get(trial._trial_id)
        if result is not None and not trial.state.is_finished():
            trial.state, trial.values, trial.datetime_complete = result.state, result.values, datetime.now()
        return trial

    def _read_trials(
        self,
        study_id: int,
        states: Container[TrialState] | None,
        included_trial_ids: set[int],
        trial_id_greater_than: int,
    ) -> list[FrozenTrial]:
        """Return trials of a study by id, the included and the later ones; see `RDBStorage._get_trials`.

        A waiting trial that is as it was read before is the same object as then.

        Raises:
            KeyError: there is no such study.
        """
        with self.reading() as connection:
            require_study(connection, study_id)
            if states is not None:
                wanted = [state for state in TrialState if state in states]
                return self._fetched(connection, study_id, trial_id_greater_than, included_trial_ids, wanted)
            contents = waiting_contents(connection, study_id)
            for trial_id in list(self._announced):  # shown otherwise than it is recorded
                contents.pop(trial_id, None)
            known = self._waiting.unchanged(study_id, contents)
            asked, after = included_trial_ids, trial_id_greater_than
            if known:
                later = select(TRIALS.c.trial_id).where(TRIALS.c.study_id == study_id, TRIALS.c.trial_id > after)
                asked = {trial_id for trial_id in asked if trial_id <= after}.union(connection.scalars(later))
                known = {trial_id: trial for trial_id, trial in known.items() if trial_id in asked}
                asked, after = asked - known.keys(), _NO_TRIAL_AFTER
            read = self._fetched(connection, study_id, after, asked)
        self._waiting.keep(study_id, contents, read)
        found = {trial._trial_id: trial for trial in read} | known
        return [found[trial_id] for trial_id in sorted(found)]

    def _fetched(
        self,
        connection: sqlalchemy.Connection,
        study_id: int,
        after: int,
        also: Collection[int],
        states: Collection[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        read = read_trials(connection, study_id, after=after, also=also, states=states)
        return [self._as_announced(trial) for trial in read]

    def _read_trial(self, trial_id: int) -> FrozenTrial:
        """Return a trial; see `RDBStorage.get_trial`.

        Raises:
            KeyError: there is none.
        """
        with self.reading() as connection:
            found = read_trial(connection, trial_id)
        if found is None:
            raise KeyError(models.NOT_FOUND_MSG)
        return self._as_announced(found)

    def _read_study_attrs(self, table: sqlalchemy.Table, study_id: int) -> dict[str, Any]:
        """Return a study's attributes, past Optuna's mapper: a live view reads them twice a second.

        Raises:
            KeyError: there is no such study.
        """
        with self.reading() as connection:
            wanted = select(table.c.key, table.c.value_json).where(table.c.study_id == study_id)
            found = {key: json.loads(text) for key, text in connection.execute(wanted)}
            if not found:
                require_study(connection, study_id)
        return found

    def _read_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        """See `RDBStorage.get_study_user_attrs`."""
        return self._read_study_attrs(STUDY_USER, study_id)

    def _read_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        """See `RDBStorage.get_study_system_attrs`."""
        return self._read_study_attrs(STUDY_SYSTEM, study_id)

    @contextmanager
    def together(self, trial_id: int) -> Iterator[None]:
        """Let what this thread writes of a trial inside the block be one transaction, at its end.

        Nobody sees it before, this process neither. `set_trial_state_values` ends what was collected until then: it is
        written with the state, or not at all where that raises. Any exception that leaves the block passes on after
        what is collected by then is written.

        Raises:
            ClaimLost: at the end, also in place of an exception of the block's: the trial belongs to another claim, and
                nothing is written.
            StorageUnavailable: likewise.
        """
        assert self._thread.trial_id is None, "there is one transaction at a time"
        self._thread.trial_id = trial_id
        try:
            yield
        finally:
            self._thread.trial_id = None
            self._write_all(trial_id, self._collected())

    def _collected(self) -> list[TrialWrite]:
        writes, self._thread.collected = self._thread.collected, []
        return writes

    def _write_trial(self, trial_id: int, write: TrialWrite) -> None:
        """Write something of a trial, now or at the end of the block around it."""
        if self._thread.trial_id == trial_id:
            self._thread.collected.append(write)
        else:
            self._write_all(trial_id, [write])

    def _write_all(self, trial_id: int, writes: Sequence[TrialWrite]) -> None:
        # Whoever rides on SQLite falls with the machine. A server may fall alone, and this process would go on.
        rides = self.engine.dialect.name == "sqlite"

        def attempt() -> None:
            with self._held(trial_id, rides=rides) as (trials, state):
                _require_unfinished(trial_id, state)
                for write in writes:
                    write(trials)

        if writes:
            self.repeated(attempt)

    @contextmanager
    def _held(self, trial_id: int, *, rides: bool = False) -> Iterator[tuple[SqlTrials, TrialState]]:
        """Yield the rows of a trial that nobody else changes meanwhile, in one write transaction, and its state.

        Raises:
            ClaimLost: this process claimed it, and it belongs to another claim, or is gone.
            KeyError: there is no such trial.
        """
        claim_id = self._fences.get(trial_id)
        with self.transaction(rides=rides) as connection:
            trials = SqlTrials(connection)
            if claim_id is None:
                state = trials.lock_state(trial_id)
                if state is None:
                    raise KeyError(models.NOT_FOUND_MSG)
            else:
                # The rows are locked, so that the claim cannot pass on between this check and the write.
                found = trials.lock_claimed(trial_id)
                if found is None:
                    raise ClaimLost("the trial is gone: its study was deleted or renamed")
                state, held = found
                if held["id"] != claim_id:
                    # What people call it, its number, is not known here; the worker's log has it above.
                    raise ClaimLost("the trial is no longer this worker's: it was given to another one")
            yield trials, state

    def _set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None,
    ) -> None:
        self._write_trial(
            trial_id,
            lambda trials: trials.set_param(
                trial_id, param_name, param_value_internal, distribution, previous_distribution
            ),
        )

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        """Report; see `RDBStorage.set_trial_intermediate_value`."""
        self._write_trial(trial_id, lambda trials: trials.report(trial_id, step, intermediate_value))

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial; see `RDBStorage.set_trial_user_attr`."""
        self._write_trial(trial_id, lambda trials: trials.set_user_attr(trial_id, key, value))

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set an attribute of a trial; see `RDBStorage.set_trial_system_attr`."""
        self._write_trial(trial_id, lambda trials: trials.set_system_attr(trial_id, key, value))

    def record_heartbeat(self, trial_id: int) -> None:
        """Show stock Optuna that a trial is alive; see `RDBStorage.record_heartbeat`."""
        self._write_trial(trial_id, lambda trials: trials.beat(trial_id))

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        """Set a trial's state and values; see `RDBStorage.set_trial_state_values`.

        Repeated after a lost answer, it finds its own result and is content with it.
        """
        lost_answer = False
        before = self._collected() if self._thread.trial_id == trial_id else []

        def attempt() -> bool:
            nonlocal lost_answer
            try:
                with self._held(trial_id) as (trials, was):
                    _require_unfinished(trial_id, was)
                    for each in before:
                        each(trials)
                    return self._changed(trials, trial_id, was, state, values)
            except optuna.exceptions.UpdateFinishedTrialError:
                found = self._read_trial(trial_id)
                if lost_answer and found.state == state and found.values == (list(values) if values else None):
                    return True
                raise
            except SQLAlchemyError:
                lost_answer = True
                raise

        return bool(self.repeated(attempt))

    def _changed(
        self, trials: SqlTrials, trial_id: int, was: TrialState, state: TrialState, values: Sequence[float] | None
    ) -> bool:
        """Change a trial's state; return False where it was to be taken up and somebody was first."""
        trials.set_values(trial_id, values or ())
        if state == TrialState.RUNNING:
            if was == TrialState.WAITING:
                trials.begin_anew(trial_id)
            return was == TrialState.WAITING
        if state == TrialState.FAIL and trial_id in self._fences:
            trials.mark_failed(trial_id)
        if state.is_finished():
            trials.finish(trial_id, state)
        else:
            trials.wait(trial_id)
        return True

    def delete_study(self, study_id: int) -> None:
        """Delete a study; see `RDBStorage.delete_study`.

        Nobody creates a trial meanwhile, which Optuna would take for a reason to leave all as it was and say nothing.
        Repeated after a lost answer, it is content with a study that is gone.

        Raises:
            KeyError: there is no such study.
        """
        attempts = 0

        def attempt() -> None:
            nonlocal attempts
            attempts += 1
            with self.writing():
                session = self.scoped_session()
                try:
                    SqlRows(session.connection(), study_id).lock()
                    RDBStorage.delete_study(self, study_id)  # in the same transaction, which it ends
                except KeyError:
                    if attempts == 1:
                        raise
                finally:
                    session.close()

        self.repeated(attempt)

    # Each call is repeated while the database is busy or away; writing ones are immediate transactions. The underscored
    # ones are what Optuna's cache calls in place of the public ones.
    create_new_study = _write(RDBStorage.create_new_study)
    set_study_user_attr = _write(RDBStorage.set_study_user_attr)
    set_study_system_attr = _write(RDBStorage.set_study_system_attr)
    _create_new_trial = _write(RDBStorage._create_new_trial)
    get_study_id_from_name = _read(RDBStorage.get_study_id_from_name)
    get_study_name_from_id = _read(RDBStorage.get_study_name_from_id)
    get_study_directions = _read(RDBStorage.get_study_directions)
    get_study_user_attrs = _read(_read_study_user_attrs)
    get_study_system_attrs = _read(_read_study_system_attrs)
    get_trial_user_attrs = _read(RDBStorage.get_trial_user_attrs)
    get_trial_system_attrs = _read(RDBStorage.get_trial_system_attrs)
    get_all_studies = _read(RDBStorage.get_all_studies)
    get_trial_id_from_study_id_trial_number = _read(RDBStorage.get_trial_id_from_study_id_trial_number)
    get_trial_param = _read(RDBStorage.get_trial_param)
    get_trial = _read(_read_trial)
    _get_trials = _read(_read_trials)
    _get_best_trial_id = _read(RDBStorage._get_best_trial_id)
