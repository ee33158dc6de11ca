"""``make docs``: write into the pages what they take from the code and from results; name those that changed."""

from __future__ import annotations

import sys

from tests.pages.generated import renewed
from tests.pages.page import ROOT, Page, page_paths


def main() -> int:
    """Renew every page; return the exit status."""
    for path in page_paths():
        page = Page.read(path)
        text = renewed(page.text)
        if text != page.text:
            (ROOT / path).write_text(text, encoding="utf-8")
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
