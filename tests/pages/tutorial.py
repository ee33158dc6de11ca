"""``make notebook``: run the tutorial from its first cell to its last, and keep in it what it showed.

What differs from run to run, or from machine to machine, is left out: folders, times of cells, versions of Python.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.pages.page import ROOT

TUTORIAL: Final = ROOT / "tuning" / "tutorial.ipynb"
SHORT: Final[Mapping[str, str]] = {
    "study.tune()": "study.tune(trials=3, epochs=2, train_images=600)",
    "study.confirm(top=2, seeds=2)": "study.confirm(top=1, seeds=2)",
    "study.refit(epochs=12)": "study.refit(epochs=1)",
}
"""Cells, and what a test runs in the place of them."""

_CELL_TIMEOUT_S = 600


def read(file: Path = TUTORIAL) -> Any:
    """Return a notebook."""
    return nbformat.read(file, as_version=4)  # type: ignore[no-untyped-call]


def run(home: Path, *, short: bool = False) -> Any:
    """Return the tutorial as it is after all of its cells ran.

    Args:
        home: its `TUNING_HOME`.
        short: whether `SHORT` is run.

    Raises:
        CellExecutionError: a cell failed.
    """
    notebook = read()
    metadata = {**notebook.metadata}
    if short:
        for code, shorter in SHORT.items():
            (cell,) = (cell for cell in notebook.cells if cell.source == code)
            cell.source = shorter
    client = NotebookClient(
        notebook,
        timeout=_CELL_TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(TUTORIAL.parent)}},
        record_timing=False,
    )
    client.execute(env={**os.environ, "TUNING_HOME": str(home)})
    notebook.metadata = metadata
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            _settle(output, home)
    return notebook


def _settle(output: Any, home: Path) -> None:
    """Say the folders of this run as a reader has them."""
    told = output.get("data", output)
    for kind, text in told.items():
        if isinstance(text, str) and kind in ("text", "text/plain", "text/html"):
            told[kind] = text.replace(str(home), "runs").replace(f"{ROOT}/", "")


def main() -> int:
    """Run it as the command line says; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=TUTORIAL)
    parser.add_argument("--short", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        try:
            notebook = run(Path(folder, "home").resolve(), short=given.short)
        except CellExecutionError as error:
            print(error, file=sys.stderr)
            return 1
    nbformat.write(notebook, given.out)  # type: ignore[no-untyped-call]
    return 0


if __name__ == "__main__":
    sys.exit(main())
