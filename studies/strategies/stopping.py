"""Strategies that stop trials for good: Optuna's pruners."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.trial import FrozenTrial

from studies.spec import StrategyChoice, StudySpec
from studies.strategies.promotion import halving_in_words, rungs
from studies.strategies.strategy import Strategy, Verdict, View


class Stopping(Strategy):
    """Starts trials one after the other, and prunes what Optuna's pruner would.

    Args:
        spec: the study's.
        pruner: its resource is the epoch, counted from 1.
    """

    def __init__(self, spec: StudySpec, pruner: BasePruner) -> None:
        super().__init__(spec)
        self._pruner = pruner

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        return "prune" if self._pruner.prune(view.study, trial) else "go on"


class _Halving(Stopping):
    """Of the trials that reach a rung, one in so many goes on."""

    def expected_epochs(self) -> float:
        given = self.spec.strategy
        expected, share, before = 0.0, 1.0, 0
        for rung in rungs(given.min_epochs, given.reduction_factor, self.spec.epochs):
            expected += share * (rung - before)
            before, share = rung, share / given.reduction_factor
        return expected + share * (self.spec.epochs - before)

    def in_words(self) -> str:
        return halving_in_words(self.spec.strategy)


class _Median(Stopping):
    """Goes on while a trial is not below the median of the others."""

    def in_words(self) -> str:
        return f"{self.spec.strategy.name}, from epoch {self.spec.strategy.min_epochs}"


def pruner_of(given: StrategyChoice, epochs: int | Literal["auto"] = "auto") -> BasePruner | None:
    """Return Optuna's pruner that stops trials as a strategy does; None where that freezes them instead.

    Args:
        given: the strategy.
        epochs: the most of a trial; with `auto` the first trials tell.
    """
    factor: Mapping[str, int] = {"min_resource": given.min_epochs, "reduction_factor": given.reduction_factor}
    match given.name:
        case "successive_halving":
            return SuccessiveHalvingPruner(**factor)
        case "hyperband":
            return HyperbandPruner(**factor, max_resource=epochs)
        case "median":
            return MedianPruner(n_warmup_steps=given.min_epochs)
        case "none":
            return NopPruner()
    return None


def _pruner(spec: StudySpec) -> BasePruner:
    found = pruner_of(spec.strategy, spec.epochs)
    assert found is not None, "of a strategy that stops"
    return found


def successive_halving(spec: StudySpec) -> Strategy:
    """Return asynchronous successive halving that stops (Li et al. 2020, section 3.1 of arXiv:1810.05934v5)."""
    return _Halving(spec, _pruner(spec))


def hyperband(spec: StudySpec) -> Strategy:
    """Return Hyperband (Li et al. 2018, arXiv:1603.06560), its brackets run side by side."""
    return _Halving(spec, _pruner(spec))


def median(spec: StudySpec) -> Strategy:
    """Return the median stopping rule (Golovin et al. 2017, section 3.2.2 of Google Vizier)."""
    return _Median(spec, _pruner(spec))


def never(spec: StudySpec) -> Strategy:
    """Return the strategy that trains every trial to its end."""
    return Stopping(spec, _pruner(spec))
