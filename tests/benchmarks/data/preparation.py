"""Preparing a folder of pictures as a process of its own, or only being ready to: what is measured beside `plain`."""

from __future__ import annotations

import sys
from pathlib import Path

from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare


def prepare_folder(pictures: Path, home: Path) -> PreparedDataset:
    """Prepare a folder of class folders in a new home."""
    return prepare(str(pictures), Home(home))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        prepare_folder(Path(sys.argv[1]), Path(sys.argv[2]))
