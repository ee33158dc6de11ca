"""Pictures of a trial: its learning curve and its confusion matrix. No Keras.

Drawn through matplotlib's objects, without `pyplot`: no global figure, no window, safe in any thread. matplotlib itself
is imported when the first picture is drawn.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

DPI = 120
MOST_COUNTED_CLASSES = 20
"""With more classes the counts would be too small to read, and colours alone tell."""

_TRAINING, _VALIDATION, _BALANCED, _BEST, _FAINT = "#4c78a8", "#e45756", "#f2a65a", "#333333", "#9a9a9a"


def draw_learning_curve(
    history: Mapping[str, Sequence[float]],
    best_epoch: int | None,
    title: str,
    file: Path,
    *,
    balanced: bool = False,
) -> None:
    """Draw accuracy and loss over the epochs as a PNG.

    Args:
        history: `accuracy`, `val_accuracy`, `loss`, `val_loss` and `learning_rate`, one value for each epoch; what is
            missing is not drawn, nor are values that are not finite.
        best_epoch: the epoch, from 1, whose weights were kept; None if none were.
        title: stands above it.
        file: is written.
        balanced: whether `val_balanced_accuracy` is drawn beside the accuracies.

    Raises:
        OSError: the file cannot be written.
    """
    # Margins that are known beforehand: a layout that measures its texts draws twice, and every trial has this picture.
    figure = _figure(7.0, 6.0, layout=None)
    figure.subplots_adjust(left=0.11, right=0.89, top=0.93, bottom=0.08, hspace=0.15)
    above, below = figure.subplots(2, 1, sharex=True)
    figure.suptitle(title, fontsize=11, parse_math=False)
    if balanced:
        _draw_curve(above, history.get("val_balanced_accuracy", ()), "validation, balanced", _BALANCED)
    _draw_pair(above, history, "accuracy", best_epoch)
    _draw_pair(below, history, "loss", best_epoch)
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


def draw_confusion_matrix(confusion: npt.NDArray[np.integer[Any]], class_names: Sequence[str], file: Path) -> None:
    """Draw which classes are taken for which as a PNG.

    Args:
        confusion: see `confusion_figure`.
        class_names: likewise.
        file: is written.

    Raises:
        ValueError: `confusion` does not have one row and one column for each name.
        OSError: the file cannot be written.
    """
    _save(confusion_figure(confusion, class_names), file)


def confusion_figure(confusion: npt.NDArray[np.integer[Any]], class_names: Sequence[str]) -> Figure:
    """Return which classes are taken for which: colours are shares of the true class, numbers are images.

    Args:
        confusion: `(classes, classes)` counts, a row for each true class, a column for each predicted one.
        class_names: in the order of the rows.

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
    axes.set_xticks(range(classes), class_names, rotation=90 if classes > 10 else 45, fontsize=size, parse_math=False)
    if classes <= 10:
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
    axes.set_yticks(range(classes), class_names, fontsize=size, parse_math=False)
    axes.set(xlabel="predicted class", ylabel="true class")
    accuracy = confusion.trace() / max(confusion.sum(), 1)
    axes.set_title(f"{accuracy:.2%} of {confusion.sum():,} images", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8, pad=0.02)
    if counted:
        _write_counts(axes, confusion, shares)
    return figure


def _write_counts(axes: Axes, confusion: npt.NDArray[np.integer[Any]], shares: npt.NDArray[np.float64]) -> None:
    for row, column in zip(*np.nonzero(confusion), strict=True):
        colour = "white" if shares[row, column] > 0.35 else "black"
        axes.text(column, row, f"{confusion[row, column]}", ha="center", va="center", fontsize=7, color=colour)


def _square_root() -> PowerNorm:
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0.0, vmax=1.0)


def _figure(width_in: float, height_in: float, layout: Literal["constrained"] | None = "constrained") -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout=layout, dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, file: Path) -> None:
    with warnings.catch_warnings():
        # A study may be named in a script that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(file, format="png")
