"""Random changes to training pictures, made where the model runs.

A shift, a mirror image and a rotation are one change of coordinates, so all three cost one lookup of pixels for each
picture. Written with `keras.ops` only: XLA can compile it, which the projective transform of TensorFlow does not allow
(a layer without XLA would switch compilation off for the whole model on a GPU).
"""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from keras import ops

MAX_SHIFT = 0.125
"""Largest shift at strength 1, as a share of the side: 4 pixels of 32, the usual padded crop of CIFAR."""
MAX_ROTATION = math.radians(15.0)
"""Largest rotation at strength 1, in radians."""
MAX_CUTOUT = 0.5
"""Side of the square cut out at strength 1, as a share of the picture's side (DeVries & Taylor 2017 use 16 of 32)."""

_DRAWS = 6  # vertical shift, horizontal shift, rotation, mirror, cutout row, cutout column


class RandomAugmentation(keras.layers.Layer):
    """Shift, rotate, mirror and cut out pictures, each picture differently, while training only.

    Takes and returns raw pixels `(batch, height, width, channels)` of any numeric type; pixels moved in from outside
    repeat the border. The square that is cut out (arXiv:1708.04552) is filled with the mean colour, which is zero once
    normalised, and is clipped at the border.

    Args:
        flips: whether a mirrored picture is still of its class; mirrors half of them.
        fill: one pixel value per channel for the square that is cut out.

    Attributes:
        strength: a variable that scales every change between 0 (none at all, but mirroring) and 1.
    """

    def __init__(self, *, flips: bool, fill: tuple[float, ...], **kwargs: Any) -> None:
        # Raw pixels are integers: casting them to the compute type here would only cost memory.
        super().__init__(autocast=False, **kwargs)
        self.flips = flips
        self.fill = tuple(fill)
        self.seed_generator = keras.random.SeedGenerator()
        self.strength = self.add_weight(
            shape=(), initializer="ones", dtype="float32", trainable=False, autocast=False, name="strength"
        )
        self.built = True

    def call(self, images: Any, training: bool | None = False) -> Any:
        if not training:
            return images
        batch = ops.shape(images)[0]
        draws = ops.split(
            keras.random.uniform((batch, 1, 1, _DRAWS), -1.0, 1.0, dtype="float32", seed=self.seed_generator),
            _DRAWS,
            axis=-1,
        )
        vertical, horizontal, angle, mirror, row, column = (ops.squeeze(draw, axis=-1) for draw in draws)
        moved = self._look_up(images, vertical, horizontal, angle, mirror)
        return self._cut_out(moved, row, column)

    def _look_up(self, images: Any, vertical: Any, horizontal: Any, angle: Any, mirror: Any) -> Any:
        """Each output pixel from the nearest source pixel; the draws have the shape `(batch, 1, 1)`."""
        height, width, channels = images.shape[1:]
        rows = np.arange(height, dtype="float32")[None, :, None] - (height - 1) / 2
        columns = np.arange(width, dtype="float32")[None, None, :] - (width - 1) / 2
        if self.flips:
            columns = ops.where(mirror > 0.0, -1.0, 1.0) * columns
        strength = ops.convert_to_tensor(self.strength)
        cosine = ops.cos(angle * (strength * MAX_ROTATION))
        sine = ops.sin(angle * (strength * MAX_ROTATION))
        shift_rows = ops.round(vertical * (strength * MAX_SHIFT * height)) + (height - 1) / 2
        shift_columns = ops.round(horizontal * (strength * MAX_SHIFT * width)) + (width - 1) / 2
        source_rows = _nearest(cosine * rows - sine * columns + shift_rows, height)
        source_columns = _nearest(sine * rows + cosine * columns + shift_columns, width)
        batch = ops.shape(images)[0]
        first_pixel = ops.reshape(ops.arange(batch, dtype="int32") * (height * width), (-1, 1, 1))
        pixels = ops.reshape(images, (-1, channels))
        return ops.take(pixels, first_pixel + source_rows * width + source_columns, axis=0)

    def _cut_out(self, images: Any, row: Any, column: Any) -> Any:
        height, width = images.shape[1:3]
        rows = np.linspace(-1.0, 1.0, height, dtype="float32")[None, :, None]
        columns = np.linspace(-1.0, 1.0, width, dtype="float32")[None, None, :]
        half_side = ops.convert_to_tensor(self.strength) * MAX_CUTOUT  # the picture's side is 2 in these coordinates
        inside = ops.logical_and(ops.abs(rows - row) < half_side, ops.abs(columns - column) < half_side)
        fill = ops.cast(ops.convert_to_tensor(np.round(self.fill), dtype="float32"), images.dtype)
        return ops.where(ops.expand_dims(inside, -1), fill, images)

    def compute_output_spec(self, images: Any, training: bool | None = False) -> Any:
        return keras.KerasTensor(images.shape, dtype=images.dtype)

    def get_config(self) -> dict[str, Any]:
        config: dict[str, Any] = super().get_config()
        return {**config, "flips": self.flips, "fill": self.fill}


def _nearest(positions: Any, size: int) -> Any:
    return ops.cast(ops.clip(ops.round(positions), 0, size - 1), "int32")
