"""What is generated in the pages is what its sources say now. No Keras."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.benchmarks.report import Kept, Report, Table
from tests.pages import measured
from tests.pages.command_line import commands
from tests.pages.docstrings import attributes
from tests.pages.generated import SOURCES, blocks_of, renewed
from tests.pages.makefile import BENCHMARKS, recipes
from tests.pages.measured import headlines, kept, result_names
from tests.pages.page import Page, page_paths
from tests.pages.tables import markdown

PAGES = [Page.read(path) for path in page_paths()]
BLOCKS = [block for page in PAGES for block in blocks_of(page.text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_the_page_is_what_make_docs_would_write(page: Page) -> None:
    assert renewed(page.text) == page.text, f"{page.path} is not what its sources say any more. Run: make docs"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_mark_of_something_generated_is_whole(page: Page) -> None:
    assert page.text.count("<!-- generated: ") == page.text.count("<!-- end -->") == len(blocks_of(page.text))
    assert {name for name, _ in blocks_of(page.text)} <= set(SOURCES)


def test_everything_that_can_be_generated_is_shown_once() -> None:
    assert sorted(words for name, words in BLOCKS if name == "options") == sorted(commands())
    assert sorted(words for name, words in BLOCKS if name == "benchmark") == sorted(BENCHMARKS)
    assert sorted(words for name, words in BLOCKS if name == "result") == result_names()
    assert set(BENCHMARKS) == {target for target in recipes() if target.startswith("bench-")} - {"bench-peers"}
    assert set(SOURCES) == {name for name, _ in BLOCKS}


@pytest.mark.parametrize("words", commands())
def test_each_commands_options_stand_in_its_section(words: str) -> None:
    section = next(page for page in PAGES if page.path == "tuning/README.md").section(f"`{words}`")
    assert blocks_of(section) == [("options", words)]


def test_a_page_that_differs_from_its_source_is_noticed() -> None:
    page = next(page for page in PAGES if page.path == "tuning/README.md")
    assert renewed(page.text.replace("| `--trials` |", "| `--trails` |")) == page.text


def test_a_source_that_does_not_exist_is_refused() -> None:
    with pytest.raises(KeyError, match="nonsense"):
        renewed("<!-- generated: nonsense -->\n<!-- end -->")


@pytest.mark.parametrize("name", result_names())
def test_a_result_says_how_and_when_it_came_to_be(name: str) -> None:
    found = kept(name)
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", found.date)
    assert found.command.startswith("make ") or (found.transcribed and not found.command)
    assert found.report.tables
    for table in found.report.tables:
        assert len(table.rows) > 1
        assert {len(row) for row in table.rows} == {len(table.rows[0])}
    # Where seconds or bytes count, so does the machine.
    assert found.machine or name.startswith(("search", "budgeted"))


def test_a_result_that_a_command_wrote_is_told_apart_from_one_that_was_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = [Table("how fast", [["who", "s"], ["we", "1"]]), Table("each", [["a"], ["b"]], detail=True)]
    monkeypatch.setattr(measured, "RESULTS", tmp_path)
    for transcribed in (False, True):
        file = tmp_path / f"told-{transcribed}.json"
        Kept(Report(tables, ["A note."]), "make bench-gpu", "2026-11-29", "a machine", transcribed).write(file)
    assert measured.result("told-True").startswith("Printed by `make bench-gpu` on 2026-11-29, on a machine, before")
    assert measured.result("told-False") == (
        "`make bench-gpu`, on 2026-11-29, on a machine.\n\nHow fast:\n\n| who | s |\n|---|---|\n| we | 1 |\n\n"
        "<details><summary>Each</summary>\n\n| a |\n|---|\n| b |\n\n</details>\n\nA note."
    )


def test_the_headline_of_the_search_is_a_range_that_has_the_least_in_it() -> None:
    told = " ".join(headlines().split())
    for peer in ("asha", "tpe_median"):
        ratios = [measured._ratio(peer, group) for group in measured.GROUPS]
        assert f"{measured._short(min(ratios))} to {measured._short(max(ratios))} times as many" in told


class Described:
    """Something.

    Attributes:
        one: the first,
            over two lines.
        two: the second: with a colon.

    Raises:
        ValueError: never.
    """


def test_attributes_are_read_from_a_docstring() -> None:
    assert attributes(Described) == {"one": "the first, over two lines", "two": "the second: with a colon"}


def test_a_cell_may_be_empty_or_have_a_bar_in_it() -> None:
    assert markdown(("a", "b"), [("x|y", ""), ("", "z")]) == "| a | b |\n|---|---|\n| x\\|y | |\n| | z |"
