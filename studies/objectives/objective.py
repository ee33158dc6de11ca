"""What a study optimises: a curve of its trainings' history, which direction is the better one, how it is shown."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import numpy as np
from optuna.study import StudyDirection
from pydantic import BaseModel, ConfigDict, Field

from storage import attributes

Direction = Literal["max", "min"]

Value = TypeVar("Value", float, np.ndarray)

# Shares of right answers of a number of images, each of which is right or wrong.
_SHARES: Final = frozenset(
    {
        "acc",
        "accuracy",
        "binary_accuracy",
        "categorical_accuracy",
        "sparse_categorical_accuracy",
        "sparse_top_k_categorical_accuracy",
        "top_k_categorical_accuracy",
    }
)
# What people call a metric by another name than its curve.
_WORDS: Final[Mapping[str, str]] = {
    "acc": "accuracy",
    "auc": "AUC",
    "balanced_accuracy": "balanced accuracy",
    "f1_macro": "macro F1",
}
# What a trained model costs, which no history has; for each how the head of a column calls it.
_MEASURED: Final[Mapping[str, tuple[str, str]]] = {
    "weights": ("weights", "weights"),
    "bytes": ("bytes", "bytes"),
    "seconds_per_image": ("seconds per image", "s/image"),
}
MEASURED: Final = tuple(_MEASURED)
"""The names of what is measured of a trained model: the smallest is the best."""
_DIRECTIONS: Final[Mapping[Direction, StudyDirection]] = {
    "max": StudyDirection.MAXIMIZE,
    "min": StudyDirection.MINIMIZE,
}
# `file.py:function@checksum`, of a user's file.
_FUNCTION: Final = re.compile(r".+\.py:(?P<function>\w+)@[0-9a-f]+")


class Objective(BaseModel):
    """What a study optimises.

    Attributes:
        name: of a curve in the history of a training, or `file.py:function@checksum` of a user's function.
        direction: whether the largest value is the best one, or the smallest.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(pattern=r"^\S+$")]
    direction: Direction

    @property
    def function(self) -> str | None:
        """The name of a user's function; None of a curve that a history has."""
        found = _FUNCTION.fullmatch(self.name)
        return found["function"] if found is not None else None

    @property
    def given(self) -> str:
        """What the command line calls it: a user's function without the checksum of its file."""
        return self.name if self.function is None else self.name.rpartition("@")[0]

    @property
    def curve(self) -> str:
        """What a history calls it."""
        return self.name if self.function is None else f"val_{self.function}"

    @property
    def optunas(self) -> StudyDirection:
        """The direction as Optuna has it."""
        return _DIRECTIONS[self.direction]

    @property
    def is_default(self) -> bool:
        """Whether it is what is optimised where nobody says otherwise."""
        return self == VALIDATION_ACCURACY

    @property
    def is_share(self) -> bool:
        """Whether it is the share of right answers among the images of a part: then it has a binomial error."""
        return self.function is None and self._metric in _SHARES

    @property
    def is_measured(self) -> bool:
        """Whether it is what a trained model costs, rather than a curve."""
        return self.name in _MEASURED

    @property
    def _metric(self) -> str:
        return self.curve.removeprefix("val_")

    @property
    def _metric_in_words(self) -> str:
        return _WORDS.get(self._metric, self._metric.replace("_", " "))

    @property
    def words(self) -> str:
        """What people call it: `validation accuracy`, `validation loss`."""
        if self.is_measured:
            return _MEASURED[self.name][0]
        return f"{'validation' if self.curve.startswith('val_') else 'training'} {self._metric_in_words}"

    @property
    def heading(self) -> str:
        """The same for the head of a column: `val accuracy`."""
        if self.is_measured:
            return _MEASURED[self.name][1]
        return f"{'val' if self.curve.startswith('val_') else 'training'} {self._metric_in_words}"

    @property
    def aim(self) -> str:
        """What is wanted of it: `validation loss, the smallest is the best`."""
        return f"{self.words}, the {'largest' if self.direction == 'max' else 'smallest'} is the best"

    # --- which value is the better one ---

    def oriented(self, value: Value) -> Value:
        """Return a value, or an array of them, such that the largest is the best; of what is maximised, itself."""
        return value if self.direction == "max" else -value

    def rank(self, value: float | None) -> float:
        """Return what sorts values, the best first and what is none, or no number, last."""
        return math.inf if value is None or math.isnan(value) else -self.oriented(value)

    @property
    def worst(self) -> float:
        """What every value is better than: the value of what has none, where one must be written."""
        return -self.oriented(math.inf)

    def is_better(self, value: float, than: float) -> bool:
        """Return whether a value is better than another."""
        return self.oriented(value) > self.oriented(than)

    def best(self, values: Iterable[float]) -> float | None:
        """Return the best of some values that are finite; None where none is."""
        # Asked of every trial of a study after each epoch.
        finite = filter(math.isfinite, values)
        return max(finite, default=None) if self.direction == "max" else min(finite, default=None)

    # --- how a value is written ---

    def figure(self, value: float) -> str:
        """Return a value in few characters: `0.8312`."""
        if self.name in ("weights", "bytes") and math.isfinite(value):
            return f"{value:,.0f}"
        plain = self.is_share or value == 0 or not math.isfinite(value) or 1e-2 <= abs(value) < 1e5
        return f"{value:.4f}" if plain else f"{value:.4g}"

    def share(self, value: float) -> str:
        """Return an accuracy as `83.12%`, any other value as `figure` does."""
        return f"{value:.2%}" if self.is_share else self.figure(value)

    def in_words(self, value: float) -> str:
        """Return a value with its name: `83.12% validation accuracy`."""
        return f"{self.share(value)} {self.words}"


VALIDATION_ACCURACY: Final = Objective(name="val_accuracy", direction="max")
"""What is optimised where nobody says otherwise."""


def objectives_in(document: Mapping[str, Any] | None) -> tuple[Objective, ...]:
    """Return the objectives of a spec as it is stored; those of one that cannot be read are none.

    Args:
        document: the spec; None where another program made the study.
    """
    if document is None:
        return ()
    if "objectives" not in document:
        return (VALIDATION_ACCURACY,)
    try:
        return tuple(map(Objective.model_validate, attributes.typed(document["objectives"], list) or []))
    except ValueError:
        return ()
