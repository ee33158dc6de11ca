"""What the exported model takes for what, on validation images: by test images nobody is to choose. No Keras."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import shown
from studies.datasets.prepared import PreparedDataset
from tuning.bundles.bundle import CARD, METRICS, VALIDATION
from tuning.pictures import MOST_COUNTED_CLASSES, MOST_DRAWN_CLASSES, confusion_figure, mistakes_figure
from tuning.tasks import Looked, Mistake
from tuning.views.report.document import Figures, Picture, Section, Table
from tuning.views.report.drawing import png_of, svg_of
from tuning.views.report.subject import Subject

_TITLE = "What is taken for what"
MOST_CONFUSED = 8


def mistakes_section(subject: Subject) -> Section:
    """Return the confusion matrix of the exported model and its worst mistakes."""
    name, again = "mistakes", subject.command("export")
    folder = subject.home.exported(subject.record.name, subject.record.uid)
    if folder is None:
        return Section(name, _TITLE, again=again, left_out="no model was exported")
    try:
        card, metrics = (_read(folder / file) for file in (CARD, METRICS))
        if metrics["validation"] is None:
            why = "the exported model learned from the validation images, too, and the test images are for no looking"
            return Section(name, _TITLE, again=again, left_out=why)
        classes = [str(one) for one in card["class_names"]]
        looked = _looked(_read(folder / VALIDATION), len(classes))
        words = [_words(int(card["trial"]), metrics)]
    except FileNotFoundError:
        why = "an earlier version exported the model, without its mistakes: export it again"
        return Section(name, _TITLE, again=again, left_out=why)
    except (OSError, ValueError, KeyError, TypeError):
        return Section(name, _TITLE, again=again, left_out="the exported model's folder is damaged: export it again")
    confusion = np.array(looked["confusion"], dtype=np.int64)
    figures: Figures = {
        "trial": int(card["trial"]),
        "validation": float(metrics["validation"]["accuracy"]),
        "test": float(metrics["test"]["accuracy"]),
        "mistakes": [{**one} for one in looked["mistakes"]],
    }
    tables = [_confused(confusion, classes)]
    pictures = _pictures(confusion, looked["mistakes"], classes, subject.dataset)
    return Section(name, _TITLE, words, tables, pictures, again, figures)


def _read(file: Path) -> dict[str, Any]:
    document = json.loads(file.read_text(encoding="utf-8"))
    if not isinstance(document, dict):
        raise TypeError("an object is needed")
    return document


def _looked(document: dict[str, Any], classes: int) -> Looked:
    """Return what `validation.json` holds.

    Raises:
        ValueError, KeyError, TypeError: it is not what an export wrote.
    """
    confusion = np.array(document["confusion"], dtype=np.int64)
    if confusion.shape != (classes, classes) or (confusion < 0).any():
        raise ValueError("another shape")
    mistakes = [
        Mistake(image=int(one["image"]), label=int(one["label"]), predicted=int(one["predicted"]),
                probability=float(one["probability"]))
        for one in document["mistakes"]
    ]  # fmt: skip
    if any(not (0 <= one["label"] < classes and 0 <= one["predicted"] < classes) for one in mistakes):
        raise ValueError("another class")
    return Looked(confusion=confusion.tolist(), mistakes=mistakes)


def _words(trial: int, metrics: dict[str, Any]) -> str:
    validation, test = (metrics[part] for part in ("validation", "test"))
    return (
        f"Of the exported model, trial {trial}: {float(validation['accuracy']):.2%} of the validation images are right,"
        f" and {float(test['accuracy']):.2%} of the test images, on which it was measured once. The matrix and the"
        " mistakes"
        " are of validation images."
    )


def _confused(confusion: npt.NDArray[np.int64], classes: list[str]) -> Table:
    """Return the pairs of classes that are confused most."""
    wrong = confusion.copy()
    np.fill_diagonal(wrong, 0)
    order = np.argsort(-wrong, axis=None, kind="stable")[:MOST_CONFUSED]
    pairs = [divmod(int(place), len(classes)) for place in order]
    of_class, names = confusion.sum(axis=1), [shown(one) for one in classes]
    rows = [
        (names[true], names[said], f"{wrong[true, said]:,}", f"{wrong[true, said] / of_class[true]:.1%}")
        for true, said in pairs
        if wrong[true, said]
    ]
    return Table(("class", "taken for", "images", "of the class"), rows, frozenset({2, 3}))


def _pictures(
    confusion: npt.NDArray[np.int64], mistakes: list[Mistake], classes: list[str], dataset: PreparedDataset | None
) -> list[Picture]:
    names, pictures = [shown(one) for one in classes], []
    if len(classes) <= MOST_DRAWN_CLASSES:
        figure = confusion_figure(confusion, names, "validation images")
        small = len(classes) <= MOST_COUNTED_CLASSES
        content, suffix = (svg_of(figure), ".svg") if small else (png_of(figure), ".png")
        words = "Which class is taken for which, on the validation images."
        pictures.append(Picture("confusion", content, suffix, words))
    if dataset is None or not dataset.info.is_picture:
        return pictures
    known = [one for one in mistakes if 0 <= one["image"] < len(dataset.train_images)]
    if known:
        images = np.stack([dataset.train_images[one["image"]] for one in known])
        labels = [(names[one["label"]], names[one["predicted"]]) for one in known]
        figure = mistakes_figure(images, labels, [one["probability"] for one in known])
        words = "The worst mistakes, the surest first: the class, then what it was taken for, and how surely."
        pictures.append(Picture("mistakes", png_of(figure), ".png", words))
    return pictures
