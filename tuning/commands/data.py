"""The view of `data list`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

from rich.console import Console

from storage.settings import Home
from studies.datasets.inventory import inventory
from tuning.commands.tables import Column, print_table
from tuning.words import dataset_in_words


def show_inventory(home: Home, *, as_json: bool) -> None:
    """Print which data sets there are and which are here, to standard output."""
    entries = inventory(home)
    if as_json:
        json.dump([asdict(entry) for entry in entries], sys.stdout, indent=1, default=str)
        print()
        return
    columns = [
        Column("data set", [dataset_in_words(entry.name) for entry in entries]),
        Column("images", [f"{entry.train_images:,} + {entry.test_images:,}" for entry in entries]),
        Column("classes", [str(entry.classes) for entry in entries]),
        Column("shape", ["x".join(map(str, entry.shape)) for entry in entries]),
        Column("state", [str(entry.state) for entry in entries]),
        Column("size", [f"{entry.size_bytes / 1e6:.1f} MB" if entry.size_bytes else "" for entry in entries]),
    ]
    # In a pipe nobody sees columns: nothing is cut there.
    print_table(Console(width=None if sys.stdout.isatty() else 120), None, columns, boxed=False)
