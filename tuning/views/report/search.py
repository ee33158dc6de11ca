"""How a study's search went: what decides, its curves, what pruning spared, what it all took. No Keras."""

from __future__ import annotations

from dataclasses import asdict

from optuna.trial import TrialState

from storage.errors import shown
from studies.findings.importance import Importances, importances
from studies.findings.savings import SURE, Audit, audit, saving, spending
from studies.objectives.objective import Objective
from studies.phases.confirmation import LEVEL
from studies.spec import derive_seed
from studies.trials import values_of
from tuning.views.report.document import Figures, Picture, Section, Table
from tuning.views.report.drawing import (
    MOST_CURVES,
    MOST_SLICES,
    draw_curves,
    draw_importances,
    draw_slices,
    parameter_names,
    svg_of,
)
from tuning.views.report.subject import Subject
from tuning.words import counted, duration


def search_sections(subject: Subject) -> list[Section]:
    """Return what is understood of the search: importance, slices, curves, savings, spending."""
    found = importances_of(subject)
    return [
        importance_section(subject, found),
        slices_section(subject, found),
        curves_section(subject),
        _savings(subject),
        _spending(subject),
    ]


def importances_of(subject: Subject) -> Importances:
    """Return how important each hyperparameter of a study is, the same each time."""
    return importances(subject.searched, subject.objective, seed=derive_seed(subject.spec.seed, "importance"))


def importance_section(subject: Subject, found: Importances) -> Section:
    """Return how important each hyperparameter is, with its interval."""
    name, title, again = "importance", "Which hyperparameters decide", subject.command("report")
    if not found.of:
        return Section(name, title, again=again, left_out=found.left_out or "no hyperparameter is searched")
    words = [
        (
            f"PED-ANOVA over {counted(found.trials, 'trial')}, compared after epoch {found.epoch}, which each of them"
            " reached: those that were pruned count as well, so that what ruins a trial is seen. What matters later"
            f" only is not seen in it. The lines are where {LEVEL:.0%} of the shares lie when trials are drawn"
            " again with replacement: where they overlap, the order of two hyperparameters is not known."
        )
    ]
    rows = [(shown(one.name), f"{one.share:.0%}", f"{one.low:.0%} to {one.high:.0%}") for one in found.of]
    picture = Picture(
        "importance", svg_of(draw_importances(found)), ".svg", "The share of each hyperparameter, with its interval."
    )
    figures: Figures = {
        "epoch": found.epoch,
        "trials": found.trials,
        "shares": {shown(one.name): [one.share, one.low, one.high] for one in found.of},
    }
    table = Table(("hyperparameter", "share", "interval"), rows, frozenset({1, 2}))
    return Section(name, title, words, [table], [picture], again, figures)


def slices_section(subject: Subject, found: Importances) -> Section:
    """Return each trial's best value over each hyperparameter."""
    name, title, again = "slices", "Each hyperparameter by itself", subject.command("report")
    names = parameter_names(subject.searched, found)
    if not names or not any(map(values_of, subject.searched)):
        return Section(name, title, again=again, left_out="no trial has a value yet")
    words = ["Each point is a trial: blue where it was trained to its end, light brown where it was pruned or frozen."]
    if len(names) > MOST_SLICES:
        words.append(f"The first {MOST_SLICES} of {len(names)} hyperparameters.")
    picture = Picture(
        "slices", svg_of(draw_slices(subject.searched, subject.objective, names)), ".svg",
        f"The best {shown(subject.objective.words)} of each trial over each hyperparameter.",
    )  # fmt: skip
    return Section(name, title, words, pictures=[picture], again=again)


def curves_section(subject: Subject) -> Section:
    """Return the curves of trials that were kept, and of those that were not."""
    name, title, again = "curves", "Kept and pruned curves", subject.command("report")
    told = [trial for trial in subject.searched if values_of(trial) and trial.state != TrialState.FAIL]
    if not told:
        return Section(name, title, again=again, left_out="no trial has trained an epoch yet")
    words = shown(subject.objective.words)
    some = f" Of {len(told):,} curves, the best and others evenly by number are drawn." * (len(told) > MOST_CURVES)
    picture = Picture(
        "curves", svg_of(draw_curves(subject.searched, subject.objective)), ".svg",
        f"The {words} over the epochs, of trials that were trained to their end and of others.",
    )  # fmt: skip
    return Section(name, title, [some.strip()] if some else [], pictures=[picture], again=again)


