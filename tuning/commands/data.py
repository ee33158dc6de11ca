"""The view of `data list`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from storage.settings import Home
from studies.datasets.inventory import inventory


def show_inventory(home: Home, *, as_json: bool) -> None:
    """Print which data sets there are and which are here, to standard output."""
    entries = inventory(home)
    if as_json:
        json.dump([asdict(entry) for entry in entries], sys.stdout, indent=1, default=str)
        print()
        return
    table = Table(box=None, padding=(0, 2))
    for title in ("data set", "images", "classes", "shape", "state", "size"):
        table.add_column(title)
    for entry in entries:
        shape = "x".join(map(str, entry.shape))
        size = f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else ""
        table.add_row(
            entry.name,
            f"{entry.train_images:,} + {entry.test_images:,}",
            str(entry.classes),
            shape,
            str(entry.state),
            size,
        )
    # In a pipe nobody sees columns: nothing is cut there.
    Console(width=None if sys.stdout.isatty() else 120).print(table)
