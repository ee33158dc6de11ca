"""Asynchronous successive halving that pauses and promotes (ASHA, Li et al. 2020, arXiv:1810.05934, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Choice, Start, Thaw
from studies.spec import StrategyChoice, StudySpec
from studies.strategies.strategy import Strategy, Verdict, View
from studies.trials import is_frozen


def rungs(first: int, factor: int, epochs: int) -> list[int]:
    """Return the epochs at which trials are compared: `first`, times `factor`, and so on, below `epochs`."""
    found = []
    rung = first
    while rung < epochs:
        found.append(rung)
        rung *= factor
    return found


def promotable(reached: Iterable[tuple[float, int]], factor: int, waits: Callable[[int], bool]) -> int | None:
    """Return the trial that is promoted from a rung: the first that waits there, among the best of those that came.

    Args:
        reached: the value at the rung, higher is better, and the number, of each trial that came as far.
        factor: of so many, one is among the best. Of equals it is the earliest.
        waits: whether the trial of a number waits at the rung.
    """
    ranked = sorted(reached, key=lambda one: (-one[0], one[1]))
    return next((number for _, number in ranked[: len(ranked) // factor] if waits(number)), None)


def halving_in_words(given: StrategyChoice) -> str:
    """Return what a plan says of a strategy that compares trials at rungs."""
    return f"{given.name}, 1 in {given.reduction_factor} goes on, from epoch {given.min_epochs}"


class Promotion(Strategy):
    """Pauses each trial at each rung; a free worker promotes one of a rung's best, else starts another trial."""

    freezes = True

    def __init__(self, spec: StudySpec) -> None:
        super().__init__(spec)
        self._factor = spec.strategy.reduction_factor
        self._rungs = rungs(spec.strategy.min_epochs, self._factor, spec.epochs)

    def ask(self, view: View) -> Choice | None:
        for rung in reversed(self._rungs):
            if (promoted := self._promotable(view, rung)) is not None:
                return Thaw(promoted)
        return Start() if view.trials_left else None

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        at = trial.last_step
        if at not in self._rungs or self._promotable(view, at, trial.number) == trial.number:
            return "go on"
        return "freeze"

    def in_words(self) -> str:
        return halving_in_words(self.spec.strategy)

    def _promotable(self, view: View, rung: int, running: int | None = None) -> int | None:
        """Return the trial that is promoted from a rung, where the one that runs is there, too."""

        def waits(number: int) -> bool:
            trial = view.trials[number]
            # Not the last report: a trial that goes on from an older checkpoint has reports ahead of it.
            return number == running or (is_frozen(trial) and trial.system_attrs[attributes.FROZEN] == rung)

        alive = [trial for trial in view.trials if trial.state != TrialState.FAIL]
        reached = [trial for trial in alive if rung in trial.intermediate_values]
        oriented = self.spec.objective.oriented
        values = [(oriented(trial.intermediate_values[rung]), trial.number) for trial in reached]
        return promotable(values, self._factor, waits)
