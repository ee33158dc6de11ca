"""A network for small colour pictures in the manner of the speed records on CIFAR."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe

PATCH = 2
PATCH_FILTERS = 24

# The patterns of a 2x2 patch: its mean, a horizontal, a vertical and a diagonal edge; and those of a pixel: brightness,
# red against blue, green against both. They are the principal components of small patches of photographs, more or less.
_EDGES = np.array([[[1, 1], [1, 1]], [[1, 1], [-1, -1]], [[1, -1], [1, -1]], [[1, -1], [-1, 1]]]) / 2
_COLOURS = np.array([[1, 1, 1], [1, 0, -1], [-1, 2, -1]]) / np.sqrt([[3], [2], [6]])
# How much each varies in normalised photographs, a row for each of the first: the standard deviations in CIFAR-10.
# None counts as less than a fifth: in pictures of another kind it may be noise.
_SPREAD = np.array([[3.17, 0.90, 0.44], [0.63, 0.13, 0.073], [0.58, 0.12, 0.069], [0.24, 0.042, 0.027]])


class FastCNN(ImageClassifier):
    """A convolution on patches, three stages of two 3x3 convolutions, the mean over the picture.

    In the manner of airbench (arXiv:2404.00498, section 3): 24 filters on patches of 2x2 (as many as its 12 whitened
    ones and their negatives), then stages of `width`, `4 * width` and `4 * width`, which begin by halving the picture,
    so that normalisation and activation touch a quarter of the values.

    All filters are learnt, and begin where little is left to learn (sections 3.2 and 3.3): those on patches of colour
    pictures find the patterns of photographs, each about as strong as the others, and the convolutions of the stages
    hand on what they are given, besides what is drawn at random.
    """

    defaults: ClassVar[Recipe] = Recipe(
        batch_size=128,
        optimizer="adamw",
        learning_rate=5e-3,
        dropout=0.0,
        weight_decay=0.05,
        label_smoothing=0.1,
        augmentation=0.2,
        schedule="triangular",
    )

    def backbone(self, hp: Any, x: Any) -> Any:
        width = self.tuned_int(hp, "width", 16, 64, step=8, default=32)
        patches = layers.Conv2D(PATCH_FILTERS, PATCH, kernel_initializer="he_normal")
        colours = x.shape[-1]
        x = patches(x)
        if colours == len(_COLOURS):
            patches.kernel.assign(_patterns())
        x = _activation(x)
        for filters in (width, 4 * width, 4 * width):
            x = _block(x, filters, pool=True)
            x = _block(x, filters, pool=False)
        return layers.GlobalAveragePooling2D()(x)


def _patterns() -> npt.NDArray[np.float32]:
    """Filters `(2, 2, 3, 24)` for the patterns of patches, each of spread 1, and their negatives."""
    patterns = np.einsum("ers,cp->ecrsp", _EDGES, _COLOURS) / np.maximum(_SPREAD, 0.2)[:, :, None, None, None]
    filters = np.moveaxis(patterns.reshape(-1, PATCH, PATCH, len(_COLOURS)), 0, -1)
    return np.concatenate([filters, -filters], axis=-1).astype(np.float32)


def _block(x: Any, filters: int, *, pool: bool) -> Any:
    convolution = layers.Conv2D(filters, 3, padding="same", use_bias=False, kernel_initializer="he_normal")
    given = x.shape[-1]
    x = convolution(x)
    if filters >= given:
        kernel = np.array(convolution.kernel)
        kernel[..., :given] = 0.0
        kernel[1, 1, range(given), range(given)] = 1.0
        convolution.kernel.assign(kernel)
    if pool and min(x.shape[1:3]) > 1:
        x = layers.MaxPooling2D(2)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return _activation(x)


def _activation(x: Any) -> Any:
    # In float32 whatever is computed in: cores have no fast error function of bfloat16, and a step would take longer.
    return layers.Activation("gelu", dtype="float32")(x)
