"""Residual networks for small pictures."""

from __future__ import annotations

from typing import Any, ClassVar

from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe


class ResNet(ImageClassifier):
    """The CIFAR form of the residual network with pre-activation (He et al. 2016, arXiv:1603.05027).

    A 3x3 stem, then three stages of `depth` blocks, the second and third at half the side and twice the width: depth 3
    and width 16 make ResNet-20 of arXiv:1512.03385, section 4.2. A wider network is arXiv:1605.07146.
    """

    defaults: ClassVar[Recipe] = Recipe(
        batch_size=128, optimizer="sgd", learning_rate=5e-2, dropout=0.1, weight_decay=5e-3, augmentation=0.5
    )

    def backbone(self, hp: Any, x: Any) -> Any:
        width = self.tuned_int(hp, "width", 16, 96, step=16, default=32)
        depth = self.tuned_int(hp, "depth", 1, 5, default=3)
        x = _convolution(x, width)
        for stage in range(3):
            for block in range(depth):
                x = _block(x, width * 2**stage, stride=2 if stage and not block else 1)
        return layers.GlobalAveragePooling2D()(_activation(x))


def _block(x: Any, filters: int, *, stride: int) -> Any:
    activated = _activation(x)
    # The shortcut stays the identity unless the shape changes; then it is a projection of the activated input.
    changes = stride != 1 or x.shape[-1] != filters
    shortcut = _convolution(activated, filters, size=1, stride=stride) if changes else x
    residual = _convolution(activated, filters, stride=stride)
    residual = _convolution(_activation(residual), filters)
    return layers.Add()([residual, shortcut])


def _activation(x: Any) -> Any:
    return layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))


def _convolution(x: Any, filters: int, *, size: int = 3, stride: int = 1) -> Any:
    return layers.Conv2D(filters, size, strides=stride, padding="same", use_bias=False, kernel_initializer="he_normal")(
        x
    )
