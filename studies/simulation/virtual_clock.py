"""A study on a virtual clock: recorded or surrogate learning curves in the place of training.

W workers ask a contestant, the search under test, what to do, and report each epoch to it. An epoch takes one unit of
time, or the seconds that were recorded for it; deciding takes none. All values are oriented: higher is better.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from studies.spec import Scalar


@dataclass(frozen=True)
class Run:
    """What a worker shall train until it is told to stop.

    Attributes:
        trial: a number of the contestant's choice; one used before continues that trial.
        params: the configuration. Read when the trial starts; a continued trial keeps its own.
        first_epoch: the epoch to train next, from 1: one more than the trial was trained, or less to train again from
            an older checkpoint.
    """

    trial: int
    params: Mapping[str, Scalar]
    first_epoch: int


class Contestant(Protocol):
    """A search: what decides which configuration is trained for how long."""

    def next(self) -> Run | None:
        """Return what a free worker shall do; None when there is nothing to do now. Asked again after every event."""

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        """Take the value after an epoch and return whether the worker shall train the next one.

        A trial ends by itself after epoch R, and where its value is NaN: it diverged, or stopped early. Then the
        answer does not matter.
        """


@dataclass(frozen=True)
class Recording:
    """What training a configuration would show.

    Attributes:
        values: (R,) after epochs 1..R, higher is better; NaN from the first epoch that did not succeed.
        seconds: (R,) of each epoch, where `values` are finite; None: every epoch takes one unit of time.
    """

    values: np.ndarray
    seconds: np.ndarray | None = None


class Curves(Protocol):
    """The learning curves of one study: a source belongs to the study that asks it, and may remember what it gave."""

    @property
    def horizon(self) -> int:
        """R, the epochs of a full trial."""

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        """Return the curve of a trial; asked once for each, when it starts."""


@dataclass(frozen=True)
class Record:
    """Every epoch trained, in the order in which they were completed: row i ends i + 1 worker-epochs.

    Attributes:
        trial: (n,) int, the contestant's number.
        epoch: (n,) int, from 1.
        value: (n,) float, higher is better, NaN where a trial ended without one.
        time: (n,) float, when the epoch ended on the virtual clock, from 0.
    """

    trial: np.ndarray
    epoch: np.ndarray
    value: np.ndarray
    time: np.ndarray

    def best_so_far(self) -> np.ndarray:
        """Return the largest value (n,) observed up to each epoch, minus infinity before the first."""
        return np.maximum.accumulate(np.where(np.isnan(self.value), -np.inf, self.value))


def simulate(contestant: Contestant, curves: Curves, *, workers: int, budget: int, enough: float = math.inf) -> Record:
    """Let a contestant search with so many workers; the same arguments give the same record.

    Workers that finish an epoch at the same time are served in the order of their numbers.

    Args:
        contestant: the search. Used up afterwards.
        curves: the study's. Used up afterwards.
        workers: W.
        budget: the worker-epochs after which the study ends, whatever is running.
        enough: end after the first value that is as high.

    Returns:
        What was trained: fewer epochs than the budget where the contestant had nothing more to do.

    Raises:
        ValueError: the contestant asked for what cannot be done.
    """
    simulation = _Simulation(contestant, curves, workers)
    while len(simulation.events) < budget and simulation.step():
        if simulation.events[-1][2] >= enough:
            break
    trials, epochs, values, times = zip(*simulation.events, strict=True) if simulation.events else ((), (), (), ())
    return Record(np.array(trials, int), np.array(epochs, int), np.array(values, float), np.array(times, float))


@dataclass
class _Trial:
    """A trial as it was trained.

    Attributes:
        recording: its whole curve.
        trained: epochs that it has a checkpoint of.
        running: whether a worker trains it.
        ended: whether it is over for good.
    """

    recording: Recording
    trained: int = 0
    running: bool = False
    ended: bool = False


class _Simulation:
    def __init__(self, contestant: Contestant, curves: Curves, workers: int) -> None:
        self.events: list[tuple[int, int, float, float]] = []
        self._contestant = contestant
        self._curves = curves
        self._trials: dict[int, _Trial] = {}
        self._idle = list(range(workers))  # a heap: the lowest number is served first
        self._due: list[tuple[float, int, int, int]] = []  # a heap of (time, worker, trial, epoch)
        self._employ(now=0.0)

    def step(self) -> bool:
        """Complete the next epoch; return whether there was one."""
        if not self._due:
            return False
        now, worker, number, epoch = heapq.heappop(self._due)
        trial = self._trials[number]
        value = float(trial.recording.values[epoch - 1])
        self.events.append((number, epoch, value, now))
        trial.trained = max(trial.trained, epoch)
        trial.ended = math.isnan(value) or epoch == self._curves.horizon
        wanted = self._contestant.reported(number, epoch, value)
        if wanted and not trial.ended:
            self._train(now, worker, number, epoch + 1)
        else:
            trial.running = False
            heapq.heappush(self._idle, worker)
        self._employ(now)
        return True

    def _employ(self, now: float) -> None:
        # One worker is as good as another: where there is nothing for the first, there is nothing for the rest.
        while self._idle and (run := self._contestant.next()) is not None:
            self._begin(run)
            self._train(now, heapq.heappop(self._idle), run.trial, run.first_epoch)

    def _begin(self, run: Run) -> None:
        trial = self._trials.get(run.trial)
        if trial is None:
            recording = self._curves.curve_of(run.trial, run.params)
            trial = self._trials[run.trial] = _Trial(recording)
        if trial.running or trial.ended:
            raise ValueError(f"trial {run.trial} {'is running' if trial.running else 'has ended'}: give another one.")
        if not 1 <= run.first_epoch <= trial.trained + 1:
            raise ValueError(
                f"trial {run.trial} was trained for {trial.trained} epochs and cannot go on with epoch"
                f" {run.first_epoch}: give at most {trial.trained + 1}."
            )
        trial.running = True

    def _train(self, now: float, worker: int, number: int, epoch: int) -> None:
        heapq.heappush(self._due, (now + _duration(self._trials[number].recording, epoch), worker, number, epoch))


def _duration(recording: Recording, epoch: int) -> float:
    if recording.seconds is None:
        return 1.0
    recorded = recording.seconds[:epoch]
    known = recorded[np.isfinite(recorded)]
    # An epoch that did not succeed has no recorded time: it takes as long as the one before.
    return float(known[-1]) if len(known) else 1.0
