"""Numbers of any type, wherever they are, made the arrays that a model is trained on: uint8, or else float32.

They are gone through twice in blocks, to see what they are and to convert them, so that no more is ever in memory than
the array that comes of it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput
from studies.datasets.own.listing import Part

BLOCK_BYTES = 1 << 23
LARGEST = 2.0**63
"""Of a value: a larger one's square, and with it a variance, is no finite float32."""
LEAST_SIDE = 4
"""Of a picture without an axis for its channels behind, in pixels: what is smaller is a table."""
LEAST_ROW_SIDE = 8
"""Of a picture whose pixels were written as a row: a table may have 16 or 25 columns by chance."""

# So far from a whole pixel value a stored value may be; half precision has no more digits.
_CLOSE, _CLOSE_IN_HALF = 1e-3, 0.13

Axes = Literal["last", "none", "first"]


@dataclass(frozen=True)
class Values:
    """Numbers that are not in memory, or not yet of the type that is wanted.

    Attributes:
        name: what they are called in an error.
        shape: ``(n, ...)``.
        dtype: their type: truth values, whole numbers or floats.
        blocks: gives them in one dimension, a block at a time, from the beginning whenever it is called.
        order: in which order the dimensions lie: ``C`` or ``F``, as NumPy has it.
    """

    name: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    blocks: Callable[[], Iterator[npt.NDArray[Any]]]
    order: Literal["C", "F"] = "C"

    def row(self, position: int) -> int:
        """Return the row of the value at a position of the blocks."""
        return int(np.unravel_index(position, self.shape, order=self.order)[0])


