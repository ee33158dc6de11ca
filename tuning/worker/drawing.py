"""The parameters of a trial and the model that is built of them, drawn again while they are known to be too large."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna

from models.backend import seed_generators
from models.tunable import Tunable
from storage import attributes
from storage.claims import Claim, Claims
from studies.phases.training import Training, training_of
from studies.scheduler import Scheduler
from tuning.worker.hyperparameters import TrialHyperParameters
from tuning.worker.recording.trial_record import TrialRecord
from tuning.worker.training_data import Classifiers

logger = logging.getLogger(__name__)

# How often parameters are drawn that are known not to fit into the device's memory.
MAX_DRAWS = 10


@dataclass(frozen=True)
class Drawn:
    """A trial whose parameters are known.

    Attributes:
        trial: Optuna's.
        hypermodel: what built its model.
        hp: its parameters.
        model: as built, with the weights of the trial's seed.
        training: what it trains with.
        record: tells the database of it.
    """

    trial: optuna.trial.Trial
    hypermodel: Tunable
    hp: TrialHyperParameters
    model: Any
    training: Training
    record: TrialRecord


def draw(
    trial: optuna.trial.Trial,
    claim: Claim,
    *,
    classifiers: Classifiers,
    scheduler: Scheduler,
    claims: Claims,
    device: str,
) -> Drawn:
    """Draw a trial's parameters and build its model, again while they are known to be too large for the device.

    TPE does not learn from FAIL: left alone, it goes on to propose what ran out of memory.

    Args:
        trial: suggests the parameters.
        claim: the right to it.
        classifiers: makes its classifier.
        scheduler: hands it out anew.
        claims: through which parameters are forgotten.
        device: the product's name.
    """
    spec, holds = classifiers.spec, classifiers.hypermodel.first_range_holds
    training = training_of(spec, trial.study._storage.get_trial(claim.trial_id))
    seed_generators(training.seed)
    hypermodel = classifiers.new(training)
    for attempt in range(1, MAX_DRAWS + 1):
        hp = TrialHyperParameters(trial, spec.parameters, first_range_holds=holds)
        with claims.together(claim):  # what it samples
            model = hypermodel.build(hp)
        too_large = ran_out_with(
            trial.study.get_trials(deepcopy=False), device, hp.values, hypermodel.weight_count(model)
        )
        built = attributes.read(trial.user_attrs, attributes.WEIGHTS, int) is not None
        # Those of a later phase are what is trained, not drawn.
        if too_large is None or attempt == MAX_DRAWS or built or claim.phase != attributes.SEARCH:
            break
        logger.info("trial %d: drawn again, as large as trial %d, which ran out", claim.number, too_large)
        claims.forget_parameters(claim)
        seed_generators(training.seed)
        trial = scheduler.trial(claim, attempt)
    return Drawn(trial, hypermodel, hp, model, training, TrialRecord(trial, claim, claims))


def ran_out_with(
    trials: Sequence[optuna.trial.FrozenTrial], device: str, values: Mapping[str, Any], weight_count: int
) -> int | None:
    """Return the number of a trial that ran out of memory on this kind of device with no more than is proposed now.

    Args:
        trials: the study's.
        device: the product's name.
        values: the proposal; its `batch_size` counts.
        weight_count: of the model that is built from it.
    """
    for trial in trials:
        failure, on = (attributes.of_trial(trial, key, str) for key in (attributes.FAILURE, attributes.DEVICE))
        if failure != attributes.OUT_OF_MEMORY or on != device:
            continue
        batch_size, weights = trial.params.get("batch_size", 0), attributes.of_trial(trial, attributes.WEIGHTS, int)
        if values.get("batch_size", 0) >= batch_size and weights is not None and weight_count >= weights:
            return trial.number
    return None
