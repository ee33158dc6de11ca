"""``make bench-thinking``: how long a search thinks once it has many trials.

Studies are played on a virtual clock until so many trials were started, and from then on watched. What counts is how
long a free worker waits: from the end of an epoch until it has other work, all decisions in between. The seconds are
those of the processor, with one thread: others on the machine do not count.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np

from storage.errors import BadInput
from studies.simulation.virtual_clock import Contestant, Run, simulate
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.search.contestants import find_contestant, made, runnable
from tests.benchmarks.search.play import quieten
from tests.benchmarks.search.tables import find_table

CONTESTANTS: Final = ("freeze_thaw", "tpe_median")
TRIALS: Final = 1000
HANDOVERS: Final = 200
WORKERS: Final = 8
EPOCH_S: Final = 5.0  # of which thinking is a share
MOST_EPOCHS: Final = 10**7


class Watched:
    """A contestant that is watched from some trial on, and does nothing any more once enough was seen.

    Args:
        contestant: who decides.
        clock: in seconds.
        trials: how many are started before.
        handovers: how many are enough.

    Attributes:
        waits: seconds of each handover, from the end of an epoch until a free worker has other work.
        epochs: how many ended meanwhile.
        thought: seconds of all decisions meanwhile.
    """

    def __init__(self, contestant: Contestant, clock: Callable[[], float], trials: int, handovers: int) -> None:
        self._contestant = contestant
        self._clock = clock
        self._trials = trials
        self._handovers = handovers
        self._watched = False
        self._since_epoch = 0.0
        self.waits: list[float] = []
        self.epochs = 0
        self.thought = 0.0

    def next(self) -> Run | None:
        if self._done:
            return None
        begun = self._clock()
        run = self._contestant.next()
        took = self._thought_since(begun)
        if run is not None:
            if self._watched:
                self.waits.append(self._since_epoch + took)
            self._since_epoch = 0.0
            self._watched = self._watched or run.trial >= self._trials
        return run

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        if self._done:
            return False
        begun = self._clock()
        wanted = self._contestant.reported(trial, epoch, value)
        self._since_epoch = self._thought_since(begun)
        self.epochs += self._watched
        return wanted

    @property
    def _done(self) -> bool:
        return len(self.waits) >= self._handovers

    def _thought_since(self, begun: float) -> float:
        took = self._clock() - begun
        self.thought += took * self._watched
        return took


def watch(name: str, where: str, *, trials: int, handovers: int) -> Watched:
    """Play a study of a contestant until enough handovers were seen, by the processor's clock.

    Args:
        name: of the contestant.
        where: the name of the table.
        trials: how many are started before.
        handovers: how many are enough.

    Returns:
        What was seen: fewer handovers where the contestant found nothing more to do.

    Raises:
        BadInput: there is no such contestant or table.
    """
    source = find_table(where)
    with made(find_contestant(name), source, 0) as contestant:
        watched = Watched(contestant, time.process_time, trials, handovers)
        simulate(watched, source.curves(0), workers=WORKERS, budget=MOST_EPOCHS)
    return watched


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    quieten()
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    require_positive(("--trials", given.trials), ("--handovers", given.handovers))
    names, reasons = runnable(given.contestants)
    for name, reason in reasons.items():
        print(f"without {name}: {reason}", file=sys.stderr)
    find_table(given.table)
    rows = [["contestant", "wait, median", "95%", "an epoch", f"of epochs of {EPOCH_S:g} s"]]
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        seen = watch(name, given.table, trials=given.trials, handovers=given.handovers)
        if not seen.waits:
            raise BadInput(
                f"{name} had nothing to do after {given.trials} trials. Give fewer --trials, or leave it out."
            )
        rows.append(_row(name, seen))
    title = (
        f"{given.trials:,} trials of {given.table} were started, {WORKERS} workers: how long a free one waits for other"
        f" work, of {given.handovers}, and how long it is thought per epoch; milliseconds of one thread"
    )
    report = Report([Table(title, rows)])
    print(report)
    keep(report, "bench-thinking", make_parser(), given)
    return 0


def _row(name: str, seen: Watched) -> list[str]:
    median, most = (1e3 * float(np.quantile(seen.waits, share)) for share in (0.5, 0.95))
    epoch = seen.thought / seen.epochs
    return [name, f"{median:.1f}", f"{most:.1f}", f"{1e3 * epoch:.1f}", f"{100 * epoch / EPOCH_S:.2f}%"]


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.search.thinking", description=__doc__)
    parser.add_argument("--contestants", nargs="+", default=CONTESTANTS, help=f"default: {' '.join(CONTESTANTS)}")
    parser.add_argument("--table", default="synthetic/crossing", help="what is searched; default: %(default)s")
    parser.add_argument("--trials", type=int, default=TRIALS, help="started before; default: %(default)s")
    parser.add_argument("--handovers", type=int, default=HANDOVERS, help="watched; default: %(default)s")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
