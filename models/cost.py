"""What a finished classifier costs whoever asks it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

BATCH_SIZE = 32
# So many batches are timed, after one that is not because it traces, or as many as fit into the time.
BATCHES, TIMED_S = 20, 2.0


def seconds_per_image(
    classifier: keras.Model, images: npt.NDArray[Any], clock: Callable[[], float] = time.monotonic
) -> float:
    """Return how long a classifier takes for an image of a batch here: the median of some batches.

    Args:
        classifier: raw data to probabilities.
        images: `(BATCH_SIZE, ...)` raw data.
        clock: monotonic seconds.
    """
    classifier.predict_on_batch(images)
    took: list[float] = []
    began = clock()
    while len(took) < BATCHES and (not took or clock() - began < TIMED_S):
        before = clock()
        classifier.predict_on_batch(images)
        took.append(clock() - before)
    return float(np.median(took)) / BATCH_SIZE
