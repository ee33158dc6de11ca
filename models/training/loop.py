"""Training a classifier: when it stops, and which epoch's weights it keeps."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.training.feeding import LabelledImages, ValidationBatches, epoch_order
from models.training.model import TrainingModel
from models.training.steps import StepsPerCall

VALIDATION_BATCH_SIZE = 500


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


@dataclass(frozen=True)
class FitResult:
    """What a training gave.

    Attributes:
        history: `accuracy`, `balanced_accuracy` and `loss`, each also as `val_...`, and `learning_rate`, one value for
            each epoch. Losses are in nats; the training loss includes label smoothing and the weights
            of classes, the validation loss does not.
        best_epoch: the epoch, from 0, whose weights the model now has.
        value: the validation accuracy of those weights.
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
            logs["learning_rate"] = float(self.model.optimizer.learning_rate)


class Training:
    """One training of one model, with everything that carries state between its epochs in reach.

    Args:
        model: compiled; its weights are changed.
        training: what it learns from.
        validation: what each epoch is judged by, all of it.
        batch_size: pictures in a step.
        epochs: how many at most, counted from 0, not from `initial_epoch`.
        patience: how many epochs without a better validation accuracy are waited out.
        reduce_on_plateau: lower the learning rate when the validation loss stops falling.
        seed: decides the order of the pictures.
        initial_epoch: the first epoch to train.

    Raises:
        ValueError: if there are no training or no validation pictures.
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
    ) -> None:
        if not len(training) or not len(validation):
            raise ValueError(
                f"Training and validation need pictures. Received: {len(training)} and {len(validation)} of them."
            )
        self.model = model
        self.epochs = epochs
        self.initial_epoch = initial_epoch
        self.early_stopping = KeepBest(monitor="val_accuracy", mode="max", patience=patience, restore_best_weights=True)
        self.plateau = (
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.3, patience=2) if reduce_on_plateau else None
        )
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
                judged = self._judge(every)
            logs |= {f"val_{name}": value for name, value in judged.items()}
            every.on_epoch_end(epoch, logs)
            if self.model.stop_training:
                break
        every.on_train_end(logs)
        return FitResult(
            history={name: [float(value) for value in values] for name, values in self.model.history.history.items()},
            best_epoch=int(self.early_stopping.best_epoch),
            value=float(self.early_stopping.best),
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

    def _judge(self, callbacks: keras.callbacks.CallbackList) -> dict[str, float]:
        judged, size = self._judged, self._judged.batch_size
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
            self.model.steps.test(batches, self._filled(weights[rows], most), len(part), size)
            logs = _numbers(self.model)
            self._judging_calls.took(len(part), time.monotonic() - began)
            callbacks.on_test_batch_end(part.stop - 1, logs)
        callbacks.on_test_end(logs)
        return logs

    def _filled(self, values: npt.NDArray[Any], length: int) -> npt.NDArray[Any]:
        """Fill up with zeros where another length would be compiled anew; the steps do not get so far."""
        missing = length - len(values) if self.model.steps.fixed_shapes else 0
        return np.append(values, np.zeros(missing, values.dtype))


def _numbers(model: TrainingModel) -> dict[str, float]:
    """Return the metrics so far; waits for the device."""
    return {name: float(value) for name, value in model.get_metrics_result().items()}
