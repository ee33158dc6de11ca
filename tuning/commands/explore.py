"""A data set in pictures: class balance, samples, pixel values, mean images. The training split only."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from storage.errors import disk_error, shown
from studies.datasets.prepared import PreparedDataset
from studies.datasets.splits import channel_histograms, histogram_statistics
from studies.suited import held_out_to_test

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Pixels = npt.NDArray[np.uint8]

_ROWS_PER_PANEL = 25
_MEAN_COLUMNS = 10
MOST_GLANCED_CLASSES = 100
"""With more, a picture of them all is larger than a page."""

_DPI = 120
_INK, _BAR, _MUTED = "#222222", "#4477aa", "#888888"
_CHANNELS = {1: (("grey", "#444444"),), 3: (("red", "#cc3311"), ("green", "#228833"), ("blue", "#4477aa"))}


@dataclass(frozen=True)
class _Summary:
    """What one pass over the training split tells.

    Attributes:
        counts: images per class, ``(classes,)``.
        histograms: counts of pixel values, ``(channels, 256)``.
        means: the mean image of each class, float64 from 0 to 255, ``(classes, height, width, channels)``.
    """

    counts: npt.NDArray[np.int64]
    histograms: npt.NDArray[np.int64]
    means: npt.NDArray[np.float64]


def explore(dataset: PreparedDataset, folder: Path) -> list[Path]:
    """Draw the training split and write its statistics.

    Args:
        dataset: what to look at.
        folder: where the files are written; made if it is not there.

    Returns:
        The files: four PNGs, of arrays that are no pictures one, and ``statistics.json``.

    Raises:
        BadInput: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return _write(dataset, folder)
    except OSError as error:
        raise disk_error(error, f"cannot write to {folder}", "Give a folder that can be.") from error


def glance(dataset: PreparedDataset) -> dict[str, tuple[Figure, str]]:
    """Draw what is seen of a data set at a glance, without reading all its pixels.

    Args:
        dataset: what to look at.

    Returns:
        `classes` and, of pictures, `samples`: each with what it shows. Of more than `MOST_GLANCED_CLASSES` nothing.
    """
    if len(dataset.info.class_names) > MOST_GLANCED_CLASSES:
        return {}
    labels = _labels(dataset)
    counts = np.bincount(labels[labels >= 0], minlength=len(dataset.info.class_names))
    summary = _Summary(counts, np.zeros((0, 256), np.int64), np.zeros((0, 0, 0, 0)))
    drawn = {"classes": (_class_balance(dataset, summary), "How many training images each class has.")}
    if dataset.info.is_picture:
        drawn["samples"] = (_samples(dataset, labels), "The first images of each class; nobody has chosen them.")
    return drawn


def _labels(dataset: PreparedDataset) -> npt.NDArray[np.int64]:
    """Return the training labels; -1 of what a study would split off to test on, which is not looked at either."""
    return np.where(_looked_at(dataset), dataset.train_labels, -1)


def _write(dataset: PreparedDataset, folder: Path) -> list[Path]:
    labels = _labels(dataset)
    summary = _summarise(dataset, labels)
    figures = {"class_balance.png": _class_balance(dataset, summary)}
    if dataset.info.is_picture:
        figures |= {
            "samples.png": _samples(dataset, labels),
            "pixel_values.png": _pixel_values(dataset, summary),
            "class_means.png": _class_means(dataset, summary),
        }
    for name, figure in figures.items():
        figure.savefig(folder / name, dpi=_DPI, facecolor="white")
    statistics = json.dumps(_statistics(dataset, summary), indent=1)
    (folder / "statistics.json").write_text(statistics + "\n", encoding="utf-8")
    return [folder / name for name in (*figures, "statistics.json")]


def _looked_at(dataset: PreparedDataset) -> npt.NDArray[np.bool_]:
    held_out = held_out_to_test(dataset)
    mask = np.ones(dataset.info.images("train"), dtype=bool)
    mask[held_out] = False
    return mask


def _summarise(dataset: PreparedDataset, labels: npt.NDArray[np.int64]) -> _Summary:
    images, classes = dataset.train_images, len(dataset.info.class_names)
    shown = np.flatnonzero(labels >= 0)
    counts = np.bincount(labels[shown], minlength=classes)
    if not dataset.info.is_picture:
        return _Summary(counts, np.zeros((0, 256), np.int64), np.zeros((classes, 0, 0, 0)))
    # Of one class at a time: memory stays at the images of the largest class.
    sums = np.stack([images[labels == label].sum(axis=0, dtype=np.int64) for label in range(classes)])
    means = sums / np.maximum(counts, 1)[:, np.newaxis, np.newaxis, np.newaxis]
    return _Summary(counts, channel_histograms(images, shown), means)


def _statistics(dataset: PreparedDataset, summary: _Summary) -> dict[str, object]:
    """Return what ``statistics.json`` holds; pixel units from 0 to 255, one value per channel."""
    statistics: dict[str, object] = {
        "name": dataset.info.name,
        "split": "train",
        "images": int(summary.counts.sum()),
        "shape": list(dataset.info.shape),
        "counts": dict(zip(dataset.info.class_names, summary.counts.tolist(), strict=True)),
    }
    if dataset.info.is_picture:
        mean, std = histogram_statistics(summary.histograms)
        statistics |= {
            "mean": list(mean),
            "std": list(std),
            "min": [int(np.flatnonzero(channel)[0]) for channel in summary.histograms],
            "max": [int(np.flatnonzero(channel)[-1]) for channel in summary.histograms],
        }
    return statistics


