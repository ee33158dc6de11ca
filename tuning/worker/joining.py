"""The study that a worker works on: found, understood, and ready to give it trials. Imported without Keras.

A spec read from a database is data. It may choose between what is already here; nothing that it says is imported.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

import optuna

from storage.attributes import SEARCH
from storage.claims import Claim, Claims, Start, owner_name
from storage.database import OUTAGE_S, Database
from storage.errors import BadInput, UnfitMachine
from storage.opening import open_database, open_to_read
from studies.scheduler import Scheduler
from studies.stored import StudyRecord, find_study
from studies.strategies.chosen import make_strategy
from studies.strategies.strategy import Strategy
from tuning.machine.devices import CPU
from tuning.messages import WorkerOptions
from tuning.user_classes import load_strategy

logger = logging.getLogger(__name__)

# How often a database that is away is tried again.
RETRY_S = 1.0


@dataclass(frozen=True)
class JoinedStudy:
    """A study as one worker sees it.

    Attributes:
        database: where it is.
        study: Optuna's own.
        record: what it records.
        claims: under this worker's name.
    """

    database: Database
    study: optuna.Study
    record: StudyRecord
    claims: Claims

    def next(self) -> Claim | None:
        """Take up what comes next; None when there is nothing to do now.

        Raises:
            TooManyFailures: the last trials all failed.
            StudyDeleted: the study is gone.
            StorageUnavailable: the database cannot be reached.
        """
        return self.claims.next(Start())


@dataclass(frozen=True)
class ScheduledStudy(JoinedStudy):
    """A study with a spec.

    Attributes:
        scheduler: says what comes next.
    """

    scheduler: Scheduler

    def next(self) -> Claim | None:
        """Take up what the scheduler says; see `JoinedStudy.next`."""
        return self.scheduler.next()


def join(options: WorkerOptions, storage_url: str) -> JoinedStudy:
    """Return the study that a worker was started for: a scheduled one, unless a function of the user's runs it.

    Raises:
        BadInput: there is no such study, another program made it, or its strategy cannot be had.
        SpecMismatch: it is of another version.
    """
    if not options.supervised:
        _require_joinable(options.study, storage_url)
    # Who started this process has had the study open: if it is away, it comes back.
    database = open_when_back(storage_url, OUTAGE_S if options.supervised or options.go else 0.0)
    study = find_study(database, options.study)
    record = StudyRecord.of(study)
    if options.function is None:
        record.require_ours()
    owner = options.claim.owner if options.claim is not None else owner_name()
    claims = Claims(database, study._study_id, owner, uid=record.uid or None, phase=options.phase)
    if options.function is not None:
        return JoinedStudy(database, study, record, claims)
    # What comes after the search decides nothing.
    strategy = Strategy(record.spec)
    if options.phase == SEARCH:
        strategy = make_strategy(record.spec, load_strategy(record.spec.strategy.name, options.strategy_file))
    return ScheduledStudy(database, study, record, claims, Scheduler(study, record.spec, strategy, claims))


def _require_joinable(study: str, url: str) -> None:
    """Refuse a study before its database is opened to write: what is refused is as it was."""
    database = open_to_read(url)
    try:
        StudyRecord.of(find_study(database, study)).require_ours()
    finally:
        database.engine.dispose()


def open_when_back(url: str, outage_s: float) -> Database:
    """Open a database; wait up to so many seconds for one that is away.

    Raises:
        BadInput: it cannot be opened.
    """
    until = time.monotonic() + outage_s
    while True:
        try:
            return open_database(url)
        except BadInput as error:
            if time.monotonic() >= until:
                raise
            logger.warning("the database is away, waiting: %s", error)
            time.sleep(RETRY_S)


def require_accelerator(device: str) -> None:
    """Fail unless the framework sees the accelerator that this process was given: it would train on the cores instead.

    Raises:
        UnfitMachine: it does not.
    """
    from models.backend import backend_name, on_accelerator

    if device == CPU or on_accelerator():
        return
    cures = {
        "tensorflow": "`CUDA=yes make setup` installs TensorFlow with its CUDA libraries",
        "jax": "install JAX with the CUDA extra that fits your driver",
    }
    name = backend_name()
    raise UnfitMachine(
        f"{name} sees no accelerator in a process that was given {device}: {cures[name]}. Or set"
        " CUDA_VISIBLE_DEVICES=-1 to use the cores."
    )
