"""Pictures that are in no data set, classified by an exported model.

It is asked in a process of its own, so that whoever asks needs no Keras, and on the CPU: for a few pictures that is
faster than starting a GPU, and takes no memory from a study.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.progress_bar import ProgressBar
from rich.table import Table

from storage.errors import BadInput
from storage.settings import Home
from tuning.bundles.bundle import Bundle, open_bundle
from tuning.bundles.images import load_image
from tuning.tasks import Failed, Judge, PredictTask

MOST_CLASSES = 5
"""So many of the most probable classes are named."""


class Guess(TypedDict):
    """A class and its probability, 0..1."""

    label: str
    probability: float


class Prediction(TypedDict):
    """What a picture shows: the most probable classes, best first."""

    image: str
    classes: list[Guess]


def bundle_folder(home: Home, study: str | None, model: Path | None, uid: str = "") -> Path:
    """Return the folder of the bundle that a command line names, by study or by folder.

    Args:
        home: where the studies' bundles are.
        study: the study's name.
        model: the folder.
        uid: the study's, where its database is at hand; without it, its name alone counts.

    Raises:
        BadInput: both are given or none is, or the study has not been exported.
    """
    if (study is None) == (model is None):
        raise BadInput("give either --study S, for the model that was exported from it, or --model DIR.")
    if model is not None:
        return model.expanduser()
    assert study is not None
    folder = home.exported(study, uid)
    if folder is None:
        there = home.export(study, uid)
        then = f"Run: make export STUDY={shlex.quote(study)}"
        raise BadInput(f"study {study!r} has not been exported: there is no {there}. {then}")
    return folder


def predict(folder: Path, images: Sequence[Path], *, run_code: bool = False) -> list[Prediction]:
    """Return what pictures show, in their order.

    Args:
        folder: a bundle's.
        images: the pictures' files, of any size, see `tuning.bundles.images`.
        run_code: whether code in the bundle may be run, where the model is built by a user's file.

    Raises:
        BadInput: there is no bundle or it is damaged, its code would have to be run, no picture is given, or one cannot
            be read. Nothing is predicted then.
    """
    if not images:
        raise BadInput("no picture is given. Give the path of one or more.")
    bundle = open_bundle(folder)
    if bundle.code is not None and not run_code:
        raise BadInput(
            f"the model in {folder} is built by code in it, {bundle.code.path}, which is run only if you say so. Read"
            " it, then give --run-code (make: RUN_CODE=1)."
        )
    # Before Keras is imported: a mistyped path is told at once.
    pixels = np.stack([load_image(file, bundle.shape, bundle.preparation, bundle.fit) for file in images])
    if bundle.code is not None:
        print(f"running {bundle.code}, as exported: {bundle.code.name}", file=sys.stderr)
    probabilities = _probabilities(bundle, pixels)
    return [
        Prediction(image=str(file), classes=_most_probable(row, bundle.class_names))
        for file, row in zip(images, probabilities, strict=True)
    ]


def show_predictions(predictions: list[Prediction], *, as_json: bool = False) -> None:
    """Print predictions to stdout, as a table with bars or as JSON."""
    if as_json:
        sys.stdout.write(json.dumps(predictions, indent=2, allow_nan=False) + "\n")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("image", "class"):
        table.add_column(heading, overflow="fold")
    table.add_column("probability", justify="right", no_wrap=True)
    table.add_column()
    for prediction in predictions:
        for place, guess in enumerate(prediction["classes"]):
            p = guess["probability"]
            image = prediction["image"] if place == 0 else ""
            table.add_row(image, guess["label"], f"{p:.1%}", ProgressBar(total=1.0, completed=p, width=20))
    Console(file=sys.stdout, markup=False, highlight=False, emoji=False).print(table)


def _most_probable(row: npt.NDArray[Any], names: Sequence[str]) -> list[Guess]:
    order = np.argsort(-row, kind="stable")[:MOST_CLASSES]
    return [Guess(label=names[index], probability=float(row[index])) for index in order]


def _probabilities(bundle: Bundle, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    on_cpu = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}
    environ = {name: os.environ.get(name, value) for name, value in on_cpu.items()}
    with tempfile.TemporaryDirectory() as folder, Judge(environ) as judge:
        images = Path(folder, "images.npy")
        np.save(images, pixels)
        task = PredictTask(do="predict", model=str(bundle.model), building=bundle.building, images=str(images))
        answer = next(judge.ask(task), Failed(error="no answer"))
    if "error" in answer:
        raise BadInput(str(answer["error"]))
    assert "predicted" in answer
    return np.array(answer["predicted"])
