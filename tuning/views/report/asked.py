"""What a study was asked, and what it was asked of: the data. No Keras."""

from __future__ import annotations

import shlex

import numpy as np
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from storage.errors import shown
from studies.class_balance import sizes_in_words
from studies.datasets.prepared import PreparedDataset
from studies.objectives.directions import direction_of
from studies.space import Parameter
from studies.spec import StudySpec, model_name
from studies.strategies.chosen import sampler_in_words
from tuning.commands.explore import glance
from tuning.views.report.document import Figures, Picture, Section, Table
from tuning.views.report.drawing import png_of, svg_of
from tuning.views.report.subject import Subject
from tuning.words import counted, dataset_in_words, value_in_words


def asked_section(subject: Subject) -> Section:
    """Return what was asked: data, model, plan, search, and the command."""
    spec, record = subject.spec, subject.record
    in_all = f", {record.budget_epochs:,} in all" if record.budget_epochs is not None else ""
    trials = counted(record.budget, "trial")
    plan = f"{trials} of at most {counted(spec.epochs, 'epoch')}{in_all}, patience {spec.patience}"
    rows = [
        ("data", dataset_in_words(spec.dataset)),
        ("model", f"{shown(model_name(spec.model))}, {spec.space} space"),
        ("objective", shown(_objective(subject))),
        ("plan", plan),
        ("strategy", shown(spec.strategy.name) + (f", {spec.audit:.0%} of the trials audited" if spec.audit else "")),
        ("sampler", sampler_in_words(spec)),
        ("class weights", spec.class_weights),
        ("seed", str(spec.seed)),
        ("fingerprint", spec.fingerprint[:16]),
    ]  # fmt: skip
    tables = [Table(("", "asked for"), rows)]
    if record.space is not None:
        searched = [(shown(name), _range(one), _default(one)) for name, one in record.space.parameters.items()]
        tables.append(Table(("hyperparameter", "searched", "default"), searched))
    return Section(
        "asked",
        "What was asked",
        tables=tables,
        again=tune_command(subject),
        figures={"fingerprint": spec.fingerprint, "budget": record.budget, "budget_epochs": record.budget_epochs},
    )


def tune_command(subject: Subject) -> str:
    """Return the command that runs such a study, or goes on with this one."""
    spec, record = subject.spec, subject.record
    form = spec.images.model_dump(exclude_none=True) if spec.images is not None else {}
    size = form.get("size")
    return subject.command(
        "tune",
        DATASET=spec.dataset,
        TRIALS=record.budget,
        EPOCHS=spec.epochs,
        BUDGET_EPOCHS=record.budget_epochs,
        MODEL=model_name(spec.model),
        SPACE=spec.space,
        STRATEGY=spec.strategy.name.partition("@")[0],
        AUDIT=f"{spec.audit:g}" if spec.audit else None,
        SEED=spec.seed,
        TRAIN_IMAGES=spec.train_images,
        PRECISION=spec.precision,
        OBJECTIVE=" ".join(one.given for one in spec.objectives) if _is_said(spec) else None,
        DIRECTION=spec.objective.direction if direction_of(spec.objective.curve) != spec.objective.direction else None,
        CLASS_WEIGHTS=spec.class_weights if spec.class_weights != "none" else None,
        IMAGE_SIZE="x".join(map(str, size)) if size else None,
        FIT=form.get("fit"),
        FLIPS=int(form["flips"]) if "flips" in form else None,
    )


def _is_said(spec: StudySpec) -> bool:
    return len(spec.objectives) > 1 or not spec.objective.is_default


def _objective(subject: Subject) -> str:
    said = " and ".join(one.aim for one in subject.spec.objectives)
    return said if subject.objective.function is None else f"{said}, by {subject.objective.given}"


def _range(parameter: Parameter) -> str:
    found = parameter.distribution
    if isinstance(found, CategoricalDistribution):
        return "one of " + ", ".join(shown(str(choice)) for choice in found.choices)
    assert isinstance(found, (FloatDistribution, IntDistribution))
    scale = ", log" if found.log else ""
    return f"{value_in_words(found.low)} to {value_in_words(found.high)}{scale}"


def _default(parameter: Parameter) -> str:
    return "" if parameter.default is None else shown(value_in_words(parameter.default))


def data_section(subject: Subject) -> Section:
    """Return the data's own page: how many images of which class, and the first of each."""
    name, title, recorded = "data", "The data", subject.record.data
    again = f"make explore DATASET={dataset_word(subject)}"
    if recorded is None:
        return Section(name, title, again=again, left_out="the study records no data: it was never trained")
    counts = recorded.get("class_counts")
    figures: Figures = {"train": recorded["train"], "validation": recorded["validation"], "test": recorded.get("test"),
               "class_counts": counts}  # fmt: skip
    words = [f"{recorded['train']:,} training images and {recorded['validation']:,} validation images."]
    if recorded.get("test"):
        words = [f"{words[0]} {recorded['test']:,} were split off to test on."]
    dataset = subject.dataset
    if dataset is None:
        words.append("The data are not prepared on this machine: there are no pictures of them.")
        return Section(name, title, words, again=again, figures=figures)
    classes = dataset.info.class_names
    words.append(f"{len(classes):,} classes of {shown(dataset.info.title)}.")
    if counts and subject.record.imbalanced:
        words.append(f"They are of unlike sizes: {shown(sizes_in_words(counts, classes))}.")
    pictures = data_pictures(dataset)
    if counts and len(counts) == len(classes):
        rarest = int(np.argmin(counts))
        figures["rarest"] = {"class": shown(classes[rarest]), "images": counts[rarest]}
    return Section(name, title, words, pictures=pictures, again=again, figures=figures)


def data_pictures(dataset: PreparedDataset) -> list[Picture]:
    """Return what is seen of data at a glance: how many images of which class, and of pictures the first of each."""
    return [
        Picture(f"data-{one}", svg_of(figure) if one == "classes" else png_of(figure),
                ".svg" if one == "classes" else ".png", told)
        for one, (figure, told) in glance(dataset).items()
    ]  # fmt: skip


def dataset_word(subject: Subject) -> str:
    """Return the data set as a word of a shell."""
    return shlex.quote(shown(subject.spec.dataset))
