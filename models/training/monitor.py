"""What decides which epoch of a training is its best: a curve of its history, or a metric that is computed for that."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from models.evaluation import METRICS, Metric

EPOCH = "epoch"
"""The curve of the epochs' own numbers, from 1, of a training of which the last one is kept."""


class UnknownMonitor(ValueError):
    """A history has no curve of that name.

    Attributes:
        name: the one that is missing.
        known: what it has, and what can be computed besides.
    """

    def __init__(self, name: str, known: Collection[str]) -> None:
        super().__init__(name, known)
        self.name = name
        self.known = tuple(dict.fromkeys([*sorted(known), *METRICS]))

    def __str__(self) -> str:
        return f"there is no {self.name!r} in the history of the training, which has {', '.join(self.known)}"


@dataclass(frozen=True)
class Monitor:
    """What a training is judged by.

    Attributes:
        name: of the curve.
        mode: whether the largest value of it is the best one, or the smallest.
        metric: computes it, whatever the history has; None where that has it, or it is one of `METRICS`.
    """

    name: str = "val_accuracy"
    mode: Literal["max", "min"] = "max"
    metric: Metric | None = None

    @property
    def plateau(self) -> str:
        """The curve by which the learning rate is lowered: of an accuracy, which moves in steps, the loss beside it."""
        return "val_loss" if self.name in ("val_accuracy", EPOCH) else self.name

    def is_better(self, value: float, than: float | None) -> bool:
        """Return whether a value is better than another, or than none at all; what is no number never is."""
        if not math.isfinite(value):
            return False
        return than is None or (value > than if self.mode == "max" else value < than)

    def computed(self, known: Collection[str]) -> Metric | None:
        """Return what computes the curve; None where the history has it.

        Args:
            known: the names of its other curves.

        Raises:
            UnknownMonitor: it has not, and nothing computes it.
        """
        if self.metric is not None:
            return self.metric
        if self.name in known:
            return None
        if self.name not in METRICS:
            raise UnknownMonitor(self.name, known)
        return METRICS[self.name]

    def value_in(self, logs: Mapping[str, float]) -> float:
        """Return what the logs of an epoch say of it."""
        return float(logs[self.name])


VALIDATION_ACCURACY = Monitor()
"""What a training is judged by where nobody says otherwise."""
LAST_EPOCH = Monitor(EPOCH)
"""Keeps the weights of the last epoch, whatever is said of it."""
