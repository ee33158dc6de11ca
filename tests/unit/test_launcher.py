"""A launcher ends its workers, whatever happens to it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from tuning.launch.searching import Launcher
from tuning.launch.spending import Spending
from tuning.launch.understand import TuneOptions


class Interrupting:
    """A workforce during whose preflight Ctrl-C is pressed."""

    ended = False

    def start(self) -> None:
        """Nothing is started."""

    def preflight(self, give_up: Callable[[], bool]) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        assert give_up()

    def end(self, hurry: Callable[[], bool]) -> None:
        self.ended = True


def unread(line: str) -> None:
    """What rich does where the output is a pipe whose reader is gone, as in `tuning tune | tee log` after Ctrl-C."""
    if "stopping" in line:
        raise SystemExit(1)


def test_the_workers_are_ended_although_nobody_reads_the_output_any_more() -> None:
    workforce = Interrupting()
    workers: Any = workforce
    asked: Any = SimpleNamespace(options=TuneOptions(), course=None)
    study: Any = SimpleNamespace(study=None, claims=None)
    unused: Any = None
    launcher = Launcher(asked, study, Spending(), workers, None, unused, unread)
    with pytest.raises(SystemExit):
        launcher.run()
    assert workforce.ended


def test_in_a_thread_a_study_runs_without_signals_which_python_gives_to_the_main_one_alone() -> None:
    unused: Any = None
    asked: Any = SimpleNamespace(options=TuneOptions(), course=None)
    study: Any = SimpleNamespace(study=None, claims=None)
    launcher = Launcher(asked, study, Spending(), unused, None, unused, unread)
    handler, inside = signal.getsignal(signal.SIGINT), []

    def heed() -> None:
        with launcher._signals():
            inside.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=heed)
    thread.start()
    thread.join()
    assert inside == [handler]
    heed()
    assert inside[1] is not handler
    assert signal.getsignal(signal.SIGINT) is handler
