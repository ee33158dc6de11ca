"""Training a classifier: when it stops, and which epoch's weights it keeps."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.evaluation import Probabilities
from models.training.feeding import LabelledImages, ValidationBatches, epoch_order
from models.training.model import TrainingModel
from models.training.monitor import EPOCH, LAST_EPOCH, VALIDATION_ACCURACY, Monitor
from models.training.monitor import UnknownMonitor as UnknownMonitor
from models.training.steps import StepsPerCall

VALIDATION_BATCH_SIZE = 500

LEARNING_RATE = "learning_rate"


class NonFiniteLoss(Exception):
    """The loss became infinite or not a number: this training will not recover.

    Attributes:
        epoch: the epoch it was seen in, from 0.
        step: the step of the epoch after which it was seen, from 0: the last of its call.
    """

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(epoch, step)
        self.epoch = epoch
        self.step = step

    def __str__(self) -> str:
        return f"the loss was not finite in epoch {self.epoch} at step {self.step}"


class NoFiniteValue(NonFiniteLoss):
    """What a training is judged by was no number after any of its epochs.

    Attributes:
        name: of that curve.
    """

    def __init__(self, name: str, epochs: int) -> None:
        super().__init__(epochs - 1, 0)
        self.name = name

    def __str__(self) -> str:
        return f"{self.name} was not finite after any of {self.epoch + 1} epochs"


@dataclass(frozen=True)
class FitResult:
    """What a training gave.

    Attributes:
        history: `accuracy`, `balanced_accuracy` and `loss`, each also as `val_...`, and `learning_rate`, one value for
            each epoch; and what the training is judged by, where it is none of these. Losses are in nats; the training
            loss includes label smoothing and the weights of classes, the validation loss does not.
        best_epoch: the epoch, from 0, whose weights the model now has.
        value: of those weights, what the training is judged by.
    """

    history: dict[str, list[float]]
    best_epoch: int
    value: float


class StopOnNonFiniteLoss(keras.callbacks.Callback):
    """Raise `NonFiniteLoss`. Keras reports the mean over the epoch so far, so one bad step shows until the end."""

    def __init__(self) -> None:
        super().__init__()
        self._epoch = 0
        self._step = 0

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch = epoch

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._step = batch
        self._check(logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._check(logs)

    def _check(self, logs: Mapping[str, Any] | None) -> None:
        if logs is not None and not math.isfinite(float(logs["loss"])):
            raise NonFiniteLoss(self._epoch, self._step)


class KeepBest(keras.callbacks.EarlyStopping):
    """Keras's own, of the weights that are judged."""

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        with self.model.judged_weights():
            super().on_epoch_end(epoch, logs)


class RecordLearningRate(keras.callbacks.Callback):
    """Add the learning rate of an epoch's last step to its logs."""

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None:
            logs[LEARNING_RATE] = float(self.model.optimizer.learning_rate)


