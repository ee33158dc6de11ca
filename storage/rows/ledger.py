"""The rows that claims are made of, as one transaction sees them: in a database, or in this process's memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from storage import attributes

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
    """

    trial_id: int
    number: int
    state: TrialState
    claim: dict[str, Any] | None
    frozen: int | None


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

    def counts(self) -> Counts:
        """Return the study's trials counted, all at one moment."""

    def active(self) -> list[TrialRow]:
        """Return the trials that are RUNNING, or WAITING without being frozen, by number."""

    def frozen(self, number: int) -> TrialRow | None:
        """Return the trial of that number if it is frozen."""

    def unfinished(self) -> set[int]:
        """Return the numbers of the trials that are RUNNING or WAITING."""

    def next_number(self) -> int:
        """Return the number that the next trial will have."""

    def last_finished(self, count: int, since: int) -> list[tuple[int, int, TrialState]]:
        """Return id, number and state of the last trials to finish, latest first, of those numbered `since` or more."""

    def create(self) -> TrialRow:
        """Make the next trial, RUNNING."""

    def lock_state(self, trial_id: int) -> TrialState | None:
        """Return a trial's state, which stays so until the transaction ends; None if it is gone."""

    def begin(self, trial_id: int) -> None:
        """Make a trial RUNNING; one that began before keeps its start, another starts now."""

    def wait(self, trial_id: int) -> None:
        """Make a trial WAITING."""

    def fail(self, trial_id: int) -> None:
        """Make a trial FAIL, as of now."""

    def forget_parameters(self, trial_id: int) -> None:
        """Remove a trial's parameters."""

    def system_attr(self, trial_id: int, key: str) -> Any:
        """Return a trial's system attribute, or None."""

    def set_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Set a trial's system attribute."""

    def user_attr(self, trial_id: int, key: str) -> Any:
        """Return a trial's user attribute, or None."""

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

    def rows(self, study_id: int, *, write: bool) -> AbstractContextManager[Rows]:
        """Yield a study's rows inside one transaction, undone by any exception where the ledger can undo."""

    def repeated(self, call: Callable[[], Any]) -> Any:
        """Return `call()`, repeated while the ledger is busy or away."""

    def fence(self, trial_id: int, claim_id: str) -> None:
        """From now on, let this process write to a trial only while it holds the claim."""


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
