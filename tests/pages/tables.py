"""Tables as Markdown has them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of cells; a cell may have Markdown in it."""
    return "\n".join([_line(head), "|" + "---|" * len(head), *map(_line, rows)])


def _line(cells: Sequence[str]) -> str:
    drawn = (cell.replace("|", "\\|") for cell in cells)
    return "|" + "".join(f" {cell} |" if cell else " |" for cell in drawn)


def code(*words: str) -> str:
    """Return words in back ticks, with commas between them."""
    return ", ".join(f"`{word}`" for word in words)
