"""What stands between two comments of a page, made anew from its source."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from tests.pages import measured
from tests.pages.catalog import catalog_table
from tests.pages.command_line import options_table
from tests.pages.environment import environment_table
from tests.pages.makefile import options_of_benchmark, targets_table
from tests.pages.outputs import keys_of_output
from tests.pages.study_file import keys_table

_BLOCK: Final = re.compile(r"^<!-- generated: (\S+)(?: ([^\n]*?))? -->\n.*?^<!-- end -->$", re.MULTILINE | re.DOTALL)

# Each takes the words after its name.
SOURCES: Final[Mapping[str, Callable[[str], str]]] = {
    "options": options_table,
    "targets": lambda _: targets_table(),
    "environment": lambda _: environment_table(),
    "study-file": lambda _: keys_table(),
    "keys": keys_of_output,
    "catalog": lambda _: catalog_table(),
    "benchmark": options_of_benchmark,
    "result": measured.result,
    "headlines": lambda _: measured.headlines(),
}


def renewed(text: str) -> str:
    """Return a page's text with everything generated made anew.

    Raises:
        KeyError: a block names no source.
    """
    return _BLOCK.sub(_made, text)


def written_by_hand(text: str) -> str:
    """Return a page's text without what is generated."""
    return _BLOCK.sub("", text)


def blocks_of(text: str) -> list[tuple[str, str]]:
    """Return the source of each generated block of a page, and the words after its name."""
    return [(name, words) for name, words in _BLOCK.findall(text)]


def _made(block: re.Match[str]) -> str:
    name, words = block[1], block[2] or ""
    head = f"<!-- generated: {name} {words}".rstrip()
    return f"{head} -->\n\n{SOURCES[name](words).strip()}\n\n<!-- end -->"