def values_of(name: str, array: npt.NDArray[Any]) -> Values:
    """Return the values of an array in memory."""
    flat = array.reshape(-1)
    length = max(1, BLOCK_BYTES // max(1, array.itemsize))
    return Values(
        name,
        array.shape,
        array.dtype,
        lambda: (flat[start : start + length] for start in range(0, len(flat), length)),
    )


@dataclass(frozen=True)
class Converted:
    """What became of values.

    Attributes:
        parts: for each part ``(n, ...)``: uint8, which for pictures is ``(n, height, width, 1 or 3)``, or float32.
        is_pictures: whether they are pictures.
        remarks: lines worth telling.
    """

    parts: dict[Part, npt.NDArray[Any]]
    is_pictures: bool
    remarks: tuple[str, ...]


def convert(given: Mapping[Part, Values], where: str, *, from_rows: bool = False) -> Converted:
    """Return values as arrays of one kind.

    Pixels of 0..255 stay what they are; floats of 0..1 become pixels where they are of pixels; all else is float32.

    Args:
        given: the values of each part.
        where: the file, as an error names it.
        from_rows: whether each example was written as a row, and its shape is only what is supposed: what is no picture
            is a row again.

    Raises:
        BadInput: they are no finite numbers, do not fit together, or do not fit into memory.
    """
    _require_fit(given)
    numbers = sum(math.prod(values.shape) for values in given.values())
    require_memory(numbers, where)  # one byte each at least
    facts = {part: _look(values) for part, values in given.items()}
    _require_one_scale(facts, given)
    reading = _reading(given["train"], list(given.values()), _together(list(facts.values())), from_rows)
    require_memory(numbers * np.dtype(reading.dtype).itemsize, where)
    parts = {part: _placed(_filled(values, reading), reading) for part, values in given.items()}
    if from_rows and reading.axes is None:
        rows = {part: array.reshape(len(array), -1) for part, array in parts.items()}
        return Converted(rows, is_pictures=False, remarks=())
    return Converted(parts, reading.axes is not None, reading.remarks)


def require_memory(size_bytes: int, where: str) -> None:
    """Refuse what this machine could not hold, before it is tried.

    Args:
        size_bytes: how much it is.
        where: what it is, as an error names it.

    Raises:
        BadInput: the machine has less memory.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if size_bytes > there:
        raise BadInput(
            f"{where} has {size_bytes / 1e9:.1f} GB of values, this machine {there / 1e9:.1f} GB of memory. Give fewer "
            "examples, or pictures as files in a folder, which are never in memory at once."
        )


@dataclass(frozen=True)
class _Facts:
    """What numbers are.

    Attributes:
        low, high: the least and the largest one.
        whole: whether they are whole numbers.
        pixels: whether they are pixel values divided by 255.
    """

    low: float
    high: float
    whole: bool
    pixels: bool

    @property
    def is_bytes(self) -> bool:
        return self.whole and self.low >= 0 and self.high <= 255

    @property
    def is_unit(self) -> bool:
        return self.low >= 0 and self.high <= 1


@dataclass(frozen=True)
class _Reading:
    """How numbers become an array: of which type, times what, and where the channels are, if they are pictures."""

    dtype: type[np.uint8] | type[np.float32]
    scale: int
    axes: Axes | None
    remarks: tuple[str, ...]


def _require_fit(given: Mapping[Part, Values]) -> None:
    train = given["train"]
    for values in given.values():
        if values.dtype.kind not in "biuf":
            raise BadInput(f"{values.name} is of type {values.dtype}. Give numbers: uint8 for pictures, else float32.")
        if len(values.shape) < 2:
            raise BadInput(
                f"{values.name} has the shape {values.shape}: one number for each example. Give (n, ...), for which "
                "reshape(-1, 1) does."
            )
        if not math.prod(values.shape):
            raise BadInput(f"{values.name} is empty: its shape is {values.shape}. Give at least one example.")
        if values.shape[1:] != train.shape[1:]:
            raise BadInput(
                f"{train.name} has examples of shape {train.shape[1:]}, {values.name} of {values.shape[1:]}. Give all "
                "one shape."
            )


def _look(values: Values) -> _Facts:
    low, high, whole, pixels = math.inf, -math.inf, True, True
    largest = LARGEST
    close = _CLOSE_IN_HALF if values.dtype.itemsize == 2 else _CLOSE
    seen = 0
    for block in values.blocks():
        least, most = float(block.min()), float(block.max())
        if not (math.isfinite(least) and math.isfinite(most)) or max(abs(least), abs(most)) > largest:
            # In longdouble nothing that is finite becomes infinite by being looked at.
            at = seen + int(np.flatnonzero(~(np.abs(block.astype(np.longdouble)) <= largest))[0])
            raise BadInput(
                f"{values.name} has {block[at - seen]} in row {values.row(at)}, which is no number that a model can "
                "take. Remove the row or write a number."
            )
        low, high = min(low, least), max(high, most)
        if block.dtype.kind == "f":
            whole = whole and bool((block == np.round(block)).all())
            if pixels and low >= 0 and high <= 1:
                scaled = block.astype(np.float64) * 255
                pixels = bool((np.abs(scaled - np.round(scaled)) <= close).all())
        seen += len(block)
    return _Facts(low, high, whole, pixels and low >= 0 and high <= 1)


def _together(facts: Sequence[_Facts]) -> _Facts:
    return _Facts(
        low=min(each.low for each in facts),
        high=max(each.high for each in facts),
        whole=all(each.whole for each in facts),
        pixels=all(each.pixels for each in facts),
    )


def _require_one_scale(facts: Mapping[Part, _Facts], given: Mapping[Part, Values]) -> None:
    """Refuse floats of 0..1 beside pixels of 0..255: one of them was divided and the other forgotten."""
    divided = next((part for part, each in facts.items() if each.is_unit and not each.whole), None)
    forgotten = next((part for part, each in facts.items() if each.is_bytes and each.high > 1), None)
    if divided and forgotten and _axes(given["train"].shape) is not None:
        raise BadInput(
            f"{given[divided].name} has values of 0 to {facts[divided].high:g}, {given[forgotten].name} of 0 to "
            f"{facts[forgotten].high:g}. Give all parts one scale."
        )


def _axes(shape: tuple[int, ...]) -> Axes | None:
    """Return where pictures of this shape have their channels; None where it is no shape of pictures."""
    if len(shape) == 4 and shape[3] in (1, 3):
        return "last"
    if len(shape) not in (3, 4) or min(shape[-2:]) < LEAST_SIDE:
        return None
    if len(shape) == 3:
        return "none"
    return "first" if shape[1] in (1, 3) else None


def _reading(train: Values, every: Sequence[Values], facts: _Facts, from_rows: bool) -> _Reading:
    axes = _axes(train.shape)
    span = f"{facts.low:g} to {facts.high:g}"
    shape = train.shape[1:]
    if axes is None:
        whole_types = all(values.dtype.kind != "f" for values in every)
        return _Reading(np.uint8 if facts.is_bytes and whole_types else np.float32, 1, None, _hints(train))
    remarks = [f"examples of {shape} are taken as pictures with their channels first."] if axes == "first" else []
    scale = 255 if facts.is_unit and facts.high > 0 else 1
    if facts.is_bytes and scale == 255:
        remarks.append("0 and 1 are taken as black and white, 0 and 255.")
    elif facts.is_bytes and 0 < facts.high < 128:
        remarks.append(f"pixels of {span} are taken as they are; pictures to predict need that scale.")
    elif facts.is_unit and (facts.pixels or (axes == "last" and not from_rows)):
        lost = "nothing is lost" if facts.pixels else "each is rounded to the nearest of 256 values"
        remarks.append(f"floats of {span} are taken as pixels of 0 to 255; {lost}.")
    elif not facts.is_bytes:
        numbers = f"{train.dtype} of {span} and shape {shape} are taken as numbers, not as pictures"
        return _Reading(np.float32, 1, None, (f"{numbers}; for pictures give uint8 of shape (n, height, width, 3).",))
    return _Reading(np.uint8, scale, axes, tuple(remarks))


def _hints(train: Values) -> tuple[str, ...]:
    shape = train.shape[1:]
    side = math.isqrt(shape[0])
    if len(shape) == 3 and 4 in (shape[0], shape[2]):
        hint = f"examples of {shape} are taken as numbers, not as pictures; if a channel is transparency, leave it out."
    elif len(shape) == 1 and side >= LEAST_ROW_SIDE and side**2 == shape[0]:
        hint = f"rows of {side**2} numbers are not taken as pictures; if they are, give reshape(-1, {side}, {side})."
    else:
        return ()
    return (hint,)


def _filled(values: Values, reading: _Reading) -> npt.NDArray[Any]:
    flat = np.empty(math.prod(values.shape), reading.dtype)
    at = 0
    for block in values.blocks():
        place = flat[at : at + len(block)]
        if block.dtype.kind == "f" and reading.dtype is np.uint8:
            np.copyto(place, np.round(block.astype(np.float64) * reading.scale), casting="unsafe")
        elif reading.scale != 1:
            np.copyto(place, block.astype(np.uint8) * np.uint8(reading.scale), casting="unsafe")
        else:
            np.copyto(place, block, casting="unsafe")
        at += len(block)
    return flat.reshape(values.shape, order=values.order)


def _placed(array: npt.NDArray[Any], reading: _Reading) -> npt.NDArray[Any]:
    """Put the channels last, without a copy."""
    if reading.axes == "none":
        return array[..., np.newaxis]
    return np.moveaxis(array, 1, 3) if reading.axes == "first" else array
