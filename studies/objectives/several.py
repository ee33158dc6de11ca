"""Two objectives: how good a model is and what it costs. What such a study may be, and which trials are its best."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from optuna.trial import FrozenTrial, TrialState

from storage.errors import BadInput
from studies.objectives.objective import Objective

# Optuna's samplers that know several objectives; the strategy's own model has TPE in its place.
_SAMPLERS = ("model", "tpe", "random", "grid", "qmc")


def require_whole_trials(objectives: Sequence[Objective], *, strategy: str, sampler: str) -> None:
    """Refuse what a study with two objectives cannot have: Optuna compares its trials by their ends alone.

    Args:
        objectives: the study's.
        strategy: its strategy's name.
        sampler: its sampler's.

    Raises:
        BadInput: its trials would not all be trained to their end, or its sampler knows one objective only.
    """
    if len(objectives) < 2:
        return
    both = " and ".join(objective.given for objective in objectives)
    if strategy != "none":
        raise BadInput(
            f"strategy {strategy.partition('@')[0]!r}: with the objectives {both} every trial is trained to its end."
            " Leave it out, or give --strategy none."
        )
    if sampler not in _SAMPLERS:
        raise BadInput(
            f"sampler {sampler!r}: it knows one objective, and there are {both}. Take one of {', '.join(_SAMPLERS)}."
        )


def front(trials: Sequence[FrozenTrial], objectives: Sequence[Objective]) -> list[FrozenTrial]:
    """Return the COMPLETE trials that none is better than: the Pareto front, the best by the first objective first.

    Args:
        trials: of the search.
        objectives: of which they have values; of one alone, the front is the best trial.
    """
    complete = [
        (ranks, trial)
        for trial in trials
        if trial.state == TrialState.COMPLETE and (ranks := _ranks(trial, objectives)) is not None
    ]
    found: list[tuple[tuple[float, ...], FrozenTrial]] = []
    # In this order, what is better than a trial in all has come before it.
    for ranks, trial in sorted(complete, key=lambda one: (one[0], one[1].number)):
        if not any(other != ranks and all(map(operator.le, other, ranks)) for other, _ in found):
            found.append((ranks, trial))
    return [trial for _, trial in found]


def _ranks(trial: FrozenTrial, objectives: Sequence[Objective]) -> tuple[float, ...] | None:
    if trial.values is None or len(trial.values) != len(objectives):
        return None
    ranks = tuple(objective.rank(value) for objective, value in zip(objectives, trial.values, strict=True))
    return ranks if all(map(math.isfinite, ranks)) else None
