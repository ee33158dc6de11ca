"""A note on a study where nobody has written one, made of what is recorded each time that it is asked for."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from optuna.trial import TrialState

from storage import attributes
from studies.stored import StudyRecord
from tuning.commands.dashboard.reads.shown_trial import ShownTrial
from tuning.words import counted, dataset_in_words, markdown_text

_WORDS: Final = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
    TrialState.FAIL: "failed",
}


def study_note(record: StudyRecord, trials: Sequence[ShownTrial], storage: str | None) -> str:
    """Return what is said of a study, in Markdown; nothing of one that another program made.

    Args:
        record: what the study records.
        trials: all of them.
        storage: how a command names the database, without a password; None for the one that is meant anyway.
    """
    if not record.is_ours:
        return ""
    searched = [trial for trial in trials if trial.phase == attributes.SEARCH]
    said = [f"- **{name}**: {words}" for name, words in _lines(record, searched)]
    name = shlex.quote(record.name)
    where = f" STORAGE={shlex.quote(storage)}" if storage is not None else ""
    commands = [f"make tune STUDY={name}{where}    # goes on with it"]
    if any(trial.state == TrialState.COMPLETE for trial in trials):
        commands.append(f"make export STUDY={name}{where}    # the best model, to use")
    lines = [" ".join(command.splitlines()) for command in commands]
    # Longer than any row of backticks in it: nothing else would end it. What is quoted for a shell stays as it is.
    fence = "`" * max(3, *(len(row) + 1 for line in lines for row in re.findall("`+", line)), 3)
    block = "\n".join([f"{fence}sh", *lines, fence])
    return "\n".join([*said, "", block])


def _lines(record: StudyRecord, trials: Sequence[ShownTrial]) -> Iterator[tuple[str, str]]:
    if record.dataset is not None:
        data = record.data
        parts = f": {data['train']:,} training and {data['validation']:,} validation images" if data else ""
        yield "data", markdown_text(dataset_in_words(record.dataset)) + parts
    spec: dict[str, Any] = record.spec_document or {}
    model, space = (attributes.typed(spec.get(key), str) for key in ("model", "space"))
    if model is not None:
        yield "model", markdown_text(model.partition("@")[0] + (f", {space} space" if space else ""))
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
    of = f" of {record.budget_epochs:,}" if record.budget_epochs is not None else ""
    yield "epochs", f"{trained:,}{of} trained"
