"""Pictures of a trial: its learning curve, its confusion matrix and its worst mistakes. No Keras.

Drawn through matplotlib's objects, without `pyplot`: no global figure, no window, safe in any thread. matplotlib itself
is imported when the first picture is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

DPI = 120
MOST_COUNTED_CLASSES = 20
"""With more classes the counts would be too small to read, and colours alone tell."""
MOST_DRAWN_CLASSES = 200
"""With more classes not even the colours can be told apart."""
_LONGEST_LABEL = 16
_LEVEL_LABEL = 3
"""Longer names than these digits are turned, to have room beside each other."""

_TRAINING, _VALIDATION, _BALANCED, _BEST, _FAINT = "#4c78a8", "#e45756", "#f2a65a", "#333333", "#9a9a9a"


def draw_learning_curve(
    history: Mapping[str, Sequence[float]],
    best_epoch: int | None,
    title: str,
    file: Path,
    *,
    balanced: bool = False,
    also: str = "val_accuracy",
) -> None:
    """Draw accuracy and loss over the epochs as a PNG.

    Args:
        history: `accuracy`, `val_accuracy`, `loss`, `val_loss` and `learning_rate`, one value for each epoch; what is
            missing is not drawn, nor are values that are not finite.
        best_epoch: the epoch, from 1, whose weights were kept; None if none were.
        title: stands above it.
        file: is written.
        balanced: whether `val_balanced_accuracy` is drawn beside the accuracies.
        also: the name of another curve that is drawn, in a picture of its own where it is none of these.

    Raises:
        OSError: the file cannot be written.
    """
    # Margins that are known beforehand: a layout that measures its texts draws twice, and every trial has this picture.
    metrics = list(dict.fromkeys(["accuracy", also.removeprefix("val_"), "loss"]))
    figure = _figure(7.0, 3.0 * len(metrics), margins_known=True)
    figure.subplots_adjust(left=0.11, right=0.89, top=0.93, bottom=0.08, hspace=0.15)
    above, *between, below = figure.subplots(len(metrics), 1, sharex=True)
    figure.suptitle(title, fontsize=11, parse_math=False)
    if balanced:
        _draw_curve(above, history.get("val_balanced_accuracy", ()), "validation, balanced", _BALANCED)
    _draw_pair(above, history, "accuracy", best_epoch)
    for axes, metric in zip([*between, below], metrics[1:], strict=True):
        _draw_pair(axes, history, metric, best_epoch)
    above.yaxis.set_major_formatter(lambda value, _: f"{value:.4g}")
    if history.get("learning_rate"):
        _draw_learning_rate(below, history["learning_rate"])
    below.set_xlabel("epoch")
    below.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    below.set_xlim(0.5, max(map(len, history.values()), default=1) + 0.5)
    _save(figure, file)


def _draw_pair(axes: Axes, history: Mapping[str, Sequence[float]], name: str, best_epoch: int | None) -> None:
    for key, label, colour in ((name, "training", _TRAINING), (f"val_{name}", "validation", _VALIDATION)):
        _draw_curve(axes, history.get(key, ()), label, colour)
    validation = history.get(f"val_{name}", ())
    if best_epoch is not None and 1 <= best_epoch <= len(validation):
        best = float(validation[best_epoch - 1])
        axes.axvline(best_epoch, color=_BEST, linewidth=0.8, linestyle=":")
        label = f"kept: epoch {best_epoch}, {best:.4f}"
        axes.plot(
            [best_epoch], [best], color=_BEST, marker="*", markersize=9, fillstyle="none", linestyle="", label=label
        )
    axes.set_ylabel(name)
    axes.grid(alpha=0.25)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=8, framealpha=0.8)


def _draw_curve(axes: Axes, curve: Sequence[float], label: str, colour: str) -> None:
    values = [float(value) for value in curve]
    if values:
        marker = "o" if len(values) <= 30 else ""
        axes.plot(range(1, len(values) + 1), values, color=colour, label=label, marker=marker, markersize=3)


def _draw_learning_rate(axes: Axes, rates: Sequence[float]) -> None:
    beside = axes.twinx()
    beside.plot(range(1, len(rates) + 1), rates, color=_FAINT, linewidth=0.9, linestyle="--", alpha=0.7)
    beside.set_ylabel("learning rate (dashed)", color=_FAINT, fontsize=8)
    beside.tick_params(axis="y", colors=_FAINT, labelsize=7)
    beside.set_ylim(bottom=0)
    # The losses stay in front of it.
    axes.set_zorder(beside.get_zorder() + 1)
    axes.patch.set_visible(False)


def draw_confusion_matrix(
    confusion: npt.NDArray[np.integer[Any]], class_names: Sequence[str], file: Path, images: str = "images"
) -> None:
    """Draw which classes are taken for which as a PNG.

    Args:
        confusion: see `confusion_figure`.
        class_names: likewise.
        file: is written.
        images: see `confusion_figure`.

    Raises:
        ValueError: `confusion` does not have one row and one column for each name.
        OSError: the file cannot be written.
    """
    _save(confusion_figure(confusion, class_names, images), file)


def confusion_figure(
    confusion: npt.NDArray[np.integer[Any]], class_names: Sequence[str], images: str = "images"
) -> Figure:
    """Return which classes are taken for which: colours are shares of the true class, numbers are images.

    Args:
        confusion: `(classes, classes)` counts, a row for each true class, a column for each predicted one.
        class_names: in the order of the rows.
        images: what was classified, in words.

    Raises:
        ValueError: `confusion` does not have one row and one column for each name.
    """
    classes = len(class_names)
    if confusion.shape != (classes, classes):
        raise ValueError(f"{classes} classes need a square of as many counts. Received: {confusion.shape}")
    counted = classes <= MOST_COUNTED_CLASSES
    # Inches: a cell with a count takes more room than a bare one, and the names take the same everywhere.
    side = max(5.0, (0.55 if counted else 0.125) * classes + 2.2)
    figure = _figure(side, side * 0.9)
    axes = figure.subplots()
    shares = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    # The square root lets one error in a hundred be seen beside ninety hits.
    image = axes.imshow(shares, cmap="Blues", norm=_square_root())
    size = 8 if counted else 6
    rotation = 0 if counted and max(map(len, class_names)) <= _LEVEL_LABEL else 90 if classes > 10 else 45
    axes.set_xticks(range(classes), class_names, rotation=rotation, fontsize=size, parse_math=False)
    if rotation == 45:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), class_names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    accuracy = confusion.trace() / max(confusion.sum(), 1)
    axes.set_title(f"{accuracy:.2%} of {confusion.sum():,} {images}", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, pad=0.02)
    if counted:
        _write_counts(axes, confusion, shares)
    return figure


def _write_counts(axes: Axes, confusion: npt.NDArray[np.integer[Any]], shares: npt.NDArray[np.float64]) -> None:
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if shares[row, column] > 0.35 else "black"
        axes.text(column, row, f"{confusion[row, column]}", ha="center", va="center", fontsize=7, color=colour)


@dataclass(frozen=True)
class Mistakes:
    """What a classifier takes for what on the validation images.

    Attributes:
        confusion: `(classes, classes)` counts, a row for each true class, a column for each predicted one.
        class_names: in the order of the rows.
        images: `(n, height, width, channels)` uint8, the worst mistakes, the surest first; none where the
            data are no pictures.
        labels: `(n,)`, the class of each, and what it was taken for.
        probabilities: `(n,)`, how sure that was, 0..1.
    """

    confusion: npt.NDArray[np.int64]
    class_names: Sequence[str]
    images: npt.NDArray[np.uint8]
    labels: Sequence[tuple[int, int]]
    probabilities: Sequence[float]


def draw_mistakes(mistakes: Mistakes, file: Path) -> None:
    """Draw the worst mistakes as a PNG.

    Args:
        mistakes: with pictures.
        file: is written.

    Raises:
        OSError: the file cannot be written.
    """
    names = mistakes.class_names
    labels = [(names[true], names[said]) for true, said in mistakes.labels]
    _save(mistakes_figure(mistakes.images, labels, mistakes.probabilities), file)


def mistakes_figure(images: npt.NDArray[np.uint8], labels: Sequence[tuple[str, str]], sure: Sequence[float]) -> Figure:
    """Return pictures side by side, and below each its class, what it was taken for and how surely.

    Args:
        images: `(n, height, width, channels)`, one at least.
        labels: `(n,)`, both names of each.
        sure: `(n,)` probabilities.
    """
    columns = min(6, len(labels))
    rows = -(-len(labels) // columns)
    # One system of axes for all of them: each would cost as much as everything in it.
    width, height = 1.2, 1.0 + 0.42
    figure = _figure(1.22 * columns, 1.22 * rows * height / width, margins_known=True)
    axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
    axes.set_axis_off()
    for place, (image, (true, said), probability) in enumerate(zip(images, labels, sure, strict=True)):
        row, column = divmod(place, columns)
        middle, bottom = (column + 0.5) * width, row * height + 1.04
        tall, wide = np.array(image.shape[:2]) / max(image.shape[:2])
        pixels = image[..., 0] if image.shape[-1] == 1 else image
        extent = (middle - wide / 2, middle + wide / 2, bottom, bottom - tall)
        axes.imshow(pixels, cmap="gray", vmin=0, vmax=255, interpolation="nearest", extent=extent)
        words = f"{_short(true)}\nas {_short(said)} {probability:.0%}"
        axes.text(middle, bottom + 0.03, words, ha="center", va="top", fontsize=7, parse_math=False)
    axes.set(xlim=(0.0, columns * width), ylim=(rows * height, 0.0), aspect="auto")
    return figure


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST_LABEL else f"{name[: _LONGEST_LABEL - 1]}…"


def _square_root() -> PowerNorm:
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0.0, vmax=1.0)


def _figure(width_in: float, height_in: float, *, margins_known: bool = False) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = None if margins_known else ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.08)
    figure = Figure(figsize=(width_in, height_in), layout=layout, dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, file: Path) -> None:
    with warnings.catch_warnings():
        # A study may be named in a script that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png")
