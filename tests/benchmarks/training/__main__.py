"""``make bench-training``: run what was not run yet, one contestant after the other, then print the tables.

Runs are kept under .bench/training: the same command prints their tables again, and one that was stopped goes on.
``--smoke`` trains 12 epochs on a few images, always anew, and ends in about a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from storage.errors import BadInput, TuningError, unknown_name
from storage.processes.cores import usable_cores
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.report import add_result_option, keep
from tests.benchmarks.throughput.data import ROOT, prepared, scratch
from tests.benchmarks.training import draw, summary
from tests.benchmarks.training.contestants import CONTESTANTS
from tests.benchmarks.training.plan import Plan, plan_of
from tests.benchmarks.training.results import Result, Results, result_now

RESULTS: Final = ROOT / ".bench" / "training"
DATASETS: Final = ("mnist", "cifar10")
BUDGET: Final = 120

SMOKE: Final = plan_of(
    "mnist_sample", budget=12, workers=2, seed=0, epochs=4, train_images=1_000, validation_images=400
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="What ran to its end is kept: the same command goes on.")


def _compare(given: argparse.Namespace) -> int:
    plans, names = _plans(given), _contestants(given.contestants)
    for plan in plans:
        prepared(plan.dataset)
    found = run_missing(plans, names, Results(RESULTS), again=given.again or given.smoke)
    report = summary.report(found)
    print(report)
    keep(report, "bench-training", make_parser(), given)
    if given.draw:
        draw.save(given.draw, found)
        print(f"drew {given.draw}", file=sys.stderr)
    return 0 if len(found) == len(plans) * len(names) else 1


def run_missing(plans: Iterable[Plan], names: Sequence[str], results: Results, *, again: bool) -> list[Result]:
    """Run the contestants that have no result yet, or all of them again; return all results there are."""
    found = []
    for plan in plans:
        for name in names:
            result = None if again else results.find(name, plan)
            if result is None:
                result = _run(name, plan)
                if result is not None:
                    results.add(result)
            if result is not None:
                found.append(result)
    return found


def _run(name: str, plan: Plan) -> Result | None:
    """Run a contestant; say what came of it. One that fails does not cost the others their runs."""
    print(f"{plan.dataset}: {name} ...", end="", file=sys.stderr, flush=True)
    try:
        with scratch() as folder:
            outcome = CONTESTANTS[name](plan, folder)
    except TuningError as error:
        print(f" failed: {error}", file=sys.stderr)
        return None
    print(f" {outcome.best:.4f} in {outcome.total_s:.1f} s, {outcome.epochs} epochs", file=sys.stderr)
    return result_now(name, plan, outcome)


def _plans(given: argparse.Namespace) -> list[Plan]:
    numbers = (("--budget", given.budget), ("--epochs", given.epochs), ("--workers", given.workers))
    require_positive(*((name, number) for name, number in numbers if number is not None))
    if not 0 <= given.seed < 2**32:
        raise BadInput(f"--seed is {given.seed}. Give at least 0, and less than 2**32.")
    if given.workers > usable_cores():
        print(f"{given.workers} workers share {usable_cores()} core(s): each is slower", file=sys.stderr)
    if given.smoke:
        return [SMOKE]
    return [
        plan_of(
            dataset,
            budget=given.budget,
            workers=given.workers,
            seed=given.seed,
            epochs=given.epochs,
            pinned=given.threads == "pinned",
        )
        for dataset in dict.fromkeys(given.datasets)
    ]


def _contestants(given: Sequence[str] | None) -> list[str]:
    for name in given or ():
        if name not in CONTESTANTS:
            raise unknown_name("contestant", name, CONTESTANTS)
    return list(dict.fromkeys(given or CONTESTANTS))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.training", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="12 epochs on 1,000 images; ends in about a minute")
    parser.add_argument("--datasets", nargs="+", default=DATASETS, help=f"default: {' '.join(DATASETS)}")
    parser.add_argument("--contestants", nargs="+", help=f"default: {' '.join(CONTESTANTS)}")
    parser.add_argument("--budget", type=int, default=BUDGET, help="epochs of all trials; default: %(default)s")
    parser.add_argument("--epochs", type=int, help="the most of a trial; default: the recorded table's, 12")
    parser.add_argument("--workers", type=int, default=2, help="processes of each; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the studies and the images; default: %(default)s")
    parser.add_argument(
        "--threads",
        choices=("pinned", "free"),
        default="pinned",
        help="of KerasTuner's workers: as many as the service's have, or what TensorFlow takes; default: %(default)s",
    )
    parser.add_argument("--again", action="store_true", help="run what was run before again")
    parser.add_argument("--draw", type=Path, metavar="PNG", help="draw the best accuracy against seconds")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
