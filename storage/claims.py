"""The study's budget: each trial created or taken up exactly once.

A study's budget is an attribute of the study. A free worker asks for its next trial in one write transaction that
either takes up the lowest trial that was put back, or does what the strategy chose: takes up a frozen trial or, while
fewer trials than the budget exist that are not FAIL, creates the next one already claimed. N therefore means N, with
any number of workers and hosts.

A frozen trial was put back like an interrupted one, with a mark that says so: it waits until it is chosen.

A trial is of a phase. Those of the search are created as workers ask for them, and the budget counts them alone; those
of another phase are enqueued all at once, with what they train with, and each is taken up. Whoever claims does so in
one phase; everything else is the same for all.

What a claim decides is on the disk before its caller is told. Its beats ride, see `storage.database`: after a power cut
whoever beat is gone as well.

A claim is a lease: an owner, a count that grows with each claim of the trial, an id, and a beat that the owner keeps
raising. How it is kept, and how it runs out, is `storage.leases`.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from optuna.trial import TrialState

from storage import attributes
from storage.attributes import Phase
from storage.errors import ClaimLost, TuningError
from storage.rows.giving_up import GivenUp, give_up
from storage.rows.ledger import Counts, Ledger, Rows, TrialRow
from storage.settings import NODE_VARIABLE

# So many failures in a row, without a report of another trial between them, end the study: the cause is not the
# parameters. A frozen trial has reported, and so has one that still trains: that all is well shows before one is over.
# Those that parameters do bring about may follow each other by chance; when so many do, the whole space is wrong.
MAX_CONSECUTIVE_FAILURES = 8
MAX_CONSECUTIVE_BAD_PARAMETERS = 32

T = TypeVar("T")


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
        ends: whether the trial was frozen, and is only to be recorded as over.
        phase: what the trial is for.
    """

    trial_id: int
    number: int
    owner: str
    count: int
    id: str
    ends: bool = False
    phase: Phase = attributes.SEARCH


@dataclass(frozen=True)
class Start:
    """The choice to create the next trial.

    Attributes:
        params: the parameters that it is to have, by name; the sampler draws what is left out.
        number: the number that it will have, where the choice holds for that trial alone: two workers that saw the
            same study would start the same configuration twice. None for any.
    """

    params: Mapping[str, Any] = field(default_factory=dict)
    number: int | None = None


@dataclass(frozen=True)
class Thaw:
    """The choice to take up a frozen trial.

    Attributes:
        number: the trial's.
    """

    number: int


@dataclass(frozen=True)
class End:
    """The choice to take up a frozen trial that is only to be recorded as over.

    Attributes:
        number: the trial's.
    """

    number: int


Choice = Start | Thaw | End


@dataclass(frozen=True)
class Planned:
    """A trial of another phase than the search, before it is there.

    Attributes:
        params: all of its parameters, by name.
        training: what it trains with, `studies.phases.Training` as JSON; no two of a phase train with the same.
    """

    params: Mapping[str, Any]
    training: Mapping[str, Any]


@dataclass(frozen=True)
class Standing(Counts):
    """Where a study stands in one phase: its trials by state, and how many there are to be."""

    budget: int

    @property
    def started(self) -> int:
        """Trials that count towards the budget, over or not."""
        return self.finished + self.running + self.waiting + self.frozen

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
    return f"{os.environ.get(NODE_VARIABLE) or socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


def node_of(owner: str) -> str:
    """Return the host, or the node of a cluster, of which the process of that name is one."""
    return owner.rpartition(":")[0].rpartition(":")[0]


