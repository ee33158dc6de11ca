"""What a report is made of, whatever it is written as: sections with words, tables and pictures, as plain text.

Nothing here is escaped: `writing` does that for each form, with everything, so that no section can forget it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

Figures = dict[str, Any]
"""The numbers behind a section, as JSON has them."""


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        headings: of its columns.
        rows: one cell for each heading.
        numeric: the columns that hold numbers, from 0: they stand at the right.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Picture:
    """A picture.

    Attributes:
        name: of its file, without the suffix; plain ASCII.
        content: the file's bytes.
        suffix: `.svg` or `.png`.
        words: what it shows, for who does not see it, and as its caption.
    """

    name: str
    content: bytes
    suffix: str
    words: str


@dataclass(frozen=True)
class Section:
    """A part of a report.

    Attributes:
        name: plain ASCII: its anchor, and where its figures are kept.
        title: its heading.
        words: paragraphs.
        tables, pictures: what follows them.
        again: the command that makes it again.
        figures: the numbers in it.
        left_out: why there is nothing; empty where there is.
    """

    name: str
    title: str
    words: Sequence[str] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    again: str = ""
    figures: Figures = field(default_factory=dict)
    left_out: str = ""


@dataclass(frozen=True)
class Report:
    """A study's report.

    Attributes:
        study: the study's name, as it can be printed in one line.
        lead: what matters most, in a few sentences.
        sections: in their order.
        again: the command that writes it anew.
        check: the command that compares it with the study.
    """

    study: str
    lead: str
    sections: Sequence[Section]
    again: str
    check: str

    @property
    def figures(self) -> Figures:
        """The numbers of all sections, by name."""
        return {"study": self.study, **{section.name: section.figures for section in self.sections if section.figures}}
