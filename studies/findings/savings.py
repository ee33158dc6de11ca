"""What a study spent, and what its strategy spared it. No Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from studies.forecast import seconds_of
from studies.spec import StudySpec
from studies.trials import is_frozen, phase_of, spent_epochs


@dataclass(frozen=True)
class Saving:
    """What was not trained since it was not worth it.

    Attributes:
        trials: how many were pruned, or are frozen.
        trained: the epochs that they trained.
        spared: the epochs that they would have trained besides, to their end.
        spared_s: the seconds of those, by what each trial's epochs took; of trials whose time is known.
        whole: the epochs of all trials, had each trained to its end.
    """

    trials: int
    trained: int
    spared: int
    spared_s: float
    whole: int

    @property
    def share(self) -> float:
        """How much of all that was spared, in 0..1."""
        return self.spared / self.whole if self.whole else 0.0


def saving(spec: StudySpec, searched: Sequence[FrozenTrial]) -> Saving:
    """Return what pruning and freezing spared a search.

    Args:
        spec: the study's.
        searched: the search's trials. What one that is COMPLETE left out it did by itself, when it stopped early.
    """
    ended = [trial for trial in searched if trial.state == TrialState.PRUNED or is_frozen(trial)]
    complete = [trial for trial in searched if trial.state == TrialState.COMPLETE]
    spared, spared_s = 0, 0.0
    for trial in ended:
        trained, took_s = len(trial.intermediate_values), seconds_of(trial)
        left = max(0, spec.epochs - trained)
        spared += left
        spared_s += left * took_s / trained if trained and took_s is not None else 0.0
    trained = spent_epochs(ended)
    return Saving(len(ended), trained, spared, spared_s, trained + spared + spent_epochs(complete))


@dataclass(frozen=True)
class Spending:
    """What the trials of one phase took on one kind of device.

    Attributes:
        phase: which one.
        device: the product's name; empty where it was not recorded.
        trials: how many.
        epochs: how many they trained.
        seconds: how long they were worked on; several at once on one device count each.
    """

    phase: str
    device: str
    trials: int
    epochs: int
    seconds: float


def spending(trials: Sequence[FrozenTrial]) -> list[Spending]:
    """Return what trials took, by phase and device, in the order of the phases."""
    groups: dict[tuple[int, str], list[FrozenTrial]] = {}
    for trial in trials:
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL) or is_frozen(trial):
            device = attributes.of_trial(trial, attributes.DEVICE, str) or ""
            groups.setdefault((attributes.PHASES.index(phase_of(trial)), device), []).append(trial)
    return [
        Spending(
            attributes.PHASES[phase],
            device,
            len(group),
            spent_epochs(group),
            sum(seconds_of(trial) or 0.0 for trial in group),
        )
        for (phase, device), group in sorted(groups.items())
    ]
