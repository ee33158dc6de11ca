"""The rows that claims are made of, as one transaction sees them: in a database, or in this process's memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.attributes import Phase

UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)


@dataclass(frozen=True)
class TrialRow:
    """A trial that is RUNNING or WAITING.

    Attributes:
        trial_id: its id in the database.
        number: its number in the study.
        state: Optuna's.
        claim: what is stored of its claims; None for a trial that this service never claimed.
        frozen: the epochs after which a WAITING trial was frozen, or None.
        phase: what it is for.
    """

    trial_id: int
    number: int
    state: TrialState
    claim: dict[str, Any] | None
    frozen: int | None
    phase: Phase = attributes.SEARCH


@dataclass(frozen=True)
class Failed:
    """A trial that is FAIL.

    Attributes:
        trial_id: its id in the database.
        number: its number in the study.
        after: the study's last report when it failed; None where something else than this service made it FAIL, or an
            earlier version, which did not say.
        at: when it failed, by the clock of its host.
    """

    trial_id: int
    number: int
    after: int | None
    at: datetime | None


@dataclass(frozen=True)
class Counts:
    """How many trials a study has, by state; `running` are those that a claim holds, not those of stock Optuna."""

    complete: int
    pruned: int
    failed: int
    running: int
    waiting: int
    frozen: int


class Rows(Protocol):
    """One study's rows in one transaction."""

    def lock(self) -> None:
        """Keep other transactions from creating and taking up trials until this one ends; KeyError: no such study."""

    def counts(self, phase: Phase) -> Counts:
        """Return the study's trials of a phase counted, all at one moment."""

    def trainings(self, phase: Phase) -> list[Any]:
        """Return what the trials of a phase train with that are not FAIL, by number: `attributes.TRAINING`."""

    def active(self) -> list[TrialRow]:
        """Return the trials that are RUNNING, or WAITING without being frozen, by number."""

    def frozen(self, number: int) -> TrialRow | None:
        """Return the trial of that number if it is frozen."""

    def unfinished(self) -> set[int]:
        """Return the numbers of the trials that are RUNNING or WAITING."""

    def next_number(self) -> int:
        """Return the number that the next trial will have."""

    def failed_in_a_row(self, since: int) -> list[Failed]:
        """Return the trials that failed since the last report of one that did not, latest first.

        Args:
            since: the number from which on trials count.
        """

    def create(self) -> TrialRow:
        """Make the next trial, RUNNING."""

    def lock_state(self, trial_id: int) -> TrialState | None:
        """Return a trial's state, which stays so until the transaction ends; None if it is gone."""

    def begin(self, trial_id: int) -> None:
        """Make a trial RUNNING; one that began before keeps its start, another starts now."""

    def wait(self, trial_id: int) -> None:
        """Make a trial WAITING."""

    def fail(self, trial_id: int) -> None:
        """Make a trial FAIL, as of now and after the study's last report."""

    def forget_parameters(self, trial_id: int) -> None:
        """Remove a trial's parameters."""

    def system_attr(self, trial_id: int, key: str) -> Any:
        """Return a trial's system attribute, or None."""

    def set_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a trial's system attribute."""

    def user_attr(self, trial_id: int, key: str) -> Any:
        """Return a trial's user attribute, also one of an earlier version, or None; see `storage.attributes.read`."""

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a trial's user attribute."""

    def study_user_attrs(self) -> Mapping[str, Any]:
        """Return the study's user attributes."""

    def study_system_attrs(self) -> Mapping[str, Any]:
        """Return the study's system attributes."""

    def set_study_user_attr(self, key: str, value: Any) -> None:
        """Set a user attribute of the study."""

    def set_study_system_attr(self, key: str, value: Any) -> None:
        """Set a system attribute of the study."""


class Ledger(Protocol):
    """Where claims are kept: `storage.database.Database`, or `storage.rows.memory_rows.Memory`."""

    def rows(self, study_id: int, *, write: bool, rides: bool = False) -> AbstractContextManager[Rows]:
        """Yield a study's rows inside one transaction, undone by any exception where the ledger can undo.

        Args:
            study_id: the study's id.
            write: whether they are changed.
            rides: whether a power cut may undo that, too: it is on the disk with the next change that does not ride.
        """

    def repeated(self, call: Callable[[], Any]) -> Any:
        """Return `call()`, repeated while the ledger is busy or away."""

    def fence(self, trial_id: int, claim_id: str) -> None:
        """From now on, let this process write to a trial only while it holds the claim."""

    def together(self, trial_id: int) -> AbstractContextManager[None]:
        """Let what this thread writes of a trial inside the block be one transaction, at its end."""


def is_frozen(trial: FrozenTrial) -> bool:
    """Return whether a trial waits until it is thawed."""
    return trial.state == TrialState.WAITING and trial.system_attrs.get(attributes.FROZEN) is not None


def counted(trials: Any) -> Counts:
    """Return the counts of trials given as state, whether claimed, whether frozen, and how many."""
    count = [0] * len(TrialState)
    running = frozen = 0
    for state, is_claimed, is_frozen, number in trials:
        count[state] += number
        running += number if state == TrialState.RUNNING and is_claimed else 0
        frozen += number if state == TrialState.WAITING and is_frozen else 0
    return Counts(
        complete=count[TrialState.COMPLETE],
        pruned=count[TrialState.PRUNED],
        failed=count[TrialState.FAIL],
        running=running,
        waiting=count[TrialState.WAITING] - frozen,
        frozen=frozen,
    )


def in_a_row(failed: Iterable[Failed], reported: int, finished: datetime | None) -> list[Failed]:
    """Return those that failed last, latest first: after the last report of a trial that did not.

    What does not say after which report it failed counts while no trial finished later, by the clocks of their hosts.

    Args:
        failed: a study's.
        reported: the last report of its other trials; 0 for none.
        finished: when the last of these finished; None for none.
    """

    def is_last(one: Failed) -> bool:
        if one.after is not None:
            return one.after >= reported
        return finished is None or (one.at is not None and one.at > finished)

    last = [one for one in failed if is_last(one)]
    return sorted(last, key=lambda one: (-1 if one.after is None else one.after, one.number), reverse=True)
