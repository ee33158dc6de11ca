"""``make bench-search``: simulate what is missing, then print one table.

Studies that were simulated before are kept under .bench/search, so that this can be stopped at any time and goes on
where it was. ``--smoke`` takes a few tables and seeds, and ends within two minutes.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from storage.errors import BadInput
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.report import add_result_option, keep
from tests.benchmarks.search import draw, summary
from tests.benchmarks.search.contestants import BOUNDS, OWN, PEERS, find_contestant, runnable, version_of
from tests.benchmarks.search.play import play, process_pool, quieten
from tests.benchmarks.search.results import Key, Result, Results
from tests.benchmarks.search.tables import ROOT, find_table, present_tables

RESULTS = ROOT / ".bench" / "search"

SMOKE_LCBENCH = ("fashion_mnist", "higgs", "segment")
SMOKE_CONTESTANTS = ("random", "tpe_median", "asha")


@dataclass(frozen=True)
class Plan:
    """What is to be known.

    Attributes:
        tables, contestants, workers, seeds: of the studies, each with each.
        budget_r: worker-epochs of a study, in R.
        jobs: processes.
        until_seen: studies end at the first value in the top 1%.
    """

    tables: tuple[str, ...]
    contestants: tuple[str, ...]
    workers: tuple[int, ...]
    seeds: int
    budget_r: int
    jobs: int
    until_seen: bool

    def studies(self) -> list[Key]:
        """Return every study, in an order in which all tables and contestants grow alike."""
        grid = product(range(self.seeds), self.workers, self.tables, self.contestants)
        return [Key(table, contestant, workers, seed) for seed, workers, table, contestant in grid]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    quieten()
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="What was simulated is kept: the same command goes on.")


def _compare(given: argparse.Namespace) -> int:
    plan = _plan(given)
    found = simulate_missing(plan, Results(RESULTS))
    tables = {name: find_table(name) for name in plan.tables}
    report = summary.report(found, tables, plan.contestants, plan.workers, plan.budget_r, given.against)
    print(report)
    keep(report, "bench-search", make_parser(), given)
    if given.draw:
        draw.save(given.draw, found, tables, plan.contestants, plan.workers, plan.budget_r)
        print(f"drew {given.draw}", file=sys.stderr)
    return 0


def simulate_missing(plan: Plan, results: Results) -> list[Result]:
    """Simulate the studies of a plan that have no usable result yet; return all its results."""
    known = _known(plan, results)
    missing = [key for key in plan.studies() if key not in known]
    print(f"{len(known)} studies are known, {len(missing)} to simulate.", file=sys.stderr)
    if missing:
        with process_pool(plan.jobs) as pool:
            _collect(pool, missing, plan, results, known)
    return [known[key] for key in plan.studies()]


def _collect(
    pool: ProcessPoolExecutor, missing: Sequence[Key], plan: Plan, results: Results, known: dict[Key, Result]
) -> None:
    futures = [pool.submit(play, key, plan.budget_r, plan.until_seen) for key in missing]
    for count, future in enumerate(as_completed(futures), start=1):
        result = future.result()
        results.add(result)
        known[result.key] = result
        if sys.stderr.isatty() or count % 100 == 0 or count == len(missing):
            print(f"{count} of {len(missing)}", end="\r" if sys.stderr.isatty() else "\n", file=sys.stderr)


def _known(plan: Plan, results: Results) -> dict[Key, Result]:
    known: dict[Key, Result] = {}
    wanted = set(plan.studies())
    for name, contestant in product(plan.tables, plan.contestants):
        table = find_table(name)
        version, budget = version_of(find_contestant(contestant), table), plan.budget_r * table.horizon
        known |= {
            key: result.within(budget)
            for key, result in results.read(name, contestant).items()
            if key in wanted and result.version == version and result.covers(budget, cut=plan.until_seen)
        }
    return known


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="a few tables and seeds; ends within two minutes")
    parser.add_argument("--tables", nargs="+", help="paths of .npz, or names; default: all that are here")
    parser.add_argument(
        "--contestants", nargs="+", help=f"default: all of {', '.join((*OWN, *PEERS, *BOUNDS))} that run here"
    )
    parser.add_argument("--workers", nargs="+", type=int, help="W; default: 1 4 8 32")
    parser.add_argument("--seeds", type=int, help="studies of each kind; default: 10")
    parser.add_argument("--budget", type=int, help="worker-epochs of a study, in R; default: 80")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes; default: 2, where there are cores"
    )
    parser.add_argument(
        "--until-seen", action="store_true", help="end a study at its first value in the top 1%%: no regret, but faster"
    )
    parser.add_argument("--against", help="whose ratios to the others; default: the first contestant")
    parser.add_argument("--draw", type=Path, metavar="PNG", help="draw regret against worker-epochs")
    add_result_option(parser)
    return parser


def _plan(given: argparse.Namespace) -> Plan:
    smoke = given.smoke
    tables = tuple(given.tables or (present_tables(SMOKE_LCBENCH) if smoke else present_tables()))
    names = given.contestants or ((*OWN, *SMOKE_CONTESTANTS) if smoke else (*OWN, *PEERS, *BOUNDS))
    contestants, reasons = runnable(dict.fromkeys(names))
    for name, reason in reasons.items():
        print(f"without {name}: {reason}", file=sys.stderr)
    if not contestants:
        raise BadInput(f"none of {', '.join(names)} can run here. Install what is missing, or name another one.")
    if given.draw and given.until_seen:
        raise BadInput(
            "--draw shows regret, and --until-seen ends studies before they have one. Leave one of them out."
        )
    against = given.against
    if against and against not in contestants:
        raise BadInput(f"--against {against} is not among the contestants: {', '.join(contestants)}.")
    plan = Plan(
        tables=tables,
        contestants=tuple(contestants),
        workers=tuple(given.workers or ((8,) if smoke else (1, 4, 8, 32))),
        seeds=given.seeds if given.seeds is not None else (2 if smoke else 10),
        budget_r=given.budget if given.budget is not None else (10 if smoke else 80),
        jobs=given.jobs,
        until_seen=given.until_seen,
    )
    require_positive(("--seeds", plan.seeds), ("--budget", plan.budget_r), ("--jobs", plan.jobs))
    require_positive(*(("--workers", number) for number in plan.workers))
    for table in tables:
        find_table(table)  # refuses what cannot be used before anything is simulated
    return plan


if __name__ == "__main__":
    sys.exit(main())