class Training:
    """One training of one model, with everything that carries state between its epochs in reach.

    Args:
        model: compiled; its weights are changed.
        training: what it learns from.
        validation: what each epoch is judged by, all of it.
        batch_size: pictures in a step.
        epochs: how many at most, counted from 0, not from `initial_epoch`.
        patience: how many epochs without a better value are waited out.
        reduce_on_plateau: lower the learning rate when there is no better value, see `Monitor.plateau`.
        seed: decides the order of the pictures.
        initial_epoch: the first epoch to train.
        monitor: what it is judged by.

    Raises:
        ValueError: if there are no training or no validation pictures.
        UnknownMonitor: if the history does not have what it is judged by.
    """

    def __init__(
        self,
        model: TrainingModel,
        training: LabelledImages,
        validation: LabelledImages,
        *,
        batch_size: int,
        epochs: int,
        patience: int,
        reduce_on_plateau: bool,
        seed: int,
        initial_epoch: int = 0,
        monitor: Monitor = VALIDATION_ACCURACY,
    ) -> None:
        if not len(training) or not len(validation):
            raise ValueError(
                f"Training and validation need pictures. Received: {len(training)} and {len(validation)} of them."
            )
        self.model = model
        self.epochs = epochs
        self.initial_epoch = initial_epoch
        self.early_stopping = KeepBest(
            monitor=monitor.name, mode=monitor.mode, patience=patience, restore_best_weights=True
        )
        self.plateau = (
            keras.callbacks.ReduceLROnPlateau(
                monitor=monitor.plateau,
                mode="min" if monitor.plateau == "val_loss" else monitor.mode,
                factor=0.3,
                patience=2,
            )
            if reduce_on_plateau
            else None
        )
        names = [name for own in model.get_metrics_result() for name in (own, f"val_{own}")]
        self._monitor, self._metric = monitor, monitor.computed([*names, LEARNING_RATE, EPOCH])
        self._training, self._validation = training, validation
        # Every batch is full; what is left over at the end of an epoch is not seen in that epoch.
        self._batch_size = min(batch_size, len(training))
        self._steps = len(training) // self._batch_size
        self._judged = ValidationBatches(len(validation), VALIDATION_BATCH_SIZE)
        self._calls, self._judging_calls = StepsPerCall(training.source.most), StepsPerCall(validation.source.most)
        self._seed = seed

    def run(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> FitResult:
        """Train, and leave the weights of the best epoch in the model.

        The callbacks come last in every event, so that one that raises (to prune) cuts no other short. They hear of a
        batch's end after each call of several steps, with the number of the last one.

        Raises:
            NonFiniteLoss: if the loss is no longer a finite number.
        """
        own = [StopOnNonFiniteLoss(), RecordLearningRate(), self.early_stopping]
        if self.plateau is not None:
            own.append(self.plateau)
        every = keras.callbacks.CallbackList(
            [*own, *callbacks], add_history=True, model=self.model, epochs=self.epochs, steps=self._steps, verbose=0
        )
        self.model.stop_training = False
        every.on_train_begin()
        logs: dict[str, float] = {}
        for epoch in range(self.initial_epoch, self.epochs):
            every.on_epoch_begin(epoch)
            logs = self._train(epoch, every)
            with self.model.judged_weights():
                judged, said = self._judge(every)
            logs |= {f"val_{name}": value for name, value in judged.items()}
            if self._monitor is LAST_EPOCH:
                logs[EPOCH] = epoch + 1.0
            if self._metric is not None:
                logs[self._monitor.name] = float(self._metric(self._labels, said))
            every.on_epoch_end(epoch, logs)
            if self.model.stop_training:
                break
        every.on_train_end(logs)
        value = float(self.early_stopping.best)
        if not math.isfinite(value):
            raise NoFiniteValue(self._monitor.name, epoch + 1)
        return FitResult(
            history={name: [float(value) for value in values] for name, values in self.model.history.history.items()},
            best_epoch=int(self.early_stopping.best_epoch),
            value=value,
        )

    def _train(self, epoch: int, callbacks: keras.callbacks.CallbackList) -> dict[str, float]:
        order, size = epoch_order(self._seed, epoch, len(self._training)), self._batch_size
        self.model.reset_metrics()
        logs: dict[str, float] = {}
        for part in self._calls.parts(self._steps):
            began = time.monotonic()
            callbacks.on_train_batch_begin(part.start)
            positions = order[part.start * size : part.stop * size]
            batches = self._training.source.take(self._filled(positions, self._training.source.most * size))
            self.model.steps.train(batches, len(part), size)
            logs = _numbers(self.model)
            self._calls.took(len(part), time.monotonic() - began)
            callbacks.on_train_batch_end(part.stop - 1, logs)
        return logs

    @cached_property
    def _labels(self) -> npt.NDArray[np.int64]:
        data = self._validation
        return np.asarray(data.labels)[data.indices].astype(np.int64)

    def _judge(self, callbacks: keras.callbacks.CallbackList) -> tuple[dict[str, float], Probabilities]:
        """Return the metrics, and the probabilities `(validation pictures, classes)` where something needs them."""
        judged, size = self._judged, self._judged.batch_size
        said: list[npt.NDArray[Any]] = []
        positions, weights = judged.positions, judged.weights
        self.model.reset_metrics()
        callbacks.on_test_begin()
        logs: dict[str, float] = {}
        for part in self._judging_calls.parts(judged.steps):
            began = time.monotonic()
            callbacks.on_test_batch_begin(part.start)
            rows = slice(part.start * size, part.stop * size)
            most = self._validation.source.most * size
            batches = self._validation.source.take(self._filled(positions[rows], most))
            filled = self._filled(weights[rows], most)
            logits = self.model.steps.test(batches, filled, len(part), size, heard=self._metric is not None)
            if logits is not None:
                said.append(keras.ops.convert_to_numpy(logits)[: len(part) * size])
            logs = _numbers(self.model)
            self._judging_calls.took(len(part), time.monotonic() - began)
            callbacks.on_test_batch_end(part.stop - 1, logs)
        callbacks.on_test_end(logs)
        return logs, _probabilities(np.concatenate(said)[: len(self._validation)] if said else np.zeros((0, 1)))

    def _filled(self, values: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        """Fill up with zeros where another length would be compiled anew; the steps do not get so far."""
        missing = length - len(values) if self.model.steps.fixed_shapes else 0
        return np.append(values, np.zeros(missing, values.dtype))


def _probabilities(logits: npt.NDArray[Any]) -> Probabilities:
    powers = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def _numbers(model: TrainingModel) -> dict[str, float]:
    """Return the metrics so far; waits for the device."""
    return {name: float(value) for name, value in model.get_metrics_result().items()}
