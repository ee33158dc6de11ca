"""A training that may be continued, in one phase or in several, of which each trains something else.

A later phase begins with the best weights of the one before, and what it finds is better only if it is better than
those. Each has a schedule of its own. The state at the end of an epoch is that of the phase that it is of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras

from models.training.loop import FitResult, Training
from models.training.state import Checkpointing, Resume, StateKeeper, TrainingState

Curves = Mapping[str, list[float]]


class Continuing(keras.callbacks.Callback):
    """Have what was best before as the best so far, whose weights the model has when the training begins.

    Args:
        run: the training.
        before: what was found before.
    """

    def __init__(self, run: Training, before: FitResult) -> None:
        super().__init__()
        self._run = run
        self._before = before

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        stopping = self._run.early_stopping
        stopping.best = self._before.value
        stopping.best_epoch = self._before.best_epoch
        stopping.best_weights = self._run.model.get_weights()


def run_phase(
    run: Training,
    callbacks: Sequence[keras.callbacks.Callback],
    keeper: StateKeeper | None,
    *,
    resume: TrainingState | None = None,
    before: FitResult | None = None,
) -> FitResult:
    """Run a phase, and return what was found so far, with the curves of what came before.

    Args:
        run: of the phase.
        callbacks: come after all others.
        keeper: who wants the state at the end of epochs.
        resume: the state of this phase to go on from.
        before: what the phase before found.

    Raises:
        NonFiniteLoss: the loss is no longer a finite number, or what it is judged by never was one.
        StateMismatch: `resume` is the state of another model.
        UnknownMonitor: the history does not have what it is judged by.
    """
    curves: Curves = resume.history if resume is not None else before.history if before is not None else {}
    first: list[keras.callbacks.Callback] = []
    if resume is not None:
        first = [Resume(run, resume)]
    elif before is not None:
        first = [Continuing(run, before)]
    last = [Checkpointing(run, keeper, curves)] if keeper is not None else []
    result = run.run([*first, *callbacks, *last])
    names = {**curves, **result.history}
    return replace(result, history={name: [*curves.get(name, []), *result.history.get(name, [])] for name in names})
