"""What is computed of what was measured. Nothing here runs or reads anything."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt


def median(values: Sequence[float]) -> float:
    """Return the median of the values that are numbers; NaN of none."""
    known = [value for value in values if not math.isnan(value)]
    return statistics.median(known) if known else math.nan


def median_ratio(values: Sequence[float], others: Sequence[float]) -> float:
    """Return the median over repeats of each value divided by the other of the same repeat; NaN of none.

    Of pairs that were measured one after the other, so that a machine that gets slower meanwhile changes little.
    """
    return median([value / other for value, other in zip(values, others, strict=True)])


def slope(values: Sequence[float]) -> float:
    """Return by how much the values grow from one to the next, by least squares; NaN of fewer than two."""
    if len(values) < 2:
        return math.nan
    return float(np.polyfit(np.arange(len(values)), np.asarray(values, dtype=float), 1)[0])


def difference(values: Mapping[int, float], others: Mapping[int, float]) -> tuple[float, float]:
    """Return the mean difference of two results for each configuration, and its standard error; NaN of fewer than two.

    Args:
        values: a result for each configuration, by its number.
        others: what is compared with it; the numbers that both have count.
    """
    differences = [values[number] - others[number] for number in sorted(values.keys() & others.keys())]
    if len(differences) < 2:
        return math.nan, math.nan
    return statistics.mean(differences), statistics.stdev(differences) / math.sqrt(len(differences))


def layer_flops(kernel: Sequence[int], output: Sequence[int | None]) -> int:
    """Return the floating-point operations of a layer's forward pass for one image, a multiply-add being two.

    Args:
        kernel: the shape of its weights: `(in, out)` of a dense layer, `(height, width, in, out)` of a convolution.
        output: the shape of what it gives: `(batch, out)` or `(batch, height, width, out)`.
    """
    places = math.prod(size for size in output[1:-1] if size is not None)
    return 2 * math.prod(kernel) * places


def training_flops(forward: float) -> float:
    """Return the operations of a training step for one image: backward, both factors of each product are derived."""
    return 3.0 * forward


def table(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells as lines of aligned columns."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def shown(value: float, digits: int = 2) -> str:
    """Return a number for a table; `-` for one that is none."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def mean(values: Sequence[float] | npt.NDArray[np.float64]) -> float:
    """Return the mean; NaN of nothing."""
    return float(np.mean(values)) if len(values) else math.nan
