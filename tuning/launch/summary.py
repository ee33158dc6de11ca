"""What a launcher prints of a study: the plan before it begins, the forecast once it can be told, the end."""

from __future__ import annotations

import shlex
from collections.abc import Callable

from storage.claims import Standing
from storage.connections import shown_url
from studies.class_balance import sizes_in_words
from studies.leaderboard import balanced_accuracy, best_trial, pareto_front
from studies.objectives.objective import VALIDATION_ACCURACY
from studies.scheduler import first_in_words
from studies.spec import ClassWeights
from studies.stored import StudyRecord
from studies.strategies.chosen import sampler_in_words
from tuning.launch.begin import Begun
from tuning.launch.engines.cluster import Cluster
from tuning.launch.understand import Asked
from tuning.messages import Preflight
from tuning.own_modules import hidden
from tuning.words import counted, duration, parameters_in_words, value_in_words

Report = Callable[[str], None]
"""Takes one line for the user."""

_WEIGHTS: dict[ClassWeights, str] = {
    "none": "CLASS_WEIGHTS=balanced weighs them alike",
    "balanced": "each weighs alike in training",
    "search": "whether each weighs alike in training is searched",
}


def print_plan(report: Report, asked: Asked, study: Begun) -> None:
    """Print what is going to be done."""
    if asked.options.from_study is not None and not study.created:
        report(
            f"--from-study {asked.options.from_study}: study {asked.name!r} was begun already; what it tries first"
            " stays as it was"
        )
    for file in asked.user_files:
        for line in hidden(file.path):
            report(line)
    spec, sampler, record = asked.spec, asked.spec.sampler, study.record
    assert record.data is not None, "recorded with the spec"
    in_all = f", {record.budget_epochs} in all" if record.budget_epochs is not None else ""
    parts = f"{record.data['train']:,} training and {record.data['validation']:,} validation images"
    split_off = f", {record.data['test']:,} kept for the test" if "test" in record.data else ""
    devices = ", ".join(sorted({placement.device.name for placement in asked.placements}))
    rows = {
        "study": f"{asked.name}, in {study.database.shown_url}",
        "data": f"{asked.declared.dataset.title}: {parts}{split_off}",
        **_classes(asked, record),
        "model": f"{spec.model}, {spec.space} space",
        "plan": f"{spec.plan_name}: {counted(record.budget, 'trial')} of at most {counted(spec.epochs, 'epoch')}"
        f"{in_all}, patience {spec.patience} at a constant learning rate",
        **(
            {"objective": " and ".join(one.aim for one in spec.objectives)}
            if spec.objectives != (VALIDATION_ACCURACY,)
            else {}
        ),
        "strategy": asked.strategy.in_words()
        + (f"; {spec.audit:.0%} of the trials are trained to their end in any case" if spec.audit else ""),
        "sampler": sampler_in_words(spec)
        + (f", {sampler.startup_trials} startup trials" if sampler.name == "tpe" else "")
        + (", the defaults first" if sampler.default_first else ""),
        "seed": str(spec.seed),
        **({"precision": f"{spec.precision} on the cores"} if spec.precision != "float32" else {}),
        "workers": f"{len(asked.placements)} on {devices}, {asked.placements[0].threads} thread(s) each"
        + (", to begin with" if asked.packs else ""),
        **(
            {"cluster": f"{asked.places.cluster.address}, {_nodes(asked.places.cluster)}"}
            if asked.places.cluster is not None
            else {}
        ),
    }
    if asked.places.shipped is not None:
        rows["ships"] = asked.places.shipped.in_words()
    if asked.declared.reasons:
        rows["because"] = "; ".join(asked.declared.reasons)
    for name, words in rows.items():
        report(f"{name:<10}{words}")
    for part, count in study.repeated.items():
        report(
            f"warning: {count:,} {part} pictures are training pictures, too, pixel for pixel: the {part} accuracy will"
            " look better than it is"
        )


def _nodes(cluster: Cluster) -> str:
    nodes = cluster.nodes()
    names = sorted(cluster.name_of(node["NodeID"]) for node in nodes)
    return f"{cluster.address}, {counted(len(nodes), 'node')} to begin with: {', '.join(names)}"


