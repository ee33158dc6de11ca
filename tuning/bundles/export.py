"""The best model of a study as a bundle that anyone can load.

What is judged is the file that is handed over, not a model in memory: a fresh process loads the bundle's `model.keras`
and must find the validation accuracy that the trial recorded. Only then is the test split read, once. Another process
writes the further formats. Both are `tuning.bundles.judge`, and Keras is imported in these two only.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import platform
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import optuna
from optuna.trial import FrozenTrial
from rich.console import Console

from storage import attributes
from storage.artifacts import ArtifactDamaged, Artifacts
from storage.errors import SpecMismatch, TuningError, unknown_name
from storage.files import sha256_of
from storage.settings import Home, mark
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared
from studies.spec import derive_seed
from studies.stored import StudyData, StudyRecord
from studies.study_data import recorded_split
from tuning.bundles.bundle import CARD, CONFUSION_MATRIX, FORMATS, LEARNING_CURVE, METRICS, MODEL, replacing_bundle
from tuning.bundles.choice import chosen, own_folder
from tuning.pictures import draw_confusion_matrix, draw_learning_curve
from tuning.tasks import (
    TOLERATED_PROBABILITY,
    Answer,
    ConvertTask,
    Failed,
    Figures,
    Judge,
    Judgement,
    JudgeTask,
    Task,
    TestFigures,
)

# How far the accuracy of the exported model may lie from the recorded one. Other kernels round otherwise, and an image
# or two on the border between classes go over; half precision rounds more.
TOLERATED_IMAGES = 2
TOLERATED_FLOAT32 = 5e-4
TOLERATED_MIXED = 5e-3

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
    artifacts = Artifacts(home.artifacts)
    console = Console(stderr=True, markup=False, highlight=False, emoji=False)
    trial, passed_over = chosen(study, record, artifacts, trial_number)
    spec, recorded = record.spec, _data_of(record)
    dataset = open_prepared(spec.dataset, home, checksum=recorded["checksum"])
    recorded_split(dataset, spec, recorded)
    source = artifacts.verified(trial, "model")
    target, where = (out.expanduser(), None) if out is not None else own_folder(study, record, home, database)
    if passed_over is not None:
        console.print(f"{record.name}: {passed_over}", soft_wrap=True)
    console.print(f"{record.name}: trial {trial.number}, checking its model in a fresh process")
    with replacing_bundle(target) as folder:
        shutil.copyfile(source, folder / MODEL)
        judgement = _judge(folder, home, trial, record)
        metrics = Metrics(validation=judgement["validation"], test=judgement["test"])
        _write_json(folder / METRICS, metrics)
        draw_confusion_matrix(np.array(judgement["confusion"]), dataset.info.class_names, folder / CONFUSION_MATRIX)
        _put_learning_curve(folder / LEARNING_CURVE, artifacts, trial, record)
        skipped = _convert(folder, wanted, judgement["backend"], _precision(trial), required=formats is not None)
        card = _card(record, trial, dataset, judgement)
        written = {name: FORMATS[name] for name in wanted if name not in skipped}
        card |= {"formats": written, "skipped": skipped, "model_sha256": sha256_of(folder / MODEL)}
        _write_json(folder / CARD, card)
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


def _data_of(record: StudyRecord) -> StudyData:
    if record.data is None:
        raise SpecMismatch(f"study {record.name!r} records no data. Tune it on, then export it.")
    return record.data


def _precision(trial: FrozenTrial) -> str:
    return attributes.of_trial(trial, attributes.PRECISION, str) or "float32"


def tolerance(precision: str, images: int) -> float:
    """Return how far an exported model's accuracy on so many validation images may lie from the recorded one."""
    return max(TOLERATED_IMAGES / images, TOLERATED_FLOAT32 if precision == "float32" else TOLERATED_MIXED)


def _judge(folder: Path, home: Home, trial: FrozenTrial, record: StudyRecord) -> Judgement:
    """The figures of the model in `folder`, which have been compared with the trial's."""
    assert trial.value is not None
    recorded = _data_of(record)
    tolerated = tolerance(_precision(trial), recorded["validation"])
    task = JudgeTask(
        do="judge",
        model=str(folder / MODEL),
        home=str(home.root),
        spec=record.spec.model_dump(mode="json"),
        recorded=recorded,
        value=trial.value,
        tolerated=tolerated,
    )
    answer = next(_ask(task), Failed(error="no answer"))
    if "error" in answer:
        raise TuningError(
            f"the model of trial {trial.number} cannot be checked: {answer['error']}. Take another trial with --trial."
        )
    if "differs" in answer:
        raise TuningError(
            f"the exported model of trial {trial.number} has a validation accuracy of"
            f" {answer['differs']:.4f}, recorded was {trial.value:.4f}, and {tolerated:.4f} is the most"
            " they may differ. It is not exported: take another trial with --trial."
        )
    assert "confusion" in answer
    return answer


def _convert(folder: Path, wanted: list[str], backend: str, precision: str, *, required: bool) -> dict[str, str]:
    """Write the formats besides Keras's own; return why those that are missing are."""
    skipped = {name: reason for name in wanted if (reason := _obstacle(name, backend))}
    rest = [name for name in wanted if name != "keras" and name not in skipped]
    if rest:
        kind = "float32" if precision == "float32" else "mixed"
        task = ConvertTask(do="convert", folder=str(folder), formats=rest, tolerated=TOLERATED_PROBABILITY[kind])
        answers = {answer["format"]: answer["error"] for answer in _ask(task) if "format" in answer}
        skipped |= {name: reason for name in rest if (reason := answers.get(name, "its converter died")) is not None}
    for name, reason in skipped.items():
        if "No space left" in reason:
            raise TuningError(f"no room for the model as {name}. Free some, or give another folder with --out.")
        if required:
            raise TuningError(f"the model cannot be written as {name}: {reason}. Leave out --format {name}.")
        _remove(folder / FORMATS[name])
    return skipped


def _ask(task: Task) -> Iterator[Answer]:
    with Judge() as judge:
        yield from judge.ask(task)


def _obstacle(name: str, backend: str) -> str | None:
    """Why a format cannot even be tried."""
    torch = backend == "torch"
    if name == "torch" and not torch:
        return "needs the PyTorch backend"
    if name == "litert" and backend not in ("tensorflow", "torch"):
        return "needs the TensorFlow backend"
    modules = {
        "tf_saved_model": ("tensorflow",),
        "onnx": ("onnx", "onnxscript") if torch else ("tensorflow", "tf2onnx", "onnx"),
        "openvino": ("openvino",),
        "litert": ("litert_torch",) if torch else ("tensorflow",),
    }
    missing = [module for module in modules.get(name, ()) if importlib.util.find_spec(module) is None]
    return f"needs {' and '.join(missing)}" if missing else None


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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


def _card(record: StudyRecord, trial: FrozenTrial, dataset: PreparedDataset, judgement: Judgement) -> Document:
    spec = record.spec
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
        "precision": _precision(trial),
        "epochs": attributes.of_trial(trial, attributes.EPOCHS, int),
        "best_epoch": attributes.of_trial(trial, attributes.BEST_EPOCH, int),
        "validation": judgement["validation"],
        "test": Figures(accuracy=test["accuracy"], loss=test["loss"], balanced_accuracy=test["balanced_accuracy"]),
        "data": record.data,
        "spec": spec.model_dump(mode="json"),
        "versions": _versions() | {"backend": judgement["backend"]},
        "platform": f"{platform.system()} {platform.machine()}",
    }


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
