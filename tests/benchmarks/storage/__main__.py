"""``make bench-storage``: what it costs to read and write studies, beside stock Optuna, on SQLite and PostgreSQL.

Each figure is of a process of its own; stock Optuna has SQLite's default journal, and WAL where that is said. Reading
is told above the same process on an empty study. Times are the processor's, so that other load changes little; of a
server's own processes nothing is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.benchmarks.command import add_databases_option, exit_status, require_positive
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.storage.contestants import ON_POSTGRESQL, ON_SQLITE, Contestant, journal
from tests.benchmarks.storage.studies import Mix, make_study
from tests.benchmarks.storage.writers import Written, measured
from tests.benchmarks.throughput.data import ROOT
from tests.benchmarks.throughput.measures import median, shown
from tests.postgres import copy_of, database_on, server
from tuning.words import counted

WRITERS: Final = 8
FROZEN: Final = 1_000


@dataclass(frozen=True)
class Size:
    """How much is measured: trials read, trials of the studies written to, frozen ones, seconds and rounds."""

    read: int = 10_000
    written: Sequence[int] = (100, 1_000, 10_000)
    frozen: int = FROZEN
    trials: int = 20
    seconds: int = 10
    rounds: int = 3


SMOKE: Final = Size(200, (100,), 50, 3, 2, 1)


@dataclass
class Place:
    """Where databases are: a folder for SQLite, or a server; each made study is kept and copied."""

    name: str
    folder: Path
    server: str | None
    contestants: Sequence[Contestant]
    made: dict[tuple[int, Mix, int | None], str] = field(default_factory=dict)
    open_ones: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def study(self, trials: int, mix: Mix = "over", budget: int | None = None) -> str:
        """Return the URL of a made study, which is only read."""
        key = trials, mix, budget
        if key not in self.made:
            if self.server is not None:
                url = self.open_ones.enter_context(database_on(self.server))
            else:
                url = f"sqlite:///{self.folder / f'{len(self.made)}.db'}"
            make_study(url, trials, mix, budget=budget)
            self.made[key] = url
        return self.made[key]

    @contextmanager
    def copy(self, contestant: Contestant, trials: int, mix: Mix = "over", budget: int | None = None) -> Iterator[str]:
        """Yield the URL of a copy that may be written, with a contestant's journal."""
        url = self.study(trials, mix, budget)
        if self.server is not None:
            with copy_of(self.server, url) as copied:
                yield copied
            return
        with tempfile.TemporaryDirectory(dir=self.folder) as folder:
            file = Path(folder) / "copy.db"
            shutil.copyfile(url.removeprefix("sqlite:///"), file)
            journal(str(file), contestant)
            yield f"sqlite:///{file}"


Figures = dict[str, float]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    size = SMOKE if given.smoke else Size()
    if given.rounds is not None:
        size = Size(**{**vars(size), "rounds": given.rounds})
    require_positive(("--rounds", size.rounds))
    found: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="bench-storage-") as folder, contextlib.ExitStack() as stack:
        places = []
        for name in given.databases:
            url = stack.enter_context(server()) if name == "postgresql" else None
            place = Place(name, Path(folder), url, ON_SQLITE if url is None else ON_POSTGRESQL)
            stack.enter_context(place.open_ones)
            places.append(place)
        for number in range(1, size.rounds + 1):
            for place in places:
                print(f"round {number} of {size.rounds}, {place.name} ...", file=sys.stderr)
                for contestant in place.contestants:
                    key = f"{contestant} on {place.name}"
                    found.setdefault(key, []).append(_figures(place, contestant, size))
    report = _report(size, {key: _medians(each) for key, each in found.items()})
    print(report)
    keep(report, "bench-storage", make_parser(), given)
    return 0


def _medians(rounds: Sequence[Figures]) -> Figures:
    return {name: median([one[name] for one in rounds]) for name in rounds[0]}


def _figures(place: Place, contestant: Contestant, size: Size) -> Figures:
    """All that is measured of one contestant, once."""
    figures: Figures = {}
    wal = contestant == "optuna, WAL"
    if not wal:  # whoever only reads finds no difference
        figures |= _reading(place, contestant, size)
    for trials in size.written:
        with place.copy(contestant, trials, budget=10**6) as url:
            taken = _task("write", contestant, url, size.trials)
        figures |= {f"{step}, {trials}": taken[step] for step in ("claim", "report", "trial")}
    with place.copy(contestant, 100, budget=10**6) as url:
        figures |= {f"writers, {name}": value for name, value in vars(_writers(contestant, url, size)).items()}
    if not wal:
        watching = "watch" if contestant == "tuning" else "poll"
        with place.copy(contestant, size.frozen, "frozen", 10**6) as url:
            figures["watching"] = _task(watching, contestant, url, size.seconds)["share"] * 100
            figures["epoch"] = _task("epoch", contestant, url, 2 * size.trials)["reading"]
    return figures


