"""What is left to `make test-long` was run by it, all of it, and passed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Literal

import pytest

from tests.long_tests import FILE, LongResult, Recorder, name_of

TESTS = FILE.parent
LATEST = LongResult.read(FILE)


def test_the_long_tests_passed_when_they_were_last_run() -> None:
    assert LATEST.passed == len(LATEST.tests) > 0
    assert LATEST.failed == LATEST.skipped == 0, "mend it, and run: make test-long"


def test_they_were_the_ones_that_there_are_now(collected: list[pytest.Item]) -> None:
    names = {name_of(item.nodeid) for item in collected if item.get_closest_marker("long") is not None}
    assert names <= set(LATEST.tests), "run: make test-long"
    if {item.path for item in collected} == set(TESTS.rglob("test_*.py")):
        assert names == set(LATEST.tests), "run: make test-long"


Outcome = Literal["passed", "failed", "skipped"]
ENDED: dict[str, list[tuple[Literal["setup", "call", "teardown"], Outcome]]] = {
    "test_b[1]": [("setup", "passed"), ("call", "passed"), ("teardown", "passed")],
    "test_a": [("setup", "passed"), ("call", "failed"), ("teardown", "passed")],
    "test_d": [("setup", "passed"), ("call", "passed"), ("teardown", "failed")],
    "test_c": [("setup", "skipped"), ("teardown", "passed")],
}


def test_how_each_test_ended_is_kept(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "long.json")
    for name, phases in ENDED.items():
        for when, outcome in phases:
            report = pytest.TestReport(f"tests/test_x.py::{name}", ("test_x.py", 1, name), {}, outcome, None, when)
            recorder.pytest_runtest_logreport(report)
    recorder.pytest_sessionfinish(pytest.ExitCode.TESTS_FAILED)
    kept = LongResult.read(tmp_path / "long.json")
    assert kept.tests == ["test_a", "test_b[1]", "test_c", "test_d"]
    assert (kept.passed, kept.failed, kept.skipped) == (1, 2, 1)
    assert kept.date == time.strftime("%Y-%m-%d")


@pytest.mark.parametrize("status", [pytest.ExitCode.INTERRUPTED, pytest.ExitCode.NO_TESTS_COLLECTED])
def test_a_run_that_was_broken_off_leaves_the_result_of_the_one_before(tmp_path: Path, status: pytest.ExitCode) -> None:
    Recorder(tmp_path / "long.json").pytest_sessionfinish(status)
    assert list(tmp_path.iterdir()) == []
