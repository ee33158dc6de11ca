"""One output of a notebook's cell: the lines that a command says, and below them how far it is.

Jupyter's kernel draws it anew in its place. Nothing of IPython is imported where there is no kernel.
"""

from __future__ import annotations

import html
import io
import sys
import time
from collections.abc import Callable
from typing import Any, Final

from rich.console import Console, RenderableType

WIDTH: Final = 100
"""In characters: as wide as a page of a notebook shows without folding a line."""
MOST_LINES: Final = 300
"""Of more, the first half and the last half are shown: a page with thousands of lines is slow."""
# Between two drawings of what changes all the time.
EVERY_S: Final = 1.0

_STYLE = (
    "white-space:pre-wrap;word-break:normal;line-height:1.25;font-size:90%;"
    "font-family:Menlo,'DejaVu Sans Mono',Consolas,monospace"
)


def in_kernel() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None


class Cell(io.TextIOBase):
    """A stream whose lines are shown in one output of a cell, with a live view below them.

    Args:
        draw: shows a bundle of MIME types, each time in the place of the one before.
        clock: monotonic seconds.
    """

    def __init__(
        self, draw: Callable[[dict[str, str]], None] | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._draw = draw or _handle()
        self._clock = clock
        self._lines: list[str] = []
        self._begun = ""
        self._view: RenderableType | None = None
        self._drawn = -EVERY_S

    def console(self) -> Console:
        """Return a console whose lines go here."""
        plain: dict[str, Any] = {"markup": False, "highlight": False, "emoji": False, "color_system": None}
        stream: Any = self  # of all that a file can, rich needs what this can
        return Console(file=stream, width=WIDTH, force_terminal=False, force_jupyter=False, **plain)

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Show whole lines at once."""
        *lines, self._begun = (self._begun + text).split("\n")
        if lines:
            self._lines += lines
            self._show()
        return len(text)

    def start(self) -> None:
        """Begin a live view."""

    def update(self, renderable: RenderableType) -> None:
        """Show how far it is, unless that was shown just now."""
        self._view = renderable
        if self._clock() - self._drawn >= EVERY_S:
            self._show()

    def stop(self) -> None:
        """End the live view: what stays are the lines."""
        if self._view is not None:
            self._view = None
            self._show()

    def _show(self) -> None:
        self._drawn = self._clock()
        lines = self._lines
        if len(lines) > MOST_LINES:
            half = MOST_LINES // 2
            lines = [*lines[:half], f"... {len(lines) - 2 * half:,} lines ...", *lines[-half:]]
        text = "\n".join(lines)
        parts = [html.escape(text, quote=False)] if text else []
        if self._view is not None:
            told = _rendered(self._view)
            parts.append(told.export_html(inline_styles=True, code_format="{code}", clear=False).rstrip("\n"))
            text += ("\n" if text else "") + told.export_text().rstrip("\n")
        page = "\n".join(parts)
        self._draw({"text/plain": text, "text/html": f'<pre style="{_STYLE}">{page}</pre>'})


def _rendered(view: RenderableType) -> Console:
    console = Console(
        file=io.StringIO(), record=True, width=WIDTH, force_terminal=True, force_jupyter=False, color_system="truecolor"
    )
    console.print(view)
    return console


def _handle() -> Callable[[dict[str, str]], None]:
    """Return what draws into one output of the cell that runs."""
    from IPython.display import DisplayHandle

    handle: Any = DisplayHandle()  # type: ignore[no-untyped-call]
    shown: list[bool] = []

    def draw(bundle: dict[str, str]) -> None:
        if shown:
            handle.update(bundle, raw=True)
        else:
            shown.append(True)
            handle.display(bundle, raw=True)

    return draw
