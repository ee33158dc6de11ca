"""The best model of a study as a bundle that anyone can load.

What is judged is what is handed over, not a model in memory: a fresh process loads it out of the bundle and must find
the validation accuracy that the trial recorded (`tuning.bundles.checking`). Only then is the test split read, once.
Another process writes the further formats. Both are `tuning.bundles.judge`, and Keras is imported in these two only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from storage.artifacts import Artifacts
from storage.errors import unknown_name
from storage.settings import Home, mark
from storage.stores.chosen import artifact_files
from studies.datasets.preparing import open_prepared
from studies.leaderboard import value_of
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
    replacing_bundle,
)
from tuning.bundles.card import card_of
from tuning.bundles.checking import data_of, precision_of, put_checked, require_file, source_of
from tuning.bundles.choice import chosen, own_folder
from tuning.bundles.converting import convert
from tuning.bundles.figures import Metrics, put_figures, put_learning_curve, write_json
from tuning.bundles.model_card import model_card
from tuning.user_classes import UserFile


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
        metrics = put_figures(folder, checked, dataset.info.class_names, is_judged=source.is_judged)
        put_learning_curve(folder / LEARNING_CURVE, artifacts, trial, record)
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


def _put_card(folder: Path, card: Mapping[str, Any], title: str) -> None:
    write_json(folder / CARD, card)
    (folder / MODEL_CARD).write_text(model_card(card, title), encoding="utf-8")


def _wanted(formats: Sequence[str] | None) -> list[str]:
    if formats is None:
        return list(FORMATS)
    for name in formats:
        if name not in FORMATS:
            raise unknown_name("format", name, FORMATS)
    return list(dict.fromkeys(["keras", *formats]))


def _summarise(
    console: Console,
    target: Path,
    metrics: Metrics,
    written: Mapping[str, str],
    skipped: Mapping[str, str],
    record: StudyRecord,
    trial: FrozenTrial,
) -> None:
    objective, value, validation = record.objective, value_of(trial), metrics["validation"]
    if value is not None and (len(record.objectives) > 1 or not objective.is_default):
        for one, cost in zip(record.objectives, trial.values or (), strict=False):
            console.print(f"  {one.words:20} {one.figure(cost)}, by which it was chosen")
    if validation is None:
        console.print("  validation           none: it learned from these images, too")
    for part, figures in (("validation", validation), ("test", metrics["test"])):
        if figures is None:
            continue
        besides = f"   balanced {figures['balanced_accuracy']:.2%}" if record.imbalanced else ""
        console.print(f"  {part + ' accuracy':20} {figures['accuracy']:.2%}   loss {figures['loss']:.4f}{besides}")
    for name, file in written.items():
        console.print(f"  {name:20} {target / file}", soft_wrap=True)
    for name, reason in skipped.items():
        console.print(f"  {name:20} skipped, {reason}", soft_wrap=True)
    console.print(f"  {'figures':20} {target / METRICS}, {CONFUSION_MATRIX}, {LEARNING_CURVE}, {CARD}", soft_wrap=True)
