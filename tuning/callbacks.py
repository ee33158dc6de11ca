"""The Keras callback through which a trial is heard and stopped."""

from __future__ import annotations

import threading
from collections.abc import Mapping

import keras
import optuna


class Interrupted(Exception):  # it is a request, not an error
    """The worker was asked to stop: the trial goes back into the queue."""


class ReportToTrial(keras.callbacks.Callback):
    """Report each epoch's validation accuracy, and end the trial when the pruner or the worker says so.

    It must come last: what it raises ends `fit` at once, and callbacks after it would miss the epoch.

    Args:
        trial: gets a report with the epoch, counted from 1, as the step.
        epochs: the most epochs that are trained; a trial that has trained them all is complete, not pruned.
        stop: set when the worker was asked to stop.
    """

    def __init__(self, trial: optuna.trial.Trial, *, epochs: int, stop: threading.Event) -> None:
        super().__init__()
        self._trial = trial
        self._epochs = epochs
        self._stop = stop
        self.history: dict[str, list[float]] = {}

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Notice a request to stop within a step, not an epoch, of its arrival."""
        if self._stop.is_set():
            raise Interrupted

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Notice a request to stop while validating, too."""
        if self._stop.is_set():
            raise Interrupted

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report, then ask the pruner.

        Raises:
            optuna.TrialPruned: the pruner has seen enough.
            ClaimLost: the trial was given to another worker.
        """
        assert logs is not None
        for name, value in logs.items():
            self.history.setdefault(name, []).append(float(value))
        step = epoch + 1
        trial, storage = self._trial, self._trial.storage
        # Not `Trial.report`, which ignores a step that was reported before: an epoch trained again overwrites it.
        storage.set_trial_intermediate_value(trial._trial_id, step, float(logs["val_accuracy"]))
        if step >= self._epochs or self.model.stop_training:
            return
        # Not `Trial.should_prune`, which knows the reports made through `Trial.report` alone. Reports of a former
        # claim that lie ahead are not yet this one's.
        known = storage.get_trial(trial._trial_id)
        known.intermediate_values = {at: value for at, value in known.intermediate_values.items() if at <= step}
        if trial.study.pruner.prune(trial.study, known):
            raise optuna.TrialPruned
