"""The live view of a study, on a terminal or in a notebook, read from the storage."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final, Protocol

import optuna
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from storage import attributes
from storage.attributes import SEARCH, Phase
from storage.claims import node_of
from studies.forecast import seconds_of, seconds_per_epoch
from studies.leaderboard import balanced_accuracy, best_trial
from studies.objectives.objective import VALIDATION_ACCURACY, Objective
from studies.phases.training import training_of
from studies.stored import StudyRecord
from studies.trials import audited_after, is_frozen, is_running, of_phase, spent_epochs
from tuning.cell import Cell
from tuning.words import counted, duration, parameters_in_words

SHOWN_RUNNING = 16
MOST_SHARE: Final = 0.02
"""Of a core: so much may be taken by looking at a study with thousands of trials, which are trained here meanwhile."""
MOST_PAUSE_S: Final = 2.0
"""Nobody waits longer for news, also where one look took long: the first one loads what it draws with."""
# In columns of the terminal: the bar, and where parameters are left out.
BAR_WIDTH = 24
NARROW = 60


class LiveView(Protocol):
    """Shows how far a study is, each time in the place of the time before."""

    def start(self) -> None:
        """Begin."""

    def update(self, renderable: RenderableType) -> None:
        """Show it."""

    def stop(self) -> None:
        """End, and show it no more."""


def live_view(console: Console) -> LiveView | None:
    """Return what shows a study where somebody looks, on a terminal or in a notebook; None in a log."""
    if isinstance(console.file, Cell):
        return console.file
    return Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None


def finished_line(
    trial: FrozenTrial,
    best: FrozenTrial | None,
    *,
    objectives: Sequence[Objective] = (VALIDATION_ACCURACY,),
    balanced: bool = False,
    unit: str = "epoch",
) -> str:
    """Return one plain line about a finished trial.

    Args:
        trial: which is over.
        best: the study's so far.
        objectives: the study's.
        balanced: whether its balanced accuracy is told besides.
        unit: what is between two of its reports.
    """
    epochs = len(trial.intermediate_values)
    took = seconds_of(trial) or 0.0
    head = f"trial {trial.number:>3} {trial.state.name.lower():<8}"
    if trial.state == TrialState.FAIL:
        failure = attributes.of_trial(trial, attributes.FAILURE, str) or "error"
        reason = attributes.of_trial(trial, attributes.REASON, str) or "no reason was recorded"
        return f"{head} {failure}: {reason}"
    value = _value(trial, objectives, balanced=balanced) if all(map(math.isfinite, trial.values or [math.nan])) else "-"
    mark = " (best so far)" if best is not None and best.number == trial.number else ""
    if (ended := audited_after(trial)) is not None:
        mark += f" (audited, pruned after epoch {ended})"
    effort = f"{counted(epochs, unit)}  {duration(took)}"
    return f"{head} {value}{mark}  {effort}  {parameters_in_words(trial.params)}"


def _value(trial: FrozenTrial, objectives: Sequence[Objective], *, balanced: bool) -> str:
    figure = balanced_accuracy(trial) if balanced else None
    told = zip(objectives, trial.values, strict=False)
    said = [f"{one.figure(value)}{f' {one.heading}' * one.is_measured}" for one, value in told]
    return ", ".join(said) + (f", balanced {figure:.4f}" if figure is not None else "")


def frozen_line(trial: FrozenTrial, objective: Objective = VALIDATION_ACCURACY) -> str:
    """Return one plain line about a trial that was frozen."""
    epochs = len(trial.intermediate_values)
    value = trial.intermediate_values.get(epochs, math.nan)
    effort = f"{counted(epochs, 'epoch')}  {duration(seconds_of(trial) or 0.0)}"
    return f"trial {trial.number:>3} frozen   {objective.figure(value)}  {effort}  {parameters_in_words(trial.params)}"


def thawed_line(number: int, epochs: int) -> str:
    """Return one plain line about a trial that goes on after so many epochs."""
    return f"trial {number:>3} thawed   after epoch {epochs}"


def ended_line(count: int, *, spent: bool) -> str:
    """Return one plain line about frozen trials that were pruned, since the epochs are spent or nobody wanted them."""
    why = "the epochs are spent" if spent else "none was worth another epoch"
    return f"{counted(count, 'frozen trial')} pruned: {why}"


@dataclass
class Progress:
    """Shows a study while it runs: a live view, or a line when a trial is frozen, thawed or over.

    Args:
        study: read anew at each `update`.
        epochs: the most epochs of a trial; None where a function of the user's decides, and reports steps.
        console: where it is shown.
        live: whether to draw the live view, where somebody looks.
        clock: monotonic seconds.
        processor: seconds of a core that this thread took.
        expected_epoch_s: how long all workers together are expected to take for an epoch, before it is seen.
        balanced: whether balanced accuracies are shown besides.
        phase: whose trials are shown.
        nodes: whether the node of each trial is shown besides.
    """

    study: optuna.Study
    epochs: int | None
    console: Console
    live: bool
    clock: Callable[[], float] = time.monotonic
    processor: Callable[[], float] = time.thread_time
    expected_epoch_s: float | None = None
    balanced: bool = False
    phase: Phase = SEARCH
    nodes: bool = False
    _told: set[int] = field(default_factory=set)
    # By trial: the epochs after which it is frozen, as far as was told.
    _frozen: dict[int, int] = field(default_factory=dict)
    # Frozen trials that were pruned, and not told of yet.
    _ended: int = 0
    _started: float = 0.0
    _due: float = -math.inf
    _spent_before: int = 0
    _view: LiveView | None = None

    @cached_property
    def _objectives(self) -> Sequence[Objective]:
        return StudyRecord.of(self.study).valued

    @property
    def _objective(self) -> Objective:
        return self._objectives[0]

    def start(self) -> None:
        """Begin: what finished before is counted, but neither told again nor part of the rate."""
        trials = self._trials()
        self._told = {trial.number for trial in trials if trial.state.is_finished()}
        self._frozen = {trial.number: len(trial.intermediate_values) for trial in trials if is_frozen(trial)}
        _, self._spent_before, _ = self._spending(trials, sum(_counts(trial) for trial in trials), 0)
        self._started = self.clock()
        self._view = live_view(self.console) if self.live else None
        if self._view is not None:
            self._view.start()

    def follow(self) -> None:
        """Update it, unless that came so soon after the last time that looking would take more than `MOST_SHARE`."""
        if self.clock() < self._due:
            return
        began = self.processor()
        self.update()
        self._due = self.clock() + min(MOST_PAUSE_S, (self.processor() - began) / MOST_SHARE)

    def update(self) -> None:
        """Look at the study and show what is new."""
        trials = self._trials()
        best = best_trial(self.study, trials) if self.phase == SEARCH else None
        over = [trial for trial in trials if trial.state.is_finished() and trial.number not in self._told]
        for trial in sorted(over, key=lambda t: (t.datetime_complete is None, t.datetime_complete, t.number)):
            self._told.add(trial.number)
            self._tell_finished(trial, best)
        for trial in filter(is_frozen, trials):
            self._tell_frozen(trial)
        for trial in filter(is_running, trials):
            self._tell_thawed(trial)
        if not any(map(_is_cold, trials)):
            self._tell_ended(trials)
        if self._view is not None:
            self._view.update(self._render(trials, best))

    def _trials(self) -> list[FrozenTrial]:
        return of_phase(self.study.get_trials(deepcopy=False), self.phase)

    def _tell_finished(self, trial: FrozenTrial, best: FrozenTrial | None) -> None:
        if trial.state == TrialState.PRUNED and trial.system_attrs.get(attributes.FROZEN) is not None:
            # They end all at once: one line says so when the last one has.
            self._tell_frozen(trial)
            self._ended += 1
            return
        self._tell_thawed(trial)
        unit, balanced = "epoch" if self.epochs is not None else "step", self.balanced
        self._print(finished_line(trial, best, objectives=self._objectives, balanced=balanced, unit=unit))

    def _tell_frozen(self, trial: FrozenTrial) -> None:
        epochs = len(trial.intermediate_values)
        if self._frozen.get(trial.number) == epochs:
            return
        self._tell_thawed(trial)
        self._frozen[trial.number] = epochs
        # The live view shows their count.
        if self._view is None:
            self._print(frozen_line(trial, self._objective))

    def _tell_thawed(self, trial: FrozenTrial) -> None:
        epochs = self._frozen.pop(trial.number, None)
        if epochs is not None and self._view is None:
            self._print(thawed_line(trial.number, epochs))

    def _tell_ended(self, trials: list[FrozenTrial]) -> None:
        if self._ended:
            total, spent, unit = self._spending(trials, 0, 0)
            self._print(ended_line(self._ended, spent=unit == "epochs" and spent >= total))
            self._ended = 0

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True, markup=False)

    def stop(self) -> None:
        """Show what is new for the last time, and leave the terminal as it was."""
        try:
            self.update()
            self._tell_ended(self._trials())
        finally:
            if self._view is not None:
                self._view.stop()

    def _render(self, trials: list[FrozenTrial], best: FrozenTrial | None) -> RenderableType:
        wanted = [trial for trial in trials if trial.state != TrialState.FAIL]
        budget = StudyRecord.of(self.study).budget if self.phase == SEARCH else len(wanted)
        done = sum(_counts(trial) for trial in trials)
        parts: list[RenderableType] = [self._headline(trials, done, budget), self._running(trials)]
        if best is not None:
            value = _value(best, self._objectives, balanced=self.balanced)
            text = f"best so far: trial {best.number}, {value}  {parameters_in_words(best.params)}"
            parts.append(Text(text, style="green"))
        return Group(*parts)

    def _headline(self, trials: list[FrozenTrial], done: int, budget: int) -> RenderableType:
        elapsed = self.clock() - self._started
        total, spent, unit = self._spending(trials, done, budget)
        fresh, running, expected_s = spent - self._spent_before, 0, None
        if unit == "epochs":
            running, expected_s = sum(map(is_running, trials)), self.expected_epoch_s
        each_s = seconds_per_epoch(fresh, elapsed, running, None)
        words = [f"{3600 / each_s:.0f} {unit}/h"] if each_s is not None else []
        if (each_s := each_s or expected_s) is not None:
            words.append(f"about {duration(max(0, total - spent) * each_s)} left")
        counted = {
            "frozen": sum(is_frozen(trial) for trial in trials),
            "pruned": sum(trial.state == TrialState.PRUNED for trial in trials),
            "failed": sum(trial.state == TrialState.FAIL for trial in trials),
        }
        trials_words = (
            f"{done}/{budget} trials" if unit == "trials" else f"{spent}/{total} epochs, {done}/{budget} trials"
        )
        counts = ", ".join([trials_words, *(f"{number} {what}" for what, number in counted.items())])
        pace = f"{duration(elapsed)} so far, {', '.join(words) or 'rate not known yet'}"
        return self._fitted(min(spent, total), max(total, 1), Text(counts), Text(pace))

    def _fitted(self, spent: int, total: int, *words: Text) -> RenderableType:
        """Return the study's name, its bar and words in one line, or the words below where the terminal is narrower."""
        width = self.console.width
        name = Text(self.study.study_name, style="bold")
        name.truncate(max(1, width - BAR_WIDTH - 2), overflow="ellipsis")
        bar = ProgressBar(total=total, completed=spent, width=min(BAR_WIDTH, width))
        beside = name.cell_len + 2 + BAR_WIDTH + sum(2 + text.cell_len for text in words) <= width
        line = Table.grid(padding=(0, 2))
        line.add_row(name, bar, *(words if beside else ()))
        return line if beside else Group(line, *words)

    def _spending(self, trials: list[FrozenTrial], done: int, budget: int) -> tuple[int, int, str]:
        """Return what the study has to spend, what it has spent, and of what: epochs where they are bounded."""
        record = StudyRecord.of(self.study)
        epochs = record.budget_epochs
        if self.phase != SEARCH:
            wanted = [trial for trial in trials if trial.state != TrialState.FAIL]
            return sum(self._epochs_of(trial) or 0 for trial in wanted), spent_epochs(wanted), "epochs"
        if epochs is None:
            return budget, done, "trials"
        return epochs, spent_epochs(trials), "epochs"

    def _epochs_of(self, trial: FrozenTrial) -> int | None:
        """Return the most epochs of a trial; None where nobody knows."""
        if self.phase == SEARCH:
            return self.epochs
        return training_of(StudyRecord.of(self.study).spec, trial).epochs

    def _running(self, trials: list[FrozenTrial]) -> RenderableType:
        # Expanded, what does not fit into the terminal is cut in the last column; else another would go.
        table = Table(box=None, padding=(0, 2), header_style="dim", expand=True)
        own = self.epochs is not None
        titles = ("running", "epoch", self._objective.heading) if own else ("running", "step", "value")
        for title in (titles[0], *(["node"] if self.nodes else []), *titles[1:]):
            table.add_column(title, no_wrap=True, min_width=len(title))
        # Of a narrow terminal's few columns nothing useful is left to them.
        shown = self.console.width >= NARROW
        table.add_column("parameters" if shown else "", overflow="ellipsis", no_wrap=True, ratio=1)
        running = [trial for trial in trials if trial.state == TrialState.RUNNING and _worker_of(trial) is not None]
        for trial in running[:SHOWN_RUNNING]:
            step, most = trial.last_step, self._epochs_of(trial)
            value = self._objective.figure(trial.intermediate_values[step]) if step is not None else "-"
            parameters = parameters_in_words(trial.params) if shown else ""
            far = f"{step or 0}/{most}" if most is not None else "-" if step is None else str(step)
            node = [node_of(_worker_of(trial) or "")] if self.nodes else []
            table.add_row(f"trial {trial.number}", *node, far, value, parameters)
        if len(running) > SHOWN_RUNNING:
            table.add_row(f"and {len(running) - SHOWN_RUNNING} more", "", "", "")
        return table


def _is_cold(trial: FrozenTrial) -> bool:
    """Return whether a trial is frozen, or being ended as such."""
    return is_frozen(trial) or (
        trial.state == TrialState.RUNNING and trial.system_attrs.get(attributes.FROZEN) is not None
    )


def _worker_of(trial: FrozenTrial) -> str | None:
    return attributes.of_trial(trial, attributes.WORKER, str)


def _counts(trial: FrozenTrial) -> int:
    return int(trial.state in (TrialState.COMPLETE, TrialState.PRUNED))
