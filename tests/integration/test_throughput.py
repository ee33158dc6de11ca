"""A worker measures how fast it trains and what memory it takes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from tuning.messages import EpochEnded

pytestmark = pytest.mark.keras


def told_of_a_training(*, epochs: int, traces: list[int] | None = None) -> list[EpochEnded]:
    """What is told of a training of 10 images in batches of 4, where each look at the clock takes a second."""
    import keras

    from tuning.worker.throughput import ReportThroughput

    told: list[EpochEnded] = []

    class Traced(keras.callbacks.Callback):
        """Counts traces as the project's own models do: the number after each epoch."""

        def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
            if traces is not None:
                self.model.steps = type("Steps", (), {"traces": traces[epoch]})()

        def on_test_end(self, logs: Any = None) -> None:
            if traces is not None:
                self.model.steps.traces = traces[self.epoch + 1]

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.epoch = len(told)

    clock = map(float, itertools.count())
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)])
    model.compile("adam", "mse")
    images, targets = np.zeros((10, 2)), np.zeros((10, 3))
    throughput = ReportThroughput(told.append, images=10, batch_size=4, clock=lambda: next(clock))
    callbacks = [Traced(), throughput]
    model.fit(
        images, targets, validation_data=(images, targets), epochs=epochs, batch_size=4, callbacks=callbacks, verbose=0
    )
    return told


def test_each_epoch_is_told_with_its_pace_and_the_peaks() -> None:
    first, second = told_of_a_training(epochs=2)
    assert first.throughput.images_per_s == 8.0  # two left over are not trained on
    assert (first.throughput.seconds, second.throughput.began - first.throughput.began) == (1.0, 2.0)
    assert first.throughput.workload == second.throughput.workload == "9 weights, 1 layers, Adam, batches of 4"
    # Without a GPU both are the machine's.
    assert first.memory.resident_bytes == first.memory.peak_bytes > 10**7


def test_an_epoch_in_which_something_was_traced_is_not_warm() -> None:
    assert [told.throughput.warm for told in told_of_a_training(epochs=3)] == [False, True, True]
    assert [told.throughput.warm for told in told_of_a_training(epochs=3, traces=[2, 2, 2, 3])] == [True, True, False]
