"""Which backend Keras runs on and what it trains on: the one file that asks.

Keras hides its backend but for an accelerator, its memory and the generators: these the framework is asked itself, and
imported where it is asked, since the other one may not be installed.
"""

from __future__ import annotations

import inspect
import os
import random
from collections.abc import Iterator
from itertools import chain
from typing import Any, Literal

import keras
import numpy as np

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_bfloat16", "mixed_float16")


def backend_name() -> str:
    """Return the backend in use, `tensorflow` or `jax`.

    Raises:
        NotImplementedError: it is neither TensorFlow nor JAX.
    """
    name: str = keras.backend.backend()
    if name in ("tensorflow", "jax"):
        return name
    raise NotImplementedError(f"KERAS_BACKEND={name}: models train on tensorflow or jax. Set one of these.")


def on_accelerator() -> bool:
    """Return whether the framework of this process trains on something else than the CPU."""
    if backend_name() == "jax":
        import jax

        return str(jax.default_backend()) != "cpu"
    import tensorflow

    return bool(tensorflow.config.list_logical_devices("GPU"))


def why_not_compiled(model: keras.Model) -> str | None:
    """Return why a compiled model's steps run without XLA where it would pay, for people; None where that is not so.

    On the cores it would not pay, and JAX compiles always.
    """
    if model.jit_compile or backend_name() == "jax" or not on_accelerator():
        return None
    if os.environ.get("TF_DETERMINISTIC_OPS", "").lower() in ("1", "true"):
        return "TF_DETERMINISTIC_OPS is set, with which Keras compiles nothing; unset it"
    unfit = sorted({type(layer).__name__ for layer in model._flatten_layers() if not layer.supports_jit})
    if unfit:
        return f"XLA cannot compile its {', '.join(unfit)}"
    return "it was compiled with jit_compile=False"


def device_peak_bytes() -> int | None:
    """Return the most memory that this process has taken of its accelerator so far; None where nobody counts it."""
    if backend_name() == "jax":
        import jax

        stats = jax.local_devices()[0].memory_stats()
        return int(stats["peak_bytes_in_use"]) if stats else None
    if not on_accelerator():
        return None
    import tensorflow

    return int(tensorflow.config.experimental.get_memory_info("GPU:0")["peak"])


def set_defaults() -> None:
    """Have Keras compute as it does where nothing is set, whatever a `keras.json` says; before a model is built."""
    keras.config.set_floatx("float32")
    keras.config.set_epsilon(1e-7)
    keras.config.set_image_data_format("channels_last")


def set_precision(kind: str) -> None:
    """Compute in this precision from now on; weights, logits and loss stay float32.

    With `mixed_float16`, Keras scales the loss when the model is compiled, so that small gradients survive.

    Raises:
        ValueError: if `kind` is not one of `PRECISIONS`.
    """
    if kind not in PRECISIONS:
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}. Received: {kind!r}")
    keras.config.set_dtype_policy(kind)


def precision_name() -> str:
    """Return the precision that is computed in, one of `PRECISIONS`."""
    name: str = keras.config.dtype_policy().name
    return name


def seed_generators(seed: int) -> None:
    """Seed Python's and NumPy's generators, from which Keras takes the seeds of initial weights.

    Not TensorFlow's, as `keras.utils.set_random_seed` does: that throws away what was prepared of every traced function
    (0.2 s of a small network's trial), and no layer of Keras draws from it.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)


def seed_own_generator(seed: int) -> None:
    """Seed the backend's own generator, from which code may draw that is not Keras's; JAX has none."""
    if backend_name() == "tensorflow":
        import tensorflow

        tensorflow.random.set_seed(seed)


def draws_from_own_generators(model: keras.Model) -> bool:
    """Return whether a training step, once traced, draws from generators of the backend, whose state nobody can keep.

    What Keras draws is none of it: that follows from the variables of its own generators.
    """
    if backend_name() != "tensorflow" or not inspect.isfunction(model.train_function):
        return False
    parts = inspect.getclosurevars(model.train_function).nonlocals.values()  # Keras calls its `tf.function` there
    listed = [part._list_all_concrete_functions() for part in parts if hasattr(part, "_list_all_concrete_functions")]
    return any(_is_drawn(operation) for traced in chain(*listed) for operation in _operations_in(traced.graph))


def _operations_in(graph: Any) -> Iterator[str]:
    definition = graph.as_graph_def()
    for nodes in (definition.node, *(function.node_def for function in definition.library.function)):
        yield from (node.op for node in nodes)


# What TensorFlow calls the operations that draw, but for those that are given all they draw from.
_DRAWN = (
    "Random",
    "Truncated",
    "ParameterizedTruncated",
    "Multinomial",
    "StatefulStandard",
    "StatefulUniform",
    "RngRead",
)


def _is_drawn(operation: str) -> bool:
    return operation.startswith(_DRAWN)
