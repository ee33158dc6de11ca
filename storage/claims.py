"""The study's budget and its leases: each trial created or taken up exactly once.

A study's budget is an attribute of the study. A free worker asks for its next trial in one write transaction that
either takes up the lowest WAITING trial or, while fewer trials than the budget exist that are not FAIL, creates the
next one already claimed. N therefore means N, with any number of workers and hosts.

A claim is a lease: an owner, a count that grows with each claim of the trial, an id, and a beat that the owner keeps
raising. Whoever watches sees a lease run out when the beat has stood still for `LEASE_S` seconds of the watcher's own
monotonic clock in which the database took writes. No two clocks are compared, and a database that nobody could reach
for a minute costs nobody a trial, nor does a machine that was suspended with watcher and workers alike.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import sqlalchemy
from optuna.storages._rdb import models
from optuna.trial import TrialState
from sqlalchemy import delete, func, orm, select

from storage.database import CLAIM_KEY, Database, read_claim
from storage.errors import ClaimLost, TuningError

BEAT_S = 5.0
LEASE_S = 45.0
# The most that a watcher counts as silence between two looks: what passed beyond that it slept through itself.
LOOK_S = 2 * BEAT_S

# So many failures in a row, without a finished trial between them, end the study: the cause is not the parameters.
MAX_CONSECUTIVE_FAILURES = 8

GivenUp = Literal["interrupted", "lost", "timeout", "error"]
# How often a trial is tried again after it was given up, by the class of the reason. A worker may be lost to anything;
# an exception tends to come again. An interruption is nobody's fault and has no bound.
MAX_RETRIES: dict[GivenUp, int] = {"lost": 5, "timeout": 2, "error": 2}

BUDGET_KEY = "budget"
# Failures of trials created before this number do not count towards the bound: the user has started the study anew.
FORGIVEN_KEY = "tuning:failures_forgiven_before"
WORKER_KEY = "worker"
GIVEN_UP_KEY = "given_up"
REASON_KEY = "reason"
FAILURE_KEY = "failure"


class TooManyFailures(TuningError):
    """The last trials all failed: the study ends, with the cause named."""


class StudyDeleted(TuningError):
    """The study is gone: there is no trial to be had."""


@dataclass(frozen=True)
class Claim:
    """The right of one worker to run one trial.

    Attributes:
        trial_id: the trial's id in the database.
        number: the trial's number in the study.
        owner: who claimed it, see `owner_name`.
        count: how many times the trial has been claimed, this one included: the fencing token.
        id: unique to this claim.
    """

    trial_id: int
    number: int
    owner: str
    count: int
    id: str


@dataclass(frozen=True)
class Standing:
    """Where a study stands, by trial states; `running` are the trials that a claim holds, not those of stock Optuna."""

    budget: int
    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int

    @property
    def finished(self) -> int:
        """Trials that count towards the budget and are over."""
        return self.complete + self.pruned

    @property
    def done(self) -> bool:
        """Whether the budget is spent."""
        return self.finished >= self.budget


def owner_name() -> str:
    """Return a name for this process that no other process has: host, process id and a random part."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


