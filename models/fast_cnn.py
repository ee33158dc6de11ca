"""A network for small colour pictures in the manner of the speed records on CIFAR."""

from __future__ import annotations

from typing import Any, ClassVar

from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe

PATCH = 2
PATCH_FILTERS = 24


class FastCNN(ImageClassifier):
    """A convolution on patches, three stages of two 3x3 convolutions, the mean over the picture.

    In the manner of airbench (arXiv:2404.00498, section 3): 24 filters on patches of 2x2 (as many as its 12 whitened
    ones and their negatives), then stages of `width`, `4 * width` and `4 * width`, which begin by halving the picture,
    so that normalisation and activation touch a quarter of the values. Here all filters are learnt.
    """

    defaults: ClassVar[Recipe] = Recipe(
        batch_size=128,
        optimizer="adamw",
        learning_rate=5e-3,
        dropout=0.0,
        weight_decay=0.05,
        label_smoothing=0.1,
        augmentation=0.2,
    )

    def backbone(self, hp: Any, x: Any) -> Any:
        width = self.tuned_int(hp, "width", 16, 64, step=8, default=32)
        x = layers.Conv2D(PATCH_FILTERS, PATCH, kernel_initializer="he_normal")(x)
        x = layers.Activation("gelu")(x)
        for filters in (width, 4 * width, 4 * width):
            x = _block(x, filters, pool=True)
            x = _block(x, filters, pool=False)
        return layers.GlobalAveragePooling2D()(x)


def _block(x: Any, filters: int, *, pool: bool) -> Any:
    x = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    if pool and min(x.shape[1:3]) > 1:
        x = layers.MaxPooling2D(2)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.Activation("gelu")(x)
