"""What a training costs, by a few steps of it, where no parameters are given."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar

import pytest
from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe
from models.training.feeding import LabelledImages
from tests.integration.blank_pictures import classifiers_of
from tuning.worker.hyperparameters import RangedHyperParameters
from tuning.worker.preflight.timing import timed

pytestmark = pytest.mark.keras

BATCH, STEPS = 128, 4


class LargeBatches(ImageClassifier):
    """Takes more images in a step than most."""

    defaults: ClassVar[Recipe] = Recipe(batch_size=BATCH, optimizer="adamw", learning_rate=0.1, dropout=0.0)

    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Dense(4)(layers.Flatten()(x))


def test_the_defaults_are_timed_by_steps_of_their_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks: Iterator[int] = count()
    learned: list[int] = []
    own = LargeBatches.fit

    def fit(self: Any, hp: Any, model: Any, training: LabelledImages, *rest: Any, **more: Any) -> Any:
        learned.append(len(training))
        return own(self, hp, model, training, *rest, **more)

    monkeypatch.setattr(LargeBatches, "fit", fit)
    classifiers = classifiers_of(LargeBatches, images=999)
    measured, _ = timed(classifiers, RangedHyperParameters({}, {}), lambda: float(next(ticks)), steps=STEPS)
    assert learned == [(1 + STEPS) * BATCH]
    # The clock goes on by one with each call, which is of one step or more.
    assert 0.0 < measured["image_s"] <= 1.0 / BATCH
