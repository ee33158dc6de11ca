"""Dropout whose rate is a value of the model, not a constant of its graph."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


class TunedDropout(keras.layers.Layer):
    """Dropout (arXiv:1207.0580) for training only: the rate may change without a new trace.

    Keras's own layer wants a Python number, which is traced into the graph. It takes this one's place while a model is
    trained; what is exported has Keras's.

    Args:
        rate: the share of values set to 0, from 0 to below 1.
        noise_shape: of the mask, None where it has the input's size, as in Keras's layer.
    """

    def __init__(self, rate: float, *, noise_shape: tuple[int | None, ...] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.noise_shape = noise_shape
        self.supports_masking = True
        self.seed_generator = keras.random.SeedGenerator()
        # Rates are float32 whatever is computed in: in half precision 0.1 is another number.
        self.rate = self.add_weight(shape=(), dtype="float32", trainable=False, autocast=False, name="rate")
        self.rate.assign(rate)
        self.built = True

    def call(self, inputs: Any, training: bool | None = False) -> Any:
        if not training:
            return inputs
        shape = ops.shape(inputs)
        if self.noise_shape is not None:
            shape = tuple(own if own is not None else size for own, size in zip(self.noise_shape, shape, strict=True))
        rate = ops.convert_to_tensor(self.rate)
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= rate
        scale = ops.cast(1.0 / (1.0 - rate), inputs.dtype)
        return ops.where(kept, inputs * scale, ops.zeros((), dtype=inputs.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape
