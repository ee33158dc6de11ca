"""What a trial trains with, besides its parameters: what the spec says, or for a later phase what is recorded with it.

It is read from the database alone, by a worker on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from optuna.trial import FrozenTrial

from storage import attributes
from studies.spec import StudySpec, derive_seed


@dataclass(frozen=True)
class Training:
    """What one trial trains with.

    Attributes:
        seed: decides its weights, its order of images, its dropout and its augmentation.
        epochs: the most that it trains; the schedule of the learning rate ends there.
        patience: see `studies.spec.Plan`.
        of: the trial of the search whose parameters it has; None for a trial of the search.
        at_least: values of the recipe, by name, that are raised to these where they are lower.
    """

    seed: int
    epochs: int
    patience: int
    of: int | None = None
    at_least: Mapping[str, float] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def training_of(spec: StudySpec, trial: FrozenTrial) -> Training:
    """Return what a trial of a study trains with.

    Args:
        spec: the study's.
        trial: the trial.
    """
    recorded = attributes.typed(trial.system_attrs.get(attributes.TRAINING), dict) or {}
    seed, epochs, patience, of = (
        attributes.typed(recorded.get(key), int) for key in ("seed", "epochs", "patience", "of")
    )
    raised = attributes.typed(recorded.get("at_least"), dict) or {}
    return Training(
        seed=derive_seed(spec.seed, "trial", trial.number) if seed is None else seed,
        epochs=epochs or spec.epochs,
        patience=patience or spec.patience,
        of=of,
        at_least={name: value for name, value in raised.items() if attributes.typed(value, float) is not None},
    )


def confirmation_training(spec: StudySpec, of: int, index: int) -> Training:
    """Return what a configuration is trained with again: what the search had, but for the seed.

    Args:
        spec: the study's.
        of: the trial that tried the configuration.
        index: which of its other seeds, from 0.
    """
    return Training(derive_seed(spec.seed, "confirm", of, index), spec.epochs, spec.patience, of)


def refit_training(spec: StudySpec, of: int, *, epochs: int, at_least: Mapping[str, float]) -> Training:
    """Return what the winner is trained with: for so many epochs, with patience that grows with them.

    Args:
        spec: the study's.
        of: the trial that tried the configuration.
        epochs: how many.
        at_least: see `Training`.
    """
    patience = math.ceil(spec.patience * max(1.0, epochs / spec.epochs))
    seed = derive_seed(spec.seed, "refit", of)
    return Training(seed, epochs, patience, of, dict(at_least))
