"""The Keras callback through which a trial is heard and stopped, and the keeper of its checkpoints."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping

import keras
import optuna

from models.training.monitor import EPOCH
from models.training.state import TrainingState
from storage.checkpoints import TrialCheckpoints
from storage.errors import ClaimLost, StorageUnavailable
from storage.leases import StepWatch
from studies.strategies.strategy import Verdict
from tuning.messages import EPOCH_GRACE_S
from tuning.worker.endings import Frozen, Interrupted

logger = logging.getLogger(__name__)


class ReportToTrial(keras.callbacks.Callback):
    """Report each epoch's value of the objective, and pause or end the trial when the strategy or the worker says so.

    It comes after Keras's own callbacks, because what it raises ends `fit` at once.

    Args:
        ended: called with the epoch, counted from 1, its value, and whether the training ends with it; returns whether
            the trial goes on.
        keeper: keeps the checkpoint of a trial that is frozen.
        stop: set when the worker was asked to stop.
        began: called after the first step.
        steps: told of each call of steps.
        history: the curves of the epochs before, of a trial that is continued.
        curve: the objective's, in the logs; None where the trial is not judged: its reports are no numbers.
        whole: returns whether the trial has no checkpoints, as far as is known: it is not frozen, and begins anew after
            a stop.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        ended: Callable[[int, float, bool], Verdict],
        keeper: CheckpointKeeper,
        *,
        stop: threading.Event,
        began: Callable[[], None],
        steps: StepWatch | None = None,
        history: Mapping[str, list[float]] | None = None,
        curve: str | None = "val_accuracy",
        whole: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._curve = curve
        self._ended = ended
        self._keeper = keeper
        self._stop = stop
        self._runs_whole = whole
        self._clock = clock
        self._steps = steps or StepWatch()
        self._began: Callable[[], None] | None = began
        self._asked: float | None = None
        self._epoch_began = clock()
        self._epoch_s: float | None = None
        self.history: dict[str, list[float]] = {
            name: list(curve) for name, curve in (history or {}).items() if self._is_told(name)
        }

    @property
    def _whole(self) -> bool:
        return self._runs_whole()

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        if not self._whole:  # else it may call no callback between this and its end
            self._steps.training_begins()

    def _is_told(self, name: str) -> bool:
        # What is not judged learned from what it is validated on.
        return self._curve is not None or not (name.startswith("val_") or name == EPOCH)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._epoch_began = self._clock()

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._steps.call_begins("train")

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self._steps.call_begins("test")

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Notice a request to stop within some steps, and drop the epoch if its end is too far away."""
        self._steps.call_ends()
        if self._began is not None:
            self._began()
            self._began = None
        self._heed_stop(batch)

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        """Notice a request to stop while validating, too."""
        self._steps.call_ends()
        self._heed_stop(None)

    def _heed_stop(self, batch: int | None) -> None:
        if not self._stop.is_set() or self.model.stop_training:  # it ends by itself
            return
        now = self._clock()
        if self._asked is None:
            self._asked = now
        if now + self._to_epoch_end_s(now, batch) > self._asked + EPOCH_GRACE_S:
            raise Interrupted

    def _to_epoch_end_s(self, now: float, batch: int | None) -> float:
        passed = now - self._epoch_began
        if self._epoch_s is not None:
            return max(0.0, self._epoch_s - passed)
        # The first epoch: by its pace so far. Validation, which is seen last, is taken for an eighth.
        steps = self.params.get("steps")
        if batch is None or not steps:
            return 0.0
        return passed * (1.125 * int(steps) / (batch + 1) - 1.0)

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Report, and do what the strategy decides.

        Raises:
            optuna.TrialPruned: the strategy has seen enough.
            Interrupted: the worker was asked to stop, and nothing keeps the trial's state.
            ClaimLost: the trial was given to another worker.
        """
        assert logs is not None
        self._epoch_s = self._clock() - self._epoch_began
        for name in {*self.history, *filter(self._is_told, logs)}:
            # What was not told after an epoch has no value there.
            curve = self.history.setdefault(name, [math.nan] * epoch)
            curve.append(float(logs.get(name, math.nan)))
        value = math.nan if self._curve is None else float(logs[self._curve])
        verdict = self._ended(epoch + 1, value, bool(self.model.stop_training))
        if verdict == "prune":
            raise optuna.TrialPruned
        if verdict == "freeze" and not self._whole:
            self._keeper.freeze()
        if self._whole and self._stop.is_set():
            raise Interrupted


