"""Plots of ours that the dashboard's page shows beside its own, made of what is kept of a study. None is stored.

The page draws what plotly takes, and asks for all of it again whenever anything of the study changed: so of many trials
some are drawn, and numbers have the digits that are seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from heapq import nlargest
from typing import Any, Final, NamedTuple

import numpy as np
from optuna.trial import TrialState

from storage import attributes
from studies.findings.importance import evenly
from tuning.commands.dashboard.reads.shown_trial import ShownTrial

MOST_POINTS: Final = 300
MOST_CURVES: Final = 60
MOST_CURVE_POINTS: Final = 40
"""Of a longer curve, as many of its values are drawn, evenly."""
MOST_TIMED: Final = 100
"""So many trials, the newest, have their times drawn: as many as the page's own timeline has."""
LEAST_RANKED: Final = 3

Plot = dict[str, Any]


class _Kind(NamedTuple):
    """A group of trials that are drawn alike."""

    name: str
    colour: str
    holds: Callable[[ShownTrial], bool]


def _searched(state: TrialState) -> Callable[[ShownTrial], bool]:
    return lambda trial: trial.phase == attributes.SEARCH and trial.state == state


_KINDS: Final = (
    _Kind("pruned", "#c9a27a", _searched(TrialState.PRUNED)),
    _Kind("frozen or waiting", "#8aa9c9", _searched(TrialState.WAITING)),
    _Kind("running", "#59a14f", _searched(TrialState.RUNNING)),
    _Kind("trained to its end", "#2f6fb0", _searched(TrialState.COMPLETE)),
    _Kind("confirms another", "#b07aa1", lambda trial: trial.phase == "confirm"),
    _Kind("the winner, refitted", "#d1495b", lambda trial: trial.phase == "refit"),
)


