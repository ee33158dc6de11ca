"""Features of pictures: computed once for all trials, whoever keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from models.training.feeding import LabelledImages

Array = npt.NDArray[Any]

BATCH = 64
"""Pictures that are looked at together: always as many, so that a picture's features are the same in any part."""


class FeatureStore(Protocol):
    """Keeps the features of pictures."""

    def __call__(self, images: LabelledImages, key: str, make: Callable[[LabelledImages], Iterator[Array]]) -> Array:
        """Return the features `(len(images), kinds, channels)` of pictures, in their order.

        Args:
            images: the pictures.
            key: of all else that decides their features.
            make: yields the features of some pictures, a block after the other; called if they are not there.
        """


class InMemory:
    """Keeps them as long as the process lives."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, int, str], tuple[Array, Array]] = {}

    def __call__(self, images: LabelledImages, key: str, make: Callable[[LabelledImages], Iterator[Array]]) -> Array:
        place = key, id(images.images), rows_digest(images)
        if place not in self._kept:
            # The images are kept too: another array must not get their number.
            self._kept[place] = images.images, np.concatenate(list(make(images)))
        return self._kept[place][1]


def rows_digest(images: LabelledImages) -> str:
    """Return a SHA-256 of which pictures of a data set these are, in which order."""
    return hashlib.sha256(np.ascontiguousarray(images.indices, "<i8").tobytes()).hexdigest()


def computed(network: keras.Model, images: LabelledImages) -> Iterator[Array]:
    """Yield the features of pictures, a block after the other.

    Args:
        network: pixels to features.
        images: the pictures.
    """
    for start in range(0, len(images), BATCH):
        positions = np.arange(start, min(start + BATCH, len(images)))
        # Filled up with the first: another number of them would be traced anew.
        pictures, _ = images.batch(np.resize(positions, BATCH))
        yield np.asarray(network.predict_on_batch(pictures), np.float32)[: len(positions)]
