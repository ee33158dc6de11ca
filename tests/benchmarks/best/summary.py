"""What came of the cells, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from tests.benchmarks.best.cells import OURS, Cell, Outcome
from tests.benchmarks.best.quiet import QUIET
from tests.benchmarks.report import Report, Table


def report_of(outcomes: Sequence[Outcome], missing: Sequence[Cell] = ()) -> Report:
    """Return a table for each data set and time, one of what was done, and what must be said of the machine.

    Args:
        outcomes: what came of the cells that were run.
        missing: those that were not.
    """
    groups = dict.fromkeys((one.cell.dataset, one.cell.minutes) for one in outcomes)
    tables = [_table(dataset, minutes, _of(outcomes, dataset, minutes)) for dataset, minutes in groups]
    return Report([*tables, _done(outcomes)], _notes(outcomes, missing), _figures(outcomes))


def _of(outcomes: Sequence[Outcome], dataset: str, minutes: float) -> list[Outcome]:
    return [one for one in outcomes if (one.cell.dataset, one.cell.minutes) == (dataset, minutes)]


def _table(dataset: str, minutes: float, outcomes: Sequence[Outcome]) -> Table:
    rows = [["", "test accuracy", "each seed", "of ours", "seconds at most", "network"]]
    ours = {one.cell.seed: one.accuracy for one in outcomes if one.cell.contestant == OURS}
    for name in dict.fromkeys(one.cell.contestant for one in outcomes):
        found = sorted((one for one in outcomes if one.cell.contestant == name), key=lambda one: one.cell.seed)
        differences = [one.accuracy - ours[one.cell.seed] for one in found if one.cell.seed in ours]
        rows.append(
            [
                name,
                f"{mean(one.accuracy for one in found):.4f}",
                ", ".join(f"{one.accuracy:.4f}" for one in found),
                f"{mean(differences):+.4f}" if differences and name != OURS else "",
                f"{max(one.wall_s for one in found):.0f}",
                ", ".join(dict.fromkeys(one.network for one in found)),
            ]
        )
    return Table(f"{dataset}, {minutes:g} minutes", rows)


def _done(outcomes: Sequence[Outcome]) -> Table:
    rows = [["cell", "epochs handed over", "what was done", "others' share of the cores", "run on"]]
    rows += [[one.cell.name, str(one.epochs), one.told, f"{100 * one.others:.0f}%", one.date] for one in outcomes]
    return Table("what was done in the time", rows, detail=True)


def _notes(outcomes: Sequence[Outcome], missing: Sequence[Cell]) -> list[str]:
    late = [one for one in outcomes if one.wall_s > one.cell.seconds]
    disturbed = [one.cell for one in outcomes if one.others > QUIET]
    told = [f"Over their time: {_named([one.cell for one in late])}."] if late else []
    if disturbed:
        told.append(f"Other work had more than {QUIET:.0%} of the cores during {_named(disturbed)}.")
    machines = dict.fromkeys(one.machine for one in outcomes)
    if len(machines) > 1:
        told += [f"On {name}: {_named([one.cell for one in outcomes if one.machine == name])}." for name in machines]
    if missing:
        told.append(f"Not run yet: {_named(missing)}.")
    return told


def _named(cells: Sequence[Cell]) -> str:
    return ", ".join(cell.name for cell in cells)


def _figures(outcomes: Sequence[Outcome]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for one in outcomes:
        key = f"{one.cell.dataset}, {one.cell.minutes:g} min, {one.cell.contestant}"
        found.setdefault(key, []).append(one.accuracy)
    return {name: mean(values) for name, values in found.items()}
