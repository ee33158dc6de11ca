"""What came of a study: its best trials, what was confirmed of them, the winner that was trained for long. No Keras."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from optuna.trial import FrozenTrial

from storage import attributes
from storage.errors import shown
from studies.forecast import seconds_of
from studies.leaderboard import balanced_accuracy, plain_parameters, value_of
from studies.objectives.objective import Objective
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
    rows = [_row(trial, subject.objective, balanced=bool(subject.record.imbalanced)) for trial in best]
    balanced = ["balanced"] if subject.record.imbalanced else []
    objective = subject.objective
    headings = ["trial", "state", shown(objective.heading), *balanced, "epochs", "time"]
    words = [
        (
            f"By the best {shown(objective.words)} that each had, whether it was trained to its end or not. The best of"
            f" many is lucky, too: its {'accuracy' if objective.is_share else 'value'} looks better than it is, unless"
            " it was confirmed with other seeds."
        )
    ]
    picture = Picture(
        "history", svg_of(draw_history(subject.searched, objective)), ".svg",
        _words_of_history(len(subject.searched), objective),
    )  # fmt: skip
    figures: Figures = {
        "trials": [
            {
                "number": trial.number,
                "state": trial.state.name,
                "value": searched_value(trial, objective),
                "params": plain_parameters(trial),
                "epochs": len(trial.intermediate_values),
            }
            for trial in best
        ]
    }
    numeric = frozenset({0, *range(2, len(headings))})
    table = Table([*headings, "parameters"], rows, numeric)
    return Section(name, title, words, [table], [picture], again, figures)


def _words_of_history(trials: int, objective: Objective) -> str:
    some = f"; of {trials:,} trials {MOST_POINTS:,} are drawn, evenly by number" if trials > MOST_POINTS else ""
    return f"The best {shown(objective.words)} of each trial, and the best so far{some}."


def _row(trial: FrozenTrial, objective: Objective, *, balanced: bool) -> list[str]:
    figure, took_s, value = balanced_accuracy(trial), seconds_of(trial), searched_value(trial, objective)
    return [
        str(trial.number),
        _state(trial),
        "" if value is None else objective.figure(value),
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
    ordered = sorted(known, key=lambda one: (subject.objective.rank(one.mean), one.of))
    within = {one.of: interval(one, known, images) for one in ordered}
    rows = [_confirmed_row(one, within[one.of]) for one in ordered]
    words = [
        (
            f"The best mean is that of trial {best.of}: {_spread(best, within[best.of])}. The interval covers what is"
            " true"
            f" of it in {LEVEL:.0%} of cases, over seeds{' and images' * subject.objective.is_share}; luck is how much"
            " better the search saw it."
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
        one.objective.figure(one.mean),
        f"{one.objective.figure(within.low)} to {one.objective.figure(within.high)}",
        str(len(one.values)),
        f"{'+' * (one.luck >= 0)}{one.objective.figure(one.luck)}",
        _parameters(one.params),
    ]


def _spread(one: Confirmed, within: Interval) -> str:
    share = one.objective.share
    return f"{share(one.mean)}, between {share(within.low)} and {share(within.high)}"


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
    found_value = value_of(trial)
    value = subject.objective.share(found_value) if found_value is not None else "not known"
    if not training.is_judged:
        value = "none, since it learned from the validation images, too"
    took = f", in {duration(took_s)}" if took_s is not None else ""
    raised = ", ".join(f"{shown(key)} at least {value:g}" for key, value in sorted(training.at_least.items()))
    words = [
        (
            f"Trial {trial.number} has the configuration of trial {training.of}, trained for"
            f" {counted(epochs, 'epoch')} of"
            f" at most {training.epochs}{took}: {shown(subject.objective.words)} {value}{kept}."
            + (f" Raised: {raised}." if raised else "")
        )
    ]
    figures: Figures = {"trial": trial.number, "of": training.of, "value": found_value, "epochs": epochs}
    return Section(name, title, words, again=again, figures=figures)
