"""The user attributes of studies and trials: what is kept in the database beside Optuna's own columns."""

from __future__ import annotations

from typing import TypedDict

# Of a study. Its budget is `storage.claims.BUDGET_KEY`.
SPEC = "spec"
FINGERPRINT = "fingerprint"
DATA = "data"
LIMITS = "limits"
# Tells studies of one name in different databases apart, where both keep files under one home.
UID = "uid"
# How many epochs all trials together train; None without a bound.
BUDGET_EPOCHS = "budget_epochs"
# When its workers were let go the last time: `studies.forecast.Launched`.
LAUNCHED = "launched"
# What is searched, and configurations that are tried first.
SPACE = "space"
FIRST = "first"

# Of a trial. Who ran it and why it was given up are `storage.claims`'s.
EPOCHS = "epochs"
SECONDS = "seconds"
BEST_EPOCH = "best_epoch"
VALIDATION_LOSS = "val_loss"
PRECISION = "precision"
THREADS = "threads"
DEVICE = "device"
WEIGHTS = "weights"
# How often its training step was traced: 0 where its worker had a compiled model for it.
TRACES = "traces"


class Limits(TypedDict):
    """What a study's workers keep to. Not part of the spec: it changes no trial's result, only what a failure costs.

    Attributes:
        checkpoint_interval_s: seconds between two checkpoints of a trial.
        trial_timeout_s: seconds after which a claimed trial counts as hung; None for never.
        trials_per_worker: trials after which a worker is replaced by a fresh process.
        memory_growth_bytes: growth of a worker's memory after which it is, too.
    """

    checkpoint_interval_s: float
    trial_timeout_s: float | None
    trials_per_worker: int
    memory_growth_bytes: int


DEFAULT_LIMITS = Limits(
    checkpoint_interval_s=60.0, trial_timeout_s=None, trials_per_worker=1_000, memory_growth_bytes=4 * 2**30
)


class StudyData(TypedDict):
    """What a study records of its data.

    Attributes:
        checksum: of the data set's official files.
        split: the fingerprint of the split.
        train, validation: how many images each part has.
        mean, std: of each channel over the training part, in pixel units (0 to 255).
    """

    checksum: str
    split: str
    train: int
    validation: int
    mean: list[float]
    std: list[float]
