"""Hypermodels for fault tests: a network that trains in no time, and epochs that last as long as a test wants.

Given to the command line as `slow_models.py:Class`. A pause in each epoch makes a trial last about as long on a busy
machine as on a quiet one. Each epoch that was trained to its end adds a line to a file, whoever trained it.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import keras
from keras import layers

from models.cnn import CNN
from models.training.loop import FitResult


class Slow(CNN):
    """Pauses `SLOW_EPOCH_S` seconds in each epoch and notes the epoch in `SLOW_EPOCH_LOG`."""

    def backbone(self, hp: Any, x: Any) -> Any:
        x = layers.MaxPooling2D(4)(x)
        x = layers.Flatten()(x)
        return layers.Dense(16, activation="relu")(x)

    def fit(self, hp: Any, model: Any, *data: Any, **options: Any) -> FitResult:
        if options.get("keeper") is None:  # the preflight
            return super().fit(hp, model, *data, **options)
        # The seed is the trial's own.
        noted = _noted(int(options["seed"]))
        return super().fit(hp, model, *data, **{**options, "callbacks": [noted, *options.get("callbacks", [])]})


class RunsOut(Slow):
    """Has no room for batches of 128 and more, in training only."""

    def fit(self, hp: Any, model: Any, *data: Any, **options: Any) -> FitResult:
        if options.get("keeper") is not None and int(hp.get("batch_size")) >= 128:
            raise MemoryError("no room for so large a batch")
        return super().fit(hp, model, *data, **options)


class Aborts(Slow):
    """Aborts its process, as a failed check inside a framework does, in the trial whose seed is `SLOW_ABORTS`."""

    def fit(self, hp: Any, model: Any, *data: Any, **options: Any) -> FitResult:
        if options.get("keeper") is not None and int(options["seed"]) == int(os.environ["SLOW_ABORTS"]):
            os.abort()
        return super().fit(hp, model, *data, **options)


class Hangs(Slow):
    """Hangs in its second epoch, the first time that any trial gets there; `SLOW_HUNG` is made to remember it."""

    def fit(self, hp: Any, model: Any, *data: Any, **options: Any) -> FitResult:
        def hang(epoch: int, _logs: Any = None) -> None:
            hung = Path(os.environ["SLOW_HUNG"])
            if epoch == 1 and not hung.exists():
                hung.touch()
                time.sleep(3600)

        if options.get("keeper") is None:
            return super().fit(hp, model, *data, **options)
        hanging = keras.callbacks.LambdaCallback(on_epoch_begin=hang)
        return super().fit(hp, model, *data, **{**options, "callbacks": [hanging, *options.get("callbacks", [])]})


class HangsInStep(Slow):
    """Hangs in a step, as a call into a driver does that never returns; `SLOW_HUNG` is made to remember it."""

    def fit(self, hp: Any, model: Any, *data: Any, **options: Any) -> FitResult:
        train, hung = model.steps.train, Path(os.environ["SLOW_HUNG"])
        calls = 0

        def hang(*given: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == 3 and not hung.exists():
                hung.touch()
                time.sleep(3600)
            train(*given)

        if options.get("keeper") is not None:
            model.steps.train = hang
        return super().fit(hp, model, *data, **options)


class HangsAtFirst(Slow):
    """Hangs before its first step, the first time that any trial gets there; `SLOW_HUNG` is made to remember it."""

    def fit(self, hp: Any, model: Any, *data: Any, **options: Any) -> FitResult:
        hung = Path(os.environ["SLOW_HUNG"])
        if options.get("keeper") is not None and not hung.exists():
            hung.touch()
            time.sleep(3600)
        return super().fit(hp, model, *data, **options)


def _noted(trial: int) -> keras.callbacks.Callback:
    pause_s, log = float(os.environ.get("SLOW_EPOCH_S", "0")), os.environ.get("SLOW_EPOCH_LOG")

    def note(epoch: int, _logs: Any = None) -> None:
        if log is None:
            return
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)  # one write is one line, whoever else writes
        os.write(handle, f"{trial} {epoch} {os.getpid()}\n".encode())
        os.close(handle)

    return keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: time.sleep(pause_s), on_epoch_end=note)
