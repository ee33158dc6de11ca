"""The view of `gc`: what is left over in the home, and freeing it."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from sqlalchemy.engine import make_url

from storage.connections import sqlite_file
from storage.database import Database
from storage.leftovers import Leftover, Leftovers, find_leftovers, free
from storage.opening import open_to_read
from storage.settings import Home


def collect_garbage(home: Home, urls: Sequence[str], study: str | None, *, yes: bool) -> None:
    """Say what is left over in the home, and with `yes` free it. `storage.leftovers` says what is safe to free.

    Args:
        home: where to look.
        urls: the databases that it serves; its default one is always read as well, if it is there.
        study: look only at what is left of this study.
        yes: free it.

    Raises:
        BadInput: there is no database.
        StorageUnavailable: one cannot be reached.
    """
    with _opened(_all_urls(home, urls)) as databases:
        shown = ", ".join(database.shown_url for database in databases)
        found = find_leftovers(home, databases, study=study)
        freed = free(found.free) if yes else found.free
    print(f"databases read: {shown}", file=sys.stderr)
    for line in _lines("freed" if yes else "left over", freed):
        print(line, file=sys.stderr)
    _explain_doubt(found)
    if found.free and not yes:
        print("Nothing was freed. To free it, give the same command with --yes (make: YES=1).", file=sys.stderr)


def _all_urls(home: Home, urls: Sequence[str]) -> list[str]:
    default = home.database_url
    file = sqlite_file(make_url(default))
    there = file is not None and file.exists()
    return [*urls, *([default] if default not in urls and (there or not urls) else [])]


@contextmanager
def _opened(urls: Sequence[str]) -> Iterator[list[Database]]:
    with ExitStack() as stack:
        databases = []
        for url in urls:
            databases.append(open_to_read(url))
            stack.callback(databases[-1].engine.dispose)
        yield databases


def _lines(verb: str, leftovers: Sequence[Leftover]) -> Iterator[str]:
    counts: Counter[str] = Counter(leftover.kind for leftover in leftovers)
    for kind, count in counts.items():
        size = sum(leftover.size_bytes for leftover in leftovers if leftover.kind == kind)
        yield f"{verb}: {count} {kind}, {size / 1e6:.1f} MB"
        if len(leftovers) <= 20:
            yield from (f"  {leftover.place}" for leftover in leftovers if leftover.kind == kind)
    total = sum(leftover.size_bytes for leftover in leftovers)
    yield f"{verb}: {total / 1e6:.1f} MB in all" if leftovers else f"{verb}: nothing"


def _explain_doubt(found: Leftovers) -> None:
    if not found.strangers:
        return
    size = sum(leftover.size_bytes for leftover in found.doubtful)
    counts = Counter(leftover.kind for leftover in found.doubtful) or Counter({"artifacts": 0})
    kinds = " and ".join(f"{count} {kind}" for kind, count in counts.items())
    strangers = ", ".join(found.strangers[:3])
    print(
        f"kept: {kinds} that no study names, {size / 1e6:.1f} MB, because of {strangers}: of a"
        " study that is in none of these databases. Give its database too, with --storage (it can be repeated), or,"
        " if it is gone for good, name it: tuning gc --study NAME --yes",
        file=sys.stderr,
    )
