"""The best model of a study as a bundle that anyone can load.

What is judged is what is handed over, not a model in memory: a fresh process loads it out of the bundle and must find
the validation accuracy that the trial recorded (`tuning.bundles.checking`). Only then is the test split read, once.
Another process writes the further formats. Both are `tuning.bundles.judge`, and Keras is imported in these two only.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from storage import attributes
from storage.artifacts import ArtifactDamaged, Artifacts
from storage.errors import unknown_name
from storage.files import sha256_of
from storage.settings import Home, mark
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared
from studies.spec import derive_seed
from studies.stored import StudyRecord
from studies.study_data import inputs_of, recorded_split
from tuning.building import CODE, WEIGHTS, Building
from tuning.bundles.bundle import CARD, CONFUSION_MATRIX, FORMATS, LEARNING_CURVE, METRICS, replacing_bundle
from tuning.bundles.checking import Checked, data_of, precision_of, put_checked, require_file, source_of
from tuning.bundles.choice import chosen, own_folder
from tuning.bundles.converting import convert
from tuning.pictures import draw_confusion_matrix, draw_learning_curve
from tuning.tasks import Figures, TestFigures
from tuning.user_classes import UserFile

_VERSIONS_OF = ("keras", "keras-tuner", "optuna", "numpy", "tensorflow", "jax", "torch")

Document = dict[str, Any]


class Metrics(TypedDict):
    """What `metrics.json` holds."""

    validation: Figures
    test: TestFigures


def export(
    study: optuna.Study,
    home: Home,
    out: Path | None = None,
    trial_number: int | None = None,
    formats: Sequence[str] | None = None,
    user_file: UserFile | None = None,
    *,
    database: str = "",
) -> Path:
    """Write the bundle of a study's best trial and return its folder. A short summary goes to stderr.

    Args:
        study: whose trial it is.
        home: where artifacts and data sets are.
        out: the bundle's folder; by default the study's own under the home, which is then marked as such. A former
            bundle there is replaced.
        trial_number: another COMPLETE trial than the best that has a model.
        formats: which of `FORMATS` are written besides `keras`; by default all that can be.
        user_file: the file with the study's model, if it is a user's: needed where Keras cannot load the model itself.
        database: where the study is, as `Database.place` says it.

    Raises:
        BadInput: another program made the study, the trial, a format or the folder cannot be used, or the data set is
            not prepared or another one.
        TuningError: there is no COMPLETE trial with a model, it is damaged or not as good as recorded, there is no
            room, or a format that was asked for cannot be written. A former bundle is as it was.
    """
    wanted = _wanted(formats)
    record = StudyRecord.of(study)
    record.require_ours()
    require_file(record, user_file)
    artifacts = Artifacts(home.artifacts)
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    trial, passed_over = chosen(study, record, artifacts, trial_number)
    spec, recorded = record.spec, data_of(record)
    dataset = open_prepared(spec.dataset, home, images=spec.images, checksum=recorded["checksum"])
    inputs = inputs_of(dataset, recorded, recorded_split(dataset, spec, recorded))
    source = source_of(trial, record, inputs, artifacts, user_file)
    target, where = (out.expanduser(), None) if out is not None else own_folder(study, record, home, database)
    if passed_over is not None:
        console.print(f"{record.name}: {passed_over}", soft_wrap=True)
    console.print(f"{record.name}: trial {trial.number}, checking its model in a fresh process")
    with replacing_bundle(target) as folder:
        checked = put_checked(source, home, folder)
        judged = checked.judgement
        metrics = Metrics(validation=judged["validation"], test=judged["test"])
        _write_json(folder / METRICS, metrics)
        draw_confusion_matrix(np.array(judged["confusion"]), dataset.info.class_names, folder / CONFUSION_MATRIX)
        _put_learning_curve(folder / LEARNING_CURVE, artifacts, trial, record)
        skipped = convert(checked, wanted, precision_of(trial), required=formats is not None)
        parts = {} if checked.building is None else {"weights": WEIGHTS, "code": CODE}
        written = parts | {name: FORMATS[name] for name in wanted if name not in skipped}
        _write_json(folder / CARD, _card(record, trial, dataset, checked) | {"formats": written, "skipped": skipped})
        if out is None and record.uid:
            mark(folder, record.uid, database)
    if where is not None:
        console.print(f"  {where}", soft_wrap=True)
    _summarise(console, target, metrics, written, skipped, balanced=bool(record.imbalanced))
    return target


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
        history = {"val_accuracy": [value for _, value in sorted(trial.intermediate_values.items())]}
    best_epoch = history.pop("best_epoch", attributes.of_trial(trial, attributes.BEST_EPOCH, int))
    title = f"{record.name}, trial {trial.number}"
    draw_learning_curve(history, best_epoch, title, file, balanced=bool(record.imbalanced))


def _card(record: StudyRecord, trial: FrozenTrial, dataset: PreparedDataset, checked: Checked) -> Document:
    spec, judgement = record.spec, checked.judgement
    test = judgement["test"]
    return {
        "study": record.name,
        "trial": trial.number,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": spec.dataset,
        "class_names": list(dataset.info.class_names),
        "input": {
            "shape": list(dataset.info.shape),
            "dtype": "float32",
            "range": [0, 255] if dataset.info.is_picture else None,
            "preparation": dataset.info.preparation,
            "fit": dataset.info.fit,
        },
        "output": "one probability for each class, in the order of class_names",
        "parameters": trial.params,
        "seed": derive_seed(spec.seed, "trial", trial.number),
        "precision": precision_of(trial),
        "epochs": attributes.of_trial(trial, attributes.EPOCHS, int),
        "best_epoch": attributes.of_trial(trial, attributes.BEST_EPOCH, int),
        "validation": judgement["validation"],
        "test": Figures(accuracy=test["accuracy"], loss=test["loss"], balanced_accuracy=test["balanced_accuracy"]),
        "data": record.data,
        "spec": spec.model_dump(mode="json"),
        "versions": _versions() | {"backend": judgement["backend"]},
        "platform": f"{platform.system()} {platform.machine()}",
        "model_sha256": sha256_of(checked.model),
        **_building_card(checked.building),
    }


def _building_card(building: Building | None) -> Document:
    """What a card says of a model that is built by a user's file."""
    if building is None:
        return {}
    code = UserFile.named(building["model"], Path(CODE))
    how = (
        f"in this project's checkout: from tuning.bundles.loading import load; load(FOLDER, run_code=True) runs {code}"
    )
    return {"building": building, "loading": how}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _write_json(file: Path, document: Mapping[str, object]) -> None:
    file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")


def _summarise(
    console: Console,
    target: Path,
    metrics: Metrics,
    written: Mapping[str, str],
    skipped: Mapping[str, str],
    *,
    balanced: bool,
) -> None:
    for part, figures in (("validation", metrics["validation"]), ("test", metrics["test"])):
        besides = f"   balanced {figures['balanced_accuracy']:.2%}" if balanced else ""
        console.print(f"  {part + ' accuracy':20} {figures['accuracy']:.2%}   loss {figures['loss']:.4f}{besides}")
    for name, file in written.items():
        console.print(f"  {name:20} {target / file}", soft_wrap=True)
    for name, reason in skipped.items():
        console.print(f"  {name:20} skipped, {reason}", soft_wrap=True)
    console.print(f"  {'figures':20} {target / METRICS}, {CONFUSION_MATRIX}, {LEARNING_CURVE}, {CARD}", soft_wrap=True)
