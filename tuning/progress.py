"""The live terminal view, read from the storage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from storage.claims import BUDGET_KEY, FAILURE_KEY, REASON_KEY, WORKER_KEY
from studies import attributes
from studies.leaderboard import best_trial
from studies.strategies.strategy import is_frozen
from tuning.status import duration

SHOWN_RUNNING = 16


def value_in_words(value: Any) -> str:
    """Return a parameter's value without digits that mean nothing."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parameters_in_words(trial: FrozenTrial) -> str:
    """Return a trial's parameters in one line."""
    return "  ".join(f"{name} {value_in_words(value)}" for name, value in trial.params.items())


def finished_line(trial: FrozenTrial, best: FrozenTrial | None) -> str:
    """Return one plain line about a finished trial."""
    epochs = len(trial.intermediate_values)
    took = _seconds(trial)
    head = f"trial {trial.number:>3} {trial.state.name.lower():<8}"
    if trial.state == TrialState.FAIL:
        failure = trial.user_attrs.get(FAILURE_KEY, "error")
        return f"{head} {failure}: {trial.user_attrs.get(REASON_KEY, 'no reason was recorded')}"
    value = f"{trial.value:.4f}" if trial.value is not None else "-"
    mark = " (best so far)" if best is not None and best.number == trial.number else ""
    effort = f"{epochs} epoch{'' if epochs == 1 else 's'}  {duration(took)}"
    return f"{head} {value}{mark}  {effort}  {parameters_in_words(trial)}"


def frozen_line(trial: FrozenTrial) -> str:
    """Return one plain line about a trial that was frozen."""
    epochs = len(trial.intermediate_values)
    value = trial.intermediate_values.get(epochs, math.nan)
    effort = f"{epochs} epoch{'' if epochs == 1 else 's'}  {duration(_seconds(trial))}"
    return f"trial {trial.number:>3} frozen   {value:.4f}  {effort}  {parameters_in_words(trial)}"


def _seconds(trial: FrozenTrial) -> float:
    # Of all its claims together, where they were recorded.
    recorded = trial.user_attrs.get(attributes.SECONDS)
    if recorded is not None:
        return float(recorded)
    return trial.duration.total_seconds() if trial.duration is not None else 0.0


@dataclass
class Progress:
    """Shows a study while it runs: a live view on a terminal, else one line for each finished trial.

    Args:
        study: read anew at each `update`.
        epochs: the most epochs of a trial.
        console: where it is shown.
        live: whether to draw the live view.
        clock: monotonic seconds.
    """

    study: optuna.Study
    epochs: int
    console: Console
    live: bool
    clock: Callable[[], float] = time.monotonic
    _told: set[int] = field(default_factory=set)
    # By trial: the epochs after which it was last seen frozen.
    _frozen: dict[int, int] = field(default_factory=dict)
    _started: float = 0.0
    _spent_before: int = 0
    _view: Live | None = None

    def start(self) -> None:
        """Begin: what finished before is counted, but neither told again nor part of the rate."""
        trials = self.study.get_trials(deepcopy=False)
        self._told = {trial.number for trial in trials if trial.state.is_finished()}
        self._frozen = {trial.number: len(trial.intermediate_values) for trial in trials if is_frozen(trial)}
        _, self._spent_before, _ = self._spending(trials, sum(_counts(trial) for trial in trials), 0)
        self._started = self.clock()
        if self.live:
            self._view = Live(console=self.console, refresh_per_second=4, transient=True)
            self._view.start()

    def update(self) -> None:
        """Look at the study and show what is new."""
        trials = self.study.get_trials(deepcopy=False)
        best = best_trial(self.study)
        for trial in sorted(trials, key=lambda t: (t.datetime_complete is None, t.datetime_complete, t.number)):
            if trial.state.is_finished() and trial.number not in self._told:
                self._told.add(trial.number)
                self.console.print(finished_line(trial, best), highlight=False, soft_wrap=True, markup=False)
        self._tell_frozen(trials)
        if self._view is not None:
            self._view.update(self._render(trials, best))

    def _tell_frozen(self, trials: list[FrozenTrial]) -> None:
        for trial in filter(is_frozen, trials):
            epochs = len(trial.intermediate_values)
            if self._frozen.get(trial.number) != epochs:
                self._frozen[trial.number] = epochs
                # The live view shows their count.
                if self._view is None:
                    self.console.print(frozen_line(trial), highlight=False, soft_wrap=True, markup=False)

    def stop(self) -> None:
        """Show what is new for the last time, and leave the terminal as it was."""
        try:
            self.update()
        finally:
            if self._view is not None:
                self._view.stop()

    def _render(self, trials: list[FrozenTrial], best: FrozenTrial | None) -> RenderableType:
        budget = int(self.study.user_attrs.get(BUDGET_KEY, 0))
        done = sum(_counts(trial) for trial in trials)
        parts: list[RenderableType] = [self._headline(trials, done, budget), self._running(trials)]
        if best is not None:
            text = f"best so far: trial {best.number}, {best.value:.4f}  {parameters_in_words(best)}"
            parts.append(Text(text, style="green"))
        return Group(*parts)

    def _headline(self, trials: list[FrozenTrial], done: int, budget: int) -> RenderableType:
        elapsed = self.clock() - self._started
        total, spent, unit = self._spending(trials, done, budget)
        pace = "rate not known yet"
        if (fresh := spent - self._spent_before) > 0:
            left = max(0, total - spent) * elapsed / fresh
            pace = f"{3600 * fresh / elapsed:.0f} {unit}/h, about {duration(left)} left"
        counted = {
            "frozen": sum(is_frozen(trial) for trial in trials),
            "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
            "failed": sum(trial.state == TrialState.FAIL for trial in trials),
        }
        trials_words = (
            f"{done}/{budget} trials" if unit == "trials" else f"{spent}/{total} epochs, {done}/{budget} trials"
        )
        line = Table.grid(padding=(0, 2))
        line.add_row(
            Text(self.study.study_name, style="bold"),
            ProgressBar(total=max(total, 1), completed=min(spent, total), width=24),
            ", ".join([trials_words, *(f"{number} {what}" for what, number in counted.items())]),
            f"{duration(elapsed)} so far, {pace}",
        )
        return line

    def _spending(self, trials: list[FrozenTrial], done: int, budget: int) -> tuple[int, int, str]:
        """Return what the study has to spend, what it has spent, and of what: epochs where they are bounded."""
        epochs = self.study.user_attrs.get(attributes.BUDGET_EPOCHS)
        if epochs is None:
            return budget, done, "trials"
        return int(epochs), sum(len(trial.intermediate_values) for trial in trials), "epochs"

    def _running(self, trials: list[FrozenTrial]) -> RenderableType:
        table = Table(box=None, padding=(0, 2), header_style="dim")
        for title in ("running", "epoch", "val accuracy", "parameters"):
            table.add_column(title, overflow="ellipsis", no_wrap=True)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING and WORKER_KEY in trial.user_attrs]
        for trial in running[:SHOWN_RUNNING]:
            step = trial.last_step or 0
            value = f"{trial.intermediate_values[step]:.4f}" if step else "-"
            table.add_row(f"trial {trial.number}", f"{step}/{self.epochs}", value, parameters_in_words(trial))
        if len(running) > SHOWN_RUNNING:
            table.add_row(f"and {len(running) - SHOWN_RUNNING} more", "", "", "")
        return table


def _counts(trial: FrozenTrial) -> int:
    return int(trial.state in (TrialState.COMPLETE, TrialState.PRUNED))