class Claims:
    """The claims of one study, as one worker makes them.

    Args:
        database: where the study is.
        study_id: the study's id there.
        owner: the name under which trials are claimed.
    """

    def __init__(self, database: Database, study_id: int, owner: str) -> None:
        self._database = database
        self._study_id = study_id
        self.owner = owner

    def set_budget(self, trials: int) -> None:
        """Set the study's total of finished trials, and forgive the failures so far."""
        self._database.set_study_user_attr(self._study_id, BUDGET_KEY, trials)

        def highest() -> int:
            with self._database.reading() as session:
                return int(session.execute(self._trials(func.count())).scalar_one())

        self._database.set_study_system_attr(self._study_id, FORGIVEN_KEY, self._database.repeated(highest))

    def next(self) -> Claim | None:
        """Take up a WAITING trial or create the next one, claimed; None when none is to be had now.

        Repeated after a lost answer, it returns the claim that was made: the id is drawn once per call.

        Raises:
            TooManyFailures: the last trials all failed.
            StudyDeleted: the study is gone.
            StorageUnavailable: the database cannot be reached.
        """
        claim_id = uuid.uuid4().hex

        def attempt() -> Claim | None:
            with self._database.transaction() as session:
                return self._next(session, claim_id)

        claim: Claim | None = self._database.repeated(attempt)
        if claim is not None:
            self._database.fence(claim.trial_id, claim.id)
        return claim

    def _next(self, session: orm.Session, claim_id: str) -> Claim | None:
        try:
            study = models.StudyModel.find_or_raise_by_id(self._study_id, session, for_update=True)
        except KeyError:
            raise StudyDeleted("the study was deleted while it ran. Start it anew with the same command.") from None
        mine = [claim for claim, _ in self._running(session) if claim.id == claim_id]
        if mine:
            return mine[0]
        # The budget bounds what is taken up, too: it may have become smaller since those trials were put back.
        standing = self._standing(session)
        if standing.finished + standing.running >= standing.budget:
            return None
        waiting = session.execute(
            self._trials(models.TrialModel, TrialState.WAITING).order_by(models.TrialModel.number).limit(1)
        ).scalar_one_or_none()
        if waiting is not None:
            return self._claim(session, waiting, claim_id)
        self._require_no_streak(session)
        trial = models.TrialModel(study_id=study.study_id, number=None, state=TrialState.RUNNING)
        session.add(trial)
        session.flush()
        trial.number = trial.count_past_trials(session)
        return self._claim(session, trial, claim_id)

    def _claim(self, session: orm.Session, trial: Any, claim_id: str) -> Claim:
        before = read_claim(session, trial.trial_id)
        claim = Claim(trial.trial_id, trial.number, self.owner, (before["count"] if before else 0) + 1, claim_id)
        trial.state = TrialState.RUNNING
        trial.datetime_start = datetime.now()
        epochs = before.get("epochs", 0) if before else 0
        held = {"owner": claim.owner, "count": claim.count, "id": claim.id, "beat": 0, "from": epochs, "epochs": epochs}
        write_claim(session, claim.trial_id, held)
        _set_user_attr(session, claim.trial_id, WORKER_KEY, claim.owner)
        return claim

    def beat(self, claim: Claim) -> None:
        """Show that the owner of a claim is alive.

        Raises:
            ClaimLost: the trial is no longer the owner's.
        """

        def attempt() -> None:
            with self._database.transaction() as session:
                held = self._held(session, claim)
                write_claim(session, claim.trial_id, {**held, "beat": held["beat"] + 1})

        self._database.repeated(attempt)

    def progressed(self, claim: Claim, epochs: int) -> None:
        """Record that a claim has moved its trial's checkpoint forward, to so many epochs.

        Raises:
            ClaimLost: the trial is no longer the owner's.
        """

        def attempt() -> None:
            with self._database.transaction() as session:
                held = self._held(session, claim)
                write_claim(session, claim.trial_id, {**held, "beat": held["beat"] + 1, "epochs": epochs})

        self._database.repeated(attempt)

    def forget_parameters(self, claim: Claim) -> None:
        """Remove the parameters of a claimed trial that has not begun to train, so that they are drawn again.

        Raises:
            ClaimLost: the trial is no longer the owner's.
        """

        def attempt() -> None:
            with self._database.transaction() as session:
                self._held(session, claim)
                parameter = models.TrialParamModel
                session.execute(delete(parameter).where(parameter.trial_id == claim.trial_id))

        self._database.repeated(attempt)

    def put_back(self, claim: Claim, reason: str, why: GivenUp = "interrupted") -> bool:
        """Put a claimed trial back into the queue, as itself; return whether it was still the claim's.

        The claim's owner calls it when asked to stop, and the launcher for a worker that it saw die.

        Args:
            claim: what is given up.
            reason: why, for the trial's attributes.
            why: the class of the reason. A trial that has used up the retries of that class is FAIL instead. A claim
                that moved the checkpoint forward starts the count anew.
        """
        attempts = 0

        def attempt() -> bool:
            nonlocal attempts
            attempts += 1
            with self._database.transaction() as session:
                try:
                    self._held(session, claim)
                except ClaimLost:
                    # Repeated after a lost answer, it finds its own work done.
                    held = read_claim(session, claim.trial_id)
                    return attempts > 1 and held is not None and (held["id"], held["count"]) == (None, claim.count)
                self._put_back(session, claim, reason, why)
                return True

        # The fence stays: nothing that this process still does for the trial is written any more.
        return bool(self._database.repeated(attempt))

    def _put_back(self, session: orm.Session, claim: Claim, reason: str, why: GivenUp) -> None:
        trial = models.TrialModel.find_or_raise_by_id(claim.trial_id, session)
        held = read_claim(session, claim.trial_id) or {}
        given_up = [*(_user_attr(session, claim.trial_id, GIVEN_UP_KEY) or [])]
        moved = held.get("epochs", 0) > held.get("from", 0)
        given_up.append({"worker": claim.owner, "class": why, "reason": reason, "moved": moved})
        _set_user_attr(session, claim.trial_id, GIVEN_UP_KEY, given_up)
        # The count and the progress stay, the id goes: no writer holds the trial now.
        epochs = held.get("epochs", 0)
        nobody = {"owner": None, "count": claim.count, "id": None, "beat": 0, "from": epochs, "epochs": epochs}
        write_claim(session, claim.trial_id, nobody)
        attempts = _in_a_row(given_up, why)
        if why == "interrupted" or attempts <= MAX_RETRIES[why]:
            trial.state = TrialState.WAITING
            return
        _set_user_attr(session, claim.trial_id, FAILURE_KEY, why)
        _set_user_attr(session, claim.trial_id, REASON_KEY, f"{reason} (given up for good after {attempts} attempts)")
        trial.state = TrialState.FAIL
        trial.datetime_complete = datetime.now()

    def running(self) -> list[tuple[Claim, int]]:
        """Return the study's RUNNING trials that hold a claim, each with its beat."""

        def attempt() -> list[tuple[Claim, int]]:
            with self._database.reading() as session:
                return self._running(session)

        result: list[tuple[Claim, int]] = self._database.repeated(attempt)
        return result

    def moved(self, owner: str) -> bool:
        """Return whether an owner's running claim has moved its trial's checkpoint forward."""

        def attempt() -> bool:
            with self._database.reading() as session:
                own = [held for _, held in self._held_by_trial(session) if held["owner"] == owner]
                return any(held.get("epochs", 0) > held.get("from", 0) for held in own)

        return bool(self._database.repeated(attempt))

    def _running(self, session: orm.Session) -> list[tuple[Claim, int]]:
        return [(claim, held["beat"]) for claim, held in self._held_by_trial(session)]

    def _held_by_trial(self, session: orm.Session) -> list[tuple[Claim, dict[str, Any]]]:
        trial, attribute = models.TrialModel, models.TrialSystemAttributeModel
        rows = session.execute(
            self._trials(trial.trial_id, TrialState.RUNNING, trial.number, attribute.value_json)
            .join(attribute, attribute.trial_id == trial.trial_id)
            .where(attribute.key == CLAIM_KEY)
            .order_by(trial.number)
        )
        all_held = [(trial_id, number, json.loads(stored)) for trial_id, number, stored in rows]
        return [
            (Claim(trial_id, number, held["owner"], held["count"], held["id"]), held)
            for trial_id, number, held in all_held
            if held["id"] is not None
        ]

    def put_back_silent(self, silent: Callable[[list[tuple[Claim, int]]], list[Claim]], reason: str) -> list[Claim]:
        """Put back the running trials whose workers are judged lost, and return their claims.

        To look is to write here: while the database takes no writes no worker can beat, and none is judged.

        Args:
            silent: picks the lost ones among the running claims, each with its beat.
            reason: why, for the trials' attributes.
        """

        def attempt() -> list[Claim]:
            with self._database.transaction() as session:
                running = self._running(session)
                beats = {claim.id: beat for claim, beat in running}
                lost = []
                for claim in silent(running):
                    with contextlib.suppress(ClaimLost):
                        # Its row locked, it may turn out to have beaten since; with SQLite it cannot have.
                        if self._held(session, claim)["beat"] == beats[claim.id]:
                            self._put_back(session, claim, reason, "lost")
                            lost.append(claim)
                return lost

        result: list[Claim] = self._database.repeated(attempt)
        return result

    def put_back_of(self, owner: str, reason: str, why: GivenUp = "interrupted") -> list[int]:
        """Put back what a worker that is known to be dead had claimed; return the trials' numbers."""
        mine = [claim for claim, _ in self.running() if claim.owner == owner]
        return [claim.number for claim in mine if self.put_back(claim, reason, why)]

    def standing(self) -> Standing:
        """Return where the study stands."""

        def attempt() -> Standing:
            with self._database.reading() as session:
                return self._standing(session)

        result: Standing = self._database.repeated(attempt)
        return result

    def _standing(self, session: orm.Session) -> Standing:
        trial, held = models.TrialModel, models.TrialSystemAttributeModel
        # One statement: PostgreSQL shows each statement the rows as of its own moment, and a trial that finishes
        # between two of them would be counted by neither.
        claimed = held.value_json.is_not(None)
        rows = session.execute(
            self._trials(trial.state, claimed, func.count())
            .join(held, (held.trial_id == trial.trial_id) & (held.key == CLAIM_KEY), isouter=True)
            .group_by(trial.state, claimed)
        )
        count: dict[TrialState, int] = {}
        running = 0
        for state, is_claimed, number in rows:
            count[state] = count.get(state, 0) + number
            running += number if state == TrialState.RUNNING and is_claimed else 0
        attribute = models.StudyUserAttributeModel
        budget = session.execute(
            select(attribute.value_json).where(attribute.study_id == self._study_id, attribute.key == BUDGET_KEY)
        ).scalar_one_or_none()
        return Standing(
            budget=int(json.loads(budget)) if budget is not None else 0,
            complete=count.get(TrialState.COMPLETE, 0),
            pruned=count.get(TrialState.PRUNED, 0),
            failed=count.get(TrialState.FAIL, 0),
            running=running,
            waiting=count.get(TrialState.WAITING, 0),
        )

    def _require_no_streak(self, session: orm.Session) -> None:
        attribute = models.StudySystemAttributeModel
        forgiven = session.execute(
            select(attribute.value_json).where(attribute.study_id == self._study_id, attribute.key == FORGIVEN_KEY)
        ).scalar_one_or_none()
        trial = models.TrialModel
        last = session.execute(
            self._trials(trial, TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED)
            .where(trial.number >= (int(json.loads(forgiven)) if forgiven is not None else 0))
            .order_by(trial._datetime_complete_utc.desc(), trial.number.desc())
            .limit(MAX_CONSECUTIVE_FAILURES)
        )
        rows = list(last.scalars())
        if len(rows) < MAX_CONSECUTIVE_FAILURES or any(row.state != TrialState.FAIL for row in rows):
            return
        reason = _user_attr(session, rows[0].trial_id, REASON_KEY) or "no reason was recorded"
        raise TooManyFailures(
            f"the last {MAX_CONSECUTIVE_FAILURES} trials failed, so the study ends here. The last one, trial"
            f" {rows[0].number}: {reason}. Mend the cause and give the same command again."
        )

    def _trials(self, what: Any, *states_or_more: Any) -> sqlalchemy.Select[Any]:
        states = [item for item in states_or_more if isinstance(item, TrialState)]
        columns = [item for item in states_or_more if not isinstance(item, TrialState)]
        query = select(what, *columns).where(models.TrialModel.study_id == self._study_id)
        return query.where(models.TrialModel.state.in_(states)) if states else query

    def _held(self, session: orm.Session, claim: Claim) -> dict[str, Any]:
        trial = models.TrialModel
        query = select(trial.state).where(trial.trial_id == claim.trial_id).with_for_update()
        state = session.execute(query).scalar_one_or_none()
        held = read_claim(session, claim.trial_id)
        if state != TrialState.RUNNING or held is None or held["id"] != claim.id:
            raise ClaimLost(f"trial {claim.number} is no longer this worker's: it was given to another one")
        return held


