"""Tables on terminals that may be narrow: nothing is cut where it can stand below instead."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

# What is folded gets at least so many characters a line.
_FOLDED_WIDTH = 20


class Column(NamedTuple):
    """A column of a table.

    Attributes:
        heading: above it.
        cells: from the top.
        right: whether they stand at its right.
        folds: whether a cell may take several lines.
    """

    heading: str
    cells: Sequence[str]
    right: bool = False
    folds: bool = False

    @property
    def least_width(self) -> int:
        """How narrow it may be, in characters."""
        width = max(map(cell_len, (self.heading, *self.cells)))
        return min(width, _FOLDED_WIDTH) if self.folds else width


def print_table(console: Console, title: str | None, *layouts: Sequence[Column], boxed: bool = True) -> None:
    """Print the first layout for which there is room; where there is none, the last one's rows as sentences."""
    for columns in layouts:
        table = _table(title, columns, boxed=boxed)
        if Measurement.get(console, console.options.update(max_width=10_000), table).minimum <= console.width:
            console.print(table)
            return
    console.print(_sentences(title, layouts[-1]))


def _table(title: str | None, columns: Sequence[Column], *, boxed: bool) -> Table:
    table = Table(
        title=title,
        title_justify="left",
        title_style="bold",
        box=box.HEAVY_HEAD if boxed else None,
        padding=(0, 1),
    )
    for column in columns:
        table.add_column(
            column.heading,
            justify="right" if column.right else "left",
            min_width=column.least_width,
            no_wrap=not column.folds,
            overflow="fold",
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*row)
    return table


def _sentences(title: str | None, columns: Sequence[Column]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, pad_edge=False)
    table.add_column(no_wrap=True, justify="right" if columns[0].right else "left")
    table.add_column(overflow="fold")
    for first, *rest in zip(*(column.cells for column in columns), strict=True):
        named = [(column.heading, cell) for column, cell in zip(columns[1:], rest, strict=True) if cell]
        table.add_row(first, ", ".join(f"{heading} {cell}" for heading, cell in named))
    return table
