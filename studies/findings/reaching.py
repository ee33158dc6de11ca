"""How much a search took until it first saw a value, about: of single epochs no moment is recorded. No Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from studies.forecast import Span, spans
from studies.objectives.objective import Objective
from studies.trials import values_of


@dataclass(frozen=True)
class Reached:
    """What was spent until then.

    Attributes:
        epochs: of all trials together.
        seconds: likewise; several trials at once count each.
    """

    epochs: int
    seconds: float


@dataclass(frozen=True)
class _Epoch:
    moment: float
    value: float
    seconds: float


def reached(trials: Sequence[FrozenTrial], value: float, objective: Objective) -> Reached | None:
    """Return what trials took until one had a value, or a better one; None where none had, or when is not known.

    Args:
        trials: of the search.
        value: which is to be reached.
        objective: of which it is.
    """
    epochs = sorted((epoch for trial in trials for epoch in _epochs(trial)), key=lambda epoch: epoch.moment)
    first = next(
        (place for place, epoch in enumerate(epochs) if objective.rank(epoch.value) <= objective.rank(value)), None
    )
    if first is None:
        return None
    before = epochs[: first + 1]
    return Reached(len(before), sum(epoch.seconds for epoch in before))


def _epochs(trial: FrozenTrial) -> list[_Epoch]:
    """Return a trial's epochs as if each took the same time of that in which it was worked on."""
    values, worked = values_of(trial), [(begun, until) for begun, until in spans(trial) if until > begun]
    if not values or not worked:
        return []
    each_s = sum(until - begun for begun, until in worked) / len(values)
    return [_Epoch(_moment(worked, each_s * epoch), value, each_s) for epoch, value in enumerate(values, start=1)]


def _moment(worked: Sequence[Span], seconds: float) -> float:
    """Return when a trial had been worked on for so long."""
    for begun, until in worked:
        if seconds <= until - begun:
            return begun + seconds
        seconds -= until - begun
    return worked[-1][1]
