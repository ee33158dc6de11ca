"""The small network that handwritten digits need."""

from __future__ import annotations

from typing import Any, ClassVar

from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe


class CNN(ImageClassifier):
    """Convolutions, each halving the picture, then one dense layer.

    Pooling comes before batch normalisation and ReLU: ReLU and the maximum change places freely, and both others then
    touch a quarter of the values, which on a CPU is a good part of the step.
    """

    defaults: ClassVar[Recipe] = Recipe(batch_size=64, optimizer="adamw", learning_rate=3e-3, dropout=0.3)

    def backbone(self, hp: Any, x: Any) -> Any:
        width = self.tuned_int(hp, "width", 16, 48, step=8, default=24)
        depth = self.tuned_int(hp, "depth", 1, 3, default=2)
        for stage in range(depth):
            x = layers.Conv2D(width * 2**stage, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
            x = layers.MaxPooling2D(2)(x)
            x = layers.BatchNormalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
        x = layers.Flatten()(x)
        return layers.Dense(4 * width, activation="relu")(x)
