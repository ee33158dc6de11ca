"""Training a classifier: the order of its batches, its loss, when it stops, and which epoch's weights it keeps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]
PRECISIONS: tuple[Precision, ...] = ("float32", "mixed_bfloat16", "mixed_float16")

STEPS_PER_LOSS_CHECK = 16
"""Reading a loss waits for the device, so it is looked at once in so many steps."""
VALIDATION_BATCH_SIZE = 500


class NonFiniteLoss(Exception):
    """The loss became infinite or not a number: this training will not recover.

    Attributes:
        epoch: the epoch it was seen in, from 0.
        step: the step of the epoch after which it was seen, from 0. It may be up to `STEPS_PER_LOSS_CHECK` steps late.
    """

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__(epoch, step)
        self.epoch = epoch
        self.step = step

    def __str__(self) -> str:
        return f"the loss was not finite in epoch {self.epoch} at step {self.step}"


@dataclass(frozen=True)
class LabelledImages:
    """Some pictures of a data set.

    Attributes:
        images: `(n, height, width, channels)` uint8, memory-mapped if you like; only the batch at hand is read.
        labels: `(n,)` class numbers from 0.
        indices: `(m,)` int64, the rows that belong.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.integer[Any]]
    indices: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.indices)

    def batch(self, positions: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Pictures `(len(positions), ...)` and labels at these positions of `indices`, copied into memory."""
        rows = self.indices[positions]
        return np.asarray(self.images)[rows], np.asarray(self.labels)[rows].astype(np.int32)


@dataclass(frozen=True)
class FitResult:
    """What a training gave.

    Attributes:
        history: `accuracy`, `loss`, `val_accuracy`, `val_loss` and `learning_rate`, one value for each epoch.
            Losses are in nats; the training loss includes label smoothing, the validation loss does not.
        best_epoch: the epoch, from 0, whose weights the model now has.
        value: the validation accuracy of those weights.
    """

    history: dict[str, list[float]]
    best_epoch: int
    value: float


def set_precision(kind: str) -> None:
    """Compute in this precision from now on; weights, logits and loss stay float32.

    With `mixed_float16`, Keras scales the loss when the model is compiled, so that small gradients survive.

    Raises:
        ValueError: if `kind` is not one of `PRECISIONS`.
    """
    if kind not in PRECISIONS:
        raise ValueError(f"The precision must be one of {', '.join(PRECISIONS)}. Received: {kind!r}")
    keras.config.set_dtype_policy(kind)


def epoch_order(seed: int, epoch: int, count: int) -> npt.NDArray[np.int64]:
    """The order `(count,)` of an epoch's training pictures: a function of these three numbers and nothing else."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _reader_threads() -> int:
    """How many threads read batches.

    From two on, Keras reads them itself; with one, on TensorFlow, tf.data does, which tunes itself meanwhile. That
    tuning shares the pool of inter-op threads: in a worker that has a single one it cost a fifth of the training time,
    and closing a sequence then waited for seconds. Other backends have no tf.data, and there Keras's threads would
    hand what is left over from the dry run that `fit` begins with to the first epoch: its order would not be ours.
    """
    return 2 if keras.backend.backend() == "tensorflow" else 1


class TrainingBatches(keras.utils.PyDataset):
    """The batches of one epoch, in the order of `epoch`, which `FollowEpoch` sets before Keras asks for the first.

    Every batch is full, so that nothing is traced twice; what is left over at the end of an epoch is not seen in that
    epoch.
    """

    def __init__(self, data: LabelledImages, *, batch_size: int, seed: int, epoch: int = 0) -> None:
        super().__init__(workers=_reader_threads())
        self.data = data
        self.batch_size = min(batch_size, len(data))
        self.seed = seed
        self.epoch = epoch

    @property
    def epoch(self) -> int:
        """The epoch whose batches these are, from 0."""
        return self._epoch

    @epoch.setter
    def epoch(self, epoch: int) -> None:
        self._epoch = epoch
        self._order = epoch_order(self.seed, epoch, len(self.data))

    @property
    def num_batches(self) -> int:
        return len(self.data) // self.batch_size

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        start = index * self.batch_size
        return self.data.batch(self._order[start : start + self.batch_size])


class FollowEpoch(keras.callbacks.Callback):
    """Set the epoch of the batches. Keras's own `PyDataset.on_epoch_begin` counts a dry run that fit may begin with."""

    def __init__(self, batches: TrainingBatches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self.batches.epoch = epoch


class ValidationBatches(keras.utils.PyDataset):
    """Every picture once, in batches of one size: the last is filled up with pictures of weight 0.

    Keras divides a batch's loss by its length, filling included, so the real pictures weigh slightly more than 1: the
    mean over the batches is then the mean over the pictures, for the loss as for the accuracy.
    """

    def __init__(self, data: LabelledImages, *, batch_size: int = VALIDATION_BATCH_SIZE) -> None:
        super().__init__(workers=_reader_threads())
        self.data = data
        # As even as the count of batches allows, so that little is filled up.
        self._count = math.ceil(len(data) / batch_size)
        self.batch_size = math.ceil(len(data) / self._count)

    @property
    def num_batches(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32], npt.NDArray[np.float32]]:
        positions = np.arange(index * self.batch_size, (index + 1) * self.batch_size)
        real = positions < len(self.data)
        weight = self._count * self.batch_size / len(self.data)
        images, labels = self.data.batch(np.where(real, positions, 0))
        return images, labels, np.where(real, weight, 0.0).astype(np.float32)


class TrainingModel(keras.Model):
    """Raw pixels to logits `(batch, classes)`, compiled; label smoothing acts while training only.

    Attributes:
        network: the model without augmentation, which shares all its weights.
        label_smoothing: the share of a target spread evenly over all classes (arXiv:1512.00567, section 7).
    """

    def __init__(self, inputs: Any, outputs: Any, *, network: keras.Model, label_smoothing: float) -> None:
        super().__init__(inputs=inputs, outputs=outputs, name="training")
        self.network = network
        self.label_smoothing = label_smoothing

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The mean cross-entropy of the batch in nats."""
        log_probabilities = ops.log_softmax(y_pred, axis=-1)
        targets = ops.one_hot(y, y_pred.shape[-1], dtype="float32")
        if training and self.label_smoothing > 0.0:
            targets = targets * (1.0 - self.label_smoothing) + self.label_smoothing / y_pred.shape[-1]
        losses = -ops.sum(targets * log_probabilities, axis=-1)
        if sample_weight is not None:
            losses = losses * sample_weight
        return ops.mean(losses)


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
        if batch % STEPS_PER_LOSS_CHECK == 0:
            self._check(logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._check(logs)

    def _check(self, logs: Mapping[str, Any] | None) -> None:
        if logs is not None and not math.isfinite(float(logs["loss"])):
            raise NonFiniteLoss(self._epoch, self._step)


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
        model: keras.Model,
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
        self.batches = TrainingBatches(training, batch_size=batch_size, seed=seed, epoch=initial_epoch)
        self.validation_batches = ValidationBatches(validation)
        self.early_stopping = keras.callbacks.EarlyStopping(
            monitor="val_accuracy", mode="max", patience=patience, restore_best_weights=True
        )
        self.plateau = (
            keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.3, patience=2) if reduce_on_plateau else None
        )

    def run(self, callbacks: Sequence[keras.callbacks.Callback] = ()) -> FitResult:
        """Train, and leave the weights of the best epoch in the model.

        The callbacks come last in every event, so that one that raises (to prune) cuts no other short.

        Raises:
            NonFiniteLoss: if the loss is no longer a finite number.
        """
        own = [FollowEpoch(self.batches), StopOnNonFiniteLoss(), RecordLearningRate(), self.early_stopping]
        if self.plateau is not None:
            own.append(self.plateau)
        history = self.model.fit(
            self.batches,
            validation_data=self.validation_batches,
            epochs=self.epochs,
            initial_epoch=self.initial_epoch,
            callbacks=[*own, *callbacks],
            shuffle=False,  # the batches are in their order already
            verbose=0,
        )
        return FitResult(
            history={name: [float(value) for value in values] for name, values in history.history.items()},
            best_epoch=int(self.early_stopping.best_epoch),
            value=float(self.early_stopping.best),
        )