class Plots:
    """The plots of one study.

    Args:
        trials: its trials.
        measured: what their values are, in words.
        maximize: whether a larger value is a better one.
        now: seconds since 1970; what runs has trained until then.
    """

    def __init__(self, trials: Sequence[ShownTrial], measured: str, *, maximize: bool, now: float) -> None:
        self._told = [trial for trial in trials if trial.reported and trial.state != TrialState.FAIL]
        self._trials = trials
        self._measured = measured
        self._best: Callable[[Iterable[float]], float] = max if maximize else min
        self._sign = 1 if maximize else -1
        self._now = now

    def all(self) -> dict[str, Plot]:
        """Return those of which there is something to see, by their ids."""
        if not self._told:
            return {}
        drawn = {
            "tuning-curves": self._curves(),
            "tuning-seconds": self._seconds(),
            "tuning-times": self._times(),
            "tuning-ranks": self._ranks(),
        }
        return {name: plot for name, plot in drawn.items() if plot is not None}

    def _curves(self) -> Plot:
        """The values of the search's trials over the epochs: those that were kept, and those that were not."""
        traces = []
        searched = [trial for trial in self._told if trial.phase == attributes.SEARCH]
        for kind, trials in _grouped(self._chosen(searched, MOST_CURVES)):
            x: list[int | None] = []
            y: list[float | None] = []
            text: list[str] = []
            for trial in trials:
                points = evenly(list(enumerate(trial.reported, start=1)), MOST_CURVE_POINTS)
                x += [*(epoch for epoch, _ in points), None]
                y += [*(_digits(value) for _, value in points), None]
                text += [str(trial.number)] * (len(points) + 1)
            line = {"color": kind.colour, "width": 1.5}
            look = {"mode": "lines+markers", "line": line, "marker": {"size": 4}, "connectgaps": False}
            traces.append(_trace(kind, x, y, text, "epoch %{x}: %{y}") | look)
        return _plot("Kept and pruned curves", "epoch", self._measured, traces)

    def _seconds(self) -> Plot | None:
        """The best value of each trial over the time that it trained."""
        told = self._chosen([trial for trial in self._told if trial.seconds], MOST_POINTS)
        traces = []
        for kind, trials in _grouped(told):
            x = [_digits(trial.seconds or 0.0) for trial in trials]
            y = [_digits(self._best_of(trial)) for trial in trials]
            look = {"mode": "markers", "marker": {"color": kind.colour, "size": 7}}
            traces.append(_trace(kind, x, y, [str(trial.number) for trial in trials], "%{y} in %{x} s") | look)
        if not traces:
            return None
        plot = _plot(f"{_capital(self._measured)} against training", "seconds of training", self._measured, traces)
        plot["layout"]["xaxis"] |= {"type": "log", "tickmode": "array", "tickvals": _SECONDS, "ticktext": _SECONDS}
        plot["layout"]["yaxis"]["title"]["text"] = f"best {self._measured}"
        return plot

    def _ranks(self) -> Plot | None:
        """Where a trial stood after its first epoch and where it ended, among those that went further."""
        further = [one for one in self._told if len(one.reported) > 1 and one.phase == attributes.SEARCH]
        told = self._chosen([one for one in further if math.isfinite(one.reported[0])], MOST_POINTS)
        if len(told) < LEAST_RANKED:
            return None
        first = _ranked([self._sign * trial.reported[0] for trial in told])
        last = _ranked([self._sign * self._best_of(trial) for trial in told])
        places = {trial.number: place for place, trial in enumerate(told)}
        ends = {"x": [1, len(told)], "y": [1, len(told)], "mode": "lines", "line": {"color": _FAINT, "dash": "dot"}}
        traces: list[dict[str, Any]] = [{**ends, "showlegend": False, "hoverinfo": "skip"}]
        for kind, trials in _grouped(told):
            x, y = ([ranks[places[trial.number]] for trial in trials] for ranks in (first, last))
            look = {"mode": "markers", "marker": {"color": kind.colour, "size": 7}}
            said = "from place %{x} to %{y}"
            traces.append(_trace(kind, x, y, [str(trial.number) for trial in trials], said) | look)
        agree = np.corrcoef(first, last)[0, 1]
        return _plot(f"Rank at first and in the end: r = {agree:.2f}", "rank after epoch 1", "rank in the end", traces)

    def _times(self) -> Plot | None:
        """When each trial trained: frozen and thawed, it has several stretches."""
        traces = []
        spans = {one.number: found for one in self._trials[-MOST_TIMED:] if (found := one.worked.spans())}
        timed = [one for one in self._trials[-MOST_TIMED:] if one.number in spans]
        for kind, trials in _grouped(timed):
            stretches = [
                (one.number, begun, min(until, self._now)) for one in trials for begun, until in spans[one.number]
            ]
            known = {
                "type": "bar",
                "orientation": "h",
                "width": 0.8,
                "name": kind.name,
                "marker": {"color": kind.colour},
                "base": [datetime.fromtimestamp(begun).isoformat(timespec="milliseconds") for _, begun, _ in stretches],
                "x": [max(1, round(1000 * (until - begun))) for _, begun, until in stretches],
                "y": [number for number, _, _ in stretches],
                "hovertemplate": "trial %{y}, from %{base}<extra></extra>",
            }
            traces.append(known)
        if not traces:
            return None
        plot = _plot("When each trial trained", "", "trial", traces)
        plot["layout"]["xaxis"]["type"] = "date"
        plot["layout"]["yaxis"]["range"] = [min(spans) - 1, max(spans) + 1]
        plot["layout"]["barmode"] = "overlay"
        return plot

    def _best_of(self, trial: ShownTrial) -> float:
        return self._best([value for value in trial.reported if math.isfinite(value)] or [-self._sign * math.inf])

    def _worth(self, value: float) -> float:
        return self._sign * value if math.isfinite(value) else -math.inf

    def _chosen(self, trials: list[ShownTrial], most: int) -> list[ShownTrial]:
        """Return trials in their order; of many, the best fifth and as many others as there is room for, evenly."""
        if len(trials) <= most:
            return trials
        best = nlargest(most // 5, trials, key=lambda trial: self._worth(trial.reported[-1]))
        later = [trial for trial in trials[-MOST_TIMED:] if trial.phase != attributes.SEARCH][-most // 5 :]
        chosen = {trial.number: trial for trial in (*best, *later, *evenly(trials, most - 2 * (most // 5)))}
        return [chosen[number] for number in sorted(chosen)]


def _grouped(trials: Sequence[ShownTrial]) -> list[tuple[_Kind, list[ShownTrial]]]:
    groups = [(kind, [trial for trial in trials if kind.holds(trial)]) for kind in _KINDS]
    return [(kind, found) for kind, found in groups if found]


def _ranked(values: Sequence[float]) -> list[int]:
    """Return the place of each value among them, 1 for the greatest; the first of equals comes first."""
    order = np.argsort(-np.asarray(values), kind="stable")
    places = np.empty(len(values), dtype=int)
    places[order] = np.arange(1, len(values) + 1)
    return [int(place) for place in places]


def _digits(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


# Seen on the page's light ground and on its dark one.
_FAINT: Final = "#8a8a8a"
_CLEAR: Final = "rgba(0,0,0,0)"
_GRID: Final = "rgba(138,138,138,0.25)"
_SECONDS: Final = [0.1, 0.2, 0.5, *(digit * 10**power for power in range(6) for digit in (1, 2, 5))]


def _trace(kind: _Kind, x: Sequence[Any], y: Sequence[Any], text: Sequence[str], said: str) -> dict[str, Any]:
    hover = f"trial %{{text}}, {said}<extra></extra>"
    return {"type": "scatter", "name": kind.name, "x": x, "y": y, "text": text, "hovertemplate": hover}


def _plot(title: str, across: str, up: str, traces: Sequence[Mapping[str, Any]]) -> Plot:
    def axis(words: str) -> dict[str, Any]:
        return {"title": {"text": words}, "gridcolor": _GRID, "zeroline": False, "automargin": True}

    layout = {
        "title": {"text": title, "x": 0.02, "xanchor": "left", "font": {"size": 15}},
        "modebar": {"bgcolor": _CLEAR, "color": _FAINT, "orientation": "v"},
        "font": {"color": _FAINT},
        "paper_bgcolor": _CLEAR,
        "plot_bgcolor": _CLEAR,
        "margin": {"l": 60, "r": 40, "t": 50, "b": 50},
        "legend": {"orientation": "h", "y": -0.25},
        "showlegend": True,
        "uirevision": "true",  # what is enlarged stays so when the study changes
        "xaxis": axis(across),
        "yaxis": axis(up),
    }
    return {"data": list(traces), "layout": layout}
