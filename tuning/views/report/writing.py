"""A report as one HTML file that needs nothing else, and as Markdown with its pictures beside it.

Every value is escaped by default, in both forms: HTML by Jinja's autoescape, Markdown by what each expression passes
through. A study, a class or a value may be called anything, and does nothing there. The page forbids scripts besides,
by a policy of its own; what it carries for `make verify` is data, which no browser runs.
"""

from __future__ import annotations

import base64
import json
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from storage.errors import BadInput, disk_error
from storage.files import replacing
from tuning.views.report.document import Picture, Report
from tuning.words import markdown_text

MOST_BYTES = 5_000_000

_TYPES = {".svg": "image/svg+xml", ".png": "image/png"}
_TEMPLATES = Path(__file__).with_name("templates")


def html_of(report: Report) -> str:
    """Return a report as one page of HTML, with everything in it."""
    return _html().get_template("report.html.j2").render(report=report)


def markdown_of(report: Report, folder: str) -> str:
    """Return a report as Markdown.

    Args:
        report: what is said.
        folder: where its pictures are, seen from the file.
    """
    return _markdown().get_template("report.md.j2").render(report=report, folder=folder)


def write(report: Report, file: Path) -> list[Path]:
    """Write a report: the page, the same as Markdown beside it, and a folder of that one's pictures.

    Args:
        report: what is said.
        file: the page's; its folder is made if it is not there.

    Returns:
        The page and the Markdown file.

    Raises:
        BadInput: the folder cannot be written, or the file is called as no page is.
    """
    if file.suffix.lower() not in (".html", ".htm"):
        raise BadInput(
            f"--output {file}: is no page's name. Give one that ends in .html; the Markdown is put beside it."
        )
    beside = file.with_suffix(".md")
    pictures = file.with_name(f"{file.stem}-pictures")
    try:
        pictures.mkdir(parents=True, exist_ok=True)
        for section in report.sections:
            for picture in section.pictures:
                _put(pictures / f"{picture.name}{picture.suffix}", picture.content)
        _put(beside, markdown_of(report, pictures.name).encode())
        _put(file, html_of(report).encode())
    except OSError as error:
        raise disk_error(error, f"cannot write {file}", "Give another file with --output.") from error
    return [file, beside]


def _put(file: Path, content: bytes) -> None:
    with replacing(file) as beside:
        beside.write_bytes(content)


@cache
def _html() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"data_uri": _data_uri, "script_json": script_json}
    return environment


@cache
def _markdown() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=False,  # noqa: S701 - `finalize` sees to every value
        finalize=_escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"code": _code, "address": lambda name: Markup(quote(name))}  # noqa: S704 - quoted
    return environment


def _data_uri(picture: Picture) -> str:
    return f"data:{_TYPES[picture.suffix]};base64,{base64.b64encode(picture.content).decode()}"


def script_json(document: Any) -> Markup:
    """Return JSON that may stand in a script element: nothing in it ends that, or begins a comment."""
    text = json.dumps(document, sort_keys=True, allow_nan=False, indent=1)
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return Markup(text)  # noqa: S704 - escaped just now


def _escaped(value: Any) -> Any:
    """Return a value as Markdown shows it, letter for letter."""
    return value if isinstance(value, Markup) else markdown_text(str(value))


def _code(text: str) -> Markup:
    """Return a block of code: indented, so that no row of backticks in it ends it."""
    return Markup("    " + " ".join(text.split()))  # noqa: S704 - a block of code has no markup
