"""What a benchmark says in the end, and the file in which it is kept for the page.

`RESULT=tests/benchmarks/results/NAME.json` on make's command line has a benchmark write it; `make docs` renders it.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from storage.processes.cores import usable_cores
from tests.benchmarks.throughput.measures import table
from tuning.machine.devices import find_gpus

RESULTS: Final = Path(__file__).resolve().parent / "results"


class Table(NamedTuple):
    """A table of cells.

    Attributes:
        title: what it shows; may be empty.
        rows: the first one is the head.
        detail: whether it is long and for few.
    """

    title: str
    rows: Sequence[Sequence[str]]
    detail: bool = False

    def __str__(self) -> str:
        return "\n".join(filter(None, [self.title, table(self.rows)]))


@dataclass(frozen=True)
class Report:
    """What a benchmark found.

    Attributes:
        tables: all that is printed in columns.
        notes: sentences below them.
        figures: single numbers that a sentence of a page has, by name.
    """

    tables: Sequence[Table]
    notes: Sequence[str] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        return "\n\n".join(filter(None, [*map(str, self.tables), "\n".join(self.notes)]))


@dataclass(frozen=True)
class Kept:
    """A report as it is kept.

    Attributes:
        report: what was found.
        command: the call of `make` that found it.
        date: when, `YYYY-MM-DD`.
        machine: on what, in words; empty where that does not matter.
        transcribed: whether it was copied from a page by hand, since the run is older than these files.
    """

    report: Report
    command: str
    date: str
    machine: str
    transcribed: bool = False

    @classmethod
    def read(cls, file: Path) -> Kept:
        """Return what a file has."""
        document = json.loads(file.read_text(encoding="utf-8"))
        found = document.pop("report")
        tables = [Table(**one) for one in found["tables"]]
        return cls(Report(tables, found["notes"], found["figures"]), **document)

    def write(self, file: Path) -> None:
        """Write it to a file."""
        document = asdict(self)
        document["report"]["tables"] = [one._asdict() for one in self.report.tables]
        text = json.dumps(document, indent=1, ensure_ascii=False)
        file.write_text(_ROW.sub(_on_one_line, text) + "\n", encoding="utf-8")


# A list of strings: a row stands on one line, so that another figure is another line.
_ROW: Final = re.compile(r'\[\s+("(?:[^"\\]|\\.)*"(?:,\s+"(?:[^"\\]|\\.)*")*)\s+\]')


def _on_one_line(row: re.Match[str]) -> str:
    return "[" + ", ".join(re.findall(r'"(?:[^"\\]|\\.)*"', row[1])) + "]"


def add_result_option(parser: argparse.ArgumentParser) -> None:
    """Let a command line name the file."""
    parser.add_argument("--result", type=Path, metavar="JSON", help="also keep what is printed in this file")


def keep(report: Report, target: str, parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    """Write a report to the file that a command line named, if it did.

    Args:
        report: what was found.
        target: make's.
        parser: of the command line.
        given: the command line.
    """
    if given.result is not None:
        figures = {name: round(value, 4) for name, value in report.figures.items() if math.isfinite(value)}
        finite = Report(report.tables, report.notes, figures)
        Kept(finite, as_make(target, parser, given), time.strftime("%Y-%m-%d"), machine_in_words()).write(given.result)


def as_make(target: str, parser: argparse.ArgumentParser, given: argparse.Namespace) -> str:
    """Return the call of `make` that a command line is, without what is by default and what changes no figure."""
    words = ["make", target]
    for name, value in vars(given).items():
        if name not in ("result", "draw", "jobs", "short", "folder") and value != parser.get_default(name):
            shown = " ".join(map(str, value)) if isinstance(value, list) else "1" if value is True else str(value)
            words.append(f'{name.upper()}="{shown}"' if " " in shown else f"{name.upper()}={shown}")
    return " ".join(words)


def machine_in_words() -> str:
    """Return what this runs on."""
    cores, gpus = usable_cores(), find_gpus()
    memory_gb = psutil.virtual_memory().total / 1e9
    return (
        f"{_processor()} with {cores} core{'s' * (cores != 1)}, {memory_gb:.0f} GB of memory,"
        f" {' and '.join(gpu.name for gpu in gpus) or 'no GPU'}, Python {platform.python_version()}"
    )


def _processor() -> str:
    try:
        found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:  # macOS has none
        found = None
    return found[1] if found else platform.processor() or platform.machine()
