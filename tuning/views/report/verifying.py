"""Whether a page says what the study says: all is computed anew, and every letter of it compared. No Keras."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any

from storage.errors import BadInput, disk_error, shown
from tuning.views.report.document import Report
from tuning.views.report.writing import MOST_BYTES, html_of

MOST_SHOWN = 110
"""Letters of a line that differs; the rest is left out."""

_FIGURES = re.compile(r'<script type="application/json" id="figures">(.*?)</script>', re.DOTALL)
_PICTURE = re.compile(r'<img alt="([^"]*)" src="data:')
_ABSENT = object()


def differences(file: Path, report: Report) -> list[str]:
    """Return what a page says otherwise than the study, a line each; none where the page is as it would be written now.

    Args:
        file: the page.
        report: of the study, as it is now.

    Raises:
        BadInput: the file cannot be read, or is no report.
    """
    page = _read(file)
    said = _figures(page, file)
    anew = html_of(report)
    if page == anew:
        return []
    found = [*_figures_that_differ("", said, json.loads(json.dumps(report.figures)))]
    found += _lines_that_differ(_FIGURES.sub("", page).splitlines(), _FIGURES.sub("", anew).splitlines())
    return found or ["the page is written otherwise, though it shows the same"]


def _read(file: Path) -> str:
    try:
        if file.stat().st_size > 4 * MOST_BYTES:
            raise BadInput(f"{file} has {file.stat().st_size:,} bytes: it is no report. Give the page of one.")
        return file.read_text(encoding="utf-8")
    except OSError as error:
        raise disk_error(error, f"{file} cannot be read", "Give the page of a report.") from error
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is no text: give the page of a report.") from error


def _figures(page: str, file: Path) -> Any:
    found = _FIGURES.search(page)
    try:
        if found is not None:
            return json.loads(found[1])
    except ValueError:
        pass
    raise BadInput(f"{file} has no figures in it: it is no report. Write one with: make report")


def _figures_that_differ(path: str, said: Any, found: Any) -> Iterator[str]:
    if isinstance(said, dict) and isinstance(found, dict):
        for key in [*said, *(key for key in found if key not in said)]:
            yield from _figures_that_differ(
                f"{path}.{key}" if path else key, said.get(key, _ABSENT), found.get(key, _ABSENT)
            )
    elif isinstance(said, list) and isinstance(found, list) and len(said) == len(found):
        for place, (one, other) in enumerate(zip(said, found, strict=True)):
            yield from _figures_that_differ(f"{path}[{place}]", one, other)
    elif said != found or type(said) is not type(found):
        yield shown(f"{path}: the page says {_words(said)}, the study {_words(found)}")


def _words(value: Any) -> str:
    return "nothing" if value is _ABSENT else _cut(json.dumps(value))


def _lines_that_differ(said: list[str], found: list[str]) -> Iterator[str]:
    matcher = difflib.SequenceMatcher(None, said, found, autojunk=False)
    for kind, first, last, from_, to in matcher.get_opcodes():
        if kind == "equal":
            continue
        for place in range(max(last - first, to - from_)):
            one = said[first + place] if first + place < last else None
            other = found[from_ + place] if from_ + place < to else None
            yield _line(first + place + 1, one, other)


def _line(number: int, one: str | None, other: str | None) -> str:
    pictures = [found[1] for line in (one, other) if line is not None and (found := _PICTURE.search(line)) is not None]
    if pictures:
        return shown(f"line {number}: the picture differs: {unescape(pictures[0])}")
    return f"line {number}: the page says {_text(one)}, anew it is {_text(other)}"


def _text(line: str | None) -> str:
    return (
        "nothing" if line is None else repr(_cut(shown(unescape(re.sub(r"<[^>]*>", " ", line)).strip()) or shown(line)))
    )


def _cut(words: str) -> str:
    return words if len(words) <= MOST_SHOWN else f"{words[: MOST_SHOWN - 1]}…"
