"""What a training costs, by a few steps of it, where no parameters are given."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any, ClassVar

import numpy as np
import pytest
from keras import layers

from models.classifier import ImageClassifier, Inputs
from models.recipe import Recipe
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from studies.spec import Sampler, StrategyChoice, StudySpec
from tuning.worker.hyperparameters import RangedHyperParameters
from tuning.worker.preflight.timing import timed
from tuning.worker.training_data import Classifiers, TrainingData

pytestmark = pytest.mark.keras

BATCH, STEPS = 128, 4


class LargeBatches(ImageClassifier):
    """Takes more images in a step than most."""

    defaults: ClassVar[Recipe] = Recipe(batch_size=BATCH, optimizer="adamw", learning_rate=0.1, dropout=0.0)

    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Dense(4)(layers.Flatten()(x))


@pytest.fixture
def classifiers() -> Classifiers:
    spec = StudySpec(
        dataset="mnist_sample", model="mine.py:LargeBatches@0", space="core", parameters={}, seed=0,
        plan_name="cpu", epochs=1, train_images=None, validation_images=500, patience=1, sampler=Sampler(),
        strategy=StrategyChoice(),
    )  # fmt: skip
    images = LabelledImages(np.zeros((999, 8, 8, 1), np.uint8), np.zeros(999, np.int64), np.arange(999))
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    return Classifiers(LargeBatches, spec, TrainingData(images, images, images, inputs, ("a", "b")), CompiledModels())


def test_the_defaults_are_timed_by_steps_of_their_own_size(classifiers: Classifiers) -> None:
    ticks: Iterator[int] = count()
    learned: list[int] = []
    own = LargeBatches.fit

    def fit(self: Any, hp: Any, model: Any, training: LabelledImages, *rest: Any, **more: Any) -> Any:
        learned.append(len(training))
        return own(self, hp, model, training, *rest, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LargeBatches, "fit", fit)
        measured, _ = timed(classifiers, RangedHyperParameters({}, {}), lambda: float(next(ticks)), steps=STEPS)
    assert learned == [(1 + STEPS) * BATCH]
    # The clock goes on by one with each call, which is of one step or more.
    assert 0.0 < measured["image_s"] <= 1.0 / BATCH
