"""A deeper network for small colour pictures."""

from __future__ import annotations

from typing import Any, ClassVar

from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe


class DeepCNN(ImageClassifier):
    """Three stages of convolution, batch normalisation and ReLU (arXiv:1502.03167), then the mean over the picture.

    Most of the work is done on the smaller pictures of the later stages, where a CPU can afford it.
    """

    defaults: ClassVar[Recipe] = Recipe(
        batch_size=64, optimizer="adamw", learning_rate=3e-3, dropout=0.1, weight_decay=0.05
    )

    def backbone(self, hp: Any, x: Any) -> Any:
        width = self.tuned_int(hp, "width", 16, 64, step=16, default=32)
        depth = self.tuned_int(hp, "depth", 1, 3, default=1)
        x = _block(x, width, pool=True)
        for stage in (1, 2):
            for _ in range(depth - 1):
                x = _block(x, width * 2 ** (stage - 1), pool=False)
            x = _block(x, width * 2**stage, pool=True)
        x = _block(x, width * 4, pool=False)
        return layers.GlobalAveragePooling2D()(x)


def _block(x: Any, filters: int, *, pool: bool) -> Any:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    if pool:
        x = layers.MaxPooling2D(2)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(x)
