"""What the launcher expects of a study before it has seen anything of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from storage.claims import Standing
from tuning.launch.launcher import EPOCHS_A_THAW, _Launcher, times_taken_up


def standing(*, complete: int = 0, pruned: int = 0, frozen: int = 0, budget: int = 24) -> Standing:
    return Standing(
        complete=complete, pruned=pruned, failed=0, running=0, waiting=0, frozen=frozen, budget=budget
    )  # fmt: skip


def test_where_trials_are_frozen_each_is_taken_up_once_and_then_again_for_a_few_epochs_each_time() -> None:
    assert times_taken_up(standing(), 64, freezes=True) == pytest.approx(24 + 40 / EPOCHS_A_THAW)
    assert times_taken_up(standing(complete=3, frozen=21), 12, freezes=True) == pytest.approx(12 / EPOCHS_A_THAW)
    assert times_taken_up(standing(), 5, freezes=True) == 5
    assert times_taken_up(standing(frozen=24), 0, freezes=True) == 0


def test_where_none_is_frozen_each_trial_is_taken_up_once() -> None:
    assert times_taken_up(standing(complete=4, pruned=10), 64, freezes=False) == 10
    assert times_taken_up(standing(complete=4, pruned=10), 3, freezes=False) == 3


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


class Unread(Console):
    """What rich does where the output is a pipe whose reader is gone, as in `tuning tune | tee log` after Ctrl-C."""

    def print(self, *said: Any, **_: Any) -> None:
        if "stopping" in said[0]:
            raise SystemExit(1)


def test_the_workers_are_ended_although_nobody_reads_the_output_any_more() -> None:
    workforce = Interrupting()
    workers: Any = workforce
    unused: Any = None
    launcher = _Launcher(unused, unused, unused, unused, workers, None, unused, Unread(), None, None)
    with pytest.raises(SystemExit):
        launcher.run()
    assert workforce.ended
