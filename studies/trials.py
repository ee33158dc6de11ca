"""What trials say of themselves: whether one runs, its curve so far, the best one, how many epochs all trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.attributes import Phase, phase_in
from storage.leases import LEASE_S
from storage.rows.ledger import is_frozen as is_frozen
from studies.objectives.objective import Objective


def phase_of(trial: FrozenTrial) -> Phase:
    """Return what a trial is for."""
    return phase_in(trial.system_attrs)


def of_phase(trials: Iterable[FrozenTrial], phase: Phase = attributes.SEARCH) -> list[FrozenTrial]:
    """Return those of some trials that are of a phase."""
    return [trial for trial in trials if phase_of(trial) == phase]


def as_searched(trials: Iterable[FrozenTrial]) -> list[FrozenTrial]:
    """Return a study's trials by number as its search sees them: those of other phases have failed and tell nothing."""
    return [trial if phase_of(trial) == attributes.SEARCH else _blank(trial) for trial in trials]


def audited_after(trial: FrozenTrial) -> int | None:
    """Return the epoch after which the strategy ended a trial that was trained on all the same; None for any other."""
    return attributes.typed(trial.system_attrs.get(attributes.AUDITED), int)


def as_decided(trial: FrozenTrial) -> FrozenTrial:
    """Return a trial as the search sees it: one that is audited was pruned, and nothing is known of it since."""
    epochs = audited_after(trial)
    if epochs is None:
        return trial
    shown = copy(trial)
    shown.state = TrialState.PRUNED
    shown.intermediate_values = {at: value for at, value in trial.intermediate_values.items() if at <= epochs}
    shown.values = [shown.intermediate_values[epochs]] if epochs in shown.intermediate_values else None
    return shown


def _blank(trial: FrozenTrial) -> FrozenTrial:
    shown = copy(trial)
    shown.state, shown.values = TrialState.FAIL, None
    shown.params, shown.distributions, shown.intermediate_values = {}, {}, {}
    shown.user_attrs, shown.system_attrs = {}, {}
    return shown


def is_running(trial: FrozenTrial) -> bool:
    """Return whether a trial trains, or will be continued without asking."""
    if trial.state == TrialState.WAITING:
        return not is_frozen(trial)
    held = trial.system_attrs.get(attributes.CLAIM)
    return (
        trial.state == TrialState.RUNNING
        and held is not None
        and held["id"] is not None
        and not held.get(attributes.ENDS)
    )


def is_alive(trial: FrozenTrial, now: float) -> bool:
    """Return whether a trial's worker showed a sign of life within a lease, or another program runs it.

    It compares clocks, for people alone: a host whose clock is behind by more than a lease is taken for dead, and one
    whose clock is ahead for alive as much longer. No lease runs out by it: see `storage.leases`.

    Args:
        trial: as it is recorded.
        now: seconds since 1970, by the clock of whoever asks.
    """
    if trial.state != TrialState.RUNNING:
        return False
    held = trial.system_attrs.get(attributes.CLAIM)
    # An earlier version did not say when it was last seen.
    return held is None or (held["id"] is not None and now - held.get("seen", now) <= LEASE_S)


def is_foreign(trial: FrozenTrial) -> bool:
    """Return whether a trial is run by another program, which nobody here counts on."""
    return trial.state == TrialState.RUNNING and trial.system_attrs.get(attributes.CLAIM) is None


def values_of(trial: FrozenTrial) -> list[float]:
    """Return the values after epochs 1, 2, and so on, as far as none is missing."""
    values = trial.intermediate_values
    return [values[epoch] for epoch in range(1, len(values) + 1) if epoch in values]


def fixed_parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return the parameters that a trial which was just started is to have."""
    fixed: dict[str, Any] = trial.system_attrs.get(attributes.FIXED_PARAMETERS, {})
    return fixed


def incumbent(trials: Sequence[FrozenTrial], objective: Objective) -> FrozenTrial | None:
    """Return the trial that reported the best value, the earliest of equals; None before any report."""
    best = [(objective.best(trial.intermediate_values.values()), trial) for trial in trials]
    reported = [(value, trial) for value, trial in best if value is not None and trial.state != TrialState.FAIL]
    return min(reported, key=lambda one: (objective.rank(one[0]), one[1].number))[1] if reported else None


def spent_epochs(trials: Sequence[FrozenTrial]) -> int:
    """Return how many epochs the trials trained, as far as they reported."""
    return sum(len(trial.intermediate_values) for trial in trials)
