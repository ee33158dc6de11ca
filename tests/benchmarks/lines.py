"""Results that are kept as lines of JSON, appended as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


def append_line(file: Path, document: Mapping[str, Any]) -> None:
    """Append a document as a line of JSON; its folder is made. One process writes at a time."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+b") as stream:
        if stream.tell() and not _ends_a_line(file):
            stream.write(b"\n")  # the torn line of a process that was killed stays alone
        stream.write(json.dumps(document).encode() + b"\n")


def read_lines(file: Path) -> Iterator[dict[str, Any]]:
    """Yield the documents of a file's lines, none where it is not there; torn lines are left out."""
    if not file.is_file():
        return
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            read = json.loads(line)
        except ValueError:
            continue
        if isinstance(read, dict):
            yield read


def _ends_a_line(file: Path) -> bool:
    with file.open("rb") as stream:
        stream.seek(-1, 2)
        return stream.read(1) == b"\n"
