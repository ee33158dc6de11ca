"""What decides what a process of this project computes: its source, Python, and the packages that it stands on."""

from __future__ import annotations

import hashlib
import importlib.metadata
import platform
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from storage.settings import CHECKOUT

PROJECT = "keras-tuning-service"
PACKAGES = ("models", "storage", "studies", "tuning")
# Of the differences of one kind, so many are named.
_MOST_NAMED = 3
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[[^]]*\])?[^;]*(?:;(.*))?")


@dataclass(frozen=True)
class Installation:
    """What a node has.

    Attributes:
        python: its version.
        packages: the versions of what the project stands on, by name.
        source: a digest of each file of the project's packages, by its path in the checkout.
    """

    python: str
    packages: dict[str, str]
    source: dict[str, str]


@cache
def installation() -> Installation:
    """Return what this process has, as it was when this was first asked for."""
    return Installation(platform.python_version(), _packages(), _source(CHECKOUT))


def differences(study: Installation, node: Installation) -> list[str]:
    """Return in what a node differs from what a study was begun with, in words; nothing where it does not."""
    found = []
    if node.python != study.python:
        found.append(f"it has Python {node.python}, the study {study.python}")
    unlike = sorted(name for name in study.packages if node.packages.get(name) != study.packages[name])
    if unlike:
        named = (f"{name} {node.packages.get(name, 'not at all')} for {study.packages[name]}" for name in unlike)
        found.append(f"it has {_some(list(named))}")
    files = sorted(
        path for path in study.source.keys() | node.source.keys() if node.source.get(path) != study.source.get(path)
    )
    if files:
        found.append(f"its checkout differs in {_some(files)}")
    return found


def _some(named: list[str]) -> str:
    more = f" and {len(named) - _MOST_NAMED} more" if len(named) > _MOST_NAMED else ""
    return ", ".join(named[:_MOST_NAMED]) + more


def _source(checkout: Path) -> dict[str, str]:
    files = (file for package in PACKAGES for file in sorted((checkout / package).rglob("*")))
    return {
        file.relative_to(checkout).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()[:16]
        for file in files
        if file.suffix in (".py", ".toml") and file.is_file()
    }


def _packages() -> dict[str, str]:
    """The versions of all that the project needs, and of what these need, as far as they are installed."""
    found: dict[str, str] = {}
    waiting = [PROJECT]
    while waiting:
        name = waiting.pop()
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        for line in distribution.requires or []:
            match = _REQUIREMENT.match(line)
            # What an extra brings, a node need not have.
            if match is None or "extra" in (match[2] or ""):
                continue
            needed = re.sub(r"[-_.]+", "-", match[1]).lower()
            if needed not in found:
                try:
                    found[needed] = importlib.metadata.version(needed)
                except importlib.metadata.PackageNotFoundError:
                    continue
                waiting.append(needed)
    return found
