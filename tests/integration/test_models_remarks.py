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


class RescaledUnseen(Plain):
    """Inside a model that has no graph."""

    def backbone(self, hp: Any, x: Any) -> Any:
        return Body()(x)


class Body(keras.Model):
    def __init__(self) -> None:
        super().__init__()
        self.scale = layers.Rescaling(1 / 255, name="mine")
        self.flat = layers.Flatten()
        self.dense = layers.Dense(4)

    def call(self, x: Any) -> Any:
        return self.dense(self.flat(self.scale(x)))


class Divided(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, x / 255.0)


class Halved(Plain):
    """No single step does it."""

    def backbone(self, hp: Any, x: Any) -> Any:
        for number in range(5):
            x = layers.Rescaling(0.5, name=f"half_{number}")(x)
        return super().backbone(hp, x)


class ByLambda(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, layers.Lambda(lambda t: t / 255.0, name="mine")(x))


class ForMobileNet(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, keras.applications.mobilenet_v2.preprocess_input(x))


class ForVGG(Plain):
    """Takes the mean of each channel off, and divides by nothing."""

    def backbone(self, hp: Any, x: Any) -> Any:
        x = layers.Concatenate()([x, x, x])
        return super().backbone(hp, keras.applications.vgg16.preprocess_input(x))


class ForDenseNet(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        x = layers.Concatenate()([x, x, x])
        return super().backbone(hp, keras.applications.densenet.preprocess_input(x))


class FrozenBase(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        base = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(2, 3)])
        base.trainable = False
        return super().backbone(hp, base(keras.applications.mobilenet_v2.preprocess_input(x)))


class Undone(Plain):
    """Makes pixels of it again, as an application wants them, and does what it asks for."""

    def backbone(self, hp: Any, x: Any) -> Any:
        x = keras.applications.mobilenet_v2.preprocess_input(x * 60.0 + 110.0)
        return super().backbone(hp, x)


class Ordinary(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, layers.Rescaling(2.0)(x))


class Prepared(Plain):
    """All that is ordinarily done to pixels before the first weights."""

    def backbone(self, hp: Any, x: Any) -> Any:
        x = layers.RandomTranslation(0.1, 0.1)(layers.GaussianNoise(0.1)(x))
        x = layers.ZeroPadding2D(4)(layers.Resizing(12, 12)(x))
        x = layers.Concatenate()([x, keras.ops.tanh(x), keras.ops.abs(x)])
        y = layers.GlobalAveragePooling2D()(x)
        return layers.Concatenate()([layers.Dense(2)(y), layers.Flatten()(layers.Conv2D(2, 3)(x))])


class Differences(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, x[:, 1:] - x[:, :-1])


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
        *(
            (kind, ["'mine' shrinks what is normalised already (mean 0, standard deviation 1) to a standard dev"])
            for kind in (Rescaled, RescaledInside, RescaledUnseen, ByLambda)
        ),
        *(
            (kind, ["divide' shrinks what is normalised already"])
            for kind in (Divided, ForMobileNet, ForDenseNet, FrozenBase)
        ),
        (Halved, ["'half_3' shrinks what is normalised already"]),
        (ForVGG, ["moves what is normalised already (mean 0, standard deviation 1) to a mean of -1"]),
        (Softmax, ["the backbone ends with a softmax"]),
        (SoftmaxInside, ["the backbone ends with a softmax"]),
        (OwnLoss, ["OwnLoss.loss is read by nobody", "OwnLoss.metrics is", "OwnLoss.objective is"]),
        *((kind, []) for kind in (Plain, Ordinary, Prepared, Differences, Undone, CNN, DeepCNN, ResNet)),
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
