"""The tutorial as it is kept: with what it showed when it was run, small, and of no one's machine."""

from __future__ import annotations

import json

import pytest

from tests.pages.page import ROOT
from tests.pages.tutorial import SHORT, TUTORIAL, read

MOST_BYTES = 700_000
CODE = [cell for cell in read().cells if cell.cell_type == "code"]


def test_every_cell_that_does_something_has_shown_something() -> None:
    numbers = [cell.execution_count for cell in CODE]
    assert numbers == list(range(1, len(CODE) + 1)), "make notebook runs it from the first to the last"
    silent = [cell.source for cell in CODE if not cell.outputs]
    assert [code for code in silent if not code.startswith("#")] == []
    assert {output.output_type for cell in CODE for output in cell.outputs} <= {"display_data", "execute_result"}


def test_it_is_small_and_says_nothing_of_the_machine_that_ran_it() -> None:
    text = TUTORIAL.read_text(encoding="utf-8")
    assert len(text) < MOST_BYTES
    assert str(ROOT) not in text
    assert "/tmp/" not in text
    assert "sqlite:///runs/studies.db" in text
    assert set(json.loads(text)["metadata"]) == {"kernelspec", "language_info"}


@pytest.mark.parametrize("code", SHORT)
def test_what_a_test_runs_in_short_is_a_cell(code: str) -> None:
    assert [cell.source for cell in CODE].count(code) == 1
