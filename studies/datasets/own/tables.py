"""Tables: of pictures' files and their classes, or of numbers and their classes."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from storage.errors import BadInput, first_line, shown
from studies.datasets.formats import DAMAGED
from studies.datasets.own.arrays import PART_NAMES, Arrays
from studies.datasets.own.columns import Columns, read_columns
from studies.datasets.own.listing import Listing, Part, PictureFile
from studies.datasets.own.numbers.labels import as_numbers, number_classes

LABELS = ("label", "class", "category", "target", "class_name")
PATHS = ("path", "file", "filename", "file_name", "image", "image_path", "filepath")
SPLIT = "split"
"""The names of the columns that say something, in capital or small letters; of several the first one here."""

METADATA = "metadata"
"""The table that a folder of pictures may hold (Hugging Face's ImageFolder), ``.csv`` or ``.jsonl``."""

_SEPARATORS = ",;\t"
_LONGEST_LINE = 1 << 24
_SHOWN = 3
_SHOWN_COLUMNS = 8


def read_table(file: Path) -> Listing | Arrays:
    """Return what a ``.csv``, ``.tsv``, ``.csv.gz`` or ``.jsonl`` file lists.

    It has a line with the names of its columns. One of them is ``label``, ``class``, ``category``, ``target`` or
    ``class_name``; where another is ``path``, ``file``, ``filename``, ``file_name``, ``image``, ``image_path`` or
    ``filepath``, it names pictures, relative to the folder of the table or absolute, else all others are numbers.
    ``split`` may say of each row whether it is of train, validation or test.

    Raises:
        BadInput: it is no such table, or it cannot be used: which line, and why.
    """
    with _readable(file):
        if ".jsonl" in file.suffixes:
            return _listing(file, _json_rows(file))
        names, separator = _first_line(file)
        label, path, split = (_find(names, known) for known in (LABELS, PATHS, (SPLIT,)))
        _require_header(file, names)
        if label is None:
            raise BadInput(
                f"{shown(file)} has no column {', '.join(LABELS[:-1])} or {LABELS[-1]}; its columns are "
                f"{_some(names)}. Name the one with the classes label."
            )
        if path is not None:
            return _listing(file, _csv_rows(file, names, separator))
        table = Columns(file, lambda: _opened(file), separator, names, label, split)
        if not table.numbers:
            raise BadInput(
                f"{shown(file)} has the one column {names[label]!r}. Give files of pictures, or numbers, beside it."
            )
        return read_columns(table)


def _opened(file: Path) -> IO[str]:
    """Open a table's text; what is compressed, its first bytes tell."""
    with file.open("rb") as stream:
        compressed = stream.read(2) == b"\x1f\x8b"
    # utf-8-sig: spreadsheets write a byte order mark.
    if compressed:
        return io.TextIOWrapper(cast("IO[bytes]", gzip.open(file, "rb")), encoding="utf-8-sig", newline="")
    return file.open(encoding="utf-8-sig", newline="")


@contextmanager
def _readable(file: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeError as error:
        raise BadInput(f"{shown(file)} is not UTF-8 ({first_line(error)}). Save it as CSV in UTF-8.") from error
    except DAMAGED as error:
        raise BadInput(f"{shown(file)} is truncated or damaged ({first_line(error)}). Write it again.") from error
    except csv.Error as error:
        raise BadInput(f"{shown(file)} is no table: {first_line(error)}. Save it as CSV in UTF-8.") from error
    except OSError as error:
        raise BadInput(f"cannot read {shown(file)}: {error.strerror or error}.") from error


def _first_line(file: Path) -> tuple[list[str], str]:
    """Return the names of the columns, and what separates them."""
    with _opened(file) as stream:
        line = stream.readline(_LONGEST_LINE)
    if len(line) == _LONGEST_LINE or "\0" in line:
        raise BadInput(f"{shown(file)} is no table: its first line is no line of names. Save it as CSV in UTF-8.")
    if not line.strip():
        raise BadInput(
            f"{shown(file)} is empty. Give a line with the names of its columns, and a line for each example."
        )
    # The separator that finds most columns; of equals the first one.
    rows = [next(csv.reader([line], delimiter=separator)) for separator in _SEPARATORS]
    names, separator = max(zip(rows, _SEPARATORS, strict=True), key=lambda found: len(found[0]))
    return [name.strip() for name in names], separator


def _require_header(file: Path, names: Sequence[str]) -> None:
    """Refuse a table that begins with an example, and two columns of which nobody could say which is meant."""
    lowered = [name.lower() for name in names]
    known = {*LABELS, *PATHS, SPLIT}
    if not known & set(lowered) and (
        all(_is_number(name) for name in names) or any((file.parent / name).is_file() for name in names if name)
    ):
        raise BadInput(
            f"{shown(file)} has no line with the names of its columns: it begins with {_some(names)}. Write one "
            "above, such as path,label or label,pixel0,pixel1,...."
        )
    twice = next((name for name in lowered if name in known and lowered.count(name) > 1), None)
    if twice:
        raise BadInput(f"{shown(file)} has {lowered.count(twice)} columns {twice!r}. Keep one of them.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _find(names: Sequence[str], known: Sequence[str]) -> int | None:
    lowered = [name.lower() for name in names]
    return next((lowered.index(name) for name in known if name in lowered), None)


def _csv_rows(file: Path, names: Sequence[str], separator: str) -> Iterator[tuple[int, dict[str, str]]]:
    with _opened(file) as stream:
        reader = csv.reader(stream, delimiter=separator, strict=True)
        next(reader)
        for row in reader:
            if len(row) not in (0, len(names)):
                raise BadInput(
                    f"{shown(file)} has {len(row)} fields in line {reader.line_num}, its first line has {len(names)}. "
                    "Mend it."
                )
            if row:
                yield reader.line_num, dict(zip(names, row, strict=True))


def _json_rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with _opened(file) as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    raise BadInput(f"{shown(file)}: line {number} is no JSON object. Write one for each picture.")
                yield number, {name: "" if value is None else str(value) for name, value in row.items()}


def _listing(file: Path, rows: Iterator[tuple[int, dict[str, str]]]) -> Listing:
    """The pictures that the rows name, in their order."""
    seen: dict[str, tuple[str, Part]] = {}
    repeated = 0
    for line, row in rows:
        path, label, part = _row(file, line, row)
        if seen.setdefault(path, (label, part)) != (label, part):
            other, other_part = seen[path]
            both = f"the classes {other!r} and {label!r}" if other != label else f"the parts {other_part} and {part}"
            raise BadInput(
                f"{shown(file)}: {shown(path)} has {both}; the second one is in line {line}. Keep one of them."
            )
        repeated += 1
    repeated -= len(seen)
    if file.name.partition(".")[0] == METADATA:
        seen = _split_by_folder(seen)
    _require_files(file, seen)
    remarks = [f"{repeated} rows name a picture once more; each is taken once."] if repeated else []
    paths: dict[Part, list[str]] = {}
    for path, (_, part) in seen.items():
        paths.setdefault(part, []).append(path)
    if "train" not in paths:
        raise BadInput(
            f"{shown(file)} has no pictures to train on. Give some, with 'train' where there is a split column."
        )
    every = as_numbers([seen[path][0] for own in paths.values() for path in own])
    ends = np.cumsum([len(own) for own in paths.values()])[:-1]
    given = dict(zip(paths, np.split(every, ends), strict=True))
    labels = number_classes(given, {part: f"{shown(file)} ({part})" for part in given})
    return Listing(
        root=file.parent,
        class_names=labels.class_names,
        parts={part: tuple(map(PictureFile, own, labels.parts[part].tolist())) for part, own in paths.items()},
        remarks=tuple(remarks),
    )


def _row(file: Path, line: int, row: Mapping[str, str]) -> tuple[str, str, Part]:
    """The path, class and part of a row."""
    names = list(row)
    cells = []
    for known in (PATHS, LABELS):
        column = _find(names, known)
        if column is None:
            raise BadInput(
                f"{shown(file)} has no {known[0]} in line {line}: it has {_some(names)}. Give each picture one."
            )
        cells.append(row[names[column]].strip())
        if not cells[-1] or "\0" in cells[-1]:
            raise BadInput(f"{shown(file)} has no {names[column]} in line {line}. Write one or remove the line.")
    split = _find(names, (SPLIT,))
    name = row[names[split]].strip().lower() if split is not None else "train"
    if name not in PART_NAMES:
        raise BadInput(f"{shown(file)} has the {SPLIT} {name!r} in line {line}. Write train, validation or test.")
    path, label = cells
    if "\\" in path and not (file.parent / path).exists():
        path = path.replace("\\", "/")  # written on Windows
    return os.path.normpath(path), label, PART_NAMES[name]


def _split_by_folder(seen: dict[str, tuple[str, Part]]) -> dict[str, tuple[str, Part]]:
    """Let the first folder of each picture name its part, where it does so for all and no row says another one."""
    folders = {path: PART_NAMES.get(path.partition("/")[0].lower()) for path in seen}
    if not all(folders.values()) or any(part != "train" for _, part in seen.values()):
        return seen
    return {path: (label, cast("Part", folders[path])) for path, (label, _) in seen.items()}


def _require_files(file: Path, paths: Sequence[str] | Mapping[str, object]) -> None:
    missing = [path for path in paths if not (file.parent / path).is_file()]
    if missing:
        raise BadInput(
            f"{len(missing)} of {len(paths)} pictures that {shown(file)} names are not there: "
            f"{_some(missing, _SHOWN)}. Paths are taken from {shown(file.parent)}, or absolute."
        )


def _some(names: Sequence[str], shown: int = _SHOWN_COLUMNS) -> str:
    return ", ".join(map(repr, names[:shown])) + (", ..." if len(names) > shown else "")
