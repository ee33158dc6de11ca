"""From a spec to Optuna's sampler and pruner."""

from __future__ import annotations

import warnings

import optuna

from studies.spec import StudySpec, derive_seed


def make_sampler(spec: StudySpec, trial_number: int, attempt: int = 0) -> optuna.samplers.BaseSampler:
    """Return the sampler of one trial.

    Its random stream is derived from the study's seed and the trial's number, so that no two workers draw the same
    configuration and a restart does not repeat the startup trials (one seeded `TPESampler` per process does both).

    Args:
        spec: the study's.
        trial_number: of the trial.
        attempt: how often its parameters were drawn before.
    """
    path = ("sampler", trial_number, attempt) if attempt else ("sampler", trial_number)
    seed = derive_seed(spec.seed, *path)
    if spec.sampler.name == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    with warnings.catch_warnings():
        # `group` keeps conditional parameters inside the joint model; Optuna marks it experimental.
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=spec.sampler.startup_trials, group=True)


def make_pruner(spec: StudySpec) -> optuna.pruners.BasePruner:
    """Return the study's pruner; its resource is the epoch, counted from 1."""
    pruner = spec.pruner
    if pruner.name == "none":
        return optuna.pruners.NopPruner()
    if pruner.name == "median":
        return optuna.pruners.MedianPruner(n_warmup_steps=pruner.min_epochs)
    return optuna.pruners.SuccessiveHalvingPruner(
        min_resource=pruner.min_epochs, reduction_factor=pruner.reduction_factor
    )
