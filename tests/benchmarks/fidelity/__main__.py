"""``make bench-fidelity``: which short training ranks configurations as a long one does, and for how much less.

The same configurations are trained with few images and epochs and with many, each with a schedule to its own end, in
processes of one thread. Trainings are kept under .bench/fidelity: the same command prints their table again, and one
that was stopped goes on. ``--smoke`` trains three configurations on a few images, always anew, and ends in a minute.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np

from storage.errors import unknown_name
from studies.simulation.curve_tables import RECORDED, CurveTable
from studies.spec import HYPERMODELS
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.fidelity.ranking import Agreement, after_each_epoch, agreement
from tests.benchmarks.fidelity.trainings import LONG, SHORT, Fidelity, Job, Trained, Trainings, fidelity, jobs
from tests.benchmarks.fidelity.workers import train
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.throughput.data import ROOT, prepared
from tests.benchmarks.throughput.measures import shown

KEPT: Final = ROOT / ".bench" / "fidelity" / "trainings.jsonl"
HEAD: Final = ["", "relative cost", "tau", "90% interval", "regret"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="What was trained is kept: the same command goes on.")


def _compare(given: argparse.Namespace) -> int:
    wanted, short, long = _asked(given)
    prepared(wanted[0].dataset)
    with TemporaryDirectory() as folder:
        kept = Trainings(Path(folder) / "smoke.jsonl" if given.smoke else KEPT)
        there = kept.all()
        train([job for job in wanted if job not in there], kept, given.workers)
        found = kept.all()
    own = [found[job] for job in wanted if job in found]
    report = Report([table_of(own, short, long), *map(recorded, ("cifar10", "mnist"))], _notes(own, long))
    print(report)
    keep(report, "bench-fidelity", make_parser(), given)
    return 0 if len(own) == len(wanted) else 1


def _asked(given: argparse.Namespace) -> tuple[list[Job], list[Fidelity], Fidelity]:
    require_positive(("--configurations", given.configurations), ("--workers", given.workers))
    if given.model not in HYPERMODELS:
        raise unknown_name("model", given.model, HYPERMODELS)
    if given.smoke:
        few, many = Fidelity(300, 1), Fidelity(600, 2)
        return jobs("mnist_sample", "cnn", 3, [few, many], 400), [few], many
    short, long = [fidelity(text) for text in dict.fromkeys(given.fidelities)], fidelity(given.against)
    every = [one for one in short if one != long]
    return jobs(given.dataset, given.model, given.configurations, [*every, long], given.validation_images), every, long


def table_of(found: Sequence[Trained], short: Sequence[Fidelity], long: Fidelity) -> Table:
    """Return how each short fidelity ranks those configurations that have a long training, too."""
    values: dict[Fidelity, dict[int, float]] = {}
    for training in found:
        values.setdefault(training.job.fidelity, {})[training.job.number] = training.value
    wanted = values.get(long, {})
    rows = [HEAD]
    for one in sorted(short, key=lambda one: (one.cost, one)):
        own = values.get(one, {})
        both = sorted(own.keys() & wanted.keys())
        pair = (np.array([of[number] for number in both]) for of in (own, wanted))
        rows.append([f"{one.images:,} images, {_epochs(one.epochs)}", *_cells(one.cost / long.cost, agreement(*pair))])
    job = found[0].job if found else None
    what = f"{job.dataset}, {job.model}: " if job else ""
    title = (
        f"{what}{len(wanted)} configurations, against {long.images:,} images for {_epochs(long.epochs)}; regret in"
        " validation accuracy"
    )
    return Table(title, rows)


def recorded(name: str) -> Table:
    """Return how the value after each epoch of a recorded table ranks what the last one ranks.

    Args:
        name: of the table.
    """
    table = CurveTable.load(RECORDED / f"{name}.npz")
    rows = [HEAD]
    for epoch, found in enumerate(after_each_epoch(table.oriented), 1):
        rows.append([f"after {_epochs(epoch)}", *_cells(epoch / table.horizon, found)])
    title = (
        f"recorded {name}: {len(table.X)} configurations, the value after an epoch against the one after"
        f" {table.horizon}, within one schedule"
    )
    return Table(title, rows)


def _cells(cost: float, found: Agreement) -> list[str]:
    interval = f"{shown(found.low)} to {shown(found.high)}"
    return [f"{cost:.3f}", shown(found.tau), interval, shown(found.regret, 4)]


def _epochs(count: int) -> str:
    return f"{count} epoch{'s' * (count != 1)}"


def _notes(found: Sequence[Trained], long: Fidelity) -> list[str]:
    of_long = sum(one.seconds for one in found if one.job.fidelity == long)
    of_short = sum(one.seconds for one in found) - of_long
    said = "A configuration's trainings have seeds of their own: a long one would not rank quite as another long one."
    return [f"{said} The long ones took {of_long:.0f} s, the others {of_short:.0f} s."]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.fidelity", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="three configurations on 600 images; ends in a minute")
    parser.add_argument("--dataset", default="cifar10", help="default: %(default)s")
    parser.add_argument("--model", default="deep_cnn", help=f"one of {', '.join(HYPERMODELS)}; default: %(default)s")
    parser.add_argument("--configurations", type=int, default=12, help="of the core space; default: %(default)s")
    every = [str(one) for one in SHORT]
    parser.add_argument("--fidelities", nargs="+", default=every, help=f"IMAGESxEPOCHS; default: {' '.join(every)}")
    parser.add_argument("--against", default=str(LONG), help="the long training; default: %(default)s")
    parser.add_argument("--validation-images", type=int, default=5_000, help="that judge each; default: %(default)s")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread; default: %(default)s")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
