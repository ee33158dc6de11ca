"""Trials that are trained to their end although the strategy has ended them: in them alone it is seen what that costs.

A study's `audit` is the share of its trials that are finished in any case. Which these are, each trial's seed says,
before anything is known of it, so that of what is pruned a fair sample is finished. What the strategy prunes goes on at
once; what it freezes is left to it, and goes on where it would be ended as frozen. The epoch of that decision is
recorded with the trial. Of what it does afterwards the strategy and the sampler see nothing, see
`studies.trials.as_decided`: they decide of the others as if it had been pruned. It counts like any other trial, and may
be the study's best.

Its epochs are of the study's budget, set aside from the beginning, since they come last where trials are frozen.
"""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from studies.spec import StudySpec, derive_seed


def is_drawn(spec: StudySpec, number: int) -> bool:
    """Return whether the trial of a number is finished in any case."""
    return spec.audit > 0 and derive_seed(spec.seed, "audit", number) < spec.audit * 2**32


def least_epochs(spec: StudySpec, trials: int) -> int:
    """Return how many epochs so many trials train at least: each one, and all by the best and those that are drawn."""
    drawn = sum(is_drawn(spec, number) for number in range(trials))
    return trials + min(drawn + 1, trials) * (spec.epochs - 1)


def set_aside(spec: StudySpec, trials: Sequence[FrozenTrial], trials_left: int, best: FrozenTrial | None) -> int:
    """Return how many epochs the drawn trials train still, but for the best one's, of which that is known anyway.

    Args:
        spec: the study's.
        trials: the search's by number, with all that they trained.
        trials_left: how many may still be started, each of which is known to train an epoch.
        best: the best of those trials.
    """
    if not spec.audit:
        return 0
    known = best.number if best is not None else None
    under_way = (trial for trial in trials if not trial.state.is_finished() and trial.number != known)
    left = sum(spec.epochs - len(one.intermediate_values) for one in under_way if is_drawn(spec, one.number))
    to_come = sum(is_drawn(spec, number) for number in range(len(trials), len(trials) + trials_left))
    return left + to_come * (spec.epochs - 1)
