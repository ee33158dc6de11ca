"""The tests marked `long`, which `make test` leaves out, and the file that says how they last went.

As a plugin of pytest, `-p tests.long_tests`, it writes that file when the tests are over; `make test-long` does so.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import pytest

from tests.benchmarks.report import machine_in_words

FILE: Final = Path(__file__).resolve().parent / "long.json"


@dataclass(frozen=True)
class LongResult:
    """How the tests marked `long` went.

    Attributes:
        date: when, `YYYY-MM-DD`.
        machine: on what, in words.
        seconds: how long all of them took.
        passed, failed, skipped: how many.
        tests: their names, in order; a file of tests may move.
    """

    date: str
    machine: str
    seconds: int
    passed: int
    failed: int
    skipped: int
    tests: list[str]

    @classmethod
    def read(cls, file: Path) -> LongResult:
        """Return what a file has."""
        return cls(**json.loads(file.read_text(encoding="utf-8")))

    def write(self, file: Path) -> None:
        """Write it to a file."""
        file.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def name_of(nodeid: str) -> str:
    """Return a test's name without the file that it stands in."""
    return nodeid.partition("::")[2]


class Recorder:
    """Hears how each test ends.

    Args:
        file: is written when all are over, unless they were broken off.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._began = time.monotonic()
        self._ended: dict[str, Literal["passed", "failed", "skipped"]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        # What comes before a test may fail or be skipped, and what comes after it may fail.
        if report.when == "call" or report.outcome != "passed":
            self._ended[name_of(report.nodeid)] = report.outcome

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return
        counts = Counter(self._ended.values())
        LongResult(
            date=time.strftime("%Y-%m-%d"),
            machine=machine_in_words(),
            seconds=round(time.monotonic() - self._began),
            passed=counts["passed"],
            failed=counts["failed"],
            skipped=counts["skipped"],
            tests=sorted(self._ended),
        ).write(self._file)


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):  # what pytest-xdist gives to its processes
        config.pluginmanager.register(Recorder(FILE))
