"""``make bench-data``: a folder of many small pictures is prepared, against reading and decoding them.

Both take turns, each as a process with all cores. The time of preparing is told as a multiple of the other's; its
memory, that of all its processes together, as what it takes above a process with the same imports that does nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil

from storage.settings import Home
from tests.benchmarks.command import exit_status, require_positive
from tests.benchmarks.data.pictures import make_pictures
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.throughput.data import ROOT, scratch
from tests.benchmarks.throughput.measures import median, median_ratio, shown
from tests.benchmarks.throughput.processes import Programs, programs

KEPT: Final = ROOT / ".bench" / "data"
MOST_TIMES: Final = 2.5
MOST_MEMORY_MB: Final = 600.0
POLL_S: Final = 0.05


@dataclass(frozen=True)
class Measured:
    """One process, with those that it started.

    Attributes:
        seconds: from its start to its end.
        memory_mb: the most that all of them took at once, what they share counted once.
    """

    seconds: float
    memory_mb: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    pictures = given.pictures if given.pictures is not None else (1_000 if given.smoke else 20_000)
    repeats = given.repeats if given.repeats is not None else (1 if given.smoke else 5)
    require_positive(("--pictures", pictures), ("--repeats", repeats))
    print(f"{pictures:,} pictures ...", file=sys.stderr)
    folder = make_pictures(KEPT, pictures, Home(KEPT))
    plain, prepared, empty = list[Measured](), list[Measured](), list[Measured]()
    for number in range(1, repeats + 1):
        print(f"round {number} of {repeats} ...", file=sys.stderr)
        with scratch() as target, programs(target) as running:
            empty.append(_measured(running, "empty", "preparation"))
            plain.append(_measured(running, "plain", "plain", folder))
            prepared.append(_measured(running, "prepared", "preparation", folder, target))
    found = report(pictures, plain, prepared, empty)
    print(found)
    keep(found, "bench-data", make_parser(), given)
    return 0


def _measured(running: Programs, name: str, module: str, *arguments: Path) -> Measured:
    command: list[str | Path] = [sys.executable, "-m", f"tests.benchmarks.data.{module}", *arguments]
    began = time.perf_counter()
    process = running.start(name, command, os.environ, stdout=subprocess.DEVNULL)
    most_mb = 0.0
    while process.poll() is None:
        most_mb = max(most_mb, memory_mb(process.pid))
        time.sleep(POLL_S)
    seconds = time.perf_counter() - began
    running.wait(name)
    return Measured(seconds, most_mb)


def memory_mb(process: int) -> float:
    """Return how much memory a process and all that it started take, in MB; what is shared counts once, on Linux."""
    total = 0
    try:
        first = psutil.Process(process)
        family = [first, *first.children(recursive=True)]
    except psutil.Error:
        return 0.0
    for one in family:
        try:
            known = one.memory_full_info()
        except psutil.Error:
            continue  # it has just ended
        total += getattr(known, "pss", known.rss)
    return total / 1e6


def report(pictures: int, plain: Sequence[Measured], prepared: Sequence[Measured], empty: Sequence[Measured]) -> Report:
    """Return what is printed."""
    plain_s, prepared_s = [one.seconds for one in plain], [one.seconds for one in prepared]
    times = median_ratio(prepared_s, plain_s)
    above_mb = max(one.memory_mb for one in prepared) - statistics.median(one.memory_mb for one in empty)
    rows = [
        ["figure", "measured", "wanted"],
        ["prepared / read and decoded, time", shown(times), f"at most {MOST_TIMES}"],
        ["memory above a process that does nothing, MB", shown(above_mb, 0), f"at most {MOST_MEMORY_MB:.0f}"],
    ]
    seconds = [f"{shown(median(each))} s ({' '.join(map(shown, each))})" for each in (prepared_s, plain_s)]
    note = f"prepared in {seconds[0]}, read and decoded in {seconds[1]}"
    return Report([Table(f"{pictures:,} PNG files of 28 to 64 pixels", rows)], [note], {"times": times, "MB": above_mb})


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.data", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="1,000 pictures, one round; ends in seconds")
    parser.add_argument("--pictures", type=int, help="how many; default: 20000")
    parser.add_argument("--repeats", type=int, help="how often each takes its turn; default: 5")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
