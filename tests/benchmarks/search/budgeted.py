"""``make bench-budgeted``: studies as a plan has them, with a budget of trials and epochs, on a virtual clock.

All contestants train as many epochs together; freeze-thaw search is told how many, and of the trials. LCBench's and the
synthetic curves have their epochs thinned out to the plan's; recorded tables are smoothed, so that no row is used up.
Shown is the regret on the way and at the end: 0 for the best final value of random configurations, 1 for their median.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

from studies.simulation.curve_tables import CurveTable
from studies.simulation.virtual_clock import simulate
from studies.spec import BUDGET_SHARE
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.report import Report, add_result_option, keep
from tests.benchmarks.report import Table as Columns
from tests.benchmarks.search.contestants import find_contestant, made, own_search, runnable
from tests.benchmarks.search.play import process_pool, quieten
from tests.benchmarks.search.resampled import smoothed, thinned
from tests.benchmarks.search.tables import Table, find_table, present_tables

OURS: Final = "freeze_thaw"
CONTESTANTS: Final = (OURS, "asha", "tpe_median", "random")
PARTS: Final = (0.25, 0.5, 0.75, 1.0)  # of the budget


@dataclass(frozen=True)
class Study:
    """One study to simulate.

    Attributes:
        table: where is searched.
        contestant: who searches.
        seed: of the study.
        trials: how many may be started, by who is told.
        epochs: the most of a trial.
        budget: epochs of all trials.
        workers: how many train at once.
    """

    table: str
    contestant: str
    seed: int
    trials: int
    epochs: int
    budget: int
    workers: int


def find_short_table(name: str, epochs: int) -> Table:
    """Return a table with the plan's epochs, a recorded one smoothed.

    Raises:
        BadInput: there is no such table, or it cannot be used.
    """
    table = find_table(name)
    if name.endswith(".npz"):
        table = smoothed(table, CurveTable.load(Path(name)))
    return thinned(table, epochs)


def regret(study: Study) -> list[float]:
    """Return the regret, see `Table.regret`, after each of PARTS of the budget."""
    table = find_short_table(study.table, study.epochs)
    entry = find_contestant(study.contestant)
    if study.contestant == OURS:
        entry = replace(entry, factory=partial(own_search, trials=study.trials, budget_epochs=study.budget))
    with made(entry, table, study.seed) as contestant:
        record = simulate(contestant, table.curves(study.seed), workers=study.workers, budget=study.budget)
    best = record.best_so_far()
    ends = [min(len(best), max(1, round(part * study.budget))) - 1 for part in PARTS]
    return [float(each) for each in table.regret(best[ends])]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    quieten()
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    names = ("trials", "epochs", "seeds", "workers", "jobs")
    require_positive(*((f"--{name}", getattr(given, name)) for name in names))
    contestants, reasons = runnable(dict.fromkeys(given.contestants))
    for name, reason in reasons.items():
        print(f"without {name}: {reason}", file=sys.stderr)
    tables = given.tables or present_tables()
    groups = {name: find_short_table(name, given.epochs).group for name in tables}
    budget = math.ceil(BUDGET_SHARE * given.trials * given.epochs)
    studies = [
        Study(table, contestant, seed, given.trials, given.epochs, budget, given.workers)
        for contestant, table, seed in product(contestants, tables, range(given.seeds))
    ]
    with process_pool(given.jobs) as pool:
        found = dict(zip(studies, pool.map(regret, studies, chunksize=4), strict=True))
    rows = [["", "contestant", *(f"{part:.0%}" for part in PARTS), "+-"]]
    for group, members in _by_group(groups).items():
        for contestant in contestants:
            regrets = np.array([found[one] for one in studies if one.contestant == contestant and one.table in members])
            ends = regrets[:, -1]
            error = f"{ends.std(ddof=1) / math.sqrt(len(ends)):.3f}" if len(ends) > 1 else "-"
            rows.append([group, contestant, *(f"{mean:.3f}" for mean in regrets.mean(axis=0)), error])
    title = (
        f"mean regret after parts of {budget} epochs, {given.trials} trials of at most {given.epochs}, {given.workers}"
        f" workers, {given.seeds} seed(s); the last one's standard error over studies"
    )
    report = Report([Columns(title, rows)])
    print(report)
    keep(report, "bench-budgeted", make_parser(), given)
    return 0


def _by_group(groups: Mapping[str, str]) -> dict[str, set[str]]:
    """Return the tables of each row: recorded ones apart, each is another kind of training."""
    found: dict[str, set[str]] = {}
    for name, group in groups.items():
        found.setdefault(name if group == "recorded" else group, set()).add(name)
    return found


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search.budgeted", description=__doc__)
    parser.add_argument("--tables", nargs="+", help="paths of .npz, or names; default: all that are here")
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, help=f"default: {' '.join(CONTESTANTS)}")
    parser.add_argument("--trials", type=int, default=24, help="of the plan; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=8, help="of the plan, at most of a trial; default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="W; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=10, help="studies of each kind; default: %(default)s")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes; default: 2, where there are cores"
    )
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
