"""The worker's side of the talk with its launcher, and all that asks it to stop. What is said: `tuning.messages`."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from typing import IO

from storage.leases import StepWatch
from tuning.messages import ORPHAN_GRACE_S, Alone, Crowded, FromWorker, Go, Leave, decode, encode

logger = logging.getLogger(__name__)


class Supervisor:
    """What a worker hears from outside, and whom it tells; silent where it has no launcher.

    Args:
        supervised: whether a launcher reads the output and writes the input.
        go: whether `Go` was said already.

    Attributes:
        stop: set when this worker was asked to stop: by a signal, or by the end of its launcher.
        ready: set by the worker when it may hold a trial, which a stop must put back.
        leaving: set when this worker is to end after its trial.
        crowded: set while others share its device.
        steps: told of each call of training steps, and asked whether one hangs.
    """

    def __init__(self, *, supervised: bool, go: bool = False) -> None:
        self._supervised = supervised
        self._go = threading.Event()
        if go or not supervised:
            self._go.set()
        self._output: IO[str] | None = None
        self.stop = threading.Event()
        self.ready = threading.Event()
        self.leaving = threading.Event()
        self.crowded = threading.Event()
        self.steps = StepWatch()

    def heed_signals(self) -> None:
        """From now on SIGTERM and SIGINT ask to stop; the second one ends a worker that has no launcher at once."""

        def on_signal(_number: int, _frame: object) -> None:
            # A worker that is not ready yet holds no trial, and may be deep in a preflight.
            # Where all processes of a service are sent the signal, a worker gets it from its launcher once more; a
            # launcher that cannot wait kills.
            if not self.ready.is_set() or (self.stop.is_set() and not self._supervised):
                os._exit(130)
            self.stop.set()

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, on_signal)

    def listen(self) -> None:
        """Begin to talk with the launcher, if there is one."""
        if not self._supervised:
            return
        # Whatever a library prints must not end up between the messages.
        self._output = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            match decode(line):
                case Go():
                    self._go.set()
                case Leave():
                    self.leaving.set()
                    self._go.set()
                case Crowded():
                    self.crowded.set()
                case Alone():
                    self.crowded.clear()
                case other:
                    logger.warning("the launcher said what means nothing here: %s", other)
        # End of file: the launcher is gone.
        self.stop.set()
        self._go.set()
        if self.ready.is_set():
            time.sleep(ORPHAN_GRACE_S)
        os._exit(1)

    def tell(self, message: FromWorker) -> None:
        """Tell the launcher."""
        if self._output is None:
            return
        try:
            self._output.write(encode(message))
        except OSError:  # nobody reads any more: the end of input will say so
            logger.warning("the launcher does not listen: %s", message)

    def wait_for_go(self) -> None:
        """Wait until the launcher says `Go`, or anything after which there is nothing to wait for."""
        self._go.wait()

    def hand_over(self) -> None:
        """Give standard output back to the messages, for the program that takes this process over."""
        if self._output is not None:
            os.dup2(self._output.fileno(), 1)
