"""The best model of a study as a bundle that anyone can load.

What is judged is what is handed over, not a model in memory: a fresh process loads it out of the bundle and must find
the validation accuracy that the trial recorded (`tuning.bundles.checking`). Only then is the test split read, once.
Another process writes the further formats. Both are `tuning.bundles.judge`, and Keras is imported in these two only.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from storage import attributes
from storage.artifacts import ArtifactDamaged, Artifacts
from storage.errors import unknown_name
from storage.settings import Home, mark
from storage.stores.chosen import artifact_files
from studies.datasets.preparing import open_prepared
from studies.stored import StudyRecord
from studies.study_data import inputs_of, recorded_split
from tuning.building import CODE, WEIGHTS
from tuning.bundles.bundle import (
    CARD,
    CONFUSION_MATRIX,
    FORMATS,
    LEARNING_CURVE,
    METRICS,
    MODEL_CARD,
    VALIDATION,
    replacing_bundle,
)
from tuning.bundles.card import card_of
from tuning.bundles.checking import Checked, data_of, precision_of, put_checked, require_file, source_of
from tuning.bundles.choice import chosen, own_folder
from tuning.bundles.converting import convert
from tuning.bundles.model_card import model_card
from tuning.pictures import draw_confusion_matrix, draw_learning_curve
from tuning.tasks import Figures, TestFigures
from tuning.user_classes import UserFile


class Metrics(TypedDict):
    """What `metrics.json` holds; `flips`: whether they are of the mean over a picture and its mirror image."""

    validation: Figures
    test: TestFigures
    flips: bool


def export(
    study: optuna.Study,
    home: Home,
    out: Path | None = None,
    trial_number: int | None = None,
    formats: Sequence[str] | None = None,
    user_file: UserFile | None = None,
    *,
    flips: bool = False,
    database: str = "",
    console: Console | None = None,
) -> Path:
    """Write the bundle of a study's best trial and return its folder.

    Args:
        study: whose trial it is.
        home: where artifacts and data sets are.
        out: the bundle's folder, replaced where it is there; by default the study's own under the home, marked as such.
        trial_number: another COMPLETE trial than the one that was refitted last, or the best, which has a model.
        formats: which of `FORMATS` are written besides `keras`; by default all that can be.
        user_file: the file with the study's model, if it is a user's: needed where Keras cannot load the model itself.
        flips: whether the model handed over says the mean of what it says of a picture and of its mirror image.
        database: where the study is, as `Database.place` says it.
        console: takes a short summary; stderr by default.

    Raises:
        BadInput: another program made the study, the trial, a format, the folder or `flips` cannot be used, or the data
            set is not prepared or another one.
        TuningError: there is no COMPLETE trial with a model, it is damaged or not as good as recorded, there is no
            room, or a format that was asked for cannot be written. A former bundle is as it was.
    """
    wanted = _wanted(formats)
    record = StudyRecord.of(study)
    record.require_ours(home)
    require_file(record, user_file)
    artifacts = Artifacts(artifact_files(home))
    console = console or Console(stderr=True, markup=False, highlight=False, emoji=False)
    trial, passed_over = chosen(study, record, artifacts, trial_number)
    spec, recorded = record.spec, data_of(record)
    dataset = open_prepared(spec.dataset, home, images=spec.images, checksum=recorded["checksum"])
    inputs = inputs_of(dataset, recorded, recorded_split(dataset, spec, recorded))
    source = source_of(trial, record, inputs, artifacts, user_file, flips=flips)
    target, where = (out.expanduser(), None) if out is not None else own_folder(study, record, home, database)
    for said in filter(None, (passed_over, f"trial {trial.number}, checking its model in a fresh process")):
        console.print(f"{record.name}: {said}", soft_wrap=True)
    with replacing_bundle(target) as folder:
        checked = put_checked(source, home, folder)
        metrics = _put_figures(folder, checked, dataset.info.class_names)
        _put_learning_curve(folder / LEARNING_CURVE, artifacts, trial, record)
        skipped = convert(checked, wanted, precision_of(trial), required=formats is not None)
        parts = {} if checked.building is None else {"weights": WEIGHTS, "code": CODE}
        written = parts | {name: FORMATS[name] for name in wanted if name not in skipped}
        card = card_of(study, record, trial, dataset, checked)
        _put_card(folder, card | {"formats": written, "skipped": skipped}, dataset.info.title)
        if out is None and record.uid:
            mark(folder, record.uid, database)
    if where is not None:
        console.print(f"  {where}", soft_wrap=True)
    _summarise(console, target, metrics, written, skipped, record, trial)
    return target


def _put_figures(folder: Path, checked: Checked, class_names: Sequence[str]) -> Metrics:
    judged = checked.judgement
    metrics = Metrics(validation=judged["validation"], test=judged["test"], flips=checked.flips)
    _write_json(folder / METRICS, metrics)
    (folder / VALIDATION).write_text(json.dumps(judged["looked"]) + "\n", encoding="utf-8")
    draw_confusion_matrix(np.array(judged["confusion"]), class_names, folder / CONFUSION_MATRIX)
    return metrics


def _put_card(folder: Path, card: Mapping[str, Any], title: str) -> None:
    _write_json(folder / CARD, card)
    (folder / MODEL_CARD).write_text(model_card(card, title), encoding="utf-8")


def _wanted(formats: Sequence[str] | None) -> list[str]:
    if formats is None:
        return list(FORMATS)
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return list(dict.fromkeys(["keras", *formats]))


def _put_learning_curve(file: Path, artifacts: Artifacts, trial: FrozenTrial, record: StudyRecord) -> None:
    try:
        shutil.copyfile(artifacts.verified(trial, "learning_curve"), file)
        return
    except ArtifactDamaged:
        pass  # it can be drawn again
    try:
        history = json.loads(artifacts.verified(trial, "history").read_text(encoding="utf-8"))
    except ArtifactDamaged:
        history = {record.objective.curve: [value for _, value in sorted(trial.intermediate_values.items())]}
    best_epoch = history.pop("best_epoch", attributes.of_trial(trial, attributes.BEST_EPOCH, int))
    title = f"{record.name}, trial {trial.number}"
    draw_learning_curve(history, best_epoch, title, file, balanced=bool(record.imbalanced), also=record.objective.curve)


def _write_json(file: Path, document: Mapping[str, object]) -> None:
    file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _summarise(
    console: Console,
    target: Path,
    metrics: Metrics,
    written: Mapping[str, str],
    skipped: Mapping[str, str],
    record: StudyRecord,
    trial: FrozenTrial,
) -> None:
    objective = record.objective
    if not objective.is_default and trial.value is not None:
        console.print(f"  {objective.words:20} {objective.figure(trial.value)}, by which it was chosen")
    for part, figures in (("validation", metrics["validation"]), ("test", metrics["test"])):
        besides = f"   balanced {figures['balanced_accuracy']:.2%}" if record.imbalanced else ""
        console.print(f"  {part + ' accuracy':20} {figures['accuracy']:.2%}   loss {figures['loss']:.4f}{besides}")
    for name, file in written.items():
        console.print(f"  {name:20} {target / file}", soft_wrap=True)
    for name, reason in skipped.items():
        console.print(f"  {name:20} skipped, {reason}", soft_wrap=True)
    console.print(f"  {'figures':20} {target / METRICS}, {CONFUSION_MATRIX}, {LEARNING_CURVE}, {CARD}", soft_wrap=True)
