"""The time that a study's launchers have spent on it: recorded as it passes, since any of them may be killed."""

from __future__ import annotations

import time
from collections.abc import Callable

import optuna

from storage import attributes
from studies.stored import StudyRecord


class Spending:
    """What one command spends on a study, beside what was spent before it.

    Args:
        clock: monotonic seconds. The command began when this was made.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = clock()
        self._before_s = 0.0
        self._study: optuna.Study | None = None

    def on(self, study: optuna.Study) -> None:
        """Begin to record it with a study, whose launchers before this one are counted from now on."""
        self._study = study
        self._before_s = StudyRecord.of(study).spent_s
        self.note()

    @property
    def elapsed_s(self) -> float:
        """The seconds of this command."""
        return self._clock() - self._began

    @property
    def spent_s(self) -> float:
        """The seconds of all commands."""
        return self._before_s + self.elapsed_s

    def note(self) -> None:
        """Record what was spent."""
        assert self._study is not None, "`on` comes first"
        self._study.set_user_attr(attributes.SPENT, round(self.spent_s, 1))
