"""The callback through which a foreign model's training reports its epochs, with the curves that every training has."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from models.evaluation import METRICS
from models.foreign.outputs import ValidationPredictions
from models.training.loop import LEARNING_RATE, NonFiniteLoss
from models.training.monitor import EPOCH, LAST_EPOCH, Monitor

Curves = dict[str, list[float]]

# By so much may two computations of one accuracy differ: by what lies on the edge between two classes.
_ROUNDING = 1e-3


@dataclass
class Best:
    """The best epoch so far.

    Attributes:
        epoch: from 0; None before the first.
        value: what it is judged by; None before the first.
        weights: `get_weights` after it.
        waited: how many epochs came since without a better one.
    """

    epoch: int | None = None
    value: float | None = None
    weights: list[npt.NDArray[Any]] = field(default_factory=list)
    waited: int = 0


class ReportingCallback(keras.callbacks.Callback):
    """Hands what a training calls on to other callbacks, whose logs have `val_accuracy` whatever the model's have.

    A training that calls `on_epoch_end` by itself and nothing else is reported as well. Epochs are counted as they end:
    a training may call `fit` more than once.

    Args:
        model: what is trained.
        accuracy: returns the name of the metric that is the accuracy; None where it must be computed.
        predictions: says what it is computed of, our validation part.
        monitor: what the training is judged by.
        trusted: whether what a training reports is of that part, too; else the accuracy is computed after each epoch.
        patience: epochs without a better value after which the training ends; None for no end.
        epochs: how many are meant.
        callbacks: the others; what one raises ends the training.
        keep: called last with the epochs done and the curves so far, while the training goes on.

    Attributes:
        best: the best epoch so far.
        history: the curves so far.
        other_data: whether the training reported an accuracy that is not of our validation part.
    """

    def __init__(
        self,
        model: keras.Model,
        accuracy: Callable[[], str | None],
        predictions: ValidationPredictions,
        *,
        monitor: Monitor,
        trusted: bool,
        patience: int | None,
        epochs: int,
        callbacks: Sequence[keras.callbacks.Callback],
        keep: Callable[[int, Curves], None],
    ) -> None:
        super().__init__()
        self._accuracy = accuracy
        self._predictions = predictions
        self._monitor = monitor
        self._trusted = trusted
        self._patience = patience
        self._others = keras.callbacks.CallbackList(list(callbacks), model=model, epochs=epochs, verbose=0)
        self._keep = keep
        self._step = 0
        self._began = False
        self.best = Best()
        self.history: Curves = {}
        self.other_data = False
        self.set_model(model)

    @property
    def epochs(self) -> int:
        """How many have ended."""
        return len(self.history.get("val_accuracy", ()))

    def begin_at(self, best: Best, history: Curves) -> None:
        """Go on where a training was left."""
        self.best, self.history = best, {name: list(curve) for name, curve in history.items()}

    def set_params(self, params: Mapping[str, Any] | None) -> None:
        super().set_params(params)
        self._others.set_params({**(self._others.params or {}), **(params or {})})

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        if not self._began:
            self._began = True
            self._others.on_train_begin(logs)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._others.on_epoch_begin(self.epochs, logs)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._others.on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._step = batch
        self._require_finite(logs)
        self._others.on_train_batch_end(batch, logs)

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._others.on_test_batch_begin(batch, logs)

    def on_test_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._others.on_test_batch_end(batch, logs)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._require_finite(logs)
        done, completed = self.epochs, self._completed(logs or {})
        for name in {*self.history, *completed}:
            # What was not reported after an epoch, before or now, has no value there.
            self.history.setdefault(name, [math.nan] * done).append(completed.get(name, math.nan))
        self._remember_best(done, self._monitor.value_in(completed))
        self._others.on_epoch_end(done, completed)
        if not self.model.stop_training:
            self._keep(done + 1, self.history)

    def _completed(self, logs: Mapping[str, Any]) -> dict[str, float]:
        completed = {name: float(value) for name, value in logs.items() if np.ndim(value) == 0}
        name, said = self._accuracy(), None
        reported = completed.get(f"val_{name}") if name is not None else None
        if reported is None:
            # What is called so may be another's: on the training part nobody computes it.
            completed.pop("accuracy", None)
        elif name in completed:
            completed["accuracy"] = completed[name]
        if reported is not None and self._trusted:
            completed["val_accuracy"] = reported
        else:
            said = self._predictions()
            accuracy = METRICS["val_accuracy"](*said)
            if not self._is_of_ours(reported, accuracy):
                completed = {name: value for name, value in completed.items() if name not in METRICS}
            completed |= {"val_accuracy": accuracy, "val_balanced_accuracy": METRICS["val_balanced_accuracy"](*said)}
            completed.setdefault("val_loss", METRICS["val_loss"](*said))
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        if rate is not None:
            completed.setdefault(LEARNING_RATE, float(keras.ops.convert_to_numpy(rate)))
        if self._monitor is LAST_EPOCH:
            completed[EPOCH] = self.epochs + 1.0
        metric = self._monitor.computed(completed)
        if metric is not None:
            completed[self._monitor.name] = float(metric(*(said or self._predictions())))
        return completed

    def _is_of_ours(self, reported: float | None, accuracy: float) -> bool:
        """Whether what was reported with this accuracy is of our validation part, which has the other."""
        if self._trusted:
            return True
        if reported is not None and abs(reported - accuracy) > _ROUNDING:
            self.other_data = True
        return reported is not None and not self.other_data

    def _remember_best(self, epoch: int, value: float) -> None:
        best = self.best
        best.waited += 1
        if self._monitor.is_better(value, best.value):
            self.best = Best(epoch, value, self.model.get_weights())
        elif self._patience is not None and best.waited >= self._patience:
            self.model.stop_training = True

    def _require_finite(self, logs: Mapping[str, Any] | None) -> None:
        loss = (logs or {}).get("loss")
        if loss is not None and np.ndim(loss) == 0 and not math.isfinite(float(loss)):
            raise NonFiniteLoss(self.epochs, self._step)
