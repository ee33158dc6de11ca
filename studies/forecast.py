"""When trials were worked on, how fast a study goes, and how much of it is left. Moments are seconds since 1970."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import Any, NamedTuple, TypedDict

from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Standing
from studies.strategies.strategy import Strategy

RATE_TRIALS = 20
"""The rate is that of so many trials, the last to finish: early ones tell little about how long later ones take."""
EPOCHS_A_THAW = 3
"""A study of CIFAR-10 with 24 trials and 64 epochs, on 2026-11-20: so many each time that a trial was thawed."""

_FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)

Span = tuple[float, float]


class Launched(TypedDict):
    """What a study records when its workers are let go.

    Attributes:
        at: when.
        epochs: how many epochs had been trained before.
        epoch_s: how long the preflight expects the workers together to take for an epoch, or None.
    """

    at: float
    epochs: int
    epoch_s: float | None


@dataclass(frozen=True)
class WorkLeft:
    """What a study has still to do, more or less.

    Attributes:
        taken_up: how often a trial is begun or taken up again.
        epochs: how many epochs are trained.
    """

    taken_up: float
    epochs: float

    def seconds(self, *, start_s: float, epoch_s: float, workers: int, crowding: float) -> float:
        """Return how long that takes.

        Args:
            start_s: seconds each time that a trial is taken up, in a worker with the device to itself.
            epoch_s: seconds of an epoch, likewise.
            workers: how many there are.
            crowding: how many times as long it takes with all of them.
        """
        alone_s = start_s * self.taken_up + epoch_s * self.epochs
        return crowding * alone_s / max(1.0, min(workers, self.taken_up))


def work_left(strategy: Strategy, standing: Standing, *, budget_epochs: int | None, spent: int) -> WorkLeft:
    """Return what is left before anything of it is seen.

    Args:
        strategy: the study's.
        standing: where it stands.
        budget_epochs: how many epochs all trials together train; None without a bound.
        spent: how many they have trained.
    """
    trials = standing.budget - standing.finished
    if budget_epochs is None:
        return WorkLeft(trials, trials * expected_epochs(strategy))
    # Each trial yet to come trains one, whatever is left.
    epochs = max(budget_epochs - spent, standing.budget - standing.started)
    epochs = min(max(0, epochs), trials * strategy.spec.epochs)
    return WorkLeft(times_taken_up(standing, epochs, freezes=strategy.freezes), epochs)


def expected_epochs(strategy: Strategy) -> float:
    """Return how many epochs a trial trains on average without a bound, those that are audited among them."""
    expected, spec = strategy.expected_epochs(), strategy.spec
    return expected + spec.audit * (spec.epochs - expected)


def times_taken_up(standing: Standing, epochs: int, *, freezes: bool) -> float:
    """Return how often a trial is begun or taken up again, more or less, until so many more epochs are trained."""
    if not freezes:
        return min(epochs, standing.budget - standing.finished)
    new = min(epochs, standing.budget - standing.started)
    return new + (epochs - new) / EPOCHS_A_THAW


def spans(trial: FrozenTrial) -> list[Span]:
    """Return when a trial was worked on: from each time that it was taken up until its worker was last seen alive."""
    started, ended = (
        None if local is None else moment(local) for local in (trial.datetime_start, trial.datetime_complete)
    )
    return spans_in(trial.system_attrs, started, ended)


def spans_in(system_attrs: Mapping[str, Any], started: float | None, ended: float | None) -> list[Span]:
    """Return when a trial was worked on, by what is recorded of it; see `spans`.

    Args:
        system_attrs: of the trial.
        started: when it was taken up the last time.
        ended: when it ended.
    """
    found: list[Span] = [(begun, until) for begun, until in system_attrs.get(attributes.WORKED, [])]
    held: Mapping[str, Any] = system_attrs.get(attributes.CLAIM) or {}
    if "begun" in held:
        found.append((held["begun"], held["seen"] if ended is None else ended))
    if not found and started is not None and ended is not None:
        # A trial that this service never claimed.
        found.append((started, ended))
    return found


def seconds_of(trial: FrozenTrial) -> float | None:
    """Return how long a trial was worked on; None where that is not known yet."""
    recorded = attributes.of_trial(trial, attributes.SECONDS, float)
    if recorded is not None:
        return recorded
    return sum(max(0.0, until - begun) for begun, until in spans(trial)) if trial.state.is_finished() else None


class Effort(NamedTuple):
    """What a trial has taken so far.

    Attributes:
        state: Optuna's.
        epochs: how many it has reported.
        ended: when it ended; None where it has not.
        spans: returns when it was worked on; asked only where that matters.
    """

    state: TrialState
    epochs: int
    ended: float | None
    spans: Callable[[], Sequence[Span]]


def effort_of(trial: FrozenTrial) -> Effort:
    """Return what a trial has taken so far."""
    ended = moment(trial.datetime_complete) if trial.datetime_complete is not None else None
    return Effort(trial.state, len(trial.intermediate_values), ended, partial(spans, trial))


def rate_per_hour(efforts: Sequence[Effort]) -> float | None:
    """Return how many trials finish in an hour of the time in which any was worked on: nights do not count.

    A frozen trial that is pruned at the end took what it trained, long before.
    """
    over = [(one.ended, one) for one in efforts if one.state in _FINISHED and one.ended is not None]
    over.sort(key=itemgetter(0), reverse=True)
    last = list(islice(((ended, found) for ended, one in over if (found := one.spans())), RATE_TRIALS))
    if not last:
        return None
    since, until = min(min(found)[0] for _, found in last), last[0][0]
    busy_s = _busy_s(efforts, since, until)
    return len(last) / busy_s * 3600 if busy_s > 0 else None


def epochs_forecast_s(efforts: Sequence[Effort], budget: int, launched: Launched) -> float | None:
    """Return the seconds until a budget of epochs is spent, at the pace since the workers were let go.

    That pace has everything in it: taking up, tracing, and how many workers there are. Before each of them can have
    trained an epoch, it is what the preflight expects.
    """
    spent = sum(one.epochs for one in efforts)
    running = sum(one.state == TrialState.RUNNING for one in efforts)
    busy_s = _busy_s(efforts, launched["at"], math.inf)
    epoch_s = seconds_per_epoch(spent - launched["epochs"], busy_s, running, launched["epoch_s"])
    return None if epoch_s is None else max(0, budget - spent) * epoch_s


def seconds_per_epoch(epochs: int, elapsed_s: float, running: int, expected_s: float | None) -> float | None:
    """Return how long all workers together take for an epoch.

    Args:
        epochs: how many they have trained.
        elapsed_s: in how many seconds.
        running: how many trials run, each with an epoch under way that is half over, more or less.
        expected_s: what is expected before enough is seen.
    """
    if epochs >= max(1, running) and elapsed_s > 0:
        return elapsed_s / (epochs + running / 2)
    return expected_s


def _busy_s(efforts: Sequence[Effort], since: float, until: float) -> float:
    """Return in how much of the time between two moments any trial was worked on."""
    found = [span for one in efforts if one.ended is None or one.ended > since for span in one.spans()]
    covered_s, covered_until = 0.0, since
    for begun, ended in sorted(found):
        begun, ended = max(begun, covered_until), min(ended, until)
        if ended > begun:
            covered_s += ended - begun
            covered_until = ended
    return covered_s


def moment(local: datetime) -> float:
    """Return a moment that Optuna has as naive local time, which jumps when the clocks change."""
    return local.timestamp()
