"""Classifiers of blank pictures, for tests of what a study does before it trains in earnest. It imports Keras."""

from __future__ import annotations

from typing import Literal

import numpy as np

from models.classifier import ImageClassifier, Inputs
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from studies.spec import ParameterRange, Sampler, StrategyChoice, StudySpec
from tuning.worker.training_data import Classifiers, TrainingData

RANGE = ParameterRange(low=1, high=2)


def classifiers_of(
    kind: type[ImageClassifier], *ranged: str, space: Literal["core", "extended"] = "core", images: int = 8
) -> Classifiers:
    """Return what makes the classifiers of a study of two classes, of grey pictures of 8 x 8, all in the first class.

    Args:
        kind: of which they are.
        ranged: the parameters that the study gives the range from 1 to 2, by name.
        space: see `studies.spec.StudySpec`.
        images: how many pictures there are: training, validation and everything are the same.
    """
    spec = StudySpec(
        dataset="mnist_sample", model="mine.py:Own@0", space=space, parameters=dict.fromkeys(ranged, RANGE), seed=0,
        plan_name="cpu", epochs=1, train_images=None, validation_images=500, patience=1, sampler=Sampler(),
        strategy=StrategyChoice(),
    )  # fmt: skip
    pictures = LabelledImages(np.zeros((images, 8, 8, 1), np.uint8), np.zeros(images, np.int64), np.arange(images))
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    return Classifiers(kind, spec, TrainingData(pictures, pictures, pictures, inputs, ("a", "b")), CompiledModels())