class CheckpointKeeper:
    """Keeps a trial's training state every so often, and when the worker was asked to stop.

    Args:
        checkpoints: of the trial.
        claim: the count of the claim under which it runs.
        epochs: the most epochs that are trained; after the last there is nothing to continue.
        interval_s: seconds between two checkpoints; the state is kept at the first epoch's end after it.
        stop: set when the worker was asked to stop.
        secure: called before each: has what was reported of the epochs before it on the disk. A trial that goes on
            after them never reports them again.
        moved: called with the epochs done after each checkpoint.
        failed: called with why one could not be written.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        checkpoints: TrialCheckpoints,
        *,
        claim: int,
        epochs: int,
        interval_s: float,
        stop: threading.Event,
        secure: Callable[[], None],
        moved: Callable[[int], None],
        failed: Callable[[str], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secure = secure
        self._failed = failed
        self._checkpoints = checkpoints
        self._claim = claim
        self._epochs = epochs
        self._interval_s = interval_s
        self._stop = stop
        self._moved = moved
        self._clock = clock
        self._kept = clock()
        self._freezing = False
        self._writer: threading.Thread | None = None

    def freeze(self) -> None:
        """Keep the state of the epoch that just ended, and pause the trial there."""
        self._freezing = True

    def due(self, epochs: int) -> bool:
        """Return whether the state after so many epochs is wanted."""
        wanted = self._freezing or self._stop.is_set() or self._clock() - self._kept >= self._interval_s
        return epochs < self._epochs and wanted

    def keep(self, state: TrainingState) -> None:
        """Write a checkpoint, beside the training if that goes on. One that cannot be written costs only its use.

        Raises:
            Frozen: the strategy pauses the trial; without a checkpoint it goes on instead.
            Interrupted: the worker was asked to stop, and now is the time.
            ClaimLost: the trial was given to another worker.
        """
        self.settle()
        self._kept = self._clock()
        if not self._freezing and not self._stop.is_set():
            self._writer = threading.Thread(target=self._write_beside, args=(state,), daemon=True)
            self._writer.start()
            return
        written = self._write(state)
        if written and self._freezing:
            raise Frozen(f"frozen after epoch {state.epochs}")
        self._freezing = False
        if self._stop.is_set():
            raise Interrupted

    def settle(self) -> None:
        """Wait for the checkpoint that is being written, if one is."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None

    def _write_beside(self, state: TrainingState) -> None:
        try:
            self._write(state)
        except (ClaimLost, StorageUnavailable) as error:  # the training meets the same at its next report
            logger.warning("after epoch %d: %s", state.epochs, error)

    def _write(self, state: TrainingState) -> bool:
        self._secure()
        try:
            self._checkpoints.save(claim=self._claim, epochs=state.epochs, content=state.to_bytes())
        except OSError as error:
            logger.warning("no checkpoint after epoch %d: %s", state.epochs, error)
            self._failed(f"no checkpoint after epoch {state.epochs}: {error.strerror or error}")
            return False
        self._moved(state.epochs)
        return True


def state_of(checkpoints: TrialCheckpoints) -> TrainingState | None:
    """Return the state to continue a trial from, or None for a trial that begins."""
    found = checkpoints.load()
    return TrainingState.from_bytes(found.content) if found is not None else None
