"""A note on a study where nobody has written one, made of what is recorded each time that it is asked for."""

from __future__ import annotations

import math
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, Final

from optuna.trial import TrialState

from storage import attributes
from studies.forecast import Effort, Span
from studies.spec import model_name
from studies.status import forecast_s
from studies.stored import StudyRecord
from tuning.commands.dashboard.reads.shown_trial import ShownTrial
from tuning.words import counted, dataset_in_words, duration, epochs_in_words, markdown_text

_WORDS: Final = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.FAIL: "failed",
}


def study_note(
    record: StudyRecord, trials: Sequence[ShownTrial], best: ShownTrial | None, storage: str | None, now: float
) -> str:
    """Return what is said of a study, in Markdown; nothing of one that another program made.

    Args:
        record: what the study records.
        trials: all of them.
        best: that of its search, if it has one.
        now: seconds since 1970.
        storage: how a command names the database, without a password; None for the one that is meant anyway.
    """
    if not record.is_ours:
        return ""
    searched = [trial for trial in trials if trial.phase == attributes.SEARCH]
    lines = [*_lines(record, searched), *_results(trials, best), *_forecast(record, searched, now)]
    said = [f"- **{name}**: {words}" for name, words in lines]
    name = shlex.quote(record.name)
    where = f" STORAGE={shlex.quote(storage)}" if storage is not None else ""
    commands = [f"make tune STUDY={name}{where}    # goes on with it"]
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        commands.append(f"make export STUDY={name}{where}    # the best model, to use")
    commands.append(f"make report STUDY={name}{where}    # all that it found, as one page")
    rows = [" ".join(command.splitlines()) for command in commands]
    # Longer than any row of backticks in it: nothing else would end it. What is quoted for a shell stays as it is.
    fence = "`" * max(3, *(len(row) + 1 for line in rows for row in re.findall("`+", line)), 3)
    block = "\n".join([f"{fence}sh", *rows, fence])
    return "\n".join([*said, "", block])


def _lines(record: StudyRecord, trials: Sequence[ShownTrial]) -> Iterator[tuple[str, str]]:
    if record.dataset is not None:
        data = record.data
        parts = f": {data['train']:,} training and {data['validation']:,} validation images" if data else ""
        yield "data", markdown_text(dataset_in_words(record.dataset)) + parts
    spec: dict[str, Any] = record.spec_document or {}
    model, space = (attributes.typed(spec.get(key), str) for key in ("model", "space"))
    if model is not None:
        yield "model", markdown_text(model_name(model) + (f", {space} space" if space else ""))
    if len(record.objectives) > 1 or not record.objective.is_default:
        yield "objective", markdown_text(" and ".join(one.aim for one in record.objectives))
    strategy = attributes.typed((attributes.typed(spec.get("strategy"), dict) or {}).get("name"), str)
    epochs, seed = attributes.typed(spec.get("epochs"), int), attributes.typed(spec.get("seed"), int)
    plan = [
        counted(record.budget, "trial"),
        f"of at most {counted(epochs, 'epoch')}" if epochs else "",
        f"by {markdown_text(strategy)}" if strategy else "",
        f"with seed {seed}" if seed is not None else "",
    ]
    yield "plan", " ".join(filter(None, plan))
    states = Counter(_WORDS.get(trial.state, "frozen" if trial.frozen else "waiting") for trial in trials)
    done = states["complete"] + states["pruned"]
    counts = ", ".join(f"{number} {state}" for state, number in states.items())
    yield "trials", f"{done} of {record.budget} done" + (f": {counts}" if counts else "")
    trained = sum(len(trial.reported) for trial in trials)
    yield "epochs", epochs_in_words(trained, record.budget_epochs)


def _results(trials: Sequence[ShownTrial], best: ShownTrial | None) -> Iterator[tuple[str, str]]:
    """What came of it: the best trial, and what followed the search."""
    if best is not None:
        yield "best", f"trial {best.number}, {best.values[0]:.4f}"
    confirming = [trial for trial in trials if trial.phase == "confirm" and trial.state == TrialState.COMPLETE]
    if confirming:
        yield "confirmed", f"{counted(len(confirming), 'training')} with other seeds; `make report` has the means"
    refitted = [trial for trial in trials if trial.phase == "refit" and trial.state == TrialState.COMPLETE]
    if refitted:
        number, value = refitted[-1].number, refitted[-1].values[0]
        # What learned from the validation images, too, has the worst value there is: none.
        told = f", {value:.4f}" if math.isfinite(value) else ""
        yield "refitted", f"trial {number}{told}: the winner, trained for long"


def _forecast(record: StudyRecord, trials: Sequence[ShownTrial], now: float) -> Iterator[tuple[str, str]]:
    """When the search is done, while it runs."""
    if all(trial.state != TrialState.RUNNING for trial in trials):
        return
    efforts = [_effort(trial, now) for trial in trials]
    done = sum(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    left_s = forecast_s(record, efforts, record.budget - done)
    if left_s:
        # It is made anew when something changes, and may stand for a while after that.
        yield "forecast", f"the search is done about {_time_of_day(now + left_s, now)}, in {duration(left_s)}"


def _effort(trial: ShownTrial, now: float) -> Effort:
    def until_now() -> list[Span]:
        return [(begun, min(until, now)) for begun, until in trial.worked.spans()]

    ended = trial.worked.ended
    spans = until_now if ended is None else trial.worked.spans
    return Effort(trial.state, len(trial.reported), ended, spans)


def _time_of_day(moment: float, now: float) -> str:
    then, today = datetime.fromtimestamp(moment), datetime.fromtimestamp(now)
    return f"{then:%H:%M}" if then.date() == today.date() else f"{then:%Y-%m-%d %H:%M}"