def _savings(subject: Subject) -> Section:
    name, title, again = "saved", "What pruning saved", subject.command("status")
    found, audited = saving(subject.spec, subject.searched), audit(subject.searched, subject.objective)
    if not found.trials and audited is None:
        return Section(name, title, again=again, left_out="no trial was pruned or frozen")
    unknown = " Whether the best one is among them, nobody knows: AUDIT=0.1 finishes some all the same."
    words = [
        (
            f"{counted(found.trials, 'trial')} ended before the last epoch, after {counted(found.trained, 'epoch')}"
            " in all."
            f" To their end they would have trained {counted(found.spared, 'epoch')} more, {found.share:.0%} of all and"
            f" about {duration(found.spared_s)} of one worker, at most: some would have stopped by themselves."
            + (unknown if audited is None else "")
        )
    ]
    tables = []
    if audited is not None:
        words.append(_words_of_audit(audited, subject.objective))
        figure = subject.objective.figure
        rows = [(str(one.number), str(one.after), figure(one.then), figure(one.end)) for one in audited.trials]
        headings = ("audited trial", "would have ended after epoch", "best until then", "best in the end")
        tables.append(Table(headings, rows, frozenset(range(4))))
    figures: Figures = {
        "trials": found.trials,
        "trained": found.trained,
        "spared": found.spared,
        "spared_s": found.spared_s,
        "share": found.share,
    }
    if audited is not None:
        figures["audited"] = [{**asdict(one)} for one in audited.trials]
        figures["better_at_most"] = audited.at_most
    return Section(name, title, words, tables, again=again, figures=figures)


def _words_of_audit(found: Audit, objective: Objective) -> str:
    epochs = sum(one.epochs for one in found.trials)
    said = (
        f"{counted(len(found.trials), 'trial')} of those that the strategy ended, drawn by their seeds, went on to the"
        f" end all the same, for {counted(epochs, 'epoch')}: an audit."
    )
    if found.best is None:
        return f"{said} No other trial has a value to compare them with."
    number, value = found.best
    than = f"the best of the others, trial {number} with {objective.figure(value)}"
    if found.lost:
        cost = max(objective.oriented(one.end - value) for one in found.lost)
        lost = f"{len(found.lost)} of them ended better than {than}: pruning would have cost {objective.figure(cost)}."
    else:
        lost = f"None of them ended better than {than}: pruning cost nothing that is seen."
    return (
        f"{said} {lost} With {SURE:.0%} confidence, at most {found.at_most:.0%} of what is pruned is better than that."
    )


def _spending(subject: Subject) -> Section:
    name, title, again = "spent", "Device-hours", subject.command("status")
    found = spending(subject.trials)
    if not found:
        return Section(name, title, again=again, left_out="no trial is over yet")
    rows = [
        (one.phase, shown(one.device) or "not recorded", *_amounts(one.trials, one.epochs, one.seconds))
        for one in found
    ]
    trials, epochs = sum(one.trials for one in found), sum(one.epochs for one in found)
    rows.append(("in all", "", *_amounts(trials, epochs, sum(one.seconds for one in found))))
    words = ["The time in which trials were worked on, failed ones too; several at once on one device count each."]
    figures: Figures = {
        "by": [
            {"phase": one.phase, "device": shown(one.device), "trials": one.trials, "epochs": one.epochs,
             "hours": one.seconds / 3600}
            for one in found
        ]
    }  # fmt: skip
    table = Table(("phase", "device", "trials", "epochs", "hours"), rows, frozenset({2, 3, 4}))
    return Section(name, title, words, [table], again=again, figures=figures)


def _amounts(trials: int, epochs: int, seconds: float) -> tuple[str, str, str]:
    return f"{trials:,}", f"{epochs:,}", f"{seconds / 3600:.2f}"