@dataclass
class LeaseWatch:
    """Sees leases run out, by the watcher's own clock.

    Args:
        claims: the study's claims.
        clock: monotonic seconds.
        lease_s: how long a beat may stand still.
    """

    claims: Claims
    clock: Callable[[], float] = time.monotonic
    lease_s: float = LEASE_S
    # By claim: its last beat, and for how long it was seen to stand still.
    _silence: dict[str, tuple[int, float]] = field(default_factory=dict)
    _looked: float | None = None

    def put_back_expired(self) -> list[Claim]:
        """Look at all running claims, put back those whose beat has stood still, and return them; call it often."""
        return self.claims.put_back_silent(self._silent, f"its worker was silent for {self.lease_s:g} s")

    def _silent(self, running: list[tuple[Claim, int]]) -> list[Claim]:
        now = self.clock()
        # A watcher that was stopped, or that waited for the database, does not know what the others did meanwhile.
        passed = min(now - self._looked, LOOK_S) if self._looked is not None else 0.0
        before, self._looked, self._silence = self._silence, now, {}
        for claim, beat in running:
            last_beat, silent_s = before.get(claim.id, (beat, 0.0))
            self._silence[claim.id] = (beat, silent_s + passed if beat == last_beat else 0.0)
        return [claim for claim, _ in running if self._silence[claim.id][1] > self.lease_s]


