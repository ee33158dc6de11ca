"""What a model does that cannot be meant is told, each in one line."""

from __future__ import annotations

from typing import Any, ClassVar

import keras
import keras_tuner
import pytest
from keras import layers

from models.classifier import ImageClassifier, Inputs
from models.cnn import CNN
from models.deep_cnn import DeepCNN
from models.recipe import Recipe
from models.remarks import remarks_on
from models.resnet import ResNet

pytestmark = pytest.mark.keras


class Plain(ImageClassifier):
    defaults: ClassVar[Recipe] = Recipe(batch_size=32, optimizer="sgd", learning_rate=0.1, dropout=0.2)

    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Dense(4, activation="relu")(layers.Flatten()(x))


class Rescaled(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, layers.Rescaling(1.0 / 255, name="mine")(x))


class RescaledInside(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return keras.Sequential([keras.Input((8, 8, 1)), layers.Rescaling(1 / 255, name="mine"), layers.Flatten()])(x)


class Ordinary(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, layers.Rescaling(2.0)(x))


class Softmax(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Dense(10, activation="softmax")(super().backbone(hp, x))


class SoftmaxInside(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return keras.Sequential([layers.Flatten(), layers.Dense(10), layers.Softmax()])(x)


class OwnLoss(Plain):
    loss = "categorical_focal_crossentropy"
    metrics: ClassVar[list[str]] = ["f1_score"]
    objective = "val_f1_score"


class ManyDimensions(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Conv2D(4, 3)(x)


def made(kind: type[ImageClassifier]) -> ImageClassifier:
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    return kind(inputs, extended=False, epochs=1, train_images=96)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        (Rescaled, ["'mine' multiplies by 0.00392 what is normalised already"]),
        (RescaledInside, ["'mine' multiplies by 0.00392 what is normalised already"]),
        (Softmax, ["the backbone ends with a softmax"]),
        (SoftmaxInside, ["the backbone ends with a softmax"]),
        (OwnLoss, ["OwnLoss.loss is read by nobody", "OwnLoss.metrics is", "OwnLoss.objective is"]),
        *((kind, []) for kind in (Plain, Ordinary, CNN, DeepCNN, ResNet)),
    ],
)
def test_what_cannot_be_meant_is_told_in_a_line(kind: type[ImageClassifier], says: list[str]) -> None:
    classifier = made(kind)
    found = remarks_on(classifier, classifier.untrained(keras_tuner.HyperParameters()))
    assert len(found) == len(says), found
    for line, words in zip(found, says, strict=True):
        assert words in line and "\n" not in line


def test_a_backbone_without_features_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"Received: the shape \(None, 6, 6, 4\). End it with layers.Flatten"):
        made(ManyDimensions).untrained(keras_tuner.HyperParameters())
