"""The user attributes of studies and trials: what is kept in the database beside Optuna's own columns."""

from __future__ import annotations

from typing import TypedDict

# Of a study. Its budget is `storage.claims.BUDGET_KEY`.
SPEC = "spec"
FINGERPRINT = "fingerprint"
DATA = "data"

# Of a trial. Who ran it and why it was given up are `storage.claims`'s.
EPOCHS = "epochs"
SECONDS = "seconds"
BEST_EPOCH = "best_epoch"
VALIDATION_LOSS = "val_loss"
PRECISION = "precision"
THREADS = "threads"


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
