"""A launcher ends its workers, whatever happens to it."""

from __future__ import annotations

import os
import signal
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
