"""A page as tests read it: its sections, tables, code blocks, links and anchors."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[2]

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Page:
    """One Markdown file.

    Attributes:
        path: relative to the checkout, with slashes.
        text: all of it.
    """

    path: str
    text: str

    @classmethod
    def read(cls, path: str) -> Page:
        """Return the page at a path relative to the checkout."""
        return cls(path, (ROOT / path).read_text(encoding="utf-8"))

    @property
    def folder(self) -> Path:
        """Where relative links start."""
        return (ROOT / self.path).parent

    @cached_property
    def prose(self) -> str:
        """The text without its code blocks."""
        return _FENCED.sub("", self.text)

    def blocks(self, language: str) -> list[str]:
        """Return the code blocks in a language."""
        return [text for found, text in _FENCED.findall(self.text) if found == language]

    def section(self, title: str) -> str:
        """Return the prose under a heading, up to the next heading of the same rank or a higher one."""
        found = re.search(rf"^(#+) {re.escape(title)}\n", self.prose, re.MULTILINE)
        assert found is not None, f"{self.path} has no section {title!r}"
        rest = self.prose[found.end() :]
        end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest

    def json_after(self, words: str) -> Any:
        """Return the first JSON block after some words."""
        found = re.search(r"^```json\n(.*?)^```$", self.text[self.text.index(words) :], re.MULTILINE | re.DOTALL)
        assert found is not None, f"{self.path} has no JSON after {words!r}"
        return json.loads(found[1])

    @cached_property
    def anchors(self) -> set[str]:
        """The names of the headings, as a link calls them."""
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}

    @cached_property
    def links(self) -> list[str]:
        """What links and pictures lead to, as written."""
        in_words = re.findall(r"\]\(([^)]+)\)", self.prose)
        return [*in_words, *re.findall(r"(?:src|href)=\"([^\"]+)\"", self.prose)]


def page_paths() -> list[str]:
    """Return the path of every page, README.md first."""
    # Hidden folders (.venv, .bench) and what studies leave behind have pages of others, data of tests their own.
    tops = ("models", "storage", "studies", "tests/benchmarks", "tuning")
    found = [path for top in tops for path in (ROOT / top).rglob("*.md")]
    return ["README.md", *sorted(path.relative_to(ROOT).as_posix() for path in found)]


def rows(text: str) -> list[list[str]]:
    """Return the rows of all tables in a text, without heads."""
    table_lines = [line for line in text.splitlines() if line.startswith("|")]
    heads = {index - 1 for index, line in enumerate(table_lines) if set(line) <= set("|-: ")}
    bodies = [line for index, line in enumerate(table_lines) if index not in heads and not set(line) <= set("|-: ")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in bodies]


def named(text: str) -> list[str]:
    """Return what stands between back ticks."""
    return re.findall(r"`([^`]+)`", text)


def row_of(text: str, name: str) -> list[str]:
    """Return the one row whose first cell names something."""
    found = [row for row in rows(text) if name in named(row[0])]
    assert len(found) == 1, f"{name} has {len(found)} rows"
    return found[0]


def keys(value: Any) -> Any:
    """Return the names in a JSON value, without what they stand for; of a list, its first entry's."""
    if isinstance(value, dict):
        return {name: keys(inner) for name, inner in value.items()}
    return [keys(inner) for inner in value[:1]] if isinstance(value, list) else None
