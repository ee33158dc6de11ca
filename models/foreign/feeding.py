"""Data in the form that a model takes them."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.foreign.form import Form
from models.training.feeding import LabelledImages, epoch_order

Array = npt.NDArray[Any]


def examples(data: LabelledImages, positions: Array, form: Form, classes: int) -> tuple[Array, Array]:
    """Return the data and the labels at these positions, as `form` says."""
    images, labels = data.batch(positions)
    return images.reshape(-1, *form.shape).astype(form.dtype), labelled(labels, form, classes)


def labelled(labels: Array, form: Form, classes: int) -> Array:
    """Return class numbers `(n,)` as a model takes them."""
    if form.labels == "one-hot":
        return np.eye(classes, dtype=np.float32)[labels]
    return labels.astype(np.float32).reshape(-1, 1) if form.labels == "one unit" else labels


class Batches(keras.utils.PyDataset):
    """Data in batches, of which the last may be smaller, as Keras has it of arrays.

    Args:
        data: read batch by batch.
        form: what the model takes.
        classes: how many there are.
        batch_size: examples in a batch.
        seed: decides, with the epoch, their order; None for the order in which they lie.

    Attributes:
        epoch: from 0; set before each.
    """

    def __init__(self, data: LabelledImages, form: Form, classes: int, batch_size: int, seed: int | None) -> None:
        super().__init__()
        self._data, self._form, self._classes = data, form, classes
        self._batch_size = batch_size
        self._seed = seed
        self._order: tuple[int, Array] | None = None
        self.epoch = 0

    def __len__(self) -> int:
        return -(-len(self._data) // self._batch_size)

    def __getitem__(self, index: int) -> tuple[Array, Array]:
        rows = slice(index * self._batch_size, (index + 1) * self._batch_size)
        return examples(self._data, self._positions()[rows], self._form, self._classes)

    def _positions(self) -> Array:
        if self._order is None or self._order[0] != self.epoch:
            count = len(self._data)
            order = np.arange(count) if self._seed is None else epoch_order(self._seed, self.epoch, count)
            self._order = self.epoch, order
        return self._order[1]