def _in_a_row(given_up: list[dict[str, Any]], why: GivenUp) -> int:
    """Return how often a trial was given up for reasons of one class since its checkpoint last moved."""
    count = 0
    for one in given_up:
        count = (0 if one["moved"] else count) + int(one["class"] == why)
    return count


def write_claim(session: orm.Session, trial_id: int, claim: dict[str, Any]) -> None:
    """Store a trial's claim in the session's transaction."""
    _set_attr(session, models.TrialSystemAttributeModel, trial_id, CLAIM_KEY, claim)


def _set_user_attr(session: orm.Session, trial_id: int, key: str, value: Any) -> None:
    _set_attr(session, models.TrialUserAttributeModel, trial_id, key, value)


def _set_attr(session: orm.Session, model: Any, trial_id: int, key: str, value: Any) -> None:
    row = session.execute(select(model).where(model.trial_id == trial_id, model.key == key)).scalar_one_or_none()
    if row is None:
        session.add(model(trial_id=trial_id, key=key, value_json=json.dumps(value)))
    else:
        row.value_json = json.dumps(value)


def _user_attr(session: orm.Session, trial_id: int, key: str) -> Any:
    attribute = models.TrialUserAttributeModel
    query = select(attribute.value_json).where(attribute.trial_id == trial_id, attribute.key == key)
    stored = session.execute(query).scalar_one_or_none()
    return json.loads(stored) if stored is not None else None
