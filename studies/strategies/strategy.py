"""The interface of a strategy.

A strategy is asked what a free worker does next, and after each epoch whether the trial goes on. It keeps nothing that
an answer depends on: both answers are functions of the study, so any worker on any host can give them, and a restart
changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, get_args

import optuna
from optuna.trial import FrozenTrial

from storage.claims import Choice as Choice
from storage.claims import Start as Start
from storage.claims import Thaw as Thaw
from studies.space import SearchSpace
from studies.spec import StudySpec
from studies.trials import is_frozen

Verdict = Literal["go on", "freeze", "prune"]
VERDICTS: Final[tuple[Verdict, ...]] = get_args(Verdict)


@dataclass(frozen=True)
class View:
    """What a strategy sees of its study.

    Attributes:
        study: Optuna's own, with the trials of the search; read only.
        trials: all of them by number, as Optuna has them; those in the queue without having been frozen will be
            continued without asking. Those of other phases are among them as if they had failed, without a value.
        space: what is searched; None where it was not recorded.
        epochs: the most epochs of a trial.
        trials_left: how many trials may still be started.
        epochs_left: how many epochs may still be trained, what is set aside or under way taken off; infinite without a
            bound.
    """

    study: optuna.Study
    trials: Sequence[FrozenTrial]
    space: SearchSpace | None
    epochs: int
    trials_left: int
    epochs_left: float = math.inf

    def frozen(self) -> list[FrozenTrial]:
        """Return the trials that can be thawed."""
        return [trial for trial in self.trials if is_frozen(trial)]


class Strategy:
    """Decides what is trained on, and for how long. Derive from it and override what should be otherwise.

    Args:
        spec: the study's.
    """

    # Whether `decide` may answer "freeze", whether `ask` says the parameters of the trials that it starts, and whether
    # it goes on for as long as it is let.
    freezes = False
    proposes = False
    needs_budget = False

    def __init__(self, spec: StudySpec) -> None:
        self.spec = spec

    def ask(self, view: View) -> Choice | None:
        """Return what a free worker does: start a trial, thaw a frozen one, or nothing for now.

        Once all trials were started, nothing runs and the answer is still None, the study ends.
        """
        return Start() if view.trials_left else None

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        """Return whether a running trial goes on, is frozen until it is thawed, or is pruned for good.

        It is asked after each epoch but the last one.

        Args:
            view: the study, this epoch's report in it.
            trial: the one that reported; `trial.intermediate_values` are its values of the objective, by epoch from 1.
                `self.spec.objective.oriented` turns a value such that higher is better.
        """
        return "go on"

    def expected_epochs(self) -> float:
        """Return how many epochs a trial trains on average, as long as nothing bounds those of all trials together."""
        return float(self.spec.epochs)

    def in_words(self) -> str:
        """Return what the plan of a study says of its strategy: one line, with the settings that it heeds."""
        return self.spec.strategy.name
