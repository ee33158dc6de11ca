"""``make screenshots``: dashboard, report and notebook as a browser shows them, of real studies, for the pages.

Without a study of your own, a small one is tuned, confirmed, refitted and exported first, which takes some minutes. The
notebook is the tutorial, with the outputs that `make notebook` keeps in it.
"""

from __future__ import annotations

import argparse
import html
import io
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from markdown_it import MarkdownIt
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver

from tests.browser import NoBrowser, browser, until
from tests.pages.page import ROOT
from tests.pages.tutorial import read as read_tutorial

PICTURES: Final = ROOT / ".readme"
STUDY: Final = "mnist_sample"
MADE_BY: Final = (
    ("tune", "--dataset", STUDY, "--trials", "16", "--search-only", "--no-progress"),
    ("confirm", "--study", STUDY, "--top", "2", "--seeds", "2", "--no-progress"),
    ("refit", "--study", STUDY, "--epochs", "12", "--no-progress"),
    ("export", "--study", STUDY, "--format", "keras"),
)
"""The commands whose study is shown where none is named."""

_WIDTH: Final = 1200
_COLOURS: Final = 160
_NOTEBOOK_STYLE: Final = """
body { font: 15px/1.5 sans-serif; max-width: 60rem; margin: 1.5rem auto; padding: 0 1rem }
pre { font: 14px/1.4 monospace; margin: 0.6rem 0; white-space: pre-wrap }
.code { background: #f3f4f6; border-left: 3px solid #4c78a8; padding: 0.5rem 0.8rem }
table { border-collapse: collapse } td, th { padding: 0.15rem 0.7rem; text-align: right; border: none }
"""
_SETTLED_S: Final = 1.5
"""How long plotly takes to draw what it was given, and images to appear."""
_LINKS: Final = "return [...document.querySelectorAll('a')].find(one => one.textContent.includes(arguments[0]))"
_PLOTS: Final = "return document.querySelectorAll('.js-plotly-plot .main-svg').length"
_MISSING: Final = "return [...document.images].filter(one => !one.complete || !one.naturalWidth).length"


@dataclass(frozen=True)
class Shot:
    """A picture of a page.

    Attributes:
        name: of its file.
        path: of the page below the study's.
        height: of the window, in pixels.
        plots: how many must have been drawn.
    """

    name: str
    path: str
    height: int
    plots: int = 0


SHOTS: Final = (
    Shot("dashboard-study.png", "", 2330, plots=8),
    Shot("dashboard-trial.png", "/trials?numbers={best}", 1420),
)


@dataclass(frozen=True)
class Commands:
    """The command line, with a home.

    Attributes:
        home: `TUNING_HOME`; None for the one that is set.
        storage: of the study; None for the home's own.
    """

    home: Path | None
    storage: str | None = None

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        where = [f"--storage={self.storage}"] if self.storage is not None else []
        home = {"TUNING_HOME": str(self.home)} if self.home is not None else {}
        call = [sys.executable, "-m", "tuning", *arguments, *where]
        return subprocess.Popen(call, cwd=ROOT, env={**os.environ, **home}, stdout=subprocess.PIPE, text=True)

    def run(self, *arguments: str) -> str:
        with self.start(*arguments) as process:
            said, _ = process.communicate()
        if process.returncode:
            sys.exit(f"tuning {' '.join(arguments)}: exit status {process.returncode}")
        return said


@contextmanager
def dashboard(commands: Commands) -> Iterator[str]:
    """Serve the dashboard inside the block; the link is the printed one."""
    with commands.start("dashboard", "--port", "0") as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.terminate()


def take(page: WebDriver, shot: Shot, out: Path) -> None:
    """Write a picture of the page that is open, in few colours."""
    page.set_window_size(_WIDTH, shot.height)
    until(page, lambda page: page.execute_script(_PLOTS) >= shot.plots or None, f"{shot.plots} plots")
    until(page, lambda page: page.execute_script(_MISSING) == 0 or None, "every image")
    time.sleep(_SETTLED_S)
    with Image.open(io.BytesIO(page.get_screenshot_as_png())) as picture:
        picture.convert("RGB").quantize(_COLOURS).save(out / shot.name, optimize=True)
    sys.stdout.write(f"{out / shot.name}\n")


def take_all(commands: Commands, study: str, out: Path) -> None:
    """Write the pictures of a study.

    Raises:
        NoBrowser: there is none.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser(_WIDTH) as page:
        with dashboard(commands) as link:
            page.get(link)
            until(page, lambda page: page.execute_script(_LINKS, study), study).click()
            best = until(page, _of_best, "the best trial")
            address = page.current_url
            for shot in SHOTS:
                page.get(address + shot.path.format(best=best))
                take(page, shot, out)
        report = Path(folder) / "report.html"
        commands.run("report", "--study", study, "--output", str(report))
        page.get(report.as_uri())
        take(page, Shot("report.png", "", 1500), out)
        notebook = Path(folder) / "notebook.html"
        notebook.write_text(notebook_page(_shown_cells()), encoding="utf-8")
        page.get(notebook.as_uri())
        take(page, Shot("notebook.png", "", 2020), out)


def notebook_page(cells: Sequence[Any]) -> str:
    """Return cells of a notebook with their outputs as a page, much as those show them who show notebooks."""
    parts = []
    for cell in cells:
        if cell.cell_type == "markdown":
            parts.append(MarkdownIt("commonmark").enable("table").render(cell.source))
            continue
        parts.append(f"<pre class=code>{html.escape(cell.source)}</pre>")
        for output in cell.outputs:
            data = output.data
            if "text/html" in data:
                parts.append(data["text/html"])
            elif "image/svg+xml" in data:
                parts.append(data["image/svg+xml"])
            elif "image/png" in data:
                parts.append(f'<img src="data:image/png;base64,{data["image/png"]}">')
            else:
                parts.append(f"<pre>{html.escape(data['text/plain'])}</pre>")
    return f'<!DOCTYPE html><meta charset="utf-8"><style>{_NOTEBOOK_STYLE}</style>' + "\n".join(parts)


def _shown_cells() -> list[Any]:
    """The tutorial's cells from the search to what it found."""
    cells = read_tutorial().cells
    heads = [place for place, cell in enumerate(cells) if cell.source.startswith("## ")]
    first = next(place for place in heads if cells[place].source.startswith("## Tune"))
    return list(cells[first : heads[heads.index(first) + 2]])


def _of_best(page: WebDriver) -> str | None:
    words = page.find_element(By.TAG_NAME, "body").text
    return words.partition("Best Trial (number=")[2].partition(")")[0] or None


def main() -> None:
    """Take the pictures of the study that the command line names, or of a small one that is made for it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", help="one that exists")
    parser.add_argument("--storage", help="the URL of its database")
    parser.add_argument("--out", type=Path, default=PICTURES)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        commands = Commands(None if given.study else Path(folder), given.storage)
        try:
            with browser():
                pass  # before minutes are spent
            if given.study is None:
                for command in MADE_BY:
                    commands.run(*command)
            take_all(commands, given.study or STUDY, given.out)
        except NoBrowser as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
