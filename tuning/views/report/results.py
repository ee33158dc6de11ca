"""What came of a study: its best trials, what was confirmed of them, the winner that was trained for long. No Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from storage import attributes
from storage.errors import shown
from studies.forecast import seconds_of
from studies.leaderboard import balanced_accuracy, plain_parameters
from studies.phases.confirmation import LEVEL, Confirmed, Interval, interval, winner
from studies.phases.known import best_configurations, refitted, searched_value
from studies.phases.training import training_of
from studies.trials import is_frozen
from tuning.views.report.document import Figures, Picture, Section, Table
from tuning.views.report.drawing import MOST_POINTS, draw_history, svg_of
from tuning.views.report.subject import Subject
from tuning.words import counted, duration, value_in_words

SHOWN_TRIALS = 10


def best_section(subject: Subject) -> Section:
    """Return the best trials of the search."""
    name, title = "best", "The best trials"
    again = subject.command("trials")
    best = best_configurations(subject.study, SHOWN_TRIALS)
    if not best:
        return Section(name, title, again=again, left_out="no trial has a value yet")
    rows = [_row(trial, balanced=bool(subject.record.imbalanced)) for trial in best]
    balanced = ["balanced"] if subject.record.imbalanced else []
    headings = ["trial", "state", "val accuracy", *balanced, "epochs", "time"]
    words = [
        (
            "By the best validation accuracy that each had, whether it was trained to its end or not. The best of"
            " many is"
            " lucky, too: its accuracy looks better than it is, unless it was confirmed with other seeds."
        )
    ]
    picture = Picture(
        "history", svg_of(draw_history(subject.searched)), ".svg",
        _words_of_history(len(subject.searched)),
    )  # fmt: skip
    figures: Figures = {
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name,
                "value": searched_value(trial),
                "params": plain_parameters(trial),
                "epochs": len(trial.intermediate_values),
            }
            for trial in best
        ]
    }
    numeric = frozenset({0, *range(2, len(headings))})
    table = Table([*headings, "parameters"], rows, numeric)
    return Section(name, title, words, [table], [picture], again, figures)


def _words_of_history(trials: int) -> str:
    some = f"; of {trials:,} trials {MOST_POINTS:,} are drawn, evenly by number" if trials > MOST_POINTS else ""
    return f"The best validation accuracy of each trial, and the best so far{some}."


def _row(trial: FrozenTrial, *, balanced: bool) -> list[str]:
    figure, took_s = balanced_accuracy(trial), seconds_of(trial)
    return [
        str(trial.number),
        _state(trial),
        f"{searched_value(trial):.4f}",
        *(["" if figure is None else f"{figure:.4f}"] if balanced else []),
        str(len(trial.intermediate_values)),
        "" if took_s is None else duration(took_s),
        _parameters(trial.params),
    ]


def _parameters(params: Mapping[str, Any]) -> str:
    return shown(", ".join(f"{name} {value_in_words(value)}" for name, value in params.items()))


def _state(trial: FrozenTrial) -> str:
    return "frozen" if is_frozen(trial) else trial.state.name.lower()


def confirmed_section(subject: Subject) -> Section:
    """Return what trainings with other seeds told of the best configurations."""
    name, title, again = "confirmed", "Confirmed with other seeds", subject.command("confirm")
    known = subject.confirmed
    if not known or subject.record.data is None:
        return Section(name, title, again=again, left_out="no configuration was trained again with two other seeds")
    images, best = subject.record.data["validation"], winner(known)
    ordered = sorted(known, key=lambda one: (-one.mean, one.of))
    within = {one.of: interval(one, known, images) for one in ordered}
    rows = [_confirmed_row(one, within[one.of]) for one in ordered]
    words = [
        (
            f"The best mean is that of trial {best.of}: {_spread(best, within[best.of])}. The interval covers what is"
            " true"
            f" of it in {LEVEL:.0%} of cases, over seeds and images; luck is how much better the search saw it."
        )
    ]
    figures: Figures = {
        "configurations": [
            {"of": one.of, "values": list(one.values), "mean": one.mean,
             "interval": [within[one.of].low, within[one.of].high], "luck": one.luck}
            for one in ordered
        ]
    }  # fmt: skip
    table = Table(("trial", "mean", "interval", "seeds", "luck", "parameters"), rows, frozenset(range(5)))
    return Section(name, title, words, [table], again=again, figures=figures)


def _confirmed_row(one: Confirmed, within: Interval) -> list[str]:
    return [
        str(one.of),
        f"{one.mean:.4f}",
        f"{within.low:.4f} to {within.high:.4f}",
        str(len(one.values)),
        f"{one.luck:+.4f}",
        _parameters(one.params),
    ]


def _spread(one: Confirmed, within: Interval) -> str:
    return f"{one.mean:.2%}, between {within.low:.2%} and {within.high:.2%}"


def winner_section(subject: Subject) -> Section:
    """Return the winner that was trained for long."""
    name, title, again = "winner", "The winner, trained for long", subject.command("refit")
    found = refitted(subject.study)
    if not found:
        return Section(name, title, again=again, left_out="no winner was trained for long")
    trial = found[0]
    training = training_of(subject.spec, trial)
    epochs, best_epoch = len(trial.intermediate_values), attributes.of_trial(trial, attributes.BEST_EPOCH, int)
    kept = f"; the weights are those of epoch {best_epoch}" if best_epoch is not None else ""
    took_s = seconds_of(trial)
    took = f", in {duration(took_s)}" if took_s is not None else ""
    raised = ", ".join(f"{shown(key)} at least {value:g}" for key, value in sorted(training.at_least.items()))
    words = [
        (
            f"Trial {trial.number} has the configuration of trial {training.of}, trained for"
            f" {counted(epochs, 'epoch')} of"
            f" at most {training.epochs}{took}: validation accuracy {trial.value or 0:.2%}{kept}."
            + (f" Raised: {raised}." if raised else "")
        )
    ]
    figures: Figures = {"trial": trial.number, "of": training.of, "value": trial.value, "epochs": epochs}
    return Section(name, title, words, again=again, figures=figures)
