"""Which hyperparameters decide how good a trial is, and how sure that is. No Keras.

A search that prunes leaves a choice: those of its trials that were trained to their end are the good ones, and what
ruined the others is not seen in them. So trials are compared where all of them can be: after as many epochs as each of
them reached. What matters later only is not seen there, which whoever reads it must be told.

The measure is PED-ANOVA (Watanabe, Bansal and Hutter, https://arxiv.org/abs/2304.10255): how unlike the values of the
best share of the trials are to those of all. Its intervals are from trials drawn again with replacement, the
percentile bootstrap (Efron, The Annals of Statistics 7 (1979) 1).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState, create_trial

from studies.objectives.objective import Objective
from studies.phases.confirmation import LEVEL
from studies.trials import is_frozen, values_of

T = TypeVar("T")

LEAST_TRIALS = 20
"""With fewer, the best quarter has fewer than five, and Optuna asks for as many."""
MOST_TRIALS = 300
"""More trials tell hardly more and take longer: of more than these, as many are taken, evenly by number."""
RESAMPLES = 40

_OVER = (TrialState.COMPLETE, TrialState.PRUNED)
_LEAST_ABOVE = 5
_LEAST_SHARE = 0.1


@dataclass(frozen=True)
class Importance:
    """How much of the difference between trials is one hyperparameter's.

    Attributes:
        name: the hyperparameter's.
        share: of all hyperparameters' importance, in 0..1.
        low, high: between which it lies in `LEVEL` of the resamples.
    """

    name: str
    share: float
    low: float
    high: float


@dataclass(frozen=True)
class Importances:
    """What trials tell of their hyperparameters.

    Attributes:
        epoch: after which they were compared.
        trials: how many were.
        of: each hyperparameter, the most important first; empty where they were left out.
        left_out: why; empty where they were not.
    """

    epoch: int
    trials: int
    of: tuple[Importance, ...] = ()
    left_out: str = ""


def importances(trials: Sequence[FrozenTrial], objective: Objective, *, seed: int = 0) -> Importances:
    """Return how important each hyperparameter is.

    Args:
        trials: of the search; those that are COMPLETE or PRUNED, or frozen, count.
        objective: of which they have values.
        seed: decides which trials are drawn again.
    """
    stopped = [trial for trial in trials if trial.state in _OVER or is_frozen(trial)]
    told = [(trial, values_of(trial)) for trial in stopped if trial.params]
    curves = [(trial, curve) for trial, curve in told if curve]
    epoch = min((len(curve) for _, curve in curves), default=0)
    if len(curves) < LEAST_TRIALS:
        why = f"{len(curves)} trials have a value, and with fewer than {LEAST_TRIALS} it is chance"
        return Importances(epoch, len(curves), left_out=why)
    chosen = evenly(curves, MOST_TRIALS)
    if len({curve[epoch - 1] for _, curve in chosen}) == 1:
        return Importances(epoch, len(chosen), left_out=f"all trials are equally good after epoch {epoch}")
    compared = [_as_complete(trial, curve[epoch - 1]) for trial, curve in chosen]
    shares = _shares(compared, objective)
    rng = np.random.default_rng(seed)
    places = rng.integers(len(compared), size=(RESAMPLES, len(compared)))
    drawn = [_shares([compared[place] for place in row], objective) for row in places]
    tail = 100 * (1 - LEVEL) / 2
    found = []
    for name, share in shares.items():
        low, high = np.percentile([one.get(name, 0.0) for one in drawn], [tail, 100 - tail])
        found.append(Importance(name, share, float(low), float(high)))
    return Importances(epoch, len(chosen), tuple(sorted(found, key=lambda one: (-one.share, one.name))))


def evenly(found: Sequence[T], most: int) -> list[T]:
    """Return at most so many of what was found, in its order, and as far apart as can be."""
    return [found[int(place)] for place in np.linspace(0, len(found) - 1, min(len(found), most))]


def _as_complete(trial: FrozenTrial, value: float) -> FrozenTrial:
    return create_trial(value=value, params=trial.params, distributions=trial.distributions)


def _shares(trials: list[FrozenTrial], objective: Objective) -> dict[str, float]:
    study = optuna.create_study(study_name="", direction=objective.optunas)
    study.add_trials(trials)
    quantile = max(_LEAST_SHARE, _LEAST_ABOVE / len(trials))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Optuna's own, of what is new in it
        return get_param_importances(study, evaluator=evaluator)
