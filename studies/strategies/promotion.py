"""Asynchronous successive halving that pauses and promotes (ASHA, Li et al. 2020, arXiv:1810.05934, algorithm 2)."""

from __future__ import annotations

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
                return Thaw(promoted.number)
        return Start() if view.trials_left else None

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        at = trial.last_step
        return "freeze" if at in self._rungs and self._promotable(view, at, trial) is not trial else "go on"

    def in_words(self) -> str:
        return halving_in_words(self.spec.strategy)

    def _promotable(self, view: View, rung: int, running: FrozenTrial | None = None) -> FrozenTrial | None:
        """Return the best of the rung's first third (by the factor) that waits there, or is the one that runs."""
        alive = [trial for trial in view.trials if trial.state != TrialState.FAIL]
        reached = [trial for trial in alive if rung in trial.intermediate_values]
        best = sorted(reached, key=lambda trial: (-trial.intermediate_values[rung], trial.number))
        for trial in best[: len(reached) // self._factor]:
            if running is not None and trial.number == running.number:
                if running.last_step == rung:
                    return running
            # Not the last report: a trial that goes on from an older checkpoint has reports ahead of it.
            elif is_frozen(trial) and trial.system_attrs[attributes.FROZEN] == rung:
                return trial
        return None
