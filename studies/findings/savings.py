"""What a study spent, and what its strategy spared it. No Keras."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from studies.forecast import seconds_of
from studies.objectives.objective import Objective
from studies.phases.known import searched_value
from studies.spec import StudySpec
from studies.trials import as_decided, audited_after, is_frozen, phase_of, spent_epochs

# How sure it is that no larger share of the pruned is better than the best.
SURE = 0.9


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
class Audited:
    """A trial that was finished although the strategy had ended it.

    Attributes:
        number: the trial's.
        after: the epoch of that decision.
        then: the best value that it had until then.
        end: the best that it had in the end.
        epochs: how many it trained afterwards.
    """

    number: int
    after: int
    then: float
    end: float
    epochs: int


@dataclass(frozen=True)
class Audit:
    """What pruning costs, as far as trials that were finished all the same tell.

    Attributes:
        trials: these, by number.
        best: the number of the best of the others, and its value; None where no other has one.
        lost: those that ended better than that one: without the audit, nobody would know of them.
        at_most: the share of what is pruned that is better, at most, with a confidence of `SURE`, 0..1.
    """

    trials: tuple[Audited, ...]
    best: tuple[int, float] | None
    lost: tuple[Audited, ...]
    at_most: float


def audit(searched: Sequence[FrozenTrial], objective: Objective) -> Audit | None:
    """Return what is known of the trials that were audited; None where none was, or none is over.

    Args:
        searched: the search's trials.
        objective: of which they have values.
    """
    finished = [trial for trial in searched if trial.state == TrialState.COMPLETE]
    found = tuple(one for one in (_audited(trial, objective) for trial in finished) if one is not None)
    if not found:
        return None
    others = (trial for trial in searched if audited_after(trial) is None and trial.state != TrialState.FAIL)
    valued = [(trial.number, value) for trial in others if (value := searched_value(trial, objective)) is not None]
    best = min(valued, key=lambda one: (objective.rank(one[1]), one[0]), default=None)
    lost = tuple(one for one in found if best is not None and objective.is_better(one.end, best[1]))
    return Audit(found, best, lost, _at_most(len(lost), len(found)))


def _audited(trial: FrozenTrial, objective: Objective) -> Audited | None:
    after, decided = audited_after(trial), as_decided(trial)
    then, end = (searched_value(one, objective) for one in (decided, trial))
    if after is None or then is None or end is None:
        return None
    return Audited(trial.number, after, then, end, len(trial.intermediate_values) - after)


def _at_most(count: int, of: int) -> float:
    """Return the upper end of the one-sided interval of Clopper and Pearson (1934, Biometrika 26)."""
    from scipy.stats import beta

    return float(beta.ppf(SURE, count + 1, of - count)) if count < of else 1.0


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
