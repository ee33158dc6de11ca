"""The figures in a bundle: `metrics.json`, `validation.json` and their pictures. No Keras."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import numpy as np
from optuna.trial import FrozenTrial

from storage import attributes
from storage.artifacts import ArtifactDamaged, Artifacts
from studies.stored import StudyRecord
from tuning.bundles.bundle import CONFUSION_MATRIX, METRICS, VALIDATION
from tuning.bundles.checking import Checked
from tuning.pictures import draw_confusion_matrix, draw_learning_curve
from tuning.tasks import Figures, TestFigures


class Metrics(TypedDict):
    """What `metrics.json` holds.

    Attributes:
        validation: None where the model learned from the validation images.
        test: of the test images.
        flips: whether they are of the mean over a picture and its mirror image.
    """

    validation: Figures | None
    test: TestFigures
    flips: bool


def put_figures(folder: Path, checked: Checked, class_names: Sequence[str], *, is_judged: bool) -> Metrics:
    """Write what a model that was judged got right, and what it took for what.

    Args:
        folder: the bundle's.
        checked: the model.
        class_names: of its data.
        is_judged: whether it left the validation images for others to judge by.
    """
    judged = checked.judgement
    validation = judged["validation"] if is_judged else None
    metrics = Metrics(validation=validation, test=judged["test"], flips=checked.flips)
    write_json(folder / METRICS, metrics)
    if is_judged:
        (folder / VALIDATION).write_text(json.dumps(judged["looked"]) + "\n", encoding="utf-8")
    draw_confusion_matrix(np.array(judged["confusion"]), class_names, folder / CONFUSION_MATRIX)
    return metrics


def put_learning_curve(file: Path, artifacts: Artifacts, trial: FrozenTrial, record: StudyRecord) -> None:
    """Write a trial's learning curve: as it was kept, or drawn again.

    Args:
        file: is written.
        artifacts: where it was kept.
        trial: whose it is.
        record: of its study.
    """
    try:
        shutil.copyfile(artifacts.verified(trial, "learning_curve"), file)
        return
    except ArtifactDamaged:
        pass  # it can be drawn again
    try:
        history = json.loads(artifacts.verified(trial, "history").read_text(encoding="utf-8"))
    except ArtifactDamaged:
        reported = [value for _, value in sorted(trial.intermediate_values.items()) if math.isfinite(value)]
        history = {record.objective.curve: reported}
    best_epoch = history.pop("best_epoch", attributes.of_trial(trial, attributes.BEST_EPOCH, int))
    title = f"{record.name}, trial {trial.number}"
    draw_learning_curve(history, best_epoch, title, file, balanced=bool(record.imbalanced), also=record.objective.curve)


def write_json(file: Path, document: Mapping[str, object]) -> None:
    """Write a document, whose numbers are all finite."""
    file.write_text(json.dumps(document, indent=1, allow_nan=False) + "\n", encoding="utf-8")
