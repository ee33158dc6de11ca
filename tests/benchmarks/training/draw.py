"""The best accuracy so far against seconds as a picture: ``make bench-training DRAW=training.png``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.benchmarks.training.outcomes import lowest_shown
from tests.benchmarks.training.results import Result


def save(path: Path, results: Sequence[Result]) -> None:
    """Draw a panel for each plan, with a line for each contestant.

    Args:
        path: the PNG.
        results: every run.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plans = list(dict.fromkeys(result.plan for result in results))
    figure = Figure(figsize=(5 * len(plans), 4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = np.atleast_1d(figure.subplots(1, len(plans)))
    for panel, plan in zip(panels, plans, strict=True):
        shown = [result for result in results if result.plan == plan and result.outcome.points]
        for result in shown:
            points, total_s = result.outcome.points, result.outcome.total_s
            seconds = [*(point.seconds for point in points), total_s]
            best = [*(point.best for point in points), result.outcome.best]
            panel.plot(seconds, best, drawstyle="steps-post", label=result.contestant)
        if shown:
            low = lowest_shown([result.outcome for result in shown])
            high = max(result.outcome.best for result in shown)
            panel.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-4)
        panel.set(xlim=(0, None), title=f"{plan.dataset}, {plan.budget} epochs", xlabel="seconds")
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("best validation accuracy so far")
    panels[0].legend(fontsize="small", loc="lower right")
    figure.savefig(path, dpi=120)