def _classes(asked: Asked, record: StudyRecord) -> dict[str, str]:
    """Say that classes are of unlike sizes, what is shown for that, and what is or can be done."""
    counts, weights = record.class_counts, asked.spec.class_weights
    said = [_WEIGHTS[weights]] if weights != "none" else []
    if counts is not None and record.imbalanced:
        sizes = sizes_in_words(counts, asked.declared.dataset.class_names)
        said = [f"imbalanced: {sizes}; balanced accuracy is shown", *(said or [_WEIGHTS["none"]])]
    return {"classes": ", ".join(said)} if said else {}


def print_preflight(report: Report, found: Preflight, record: StudyRecord, standing: Standing) -> None:
    """Print what is searched and what is tried first.

    Args:
        report: takes the lines.
        found: what the preflight found.
        record: what the study records, the search space among it.
        standing: where it stands.
    """
    width = max((len(name) for name in found.parameters), default=0)
    for name, words in found.parameters.items():
        first = found.defaults.get(name)
        shown = f", first {value_in_words(first)}" if first is not None and record.spec.sampler.default_first else ""
        report(f"  {name:<{width}}  {words}{shown}")
    assert record.space is not None, "recorded by the preflight"
    known = first_in_words(record.spec, record.space, record.first)
    if known is not None and not standing.started:
        report(f"first: {known}")
    for note in found.notes:
        report(f"model: {note}")
    for warning in found.warnings:
        report(f"warning: {warning}")
    report(
        f"preflight took {duration(found.seconds)}: {found.default_weights:,} weights by default, at most"
        f" {found.largest_weights:,}"
    )


def print_forecast(report: Report, trials: int, typical_s: float, most_s: float) -> None:
    """Print how long so many trials will take.

    Args:
        report: takes the line.
        trials: how many are left.
        typical_s: seconds, if all had the default model.
        most_s: seconds, if all had the largest one.
    """
    most = f", {duration(most_s)} if every trial had the largest model" if most_s > 1.1 * typical_s else ""
    report(f"forecast: {counted(trials, 'trial')} in about {duration(typical_s)}{most}")


def print_end(
    report: Report, asked: Asked, study: Begun, *, elapsed_s: float, interrupted: bool, with_file: bool = False
) -> None:
    """Print what became of a study, and what can be done next.

    Args:
        report: takes the lines.
        asked: what was wanted.
        study: the study.
        elapsed_s: how long it took.
        interrupted: whether a stop was asked for.
        with_file: whether its models can be exported only with the user's file.
    """
    standing, storage = study.claims.standing(), asked.options.storage
    report(
        f"{standing.finished} of {counted(standing.budget, 'trial')} finished ({standing.complete} complete,"
        f" {standing.pruned} pruned), {standing.failed} failed, in {duration(elapsed_s)}"
    )
    best = best_trial(study.study)
    if best is not None:
        params = parameters_in_words(best.params)
        figure = balanced_accuracy(best) if study.record.imbalanced else None
        balanced = f" (balanced {figure:.4f})" if figure is not None else ""
        values = zip(asked.spec.objectives, best.values or (), strict=True)
        value = ", ".join(f"{objective.words} {objective.figure(value)}" for objective, value in values)
        report(f"best: trial {best.number}, {value}{balanced}, {params}")
        others = [trial.number for trial in pareto_front(study.study) if trial.number != best.number]
        if others:
            cheaper = " and ".join(objective.words for objective in asked.spec.objectives[1:])
            report(f"front: {', '.join(map(str, others))} have fewer {cheaper}; look at: tuning trials")
    follows = asked.course is not None
    if interrupted or not standing.done:
        why = "interrupted" if interrupted else "the search's time is up" if follows else "time is up"
        goes_on = "" if follows and not interrupted else "; the same command goes on"
        report(f"{why}: {_left_over(standing)}{goes_on}")
    elif follows:
        return
    elif best is not None:
        where = f" STORAGE={shlex.quote(shown_url(storage))}" if storage is not None else ""
        where += f" FILES={shlex.quote(asked.home.files)}" if asked.home.files else ""
        model = f" MODEL={shlex.quote(str(asked.user_file))}" if with_file else ""
        report(f"next: make export STUDY={shlex.quote(asked.name)}{where}{model}")


def _left_over(standing: Standing) -> str:
    verb = "is" if standing.waiting == 1 else "are"
    frozen = f", {standing.frozen} {'is' if standing.frozen == 1 else 'are'} frozen" if standing.frozen else ""
    return f"{counted(standing.waiting, 'trial')} {verb} back in the queue{frozen}"
