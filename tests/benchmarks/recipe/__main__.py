"""``make bench-recipe``: what each part of a network and its recipe is worth, by validation accuracy.

Every variant is trained with the same images and seeds, in one thread. Trainings are kept under .bench/recipe: the same
command prints their table again, and one that was stopped goes on. ``--smoke`` trains two variants on a few images,
always anew, and ends in about a minute.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Final

from storage.errors import unknown_name
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.recipe.trainings import Cell, Trained, Trainings
from tests.benchmarks.recipe.variants import VARIANTS
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.throughput.data import ROOT

RESULTS: Final = ROOT / ".bench" / "recipe" / "trainings.jsonl"
VALIDATION_IMAGES: Final = 5_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="What was trained is kept: the same command goes on.")


def _compare(given: argparse.Namespace) -> int:
    cells = _cells(given)
    with TemporaryDirectory() as folder:
        kept = Trainings(Path(folder) / "smoke.jsonl" if given.smoke else RESULTS)
        found = [kept.find(cell) or _train(cell, kept) for cell in cells]
    report = report_of(found)
    print(report)
    keep(report, "bench-recipe", make_parser(), given)
    return 0


def _train(cell: Cell, kept: Trainings) -> Trained:
    from tests.benchmarks.recipe.training import trained  # Keras

    print(f"{cell.variant}, seed {cell.seed} ...", end="", file=sys.stderr, flush=True)
    began = time.monotonic()
    one = Trained(cell, trained(cell), time.strftime("%Y-%m-%d"))
    print(f" {one.accuracy:.4f} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    kept.add(one)
    return one


def _cells(given: argparse.Namespace) -> list[Cell]:
    require_positive(("--epochs", given.epochs), ("--train-images", given.train_images), ("--seeds", given.seeds))
    for name in given.variants or ():
        if name not in VARIANTS:
            raise unknown_name("variant", name, VARIANTS)
    if given.smoke:
        return [Cell(name, "cifar10_sample", 500, 400, 2, 0) for name in ("fast", "fast-relu")]
    return [
        Cell(name, given.dataset, given.train_images, VALIDATION_IMAGES, given.epochs, seed)
        for seed in range(given.seeds)
        for name in dict.fromkeys(given.variants or VARIANTS)
    ]


def report_of(found: Sequence[Trained]) -> Report:
    """Return a table for each group: the accuracy of each variant, and how far it is from the group's first one."""
    accuracies: dict[str, dict[int, float]] = {}
    for one in found:
        accuracies.setdefault(one.cell.variant, {})[one.cell.seed] = one.accuracy
    groups = dict.fromkeys(VARIANTS[name].model for name in accuracies)
    return Report([_table(group, accuracies, found[0].cell) for group in groups])


def _table(group: str, accuracies: Mapping[str, Mapping[int, float]], cell: Cell) -> Table:
    first = next(name for name, variant in VARIANTS.items() if variant.model == group)
    own = {name: found for name, found in accuracies.items() if VARIANTS[name].model == group}
    rows = [["", "validation accuracy", "each seed", "difference"]]
    for name, found in own.items():
        differences = [100 * (found[seed] - own[first][seed]) for seed in found if seed in own.get(first, {})]
        rows.append(
            [
                VARIANTS[name].words,
                f"{mean(found.values()):.4f}",
                ", ".join(f"{value:.4f}" for value in found.values()),
                f"{mean(differences):+.1f}%" if differences and name != first else "",
            ]
        )
    title = (
        f"{group}, {VARIANTS[first].width} wide, {cell.dataset}: {cell.epochs} epochs of {cell.train_images:,} images,"
        f" judged by {cell.validation_images:,}"
    )
    return Table(title, rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.recipe", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="two variants on 500 images; ends in about a minute")
    parser.add_argument("--dataset", default="cifar10", help="default: %(default)s")
    parser.add_argument("--variants", nargs="+", help=f"default: {' '.join(VARIANTS)}")
    parser.add_argument("--train-images", type=int, default=10_000, help="of each epoch; default: %(default)s")
    parser.add_argument("--epochs", type=int, default=8, help="of each training; default: %(default)s")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each; default: %(default)s")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
