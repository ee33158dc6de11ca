"""``make bench-best``: run what was not run yet, one cell after the other, then print the tables.

Cells are kept in ``results/best.jsonl``, since all take longer than a machine is often had for: the same command prints
their tables again, and one that was stopped goes on with the cell that it was in. ``--smoke`` gives each contestant 90
seconds on a few images, always anew.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from storage.errors import TuningError
from tests.benchmarks.best.cells import CELLS, CONTESTANTS, Cell, Outcome, Outcomes, chosen
from tests.benchmarks.best.contestants import RUNNERS
from tests.benchmarks.best.quiet import QUIET, share_of_others_now, watched
from tests.benchmarks.best.summary import report_of
from tests.benchmarks.command import exit_status
from tests.benchmarks.report import RESULTS, add_result_option, keep, machine_in_words
from tests.benchmarks.throughput.data import prepared, scratch

KEPT: Final = RESULTS / "best.jsonl"
SMOKE: Final = tuple(Cell("mnist_sample", 1.5, name, 0) for name in CONTESTANTS)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(
        lambda: _compare(given), stopped="Cells that came to their end are kept: the same command goes on."
    )


def _compare(given: argparse.Namespace) -> int:
    cells = list(SMOKE) if given.smoke else chosen(given.cells)
    with TemporaryDirectory() as folder:
        kept = Outcomes(Path(folder) / "smoke.jsonl" if given.smoke else KEPT)
        found = run_missing(cells, kept, anyway=given.anyway or given.smoke)
        missing = [cell for cell in cells if kept.find(cell) is None]
    if not found:
        return 1
    report = report_of(found, missing)
    print(report)
    keep(report, "bench-best", make_parser(), given)
    return 1 if missing else 0


def run_missing(cells: Sequence[Cell], kept: Outcomes, *, anyway: bool) -> list[Outcome]:
    """Run the cells that have no outcome yet; return all outcomes there are. One that fails does not cost the others.

    Args:
        cells: what is asked for.
        kept: what was run before, and where each outcome goes as soon as it is there.
        anyway: whether they are run while other work is on the machine, too.
    """
    for dataset in dict.fromkeys(cell.dataset for cell in cells if kept.find(cell) is None):
        prepared(dataset)
    for cell in cells:
        if kept.find(cell) is None and (anyway or _is_quiet(cell)):
            outcome = _run(cell)
            if outcome is not None:
                kept.add(outcome)
    return [outcome for cell in cells if (outcome := kept.find(cell)) is not None]


def _is_quiet(cell: Cell) -> bool:
    share = share_of_others_now()
    if share > QUIET:
        _say(f"{cell.name}: left out, other work has {share:.0%} of the cores. End it, or give ANYWAY=1.")
    return share <= QUIET


def _run(cell: Cell) -> Outcome | None:
    _say(f"{cell.name} ...")
    try:
        with scratch() as folder, watched() as others:
            found = RUNNERS[cell.contestant](cell, folder)
    except TuningError as error:
        _say(f"{cell.name} failed: {error}")
        return None
    _say(f"{cell.name}: {found.accuracy:.4f} on the test split in {found.wall_s:.0f} s; {found.told}")
    return Outcome(
        cell,
        found.accuracy,
        round(found.wall_s, 1),
        round(others.share, 3),
        found.network,
        found.epochs,
        found.told,
        time.strftime("%Y-%m-%d"),
        machine_in_words(),
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.best", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="90 seconds of each contestant on 2,000 images")
    first = CELLS[0]
    parser.add_argument(
        "--cells",
        nargs="+",
        help=f"DATASET/MINUTES/CONTESTANT/SEED, as {first.name}, or the beginning of some, as {first.dataset}/"
        f"{first.minutes:g}; default: all that are listed",
    )
    parser.add_argument("--anyway", action="store_true", help="also while other work is on the machine")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
