"""Pictures are drawn for whatever a training or an evaluation can give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studies.datasets.registry import DATASETS
from tuning.pictures import Mistakes, draw_confusion_matrix, draw_learning_curve, draw_mistakes

HISTORY = {
    "accuracy": [0.5, 0.7, 0.9],
    "val_accuracy": [0.5, 0.8, 0.7],
    "loss": [2.0, 1.0, 0.5],
    "val_loss": [2.0, 0.9, 1.1],
    "learning_rate": [0.1, 0.05, 0.01],
}


def colours(file: Path) -> int:
    with Image.open(file) as image:
        assert image.format == "PNG"
        return len(image.convert("RGB").getcolors(1 << 20) or [])


@pytest.mark.parametrize("best_epoch", [2, None, 99])
def test_a_learning_curve_is_drawn_with_and_without_a_best_epoch(tmp_path: Path, best_epoch: int | None) -> None:
    draw_learning_curve(HISTORY, best_epoch, "mnist, trial 3", tmp_path / "curve.png")
    assert colours(tmp_path / "curve.png") > 20


def test_the_balanced_accuracy_is_drawn_where_that_is_asked_for(tmp_path: Path) -> None:
    history = {**HISTORY, "val_balanced_accuracy": [float("nan"), 0.4, 0.3]}
    for name, asked in (("with", True), ("without", False)):
        draw_learning_curve(history, 2, "", tmp_path / name, balanced=asked)
    draw_learning_curve(HISTORY, 2, "", tmp_path / "before")
    assert (tmp_path / "without").read_bytes() == (tmp_path / "before").read_bytes()
    assert (tmp_path / "with").read_bytes() != (tmp_path / "before").read_bytes()


def test_one_epoch_no_epoch_and_values_that_are_not_finite_are_drawn(tmp_path: Path) -> None:
    for number, history in enumerate(
        [
            {name: values[:1] for name, values in HISTORY.items()},
            {},
            {"loss": [1.0, float("nan"), float("inf")], "val_accuracy": [0.1]},
        ]
    ):
        draw_learning_curve(history, 1, "", tmp_path / f"{number}.png")
        assert colours(tmp_path / f"{number}.png") > 2


def test_a_title_is_no_formula(tmp_path: Path) -> None:
    draw_learning_curve(HISTORY, 1, "cost $x_{ study 数字", tmp_path / "curve.png")


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_a_confusion_matrix_is_drawn_for_few_and_for_many_classes(tmp_path: Path, name: str) -> None:
    names = DATASETS[name].class_names
    confusion = np.diag(np.full(len(names), 90))
    confusion[0, 1:3] = 5
    confusion[2] = 0  # a class without an image
    draw_confusion_matrix(confusion, names, tmp_path / "confusion.png")
    assert colours(tmp_path / "confusion.png") > 20


def test_a_confusion_matrix_of_another_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 classes"):
        draw_confusion_matrix(np.eye(2, dtype=np.int64), ["a", "b", "c"], tmp_path / "confusion.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_importing_what_needs_no_keras_brings_neither_keras_nor_matplotlib() -> None:
    commands = ("status", "dashboard")
    bundles = ("images", "bundle", "checking", "choice", "converting", "export", "judge", "loading", "predict")
    modules = ", ".join(
        ["tuning.pictures", *(f"tuning.commands.{it}" for it in commands), *(f"tuning.bundles.{it}" for it in bundles)]
    )
    heavy = "'keras', 'tensorflow', 'matplotlib', 'pandas'"
    code = f"import sys, {modules}; print([m for m in ({heavy}) if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("count", "channels"), [(1, 3), (18, 1)])
def test_the_worst_mistakes_are_drawn_in_their_colours(tmp_path: Path, count: int, channels: int) -> None:
    red = np.zeros((count, 8, 12, channels), np.uint8)
    red[..., 0] = 255
    names = ["a $class_{ of a long name", "数字"]
    drawn = Mistakes(np.eye(2, dtype=np.int64), names, red, [(0, 1)] * count, [0.999] * count)
    draw_mistakes(drawn, tmp_path / "mistakes.png")
    with Image.open(tmp_path / "mistakes.png") as picture:
        found = {colour: times for times, colour in picture.convert("RGB").getcolors(1 << 20) or []}
    pixels = found[(255, 0, 0) if channels == 3 else (255, 255, 255)]
    assert pixels > count * 1_000
