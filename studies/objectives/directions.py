"""Which direction of a metric is the better one, told from its name as KerasTuner tells it, without Keras.

KerasTuner asks Keras what a name means. These are Keras's metrics and losses as a history calls them, and what is
computed here besides; a test asks KerasTuner for each. Two things are otherwise. What it takes for a loss because it is
no accuracy, and what it fails on, is a score of which more is better. And what is both, a loss and a score of the same
name, is not told: whoever means it says which.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from storage.errors import BadInput, unknown_name
from studies.objectives.objective import MEASURED, Direction, Objective

LARGEST: Final = frozenset({
    "acc", "accuracy", "auc", "binary_accuracy", "categorical_accuracy", "precision", "recall",
    "sparse_categorical_accuracy", "sparse_top_k_categorical_accuracy", "top_k_categorical_accuracy",
    "true_negatives", "true_positives",
})  # fmt: skip
CORRECTED: Final = frozenset({
    "binary_io_u", "concordance_correlation", "f1_score", "f_beta_score", "io_u", "mean_io_u", "one_hot_io_u",
    "one_hot_mean_io_u", "pearson_correlation", "precision_at_recall", "r2_score", "recall_at_precision",
    "sensitivity_at_specificity", "specificity_at_sensitivity",
})  # fmt: skip
"""Scores of which KerasTuner says that the smallest is the best, or on which it fails."""
COMPUTED: Final = frozenset({"balanced_accuracy", "f1_macro"})
"""What is computed here and KerasTuner knows nothing of; `auc` it knows."""
SMALLEST: Final = frozenset({
    "bce", "binary_crossentropy", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_generalized_cross_entropy", "categorical_hinge", "ce",
    "crossentropy", "false_negatives", "false_positives", "hinge", "huber", "kl_divergence", "log_cosh",
    "log_cosh_error", "loss", "mae", "mape", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_error", "mean_squared_logarithmic_error", "mse", "msle", "poisson", "root_mean_squared_error",
    "sparse_categorical_crossentropy", "squared_hinge",
})  # fmt: skip

# What is computed of the validation part alone is meant by its bare name, too.
_OF_VALIDATION: Final[Mapping[str, str]] = {name: f"val_{name}" for name in (*COMPUTED, "auc")}

DIRECTIONS: Final[tuple[Direction, ...]] = ("max", "min")


def direction_of(name: str) -> Direction | None:
    """Return which direction of a metric is the better one; None where its name does not say."""
    plain = name.removeprefix("val_").removeprefix("weighted_")
    if plain in LARGEST | CORRECTED | COMPUTED:
        return "max"
    return "min" if plain in SMALLEST or name in MEASURED else None


def objective_of(name: str, direction: str | None = None) -> Objective:
    """Return the objective that is meant.

    Args:
        name: of a curve, or `file.py:function@checksum`.
        direction: as given; None where it is to be told from the name.

    Raises:
        BadInput: there is no such direction, it cannot be told, or a function of the user's has the name of a curve
            that every training has.
    """
    if direction is not None and direction not in DIRECTIONS:
        raise unknown_name("direction", direction, DIRECTIONS)
    meant = Objective(name=_OF_VALIDATION.get(name, name), direction="max")
    if meant.function in ("accuracy", "loss", "balanced_accuracy"):
        raise BadInput(
            f"objective {meant.given!r}: every training has a curve called {meant.curve}. Give the function"
            " another name."
        )
    told = direction or direction_of(meant.function or meant.name)
    if told is None:
        raise BadInput(
            f"objective {meant.given!r}: its name does not say whether the largest value is the best one. Give"
            " --direction max or --direction min as well (make: DIRECTION=)."
        )
    return meant.model_copy(update={"direction": told})
