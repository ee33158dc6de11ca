"""Folders of users in which something lies that must not matter."""

from __future__ import annotations

from pathlib import Path

# Names of the project's packages, of Python's modules and of what is installed, as users' own files have them.
PACKAGES = ("models", "storage", "studies", "tuning")
MODULES = ("keras", "random", "numpy", "statistics", "tensorflow")


def hostile_folder(folder: Path) -> Path:
    """Fill a folder with packages and modules of everyday names, each of which ends the process that imports it."""
    for name in PACKAGES:
        (folder / name).mkdir(parents=True)
    for file in [*(f"{name}/__init__" for name in PACKAGES), *MODULES]:
        (folder / f"{file}.py").write_text(f"raise SystemExit('took the {file} of a user')\n")
    return folder
