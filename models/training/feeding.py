"""How pictures come to the training step.

An epoch's order is a function of the seed and the epoch, and the same whatever the feeding. On a GPU the pictures live
on the device and a step looks its batch up there; on a CPU, where all workers of a host share the pages of one mapped
file, the pictures of a few steps are copied out of it at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt

from models.backend import on_accelerator
from models.training.steps import Batches

Positions = npt.NDArray[np.integer[Any]]

RESIDENT_BYTES = 2**30
"""The most that a part of a data set may take on a device: CIFAR's 50,000 pictures are 0.15 GB, for each worker."""


class BatchSource(Protocol):
    """Gives pictures by their positions in a part of a data set.

    Attributes:
        most: the most steps whose pictures are asked for at once.
    """

    most: int

    def take(self, positions: Positions) -> Batches:
        """Return the pictures at these positions."""


@dataclass(frozen=True)
class LabelledImages:
    """Some pictures of a data set.

    Attributes:
        images: `(n, height, width, channels)` uint8, or examples of any other shape and type, memory-mapped if you
            like; only the rows at hand are read.
        labels: `(n,)` class numbers from 0.
        indices: `(m,)` int64, the rows that belong.
    """

    images: npt.NDArray[Any]
    labels: npt.NDArray[np.integer[Any]]
    indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: Positions) -> tuple[npt.NDArray[Any], npt.NDArray[np.int32]]:
        """Pictures `(len(positions), ...)` and labels at these positions of `indices`, copied into memory."""
        rows = self.indices[positions]
        return np.asarray(self.images)[rows], np.asarray(self.labels)[rows].astype(np.int32)

    @cached_property
    def source(self) -> BatchSource:
        """The way to the training step that is fastest here; made once, since it may hold a copy on the device."""
        size_bytes = len(self) * int(np.prod(self.images.shape[1:])) * self.images.dtype.itemsize
        return OnDevice(self) if on_accelerator() and size_bytes <= RESIDENT_BYTES else FromHost(self)


class FromHost:
    """Copies the pictures that are asked for out of the host's memory."""

    most = 16  # from here on Python's share of a step is no longer seen

    def __init__(self, data: LabelledImages) -> None:
        self._data = data

    def take(self, positions: Positions) -> Batches:
        images, labels = self._data.batch(positions)
        return Batches(images, labels, np.arange(len(positions), dtype=np.int32))


class OnDevice:
    """Keeps all pictures on the device; only positions travel."""

    most = 256

    def __init__(self, data: LabelledImages) -> None:
        images, labels = data.batch(np.arange(len(data)))
        self._images = keras.ops.convert_to_tensor(images)
        self._labels = keras.ops.convert_to_tensor(labels)

    def take(self, positions: Positions) -> Batches:
        return Batches(self._images, self._labels, positions.astype(np.int32))


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order `(count,)` of an epoch's training pictures: a function of these three numbers and nothing else."""
    return np.random.default_rng([seed, epoch]).permutation(count)


@dataclass(frozen=True)
class ValidationBatches:
    """Every picture once, in batches of one size: the last is filled up with pictures of weight 0.

    Keras divides a batch's loss by its length, filling included, so the real pictures weigh slightly more than 1: the
    mean over the batches is then the mean over the pictures, for the loss as for the accuracy.

    Attributes:
        count: how many pictures there are.
        at_most: the most pictures in a batch.
    """

    count: int
    at_most: int

    @property
    def steps(self) -> int:
        """How many batches there are."""
        return -(-self.count // self.at_most)

    @property
    def batch_size(self) -> int:
        """Pictures in a batch: as even as their number allows, so that little is filled up."""
        return -(-self.count // self.steps)

    @property
    def positions(self) -> Positions:
        """`(steps * batch_size,)`: which picture comes where."""
        return np.where(self._real, np.arange(self.steps * self.batch_size), 0)

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        """`(steps * batch_size,)`: of each picture, 0 for what fills up."""
        return np.where(self._real, self.steps * self.batch_size / self.count, 0.0).astype(np.float32)

    @property
    def _real(self) -> npt.NDArray[np.bool_]:
        return np.arange(self.steps * self.batch_size) < self.count
