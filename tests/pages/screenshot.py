"""A page as a browser shows it, for this project's own: `python -m tests.pages.screenshot report.html OUT.png`."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

_BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def take(page: Path, out: Path, *, browser: str, width: int, height: int) -> None:
    """Write a PNG of the top of a page, in few colours.

    Args:
        page: a file of HTML.
        out: is written.
        browser: Chromium, or one of its kind.
        width: of the window, in pixels.
        height: likewise.
    """
    with tempfile.TemporaryDirectory() as folder:
        taken = Path(folder) / "taken.png"
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        put = [f"--user-data-dir={folder}/profile", f"--window-size={width},{height}", f"--screenshot={taken}"]
        call = [browser, *quiet, *put, page.absolute().as_uri()]
        subprocess.run(call, check=True, capture_output=True, timeout=120)
        with Image.open(taken) as picture:
            picture.convert("RGB").quantize(96).save(out, optimize=True)


def main() -> None:
    """Take a picture of the page that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--browser", default=next(filter(shutil.which, _BROWSERS), None))
    parser.add_argument("--width", type=int, default=900)
    parser.add_argument("--height", type=int, default=1200)
    given = parser.parse_args()
    if given.browser is None:
        sys.exit(f"there is no browser here: {', '.join(_BROWSERS)}. Install one, or give --browser PATH.")
    take(given.page, given.out, browser=given.browser, width=given.width, height=given.height)


if __name__ == "__main__":
    main()
