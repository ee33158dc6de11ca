"""What is generated in the pages is what its sources say now. No Keras."""

from __future__ import annotations

import pytest

from tests.pages.command_line import commands
from tests.pages.generated import SOURCES, blocks_of, renewed
from tests.pages.makefile import BENCHMARKS, recipes
from tests.pages.page import Page, page_paths
from tests.pages.study_file import attributes
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
