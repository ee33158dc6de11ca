"""Searches in a few lines, as peers and as what the laboratory itself is tested with."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from optuna.distributions import BaseDistribution

from studies.simulation.virtual_clock import Run
from studies.spec import Scalar
from tests.benchmarks.search.drawing import draw_configurations


class RandomSearch:
    """Every configuration is drawn at random and trained to the end."""

    def __init__(self, space: Mapping[str, BaseDistribution], seed: int) -> None:
        self._space = space
        self._random = np.random.default_rng([4, seed])
        self._started = 0

    def next(self) -> Run | None:
        (params,) = draw_configurations(self._space, self._random, 1)
        self._started += 1
        return Run(self._started - 1, params, first_epoch=1)

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        return True


class Foresight(RandomSearch):
    """An oracle that nothing real can beat by stopping alone: of random configurations it trains winners only.

    Every other is stopped after its first epoch.

    Args:
        space: what to draw from.
        seed: of the draws.
        wins: whether a trial's configuration is worth training; asked once for each, when it starts.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], seed: int, wins: Callable[[int, Mapping[str, Scalar]], bool]
    ) -> None:
        super().__init__(space, seed)
        self._wins = wins
        self._winners: set[int] = set()

    def next(self) -> Run | None:
        run = super().next()
        if run is not None and self._wins(run.trial, run.params):
            self._winners.add(run.trial)
        return run

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        return trial in self._winners


class Clairvoyant(RandomSearch):
    """An oracle that nothing real can beat by choosing alone: its first trial is the soonest winner of many.

    Of so many random configurations it knows all curves beforehand. What its other workers train does not matter; it
    counts, as with anyone.

    Args:
        space: what to draw from.
        seed: of the draws.
        soon: how many epochs a first trial of a configuration needs; infinity where it never gets there.
        draws: how many it knows.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        seed: int,
        soon: Callable[[Mapping[str, Scalar]], float],
        draws: int,
    ) -> None:
        super().__init__(space, seed)
        self._soonest = min(draw_configurations(space, np.random.default_rng([5, seed]), draws), key=soon)

    def next(self) -> Run | None:
        run = super().next()
        return Run(0, self._soonest, first_epoch=1) if run is not None and run.trial == 0 else run


class Promotion(RandomSearch):
    """Asynchronous successive halving with promotion: Li et al., "Massively Parallel Hyperparameter Tuning" (2020).

    Args:
        space: what to draw from.
        horizon: R.
        seed: of the draws.
        factor: eta; one in so many goes on from each rung.
        first: epochs of the lowest rung.
    """

    def __init__(
        self, space: Mapping[str, BaseDistribution], horizon: int, seed: int, *, factor: int = 3, first: int = 1
    ) -> None:
        super().__init__(space, seed)
        self._factor = factor
        count = max(0, math.ceil(math.log(horizon / first, factor) - 1e-9))
        self._milestones = [first * factor**rung for rung in range(count)]
        self._seen: list[dict[int, float]] = [{} for _ in self._milestones]
        self._promoted: list[set[int]] = [set() for _ in self._milestones]
        self._params: dict[int, Mapping[str, Scalar]] = {}
        self._limit = math.inf

    def limit_trials(self, trials: int) -> None:
        """Start at most so many; then the best that wait go on, the furthest first, however few of their rung do."""
        self._limit = trials

    def next(self) -> Run | None:
        for share in (self._factor, 1) if self._started >= self._limit else (self._factor,):
            for rung in reversed(range(len(self._milestones))):
                if (trial := self._promotable(rung, share)) is not None:
                    self._promoted[rung].add(trial)
                    return Run(trial, self._params[trial], self._milestones[rung] + 1)
        if self._started >= self._limit:
            return None
        run = super().next()
        if run is not None:
            self._params[run.trial] = run.params
        return run

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        if epoch not in self._milestones:
            return True
        self._seen[self._milestones.index(epoch)][trial] = -math.inf if math.isnan(value) else value
        return False

    def _promotable(self, rung: int, factor: int) -> int | None:
        seen = self._seen[rung]
        best = sorted(seen, key=seen.__getitem__, reverse=True)[: len(seen) // factor]
        return next((trial for trial in best if trial not in self._promoted[rung] and seen[trial] > -math.inf), None)