def _writers(contestant: Contestant, url: str, size: Size) -> Written:
    return measured(contestant, url, WRITERS, size.seconds)


def _reading(place: Place, contestant: Contestant, size: Size) -> Figures:
    read: dict[str, Callable[[str], Any]] = {
        "status": lambda url: _task("status" if contestant == "tuning" else "look", contestant, url),
        "resume": lambda url: _task("resume", contestant, url),
    }
    figures: Figures = {}
    for name, run in read.items():
        with place.copy(contestant, 0) as url:
            empty = run(url)
        with place.copy(contestant, size.read) as url:
            full = run(url)
        figures |= {f"{name}, {what}": full[what] - empty[what] for what in ("processor_s", "memory_mb")}
    return figures


def _task(task: str, contestant: Contestant, url: str, number: int = 0) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.benchmarks.storage.task", task, contestant, url, str(number)]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, env=_environment())
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _environment() -> dict[str, str]:
    # One that is nowhere: nobody's studies are looked at.
    return {
        **os.environ,
        "TUNING_HOME": str(Path(tempfile.gettempdir()) / "bench-storage-home"),
        "OMP_NUM_THREADS": "1",
    }


_ROWS: Final = {
    "status, processor_s": ("status of {read} trials, s", 2, "1.2"),
    "status, memory_mb": ("status of {read} trials, MB", 0, "150"),
    "resume, processor_s": ("reading of a resumed tune, {read} trials, s", 2, "2"),
    "resume, memory_mb": ("reading of a resumed tune, {read} trials, MB", 0, ""),
}
_LATER: Final = {
    "writers, per_s": (f"{WRITERS} writers, values a second", 0, "10 times stock's"),
    "writers, slowest": (f"{WRITERS} writers, the slowest / the mean", 2, "0.33"),
    "writers, longest_s": (f"{WRITERS} writers, the longest call, s", 2, "5"),
    "writers, errors": (f"{WRITERS} writers, calls refused", 0, ""),
    "watching": ("live view of {frozen} frozen trials, % of a core", 1, "3"),
    "epoch": ("reading of {frozen} frozen trials after an epoch, ms", 1, "10"),
}
_WRITTEN: Final = {"claim": (2, "4"), "report": (3, "0.5"), "trial": (1, "12")}


def _report(size: Size, found: dict[str, Figures]) -> Report:
    rows: dict[str, tuple[str, int, str]] = dict(_ROWS)
    for step, (digits, bar) in _WRITTEN.items():
        for trials in size.written:
            words = "a whole trial of 38 values" if step == "trial" else f"a {step}"
            rows[f"{step}, {trials}"] = f"{words}, {trials:,} trials there, ms", digits, bar
    rows |= _LATER
    table = [["what", *found, "bar"]]
    for key, (words, digits, bar) in rows.items():
        cells = [shown(one[key], digits) if key in one else "-" for one in found.values()]
        table.append([words.format(read=f"{size.read:,}", frozen=f"{size.frozen:,}"), *cells, bar])
    figures = {f"{key}, {who}": value for who, each in found.items() for key, value in each.items()}
    note = (
        f"Medians of {counted(size.rounds, 'round')}. Seconds and milliseconds are of the processor; what is read is"
        " told above the same on an empty study. Values are those of whole trials: a claim, 4 parameters, 8 attributes,"
        " 20 reports, 4 records of artifacts, an end; of ours, as its worker does it, the parameters are one"
        " transaction, the attributes two, the records of a file one. Stock Optuna's live view is its reading of all"
        " trials, once a tick. What a trial of ours writes between its claim and its end is on the disk with the next"
        " of these; each call of stock Optuna is on the disk when it returns."
    )
    return Report([Table("", table)], [note], figures)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.storage", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="small studies, one round; ends in about a minute")
    parser.add_argument("--rounds", type=int, help="how often each is measured; default: 3")
    add_databases_option(parser)
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
