"""A table whose columns are numbers: pixels in a row, or features."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, first_line, shown
from studies.datasets.own.arrays import PART_NAMES, Arrays
from studies.datasets.own.listing import Part
from studies.datasets.own.numbers.labels import as_numbers, number_classes
from studies.datasets.own.numbers.values import BLOCK_BYTES, LEAST_ROW_SIDE, LEAST_SIDE, Values, convert, require_memory

# pixel0, px_1, 784, 1x1, pixel_0_27
_PIXEL = re.compile(r"(pixels?|pix|px|p|x)?[_ -]?\d+([x_.-]\d+)?", re.ASCII)
_BYTES_PER_CELL = 8


@dataclass(frozen=True)
class Columns:
    """What the columns of a table are.

    Attributes:
        file: the table.
        opened: opens its text from the beginning.
        separator: what stands between its columns.
        names: of all columns, in order.
        label: the number of the column with the classes.
        split: the number of the one that says to which part a row belongs, if there is one.
    """

    file: Path
    opened: Callable[[], IO[str]]
    separator: str
    names: Sequence[str]
    label: int
    split: int | None

    @property
    def numbers(self) -> list[int]:
        """The other columns."""
        return [number for number in range(len(self.names)) if number not in (self.label, self.split)]


def read_columns(table: Columns) -> Arrays:
    """Return the rows of a table of numbers.

    Pictures are what has columns named for pixels, as many as a square has or three squares, row by row and the
    channels of a pixel side by side. The table is read a block at a time.

    Raises:
        BadInput: a cell is no number, or the classes cannot be used.
    """
    order, remarks = _in_order(table)
    parts: dict[Part, _Rows] = {}
    line = 2
    for chunk in _chunks(table):
        block = _cells(chunk, order, table, line)
        for part, chosen in _parts(chunk, table, line):
            rows = parts.setdefault(part, _Rows())
            rows.add(block[chosen], chunk[table.label].str.strip().to_numpy(object)[chosen].tolist())
        require_memory(sum(rows.size_bytes for rows in parts.values()), shown(table.file))
        line += len(chunk)
    if "train" not in parts:
        raise BadInput(
            f"{shown(table.file)} has no rows to train on. Give some, with 'train' where there is a split column."
        )
    where = dict.fromkeys(parts, f"{shown(table.file)}: column {table.names[table.label]!r}")
    every = as_numbers([label for rows in parts.values() for label in rows.labels])
    ends = np.cumsum([len(rows.labels) for rows in parts.values()])[:-1]
    labels = number_classes(dict(zip(parts, np.split(every, ends), strict=True)), where)
    shape = _shape([table.names[number] for number in order])
    values = {part: rows.values(f"{shown(table.file)}: {part}", shape) for part, rows in parts.items()}
    del parts
    converted = convert(values, shown(table.file), from_rows=True)
    if converted.is_pictures:
        size = "x".join(map(str, shape[:2]))
        channels = "three channels, side by side for each pixel" if len(shape) == 3 else "one channel"
        pixels = f"{len(order)} columns are taken as pixels of {size} (height x width), row by row"
        remarks = [*remarks, f"{pixels}, {channels}."]
    return Arrays(
        class_names=labels.class_names,
        parts={part: (x, labels.parts[part]) for part, x in converted.parts.items()},
        remarks=(*remarks, *converted.remarks),
        is_pictures=converted.is_pictures,
    )


@dataclass
class _Rows:
    """The rows of a part so far: uint8 where that is all that they need."""

    blocks: list[npt.NDArray[Any]] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, block: npt.NDArray[np.float64], labels: list[str]) -> None:
        is_bytes = not block.size or (
            block.min() >= 0 and block.max() <= 255 and bool((block == np.round(block)).all())
        )
        kept = block.astype(np.uint8 if is_bytes else np.float32)
        self.blocks.append(kept)
        self.labels += labels
        self.size_bytes += kept.nbytes

    def values(self, name: str, shape: tuple[int, ...]) -> Values:
        whole = all(block.dtype == np.uint8 for block in self.blocks)
        blocks = self.blocks
        dtype = np.dtype(np.uint8 if whole else np.float32)
        return Values(name, (len(self.labels), *shape), dtype, lambda: (block.reshape(-1) for block in blocks))


def _chunks(table: Columns) -> Iterator[Any]:
    import pandas

    rows = max(1, BLOCK_BYTES // (_BYTES_PER_CELL * len(table.names)))
    text = {number: str for number in (table.label, table.split) if number is not None}
    with table.opened() as stream:
        try:
            reader = pandas.read_csv(
                stream,
                sep=table.separator,
                header=0,
                names=list(range(len(table.names))),
                dtype=text,
                na_filter=False,
                chunksize=rows,
                low_memory=False,
            )
            for chunk in reader:
                if not isinstance(chunk.index, pandas.RangeIndex):
                    raise BadInput(
                        f"{shown(table.file)} has rows with more than the {len(table.names)} fields of its first line. "
                        "Give each column a name."
                    )
                if len(chunk):
                    yield chunk
        except (pandas.errors.ParserError, pandas.errors.EmptyDataError) as error:
            raise BadInput(f"{shown(table.file)} is no table: {first_line(error)}. Mend that line.") from error


def _cells(chunk: Any, order: list[int], table: Columns, line: int) -> npt.NDArray[np.float64]:
    """The numbers of a block, ``(rows, columns)``."""
    import pandas

    cells: npt.NDArray[np.float64]
    try:
        cells = chunk[order].to_numpy(np.float64)
    except (TypeError, ValueError):  # some column is text
        cells = chunk[order].apply(pandas.to_numeric, errors="coerce").to_numpy(np.float64)
    wrong = np.argwhere(~np.isfinite(cells))
    if len(wrong):
        row, column = wrong[0]
        number = order[column]
        value = chunk[number].iloc[row]
        raise BadInput(
            f"{shown(table.file)}: column {table.names[number]!r} has {str(value)!r} in line {line + row}, which is no "
            "number. Write one, or remove the row or the column."
        )
    return cells


def _parts(chunk: Any, table: Columns, line: int) -> list[tuple[Part, npt.NDArray[np.bool_]]]:
    """Which rows of a block belong to which part."""
    empty = np.flatnonzero(chunk[table.label].str.strip().to_numpy(object) == "")
    if len(empty):
        raise BadInput(
            f"{shown(table.file)}: column {table.names[table.label]!r} is empty in line {line + empty[0]}. Write a "
            "class or remove the row."
        )
    if table.split is None:
        return [("train", np.ones(len(chunk), bool))]
    names = chunk[table.split].str.strip().str.lower().to_numpy(object)
    parts = []
    for name in dict.fromkeys(names):
        if name not in PART_NAMES:
            raise BadInput(
                f"{shown(table.file)}: column {table.names[table.split]!r} has {name!r} in line "
                f"{line + int(np.argmax(names == name))}. Write train, validation or test."
            )
        parts.append((PART_NAMES[name], names == name))
    return parts


def _in_order(table: Columns) -> tuple[list[int], list[str]]:
    """Return the columns of numbers, those of pixels by the numbers in their names, and what is to be said of it."""
    columns = table.numbers
    places = [tuple(map(int, re.findall(r"\d+", table.names[number]))) for number in columns]
    by_place = sorted(range(len(columns)), key=lambda number: places[number])
    numbered = _all_pixels([table.names[number] for number in columns]) and len(set(places)) == len(places)
    if not numbered or len({len(place) for place in places}) > 1 or by_place == list(range(len(columns))):
        return columns, []
    return [columns[number] for number in by_place], ["the columns of pixels are taken in the order of their numbers."]


def _all_pixels(names: Sequence[str]) -> bool:
    return all(_PIXEL.fullmatch(name.strip().lower()) for name in names)


def _shape(names: Sequence[str]) -> tuple[int, ...]:
    """Return the shape of a row: of a picture, if it may be one."""
    least = LEAST_SIDE if all("p" in name.lower() for name in names) else LEAST_ROW_SIDE
    if _all_pixels(names):
        for channels in (1, 3):
            side = math.isqrt(len(names) // channels)
            if side >= least and side**2 * channels == len(names):
                return (side, side) if channels == 1 else (side, side, channels)
    return (len(names),)