def _panels(dataset: PreparedDataset, title: str, width: float) -> list[tuple[Axes, range]]:
    """Return one axes per block of classes, side by side; each is ``width`` inches wide."""
    classes = len(dataset.info.class_names)
    columns = math.ceil(classes / _ROWS_PER_PANEL)
    rows = math.ceil(classes / columns)
    figure = _figure(dataset, title, (width * columns, 1.0 + (0.42 if columns == 1 else 0.36) * rows))
    blocks = [range(start, min(start + rows, classes)) for start in range(0, classes, rows)]
    return [(figure.add_subplot(1, columns, column + 1), block) for column, block in enumerate(blocks)]


def _class_balance(dataset: PreparedDataset, summary: _Summary) -> Figure:
    panels = _panels(
        dataset, "images per class", width=8.0 if len(dataset.info.class_names) <= _ROWS_PER_PANEL else 3.6
    )
    longest = int(summary.counts.max())
    for axes, block in panels:
        counts = summary.counts[block.start : block.stop]
        bars = axes.barh(range(len(block)), counts, color=_BAR, height=0.72)
        axes.bar_label(bars, labels=[f"{count:,}" for count in counts], padding=3, fontsize=8, color=_INK)
        axes.set_xlim(0, longest * 1.18)
        axes.set_xticks([])
        _name_rows(axes, dataset, block)
        axes.set_ylim(len(block) - 0.4, -0.6)
    return _figure_of(panels)


def _samples(dataset: PreparedDataset, labels: npt.NDArray[np.int64]) -> Figure:
    """One row of images per class, the first of the file: nobody has chosen them."""
    single = len(dataset.info.class_names) <= _ROWS_PER_PANEL
    per_class = 14 if single else 6
    panels = _panels(dataset, "samples of each class", width=8.0 if single else 3.8)
    for axes, block in panels:
        rows = [_strip(dataset, np.flatnonzero(labels == label)[:per_class], per_class) for label in block]
        mosaic = np.concatenate(rows)
        step = mosaic.shape[0] // len(block)
        _show(axes, mosaic)
        _name_rows(axes, dataset, block, centres=[(row + 0.5) * step - 0.5 for row in range(len(block))])
    return _figure_of(panels)


def _strip(dataset: PreparedDataset, indices: npt.NDArray[np.int64], length: int) -> Pixels:
    """Return images side by side with a white margin, ``(height + 2, length * (width + 2), channels)``."""
    height, width, channels = dataset.info.shape
    strip = np.full((height + 2, length * (width + 2), channels), 255, dtype=np.uint8)
    for column, image in enumerate(dataset.train_images[indices]):
        left = column * (width + 2) + 1
        strip[1 : height + 1, left : left + width] = image
    return strip


def _pixel_values(dataset: PreparedDataset, summary: _Summary) -> Figure:
    figure = _figure(dataset, "pixel values", (8.0, 4.2))
    axes = figure.add_subplot()
    mean, std = histogram_statistics(summary.histograms)
    shares = 100 * summary.histograms / summary.histograms.sum(axis=1, keepdims=True)
    for (name, color), share, centre, spread in zip(_CHANNELS[dataset.info.shape[2]], shares, mean, std, strict=True):
        axes.stairs(share, np.arange(257) - 0.5, color=color, label=f"{name}: mean {centre:.1f}, std {spread:.1f}")
        axes.stairs(share, np.arange(257) - 0.5, color=color, fill=True, alpha=0.12)
    # Digits and clothes are mostly background: on a linear axis that one bar would hide all others.
    if shares.max() > 10:
        axes.set_yscale("log")
    axes.set_xlim(-0.5, 255.5)
    axes.set_xticks([0, 32, 64, 96, 128, 160, 192, 224, 255])
    axes.set_xlabel("pixel value")
    axes.set_ylabel("share of pixels (%)")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _class_means(dataset: PreparedDataset, summary: _Summary) -> Figure:
    names = dataset.info.class_names
    columns = min(_MEAN_COLUMNS if len(names) > _ROWS_PER_PANEL else 5, len(names))
    rows = math.ceil(len(names) / columns)
    size = 1.15 if len(names) > _ROWS_PER_PANEL else 1.7
    figure = _figure(dataset, "mean image of each class", (size * columns, 0.6 + (size + 0.15) * rows))
    for index, (name, image) in enumerate(zip(names, summary.means, strict=True)):
        axes = figure.add_subplot(rows, columns, index + 1)
        _show(axes, np.rint(image).astype(np.uint8))
        axes.set_title(_spaced(name), fontsize=8, color=_INK, pad=3, parse_math=False)
        axes.set_yticks([])
    return figure


def _figure(dataset: PreparedDataset, title: str, size_inches: tuple[float, float]) -> Figure:
    # The figure alone, without pyplot: no global state, no window, and it is freed like any object.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=size_inches, layout="constrained")
    FigureCanvasAgg(figure)
    images = dataset.info.images("train") - len(held_out_to_test(dataset))
    figure.suptitle(f"{dataset.info.title}: {title}", fontsize=12, color=_INK, parse_math=False)
    figure.supxlabel(f"training split, {images:,} images", fontsize=8, color=_MUTED)
    return figure


def _figure_of(panels: list[tuple[Axes, range]]) -> Figure:
    figure = panels[0][0].get_figure(root=True)
    if figure is None:
        raise TypeError("the axes have lost their figure")
    return figure


def _show(axes: Axes, pixels: Pixels) -> None:
    shown = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    axes.imshow(shown, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axes.set_xticks([])
    axes.spines[:].set_visible(False)


def _name_rows(axes: Axes, dataset: PreparedDataset, block: range, centres: list[float] | None = None) -> None:
    names = [_spaced(dataset.info.class_names[label]) for label in block]
    axes.set_yticks(range(len(block)) if centres is None else centres, names, fontsize=9, color=_INK, parse_math=False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


def _spaced(name: str) -> str:
    return shown(name.replace("_", " "))
