"""Where a study stands and its leaderboard, for people and for programs. No Keras."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, cast

import optuna
from rich.console import Console
from rich.table import Table

from storage.attributes import SEARCH
from storage.errors import unknown_name
from storage.leases import LEASE_S
from storage.settings import Home
from studies.leaderboard import Row, RowOfSeveral, as_table, leaderboard
from studies.objectives.objective import Objective, objectives_in
from studies.status import status
from studies.stored import StudyRecord
from tuning.commands.tables import Column, print_table
from tuning.words import dataset_in_words, duration, epochs_in_words

TRIAL_FORMATS = ("table", "csv", "json")

# A terminal's own width, and outside a terminal one at which nothing is cut.
_PIPED_WIDTH = 160
_MOST_PARAMETER_COLUMNS = 6
_MOST_OF_FRONT = 8


def show_status(study: optuna.Study, storage_url: str, home: Home, *, as_json: bool = False) -> None:
    """Print where a study stands to stdout, as a table or as one JSON object."""
    standing = status(study, storage_url, home)
    if as_json:
        sys.stdout.write(json.dumps(standing, indent=2, allow_nan=False) + "\n")
        return
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in _status_lines(standing):
        table.add_row(name, words)
    _console().print(table)


def show_trials(study: optuna.Study, form: str = "table") -> None:
    """Print a study's trials to stdout, best first.

    Args:
        study: whose they are.
        form: `table`, `csv` or `json`.

    Raises:
        BadInput: there is no such form.
    """
    if form not in TRIAL_FORMATS:
        raise unknown_name("format", form, TRIAL_FORMATS)
    rows = leaderboard(study)
    if form == "json":
        sys.stdout.write(json.dumps(rows, indent=2, allow_nan=False) + "\n")
    elif form == "csv":
        sys.stdout.write(as_table(rows).to_csv(index=False, lineterminator="\n"))
    else:
        _print_trials(rows, StudyRecord.of(study))


def _console() -> Console:
    # No markup: a study may be called "[bold]".
    piped = None if sys.stdout.isatty() else _PIPED_WIDTH
    return Console(file=sys.stdout, width=piped, markup=False, highlight=False, emoji=False)


def _status_lines(standing: dict[str, Any]) -> Iterable[tuple[str, str]]:
    budget, best, rate = standing["budget"], standing["best"], standing["rate_per_hour"]
    yield "study", standing["study"]
    yield "storage", standing["storage"]
    if standing["dataset"] is not None:
        images = standing["images"]
        parts = f": {images['train']:,} training and {images['validation']:,} validation images" if images else ""
        yield "data", dataset_in_words(standing["dataset"]) + parts
    if standing["function"] is not None:
        yield "objective", f"{standing['function']}, to {' and '.join(standing['directions'])}"
    elif not standing["ours"]:
        yield "made by", f"another program, to {' and '.join(standing['directions'])}"
    left = standing["trials"]["running"] if standing["state"] == "stopped" else 0
    which = f"{left} trial{' is' if left == 1 else 's are'} recorded as running"
    gone = f": {which}, but no worker has shown a sign of life for {LEASE_S:g} s; the same `tune` goes on with them"
    yield "state", standing["state"] + (gone if left else "")
    if standing["ours"] or standing["function"] is not None:
        yield "budget", f"{budget['done']} of {budget['trials']} trials done"
    yield "trials", ", ".join(f"{n} {state}" for state, n in standing["trials"].items() if n) or "none yet"
    for phase, counts in standing["phases"].items():
        if phase != SEARCH and (said := ", ".join(f"{n} {state}" for state, n in counts.items() if n)):
            yield phase, said
    if standing["ours"]:
        yield "epochs", epochs_in_words(standing["epochs_trained"], budget["epochs"])
    if rate is not None:
        yield "rate", f"{rate:.1f} trials/h"
    if standing["forecast_s"] is not None:
        yield "done in", f"about {duration(standing['forecast_s'])}"
    yield "disk", _disk(standing["disk_bytes"])
    objectives = objectives_in(standing)
    if len(standing["directions"]) > 1:
        yield from _front(standing["front"], objectives)
    elif best is None:
        yield "best", "no trial is COMPLETE yet"
    else:
        value = objectives[0].in_words(best["value"]) if objectives else f"value {best['value']:.6g}"
        if standing["imbalanced"] and best["balanced_accuracy"] is not None:
            value += f", {best['balanced_accuracy']:.2%} balanced"
        yield "best", f"trial {best['number']}: {value}"
        yield "", _parameters(best["params"])


def _front(trials: list[dict[str, Any]], objectives: Sequence[Objective]) -> Iterator[tuple[str, str]]:
    """Yield the trials that none is better than."""
    if not objectives:
        yield "best", "none: there are several objectives"
        return
    if not trials:
        yield "front", "no trial is COMPLETE yet"
    for place, one in enumerate(trials[:_MOST_OF_FRONT]):
        values = zip(objectives, one["values"], strict=True)
        said = ", ".join(objective.in_words(value) for objective, value in values)
        yield "" if place else "front", f"trial {one['number']}: {said}"
    if len(trials) > _MOST_OF_FRONT:
        yield "", f"and {len(trials) - _MOST_OF_FRONT} more: tuning trials"


def _disk(used: dict[str, int]) -> str:
    parts = ", ".join(f"{size / 1e6:,.1f} MB {name}" for name, size in used.items() if size and name != "total")
    return f"{used['total'] / 1e6:,.1f} MB" + (f": {parts}" if parts else "")


def _values(rows: list[Row], record: StudyRecord) -> Iterator[Column]:
    """Yield the columns of the values: of a study of this service one for each objective."""
    told = [_values_of(row) for row in rows]
    if not record.is_ours:
        heading = f"value ({', '.join(direction.name.lower() for direction in record.directions)})"
        yield Column(heading, [", ".join(f"{value:.4f}" for value in values) for values in told], right=True)
    for place, objective in enumerate(record.objectives):
        figures = [objective.figure(values[place]) if place < len(values) else "" for values in told]
        yield Column(objective.heading, figures, right=True)
    if len(record.objectives) > 1:
        yield Column("front", ["*" if row.get("front") else "" for row in rows])


def _print_trials(rows: list[Row], record: StudyRecord) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row["params"]))
    first = [
        Column("trial", [str(row["number"]) for row in rows], right=True),
        Column("state", [row["state"] for row in rows]),
        *_phases(rows),
        *_values(rows, record),
        *_balanced(rows, record),
        Column("epochs", [str(row["epochs"]) for row in rows], right=True),
        Column("time", ["" if row["seconds"] is None else duration(row["seconds"]) for row in rows], right=True),
    ]
    own = [Column(name, [_shown(row["params"].get(name)) for row in rows]) for name in names]
    together = [Column("parameters", [_parameters(row["params"]) for row in rows], folds=True)]
    last = (
        [Column("reason", [row["reason"] or "" for row in rows], folds=True)] if any(r["reason"] for r in rows) else []
    )
    layouts = [[*first, *own, *last]] if len(names) <= _MOST_PARAMETER_COLUMNS else []
    print_table(_console(), record.name, *layouts, [*first, *together, *last])


def _phases(rows: list[Row]) -> Iterator[Column]:
    """Yield the column of what trials are for where that is not the search alone."""
    if any(row["phase"] != SEARCH for row in rows):
        yield Column("phase", [row["phase"] for row in rows])


def _balanced(rows: list[Row], record: StudyRecord) -> Iterator[Column]:
    """Yield the column of the balanced accuracy where it says something else than the accuracy."""
    if record.imbalanced:
        figures = [row["balanced_accuracy"] for row in rows]
        yield Column("balanced", ["" if figure is None else f"{figure:.4f}" for figure in figures], right=True)


def _values_of(row: Row) -> list[float]:
    if "values" in row:
        return cast(RowOfSeveral, row)["values"]
    return [row["value"]] if row["value"] is not None else []


def _parameters(params: dict[str, Any]) -> str:
    return ", ".join(f"{name}={_shown(value)}" for name, value in params.items())


def _shown(value: Any) -> str:
    return "" if value is None else f"{value:.3g}" if isinstance(value, float) else str(value)
