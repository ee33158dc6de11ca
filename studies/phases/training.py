"""What a trial trains with, besides its parameters: what the spec says, or for a later phase what is recorded with it.

It is read from the database alone, by a worker on any machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

from optuna.trial import FrozenTrial

from storage import attributes
from studies.spec import StudySpec, derive_seed

Learned = Literal["searched", "all", "validation too"]
"""What is trained on: the images of the search, all that validation and test leave, or these and validation's."""


@dataclass(frozen=True)
class Training:
    """What one trial trains with.

    Attributes:
        seed: decides its weights, its order of images, its dropout and its augmentation.
        epochs: the most that it trains; the schedule of the learning rate ends there.
        patience: see `studies.spec.Plan`.
        of: the trial of the search whose parameters it has; None for a trial of the search.
        at_least: values of the recipe, by name, that are raised to these where they are lower.
        learned: which images it trains on.
    """

    seed: int
    epochs: int
    patience: int
    of: int | None = None
    at_least: Mapping[str, float] = field(default_factory=dict)
    learned: Learned = "searched"

    @property
    def is_judged(self) -> bool:
        """Whether there are images that it did not learn from: else its last epoch counts, and it has no value."""
        return self.learned != "validation too"

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it; what has been there before there was a choice is left out."""
        document = asdict(self)
        return {key: value for key, value in document.items() if key != "learned" or value != "searched"}


def training_of(spec: StudySpec, trial: FrozenTrial) -> Training:
    """Return what a trial of a study trains with.

    Args:
        spec: the study's.
        trial: the trial.
    """
    recorded = attributes.typed(trial.system_attrs.get(attributes.TRAINING), dict) or {}
    return training_in(spec, recorded, seed=derive_seed(spec.seed, "trial", trial.number))


def training_in(spec: StudySpec, recorded: Mapping[str, Any], *, seed: int = 0) -> Training:
    """Return the training that was recorded; what is not, or not of its kind, is what the spec says.

    Args:
        spec: the study's.
        recorded: `Training.document`, or what stands in its place.
        seed: where none is recorded.
    """
    own, epochs, patience, of = (
        attributes.typed(recorded.get(key), int) for key in ("seed", "epochs", "patience", "of")
    )
    learned = recorded.get("learned")
    raised = attributes.typed(recorded.get("at_least"), dict) or {}
    return Training(
        seed=seed if own is None else own,
        epochs=epochs or spec.epochs,
        patience=patience or spec.patience,
        of=of,
        at_least={name: value for name, value in raised.items() if attributes.typed(value, float) is not None},
        learned=next((one for one in get_args(Learned) if one == learned), "searched"),
    )


def confirmation_training(spec: StudySpec, of: int, index: int) -> Training:
    """Return what a configuration is trained with again: what the search had, but for the seed.

    Args:
        spec: the study's.
        of: the trial that tried the configuration.
        index: which of its other seeds, from 0.
    """
    return Training(derive_seed(spec.seed, "confirm", of, index), spec.epochs, spec.patience, of)


def refit_training(
    spec: StudySpec, of: int, *, epochs: int, at_least: Mapping[str, float], learned: Learned = "searched"
) -> Training:
    """Return what the winner is trained with: for so many epochs, with patience that grows with them.

    Args:
        spec: the study's.
        of: the trial that tried the configuration.
        epochs: how many.
        at_least: see `Training`.
        learned: likewise.
    """
    patience = math.ceil(spec.patience * max(1.0, epochs / spec.epochs))
    seed = derive_seed(spec.seed, "refit", of)
    return Training(seed, epochs, patience, of, dict(at_least), learned)
