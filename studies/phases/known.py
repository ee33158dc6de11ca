"""What a study knows of its later phases: which configurations come first, what was confirmed, what was refitted."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from storage.claims import Planned
from studies.leaderboard import complete_trials, value_of
from studies.objectives.objective import Objective
from studies.phases.confirmation import Confirmed, winner
from studies.phases.training import confirmation_training, training_of
from studies.spec import StudySpec
from studies.stored import StudyRecord
from studies.trials import of_phase, values_of

# Of one training alone nothing is known of how much seeds differ.
LEAST_SEEDS = 2
# How many standard errors better than the defaults.
CLEARLY = 2.0


def searched_value(trial: FrozenTrial, objective: Objective) -> float | None:
    """Return the best value that a trial had, whether it was trained to its end or not; None without one."""
    return objective.best([*trial.intermediate_values.values(), *(trial.values or ())[:1]])


def best_configurations(study: optuna.Study, count: int) -> list[FrozenTrial]:
    """Return the search's trials with the best values, best first; of those with the same parameters the best one.

    A search that freezes leaves few COMPLETE: what it pruned may be better than it knew.
    """
    objective = StudyRecord.of(study).objective
    told = [trial for trial in of_phase(study.get_trials(deepcopy=False)) if trial.state != TrialState.FAIL]
    valued = [(trial, searched_value(trial, objective)) for trial in told if trial.params]
    found: list[FrozenTrial] = []
    for trial, value in sorted(valued, key=lambda one: (objective.rank(one[1]), one[0].number)):
        if value is not None and all(trial.params != other.params for other in found):
            found.append(trial)
    return found[:count]


def defaults_of(study: optuna.Study, spec: StudySpec) -> FrozenTrial | None:
    """Return the search's trial that has the defaults, where they came first and it has a value."""
    trials = study.get_trials(deepcopy=False)
    first = next(iter(of_phase(trials[:1])), None)
    if first is None or not spec.sampler.default_first or first.state == TrialState.FAIL:
        return None
    return first if first.params and searched_value(first, spec.objective) is not None else None


def compared(study: optuna.Study, spec: StudySpec, count: int) -> list[FrozenTrial]:
    """Return the configurations that a plan confirms: the best, and the defaults, which were good elsewhere."""
    best, defaults = best_configurations(study, count), defaults_of(study, spec)
    if defaults is None or any(trial.params == defaults.params for trial in best):
        return best
    return [*best[: count - 1], defaults]


def planned_winner(study: optuna.Study, spec: StudySpec, images: int) -> FrozenTrial | None:
    """Return the search's trial whose configuration a plan trains for long; None where none has a value.

    What a short search prefers may be luck, and may be so for short trainings only. The defaults are known to be good
    in long ones: without a confirmation, another configuration is preferred only where its value is better by two
    standard errors of a difference: of two shares of right answers, or else of two values that move as much by chance
    as the curves do from epoch to epoch.

    Args:
        study: Optuna's own.
        spec: the study's.
        images: n, of the validation part.
    """
    known = confirmed(study, spec)
    if known:
        return study.get_trials(deepcopy=False)[winner(known).of]
    best, defaults = next(iter(best_configurations(study, 1)), None), defaults_of(study, spec)
    if best is None or defaults is None or best.params == defaults.params:
        return best
    objective = spec.objective
    high, low = searched_value(best, objective), searched_value(defaults, objective)
    assert high is not None and low is not None, "both have a value"
    if objective.is_share:
        error = math.sqrt((high * (1 - high) + low * (1 - low)) / images)
    else:
        error = math.hypot(noise_of(values_of(best)), noise_of(values_of(defaults)))
    return best if objective.oriented(high - low) > CLEARLY * error else defaults


def noise_of(values: Sequence[float]) -> float:
    """Return how far a value of a curve lies from a smooth one by chance, its standard deviation; 0 of a short curve.

    By the third differences after the second epoch, as `studies.strategies.freeze_thaw.curves.noise` has it.
    """
    bends = np.abs(np.diff([value for value in values[2:] if math.isfinite(value)], 3))
    return float(np.median(bends)) / (0.6745 * math.sqrt(20)) if len(bends) else 0.0


def planned_confirmation(spec: StudySpec, trials: list[FrozenTrial], seeds: int) -> list[Planned]:
    """Return the trials that train each configuration again with so many other seeds, one seed after the other."""
    return [
        Planned(trial.params, confirmation_training(spec, trial.number, index).document())
        for index in range(seeds)
        for trial in trials
    ]


def confirmed(study: optuna.Study, spec: StudySpec) -> list[Confirmed]:
    """Return the configurations that were trained again with two other seeds or more, none of which is not over."""
    trials = study.get_trials(deepcopy=False)
    groups: dict[int, list[FrozenTrial]] = {}
    for trial in of_phase(trials, "confirm"):
        of = training_of(spec, trial).of
        if of is not None and of < len(trials):
            groups.setdefault(of, []).append(trial)
    found = []
    for of, group in sorted(groups.items()):
        ended = [value_of(trial) for trial in group if trial.state == TrialState.COMPLETE]
        values = tuple(value for value in ended if value is not None)
        searched = trials[of]
        if len(values) >= LEAST_SEEDS and all(trial.state.is_finished() for trial in group):
            value, epochs = searched_value(searched, spec.objective), len(searched.intermediate_values)
            assert value is not None, "what was confirmed had one"
            found.append(Confirmed(of, searched.params, value, epochs, values, spec.objective))
    return found


def winning_trial(study: optuna.Study, spec: StudySpec) -> FrozenTrial | None:
    """Return the search's trial whose configuration was confirmed as the best; without a confirmation its best one.

    Without one, it is a COMPLETE trial where there is any: the others are known less well.
    """
    known = confirmed(study, spec)
    if known:
        return study.get_trials(deepcopy=False)[winner(known).of]
    return next(iter(complete_trials(study) or best_configurations(study, 1)), None)


def refitted(study: optuna.Study) -> list[FrozenTrial]:
    """Return the COMPLETE trials that trained a winner for long, the latest first."""
    refits = of_phase(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)), "refit")
    return sorted(refits, key=lambda trial: -trial.number)
