"""What a worker measures of itself for its launcher: how fast it trains, and how much memory it takes.

Imported in workers only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import keras

from models.backend import device_peak_bytes
from tuning.machine.memory import own_peak_bytes
from tuning.messages import EpochEnded, Memory, Throughput


class ReportThroughput(keras.callbacks.Callback):
    """Tell the launcher at the end of each epoch how fast it was, and what memory the process has taken at most.

    It comes before a callback that raises at the end of an epoch.

    Args:
        tell: takes the message.
        images: how many training images there are.
        batch_size: images of a step; what is left over at the end of an epoch is not trained on.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        tell: Callable[[EpochEnded], None],
        *,
        images: int,
        batch_size: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._tell = tell
        self._batch_size = min(batch_size, images)
        self._images = images // self._batch_size * self._batch_size
        self._clock = clock
        self._began = clock()
        # How often the model's step was traced before the epoch; None where the model does not count that.
        self._traces: int | None = None
        self._epochs = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._traces = _traces(self.model)
        self._began = self._clock()

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        seconds = self._clock() - self._began
        self._epochs += 1
        # Without a count, a trial's first epoch is taken for the one that traces.
        warm = self._epochs > 1 if self._traces is None else self._traces == _traces(self.model)
        throughput = Throughput(
            workload=workload_of(self.model, self._batch_size),
            images_per_s=round(self._images / max(seconds, 1e-6), 1),
            began=round(self._began, 3),
            seconds=round(seconds, 3),
            warm=warm,
        )
        self._tell(EpochEnded(throughput, peaks()))


def _traces(model: Any) -> int | None:
    return getattr(getattr(model, "steps", None), "traces", None)


def workload_of(model: keras.Model, batch_size: int) -> str:
    """Return what trainings of equal cost have in common: the model's shape, its optimizer and the batch size."""
    optimizer = type(model.optimizer).__name__
    return f"{model.count_params()} weights, {len(model.layers)} layers, {optimizer}, batches of {batch_size}"


def peaks() -> Memory:
    """Return the most memory that this process has taken so far."""
    resident = own_peak_bytes()
    device = device_peak_bytes()
    return Memory(peak_bytes=resident if device is None else device, resident_bytes=resident)
