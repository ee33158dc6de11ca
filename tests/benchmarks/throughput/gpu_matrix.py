"""How fast the device multiplies matrices: what a model's arithmetic is held against."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import keras
import numpy as np
from keras import ops


def matrix_flops(dtype: str, side: int, products: int) -> float:
    """Return the floating-point operations a second of products of square matrices, the best of three rounds.

    Args:
        dtype: `bfloat16` or `float32`.
        side: of the matrices.
        products: how many are computed one after the other in a round.
    """
    generator = np.random.default_rng(0)
    matrix = ops.cast(ops.convert_to_tensor(generator.normal(0.0, side**-0.5, (side, side)).astype("float32")), dtype)
    _multiply(matrix, 2)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        _multiply(matrix, products)
        seconds.append(time.perf_counter() - began)
    return 2.0 * side**3 * products / min(seconds)


def _multiply(matrix: Any, products: int) -> None:
    product = matrix
    for _ in range(products):
        product = ops.matmul(matrix, product)
    # Reading one value waits for all of them.
    ops.convert_to_numpy(ops.cast(product[0, 0], "float32"))


def main(side: int, products: int) -> None:
    """Print the rates in FLOP/s as JSON."""
    rates = {dtype: matrix_flops(dtype, side, products) for dtype in ("bfloat16", "float32")}
    print(json.dumps({"backend": keras.backend.backend(), **rates}), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