class Claims:
    """The claims of one study, as one worker makes them.

    Args:
        ledger: where the study is.
        study_id: the study's id there.
        owner: the name under which trials are claimed.
        clock: seconds since 1970. It says when trials were worked on, to people; no lease hangs on it.
        uid: the study's own for good. SQLite gives the id of a deleted study to the next one, which has another.
        phase: whose trials are claimed and counted; what is put back, and who is alive, is asked of all.
    """

    def __init__(
        self,
        ledger: Ledger,
        study_id: int,
        owner: str,
        clock: Callable[[], float] = time.time,
        *,
        uid: str | None = None,
        phase: Phase = attributes.SEARCH,
    ) -> None:
        self._ledger = ledger
        self._study_id = study_id
        self.owner = owner
        self._clock = clock
        self._uid = uid
        self.phase: Phase = phase

    def set_budget(self, trials: int, also: Mapping[str, Any] | None = None) -> None:
        """Set the study's total of finished trials, and forgive the failures so far.

        Args:
            trials: the total.
            also: user attributes of the study that hold for this total alone: set with it, or not at all.
        """

        def write(rows: Rows) -> None:
            rows.lock()
            for key, value in {attributes.BUDGET: trials, **(also or {})}.items():
                rows.set_study_user_attr(key, value)
            rows.set_study_system_attr(attributes.FORGIVEN, rows.next_number())

        self._writing(write)

    def enqueue(self, planned: Sequence[Planned]) -> int:
        """Let trials of this phase wait to be taken up, but for those that are there and not FAIL; return how many.

        All of them, or none; asked for again, it finds its own.

        Raises:
            StudyDeleted: the study is gone.
        """
        assert self.phase != attributes.SEARCH, "its trials are created as workers ask for them"

        def write(rows: Rows) -> int:
            _lock(rows)
            there = rows.trainings(self.phase)
            missing = [one for one in planned if one.training not in there]
            for one in missing:
                created = rows.create()
                rows.set_system_attr(created.trial_id, attributes.PHASE, self.phase)
                rows.set_system_attr(created.trial_id, attributes.TRAINING, dict(one.training))
                rows.set_system_attr(created.trial_id, attributes.FIXED_PARAMETERS, dict(one.params))
                rows.wait(created.trial_id)
            return len(missing)

        return self._writing(write)

    def _reading(self, read: Callable[[Rows], T]) -> T:
        def attempt() -> T:
            with self._ledger.rows(self._study_id, write=False) as rows:
                return read(rows)

        result: T = self._ledger.repeated(attempt)
        return result

    def _writing(self, write: Callable[[Rows], T], *, rides: bool = False) -> T:
        def attempt() -> T:
            with self._ledger.rows(self._study_id, write=True, rides=rides) as rows:
                return write(rows)

        result: T = self._ledger.repeated(attempt)
        return result

    def next(self, choice: Choice | None = Start()) -> Claim | None:
        """Take up a trial that was put back, or do what was chosen; None when neither is to be had now.

        Repeated after a lost answer, it returns the claim that was made: the id is drawn once per call.

        Args:
            choice: what to do where no trial was put back; it may have been overtaken since it was made. None for
                nothing else.

        Raises:
            TooManyFailures: the last trials all failed.
            StudyDeleted: the study is gone.
            StorageUnavailable: the database cannot be reached.
        """
        claim_id = uuid.uuid4().hex
        claim = self._writing(lambda rows: self._next(rows, choice, claim_id))
        if claim is not None:
            self._ledger.fence(claim.trial_id, claim.id)
        return claim

    def _next(self, rows: Rows, choice: Choice | None, claim_id: str) -> Claim | None:
        _lock(rows)
        active = rows.active()
        mine = [claim for claim, _ in _running(active) if claim.id == claim_id]
        if mine:
            return mine[0]
        # The budget bounds what is taken up, too: it may have become smaller since those trials were put back.
        standing = self._standing(rows)
        if standing.finished + standing.running >= standing.budget:
            return None
        waiting = (row for row in active if row.state == TrialState.WAITING and row.phase == self.phase)
        put_back = next(waiting, None)
        if put_back is not None:
            return self._claim(rows, put_back, claim_id)
        if self.phase != attributes.SEARCH:
            return None
        if isinstance(choice, Thaw | End):
            frozen = rows.frozen(choice.number)
            return self._claim(rows, frozen, claim_id, ends=isinstance(choice, End)) if frozen is not None else None
        if choice is None or standing.started >= standing.budget:
            return None
        if choice.number not in (None, rows.next_number()):
            return None
        if standing.failed >= MAX_CONSECUTIVE_FAILURES:
            self._require_no_streak(rows)
        created = rows.create()
        if choice.params:
            rows.set_system_attr(created.trial_id, attributes.FIXED_PARAMETERS, dict(choice.params))
        return self._claim(rows, created, claim_id)

    def _claim(self, rows: Rows, trial: TrialRow, claim_id: str, *, ends: bool = False) -> Claim:
        before = trial.claim or {}
        count = before.get("count", 0) + 1
        claim = Claim(trial.trial_id, trial.number, self.owner, count, claim_id, ends, trial.phase)
        rows.begin(trial.trial_id)
        epochs, now = before.get("epochs", 0), round(self._clock(), 3)
        held = {"owner": claim.owner, "count": claim.count, "id": claim.id, "beat": 0, "from": epochs, "epochs": epochs}
        held |= {"begun": now, "seen": now, **({attributes.ENDS: True} if ends else {})}
        rows.set_system_attr(claim.trial_id, attributes.CLAIM, held)
        # A trial at its end stays frozen until that is recorded: given up before, it is not trained on.
        if trial.frozen is not None and not ends:
            rows.set_system_attr(claim.trial_id, attributes.FROZEN, None)
        if not ends:
            rows.set_user_attr(claim.trial_id, attributes.WORKER, claim.owner)
            rows.set_study_system_attr(attributes.BEGUN, now)
        return claim

    def unfinished(self) -> set[int]:
        """Return the numbers of the trials that run or wait now."""
        return self._reading(lambda rows: rows.unfinished())

    def beat(self, claim: Claim) -> None:
        """Show that the owner of a claim is alive.

        Raises:
            ClaimLost: the trial is no longer the owner's.
        """
        self._writing(lambda rows: self._beat(rows, claim), rides=True)

    def secure(self, claim: Claim) -> None:
        """Have on the disk what a claimed trial has written so far: what is said of it elsewhere must not outlive that.

        Raises:
            ClaimLost: the trial is no longer the owner's.
        """
        self._writing(lambda rows: self._beat(rows, claim))

    def progressed(self, claim: Claim, epochs: int) -> None:
        """Record that a claim has moved its trial's checkpoint forward, to so many epochs.

        Raises:
            ClaimLost: the trial is no longer the owner's.
        """
        self._writing(lambda rows: self._beat(rows, claim, epochs=epochs), rides=True)

    def together(self, claim: Claim) -> AbstractContextManager[None]:
        """Let what this thread writes of a claimed trial inside the block be one transaction, at its end.

        Nobody sees it before, this process neither; the state in which the trial ends takes it along.

        Raises:
            ClaimLost: at the end: the trial is no longer the owner's.
            StorageUnavailable: likewise: the database cannot be reached.
        """
        return self._ledger.together(claim.trial_id)

    def _beat(self, rows: Rows, claim: Claim, **more: int) -> None:
        held = _held(rows, claim)
        shown = {"beat": held["beat"] + 1, "seen": round(self._clock(), 3), **more}
        rows.set_system_attr(claim.trial_id, attributes.CLAIM, {**held, **shown})

    def forget_parameters(self, claim: Claim) -> None:
        """Remove the parameters of a claimed trial that has not begun to train, so that they are drawn again.

        Raises:
            ClaimLost: the trial is no longer the owner's.
        """

        def forget(rows: Rows) -> None:
            _held(rows, claim)
            rows.forget_parameters(claim.trial_id)
            rows.set_system_attr(claim.trial_id, attributes.FIXED_PARAMETERS, {})

        self._writing(forget)

    def put_back(self, claim: Claim, reason: str, why: GivenUp = "interrupted") -> bool:
        """Put a claimed trial back into the queue, as itself; return whether it was still the claim's.

        The claim's owner calls it when asked to stop or when its strategy freezes the trial, and the launcher for a
        worker that it saw die.

        Args:
            claim: what is given up.
            reason: why, for the trial's attributes.
            why: the class of the reason. A trial that has used up the retries of that class is FAIL instead. A claim
                that moved the checkpoint forward starts the count anew.
        """
        attempts = 0

        def put_back(rows: Rows) -> bool:
            nonlocal attempts
            attempts += 1
            try:
                _held(rows, claim)
            except ClaimLost:
                # Repeated after a lost answer, it finds its own work done.
                held = rows.system_attr(claim.trial_id, attributes.CLAIM)
                return attempts > 1 and held is not None and (held["id"], held["count"]) == (None, claim.count)
            give_up(rows, claim.trial_id, reason, why)
            return True

        # The fence stays: nothing that this process still does for the trial is written any more.
        return self._writing(put_back)

    def running(self) -> list[tuple[Claim, int]]:
        """Return the study's RUNNING trials that hold a claim, each with its beat."""
        return self._reading(lambda rows: _running(rows.active()))

    def moved(self, owner: str) -> bool:
        """Return whether an owner's running claim has moved its trial's checkpoint forward."""
        claims = [row.claim for row in self._reading(lambda rows: rows.active()) if row.state == TrialState.RUNNING]
        own = [held for held in claims if held is not None and held["owner"] == owner]
        return any(held.get("epochs", 0) > held.get("from", 0) for held in own)

    def put_back_silent(self, silent: Callable[[list[tuple[Claim, int]]], list[Claim]], reason: str) -> list[Claim]:
        """Put back the running trials whose workers are judged lost, and return their claims.

        To look is to write here: while the database takes no writes no worker can beat, and none is judged.

        Args:
            silent: picks the lost ones among the running claims, each with its beat.
            reason: why, for the trials' attributes.
        """

        def put_back(rows: Rows) -> list[Claim]:
            running = _running(rows.active())
            beats = {claim.id: beat for claim, beat in running}
            lost = []
            for claim in silent(running):
                with contextlib.suppress(ClaimLost):
                    # Its row locked, it may turn out to have beaten since; with SQLite it cannot have.
                    if _held(rows, claim)["beat"] == beats[claim.id]:
                        give_up(rows, claim.trial_id, reason, "lost")
                        lost.append(claim)
            return lost

        return self._writing(put_back)

    def put_back_of(self, owner: str, reason: str, why: GivenUp = "interrupted") -> list[int]:
        """Put back what a worker that is known to be dead had claimed; return the trials' numbers."""
        mine = [claim for claim, _ in self.running() if claim.owner == owner]
        return [claim.number for claim in mine if self.put_back(claim, reason, why)]

    def standing(self) -> Standing:
        """Return where the study stands.

        Raises:
            StudyDeleted: another study has its id.
        """
        return self._reading(self._standing)

    def _standing(self, rows: Rows) -> Standing:
        attrs = rows.study_user_attrs()
        if self._uid is not None and attributes.of_study(attrs, attributes.UID, str) != self._uid:
            raise _deleted()
        counts = rows.counts(self.phase)
        enqueued = counts.complete + counts.pruned + counts.running + counts.waiting + counts.frozen
        asked = attributes.of_study(attrs, attributes.BUDGET, int) or 0
        return Standing(**asdict(counts), budget=asked if self.phase == attributes.SEARCH else enqueued)

    def _require_no_streak(self, rows: Rows) -> None:
        failed = rows.failed_in_a_row(int(rows.study_system_attrs().get(attributes.FORGIVEN, 0)))
        others = 0
        for place, one in enumerate(failed, start=1):
            others += rows.user_attr(one.trial_id, attributes.FAILURE) not in (
                attributes.DIVERGED,
                attributes.OUT_OF_MEMORY,
            )
            if others >= MAX_CONSECUTIVE_FAILURES or place >= MAX_CONSECUTIVE_BAD_PARAMETERS:
                break
        else:
            return
        last = failed[0]
        reason = rows.user_attr(last.trial_id, attributes.REASON) or "no reason was recorded"
        raise TooManyFailures(
            f"the last {place} trials failed, so the study ends here. The last one, trial {last.number}: {reason}. Mend"
            " the cause and give the same command again."
        )


def _lock(rows: Rows) -> None:
    try:
        rows.lock()
    except KeyError:
        raise _deleted() from None


def _deleted() -> StudyDeleted:
    return StudyDeleted("the study was deleted while it ran. Start it anew with the same command.")


def _running(active: list[TrialRow]) -> list[tuple[Claim, int]]:
    return [
        (_claim_of(row, row.claim), row.claim["beat"])
        for row in active
        if row.state == TrialState.RUNNING and row.claim is not None and row.claim["id"] is not None
    ]


def _claim_of(row: TrialRow, held: Mapping[str, Any]) -> Claim:
    ends = bool(held.get(attributes.ENDS))
    return Claim(row.trial_id, row.number, held["owner"], held["count"], held["id"], ends, row.phase)


def _held(rows: Rows, claim: Claim) -> dict[str, Any]:
    state = rows.lock_state(claim.trial_id)
    if state is None:
        raise ClaimLost(f"trial {claim.number} is gone: its study was deleted or renamed")
    held: dict[str, Any] | None = rows.system_attr(claim.trial_id, attributes.CLAIM)
    if state != TrialState.RUNNING or held is None or held["id"] != claim.id:
        raise ClaimLost(f"trial {claim.number} is no longer this worker's: it was given to another one")
    return held
