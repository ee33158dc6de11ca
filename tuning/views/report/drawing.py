"""The pictures of a study, through matplotlib's objects, without `pyplot`. No Keras.

Each function returns a figure, which a report writes and a notebook shows. The same trials make the same bytes.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from storage.errors import shown
from studies.findings.importance import Importances, evenly
from studies.objectives.objective import Objective
from studies.phases.known import searched_value
from studies.trials import values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

T = TypeVar("T")

KEPT, PRUNED, BEST, FAINT = "#2f6fb0", "#c9a27a", "#222222", "#8a8a8a"
WIDTH_IN = 7.6
DPI = 120
MOST_CURVES = 250
"""Of more trials, the best and as many others, evenly by number: a page of thousands of curves opens slowly."""
MOST_POINTS = 1_000
MOST_SLICES = 12
_LONGEST_NAME = 28


def svg_of(figure: Figure) -> bytes:
    """Return a figure as SVG: the same bytes each time, with its letters as text."""
    return _saved(figure, "svg", {"Date": None, "Creator": None})


def png_of(figure: Figure) -> bytes:
    """Return a figure as PNG: the same bytes each time."""
    return _saved(figure, "png", {"Software": None})


def _saved(figure: Figure, form: str, metadata: Mapping[str, None]) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "report", "svg.fonttype": "none"}):
        # A class may be named in a script that matplotlib's font lacks.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format=form, dpi=DPI, facecolor="white", metadata=dict(metadata))
    return buffer.getvalue()


def draw_history(trials: Sequence[FrozenTrial], objective: Objective) -> Figure:
    """Draw the best value of each trial by number, and the best so far.

    Args:
        trials: of the search.
        objective: of which they have values.
    """
    figure, axes = _axes(3.4)
    found = [(trial, searched_value(trial, objective)) for trial in trials]
    valued = [(trial, value) for trial, value in found if value is not None]
    points = evenly(valued, MOST_POINTS)
    for label, colour, marker, group in (
        ("trained to its end", KEPT, "o", [one for one in points if one[0].state == TrialState.COMPLETE]),
        ("pruned or frozen", PRUNED, "x", [one for one in points if one[0].state != TrialState.COMPLETE]),
    ):
        if group:
            numbers, values = [trial.number for trial, _ in group], [value for _, value in group]
            axes.plot(numbers, values, marker, color=colour, markersize=4, label=label, alpha=0.85)
    if valued:
        best = np.maximum.accumulate([objective.oriented(value) for _, value in valued])
        # Where it gets better, and its end.
        places = [0, *(np.flatnonzero(np.diff(best) > 0) + 1), len(best) - 1]
        numbers, so_far = [valued[place][0].number for place in places], objective.oriented(best[places])
        axes.step(numbers, so_far, where="post", color=BEST, linewidth=1, label="best so far")
    axes.set(xlabel="trial", ylabel=f"best {shown(objective.words)}")
    _whole_numbers(axes)
    _legend(axes, objective)
    return figure


def draw_curves(trials: Sequence[FrozenTrial], objective: Objective) -> Figure:
    """Draw the values of trials over the epochs: those that were kept, and those that were not.

    Args:
        trials: of the search.
        objective: of which they have values.
    """
    figure, axes = _axes(3.8)
    told = _shown_curves(trials, objective)
    best = min(told, key=lambda trial: _rank(trial, objective), default=None)
    for label, colour, width, group in (
        ("pruned or frozen", PRUNED, 0.9, [t for t in told if t.state != TrialState.COMPLETE]),
        ("trained to its end", KEPT, 1.2, [t for t in told if t.state == TrialState.COMPLETE and t is not best]),
        (f"the best: trial {best.number}" if best else "", BEST, 1.8, [best] if best else []),
    ):
        for place, trial in enumerate(group):
            curve = values_of(trial)
            mark = "o" if len(curve) == 1 else ""
            epochs = range(1, len(curve) + 1)
            axes.plot(epochs, curve, color=colour, linewidth=width, marker=mark, markersize=3, alpha=0.8,
                      label=None if place else label)  # fmt: skip
    axes.set(xlabel="epoch", ylabel=shown(objective.words))
    _whole_numbers(axes)
    _legend(axes, objective)
    return figure


def _rank(trial: FrozenTrial, objective: Objective) -> tuple[float, int]:
    return objective.rank(searched_value(trial, objective)), trial.number


def _shown_curves(trials: Sequence[FrozenTrial], objective: Objective) -> list[FrozenTrial]:
    told = [trial for trial in trials if values_of(trial) and trial.state != TrialState.FAIL]
    if len(told) <= MOST_CURVES:
        return told
    best = sorted(told, key=lambda trial: _rank(trial, objective))[: MOST_CURVES // 2]
    chosen = {trial.number: trial for trial in (*best, *evenly(told, MOST_CURVES // 2))}
    return [chosen[number] for number in sorted(chosen)]


def draw_importances(found: Importances) -> Figure:
    """Draw how important each hyperparameter is, with its interval."""
    names = [_short(one.name) for one in found.of]
    figure, axes = _axes(0.9 + 0.34 * len(names))
    shares = np.array([one.share for one in found.of])
    # A share may lie outside of where those of the resamples do.
    below = [max(0.0, one.share - one.low) for one in found.of]
    above = [max(0.0, one.high - one.share) for one in found.of]
    line = {"ecolor": BEST, "lw": 1, "capsize": 3}
    axes.barh(range(len(names)), shares, color=KEPT, height=0.62, xerr=[below, above], error_kw=line)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1)
    axes.set_xlabel(f"share of the importance, after epoch {found.epoch}")
    axes.grid(visible=False, axis="y")
    return figure


def draw_slices(trials: Sequence[FrozenTrial], objective: Objective, names: Sequence[str]) -> Figure:
    """Draw the best value of each trial over each of some hyperparameters.

    Args:
        trials: of the search.
        objective: of which they have values.
        names: of the hyperparameters; the first `MOST_SLICES` are drawn.
    """
    names = names[:MOST_SLICES]
    columns = min(3, max(1, len(names)))
    rows = -(-len(names) // columns)
    figure = _figure(WIDTH_IN, 2.5 * rows)
    found = [(trial, searched_value(trial, objective)) for trial in trials if trial.state != TrialState.FAIL]
    valued = evenly([(trial, value) for trial, value in found if value is not None], MOST_POINTS)
    for place, name in enumerate(names):
        axes = figure.add_subplot(rows, columns, place + 1)
        _style(axes)
        _draw_slice(axes, name, [one for one in valued if name in one[0].params])
        if place % columns == 0:
            axes.set_ylabel(f"best {shown(objective.heading)}", fontsize=8)
    return figure


def _draw_slice(axes: Axes, name: str, valued: Sequence[tuple[FrozenTrial, float]]) -> None:
    trials = [trial for trial, _ in valued]
    values = [trial.params[name] for trial in trials]
    distribution = trials[0].distributions[name] if trials else None
    if isinstance(distribution, CategoricalDistribution):
        words = [str(choice) for choice in distribution.choices]
        places: list[Any] = [distribution.to_internal_repr(value) for value in values]
        axes.set_xticks(range(len(words)), [_short(word) for word in words], parse_math=False,
                        rotation=30 if sum(map(len, words)) > 18 else 0)  # fmt: skip
        axes.set_xlim(-0.5, len(words) - 0.5)
    else:
        places = values
        if distribution is not None and getattr(distribution, "log", False):
            axes.set_xscale("log")
    colours = [KEPT if trial.state == TrialState.COMPLETE else PRUNED for trial in trials]
    axes.scatter(places, [value for _, value in valued], c=colours, s=14, alpha=0.8, linewidths=0)
    axes.set_xlabel(_short(name), fontsize=8, parse_math=False)
    axes.tick_params(labelsize=7)


def parameter_names(trials: Sequence[FrozenTrial], found: Importances | None = None) -> list[str]:
    """Return what trials searched, by importance where it is known, else in their order."""
    names = list(dict.fromkeys(name for trial in trials for name in trial.params))
    order = {one.name: place for place, one in enumerate(found.of)} if found is not None else {}
    return sorted(names, key=lambda name: order.get(name, len(order)))


def _short(name: str) -> str:
    words = shown(name)
    return words if len(words) <= _LONGEST_NAME else f"{words[: _LONGEST_NAME - 1]}…"


def _axes(height_in: float) -> tuple[Figure, Axes]:
    figure = _figure(WIDTH_IN, height_in)
    axes = figure.add_subplot()
    _style(axes)
    return figure, axes


def _figure(width_in: float, height_in: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained", dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def _style(axes: Axes) -> None:
    axes.grid(alpha=0.25)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors="#444444")


def _whole_numbers(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True, min_n_ticks=1, steps=[1, 2, 2.5, 5, 10]))


def _legend(axes: Axes, objective: Objective) -> None:
    if axes.get_legend_handles_labels()[1]:
        # Where the worst values are.
        axes.legend(fontsize=8, framealpha=0.85, loc="lower right" if objective.direction == "max" else "upper right")
