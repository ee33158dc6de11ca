"""Regret against worker-epochs as a picture: ``make bench-search DRAW=regret.png``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.search.measures import regrets
from tests.benchmarks.search.results import Result
from tests.benchmarks.search.tables import Table

POINTS = 200
FLOOR = 1e-3  # regret of 0 has no logarithm


def save(
    path: Path,
    results: Sequence[Result],
    tables: Mapping[str, Table],
    contestants: Sequence[str],
    workers: Sequence[int],
    budget: float,
) -> None:
    """Draw a panel for each number of workers: the median over all tables and seeds, and the middle half as a band.

    Args:
        path: the PNG.
        results: every study.
        tables: by name.
        contestants: one line each.
        workers: one panel each.
        budget: of a study, in R.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    at = np.geomspace(min(0.1, budget / 2), budget, POINTS)
    figure = Figure(figsize=(4.5 * len(workers), 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(1, len(workers), sharey=True))
    for panel, count in zip(panels, workers, strict=True):
        for name in contestants:
            low, middle, high = quartiles(results, tables, name, count, at)
            (line,) = panel.plot(at, np.maximum(middle, FLOOR), label=name)
            panel.fill_between(
                at, np.maximum(low, FLOOR), np.maximum(high, FLOOR), color=line.get_color(), alpha=0.12, linewidth=0
            )
        panel.set(xscale="log", yscale="log", title=f"{count} worker{'s' * (count > 1)}", xlabel="full trainings (R)")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("regret (1: median random configuration)")
    panels[0].legend(fontsize="small")
    figure.savefig(path, dpi=120)


def quartiles(
    results: Sequence[Result], tables: Mapping[str, Table], contestant: str, workers: int, at: np.ndarray
) -> np.ndarray:
    """Return the lower quartile, the median and the upper quartile (3, p) of regret after so many R (p,)."""
    curves = [
        regrets([result], tables[result.key.table], at)
        for result in results
        if result.key.contestant == contestant and result.key.workers == workers
    ]
    return np.asarray(np.nanquantile(np.concatenate(curves), [0.25, 0.5, 0.75], axis=0))
