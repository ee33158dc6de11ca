"""What people write as labels, read as class numbers: whole numbers, names, truth values, one column for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput
from studies.datasets.own.listing import Part

Column = npt.NDArray[Any]
"""Labels `(n,)`: int64, or text as `U` or as objects that are all `str`."""

_SHOWN = 5
_EXACT_FLOAT = 2.0**53


@dataclass(frozen=True)
class Labels:
    """The labels of a data set.

    Attributes:
        class_names: one per class, in the order of their numbers.
        parts: for each part ``(n,)`` int64 class numbers.
    """

    class_names: tuple[str, ...]
    parts: Mapping[Part, npt.NDArray[np.int64]]


def number_classes(
    given: Mapping[Part, npt.NDArray[Any]],
    where: Mapping[Part, str],
    class_names: Sequence[str] | None = None,
) -> Labels:
    """Number the classes of labels: in the order of ``class_names``, else that of their sorted labels.

    Args:
        given: for each part the labels as they were written: ``(n,)`` or ``(n, 1)`` whole numbers of any type, text or
            truth values, or ``(n, classes)`` with a single one in each row.
        where: what each of them is called in an error.
        class_names: the names of the classes; whole numbers count them from 0.

    Raises:
        BadInput: the labels are no classes, they contradict each other, or a class has too few examples to be divided
            among training, validation and test.
    """
    columns = {part: _column(values, where[part]) for part, values in given.items()}
    widths = {values.shape[1] for values in given.values() if values.ndim == 2 and values.shape[1] > 1}
    if len(widths) > 1:
        found = ", ".join(f"{where[part]} {values.shape}" for part, values in given.items())
        raise BadInput(f"the labels have different numbers of classes: {found}. Give all one column for each class.")
    texts = [part for part, column in columns.items() if column.dtype.kind != "i"]
    if texts and len(texts) != len(columns):
        number = next(part for part in columns if part not in texts)
        raise BadInput(f"{where[texts[0]]} has names and {where[number]} has numbers. Write both in one way.")
    known, names = _classes(columns["train"], where["train"], class_names, *widths)
    numbers = {part: _numbers(column, where[part], known, where["train"]) for part, column in columns.items()}
    _require_examples(numbers["train"], names, where["train"], 4 - len(numbers))
    return Labels(names, numbers)


def as_numbers(texts: Sequence[str]) -> Column:
    """Return labels that were read from text: as int64 where each is a whole number as people write it, else as text.

    So that class 10 comes after class 9, and ``007`` stays what it is.
    """
    try:
        numbers = np.array([int(text) for text in texts], dtype=np.int64)
    except (ValueError, OverflowError):
        return np.array(texts, dtype=object)
    plain = all(str(number) == text for number, text in zip(numbers.tolist(), texts, strict=True))
    return numbers if plain else np.array(texts, dtype=object)


def _column(values: npt.NDArray[Any], name: str) -> Column:
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim not in (1, 2):
        raise BadInput(f"{name} has the shape {values.shape}. Give labels of shape (n,), or (n, classes) one-hot.")
    if values.dtype.kind not in "biufUSO":
        raise BadInput(f"{name} is of type {values.dtype}, which is no label. Give whole numbers or names.")
    if not len(values):
        raise BadInput(f"{name} is empty. Give at least one label for each class.")
    if values.ndim == 2:
        return _from_one_hot(values, name)
    if values.dtype.kind == "b":
        return values.astype(str)
    if values.dtype.kind in "iuf":
        return _whole(values, name)
    if values.dtype.kind == "S":
        try:
            values = np.char.decode(values, "utf-8")
        except UnicodeDecodeError:
            raise BadInput(f"{name} has names that are not UTF-8. Write them as text.") from None
    empty = np.flatnonzero(values == "")
    if len(empty):
        raise BadInput(f"{name} has no label in row {empty[0]} ({len(empty)} in all). Give each row one or remove it.")
    return values


def _from_one_hot(values: npt.NDArray[Any], name: str) -> Column:
    if values.dtype.kind not in "biuf":
        raise BadInput(f"{name} is {values.dtype} of shape {values.shape}. Give labels of shape (n,).")
    right = ((values == 0) | (values == 1)).all(axis=1) & (np.count_nonzero(values, axis=1) == 1)
    if not right.all():
        row = int(np.flatnonzero(~right)[0])
        raise BadInput(
            f"{name} has the shape {values.shape}, but row {row} is not one 1 among zeros: each example has one class "
            "here. Give class numbers of shape (n,), or one-hot rows."
        )
    return np.asarray(values.argmax(axis=1), dtype=np.int64)


def _whole(values: npt.NDArray[Any], name: str) -> Column:
    if values.dtype.kind == "f":
        wrong = np.flatnonzero(~(np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < _EXACT_FLOAT)))
        if len(wrong):
            raise BadInput(
                f"{name} has the value {values[wrong[0]]} in row {wrong[0]}: models here tell classes apart, they do "
                "not predict measurements. Give whole numbers or names."
            )
    elif values.dtype.kind == "u" and values.max() > np.iinfo(np.int64).max:
        raise BadInput(f"{name} has the value {values.max()}, too large for a label. Number the classes from 0.")
    return values.astype(np.int64)


def _classes(
    train: Column, where: str, class_names: Sequence[str] | None, one_hot_classes: int | None = None
) -> tuple[Column, tuple[str, ...]]:
    """Return the labels of the classes, in order, and their names."""
    if class_names is None:
        known = np.unique(train) if one_hot_classes is None else np.arange(one_hot_classes)
        return known, tuple(str(label) for label in known.tolist())
    names = tuple(class_names)
    if len(set(names)) < len(names) or not all(names):
        raise BadInput(f"the class names {_some(names)} are not all different and not empty. Give one for each class.")
    if one_hot_classes not in (None, len(names)):
        raise BadInput(f"{where} has {one_hot_classes} columns, but {len(names)} class names are given. Give as many.")
    return (np.arange(len(names)) if train.dtype.kind == "i" else np.array(names)), names


def _numbers(column: Column, where: str, known: Column, where_known: str) -> npt.NDArray[np.int64]:
    own, inverse = np.unique(column, return_inverse=True)
    places = {label: number for number, label in enumerate(known.tolist())}
    others = [label for label in own.tolist() if label not in places]
    if others:
        raise BadInput(
            f"{where} has labels that are none of the {len(known)} classes of {where_known}: {_some(others)}. Remove "
            f"these rows, or add examples of theirs to {where_known}."
        )
    numbers = np.array([places[label] for label in own.tolist()], dtype=np.int64)
    return numbers[inverse.reshape(-1)]


def _require_examples(labels: npt.NDArray[np.int64], names: tuple[str, ...], where: str, least: int) -> None:
    counts = np.bincount(labels, minlength=len(names))
    if np.count_nonzero(counts) < 2:
        raise BadInput(f"{where} has the one class {names[labels[0]]!r}. Give examples of two classes at least.")
    few = [f"{name!r} has {count}" for name, count in zip(names, counts.tolist(), strict=True) if count < least]
    if few:
        parts = ("training", "training and one other part", "training, validation and test")[least - 1]
        raise BadInput(
            f"{where} has too few examples of {len(few)} of {len(names)} classes: {', '.join(few[:_SHOWN])}"
            f"{', ...' if len(few) > _SHOWN else ''}; {least} of each are needed, for {parts}. Add some, or remove "
            "these classes."
        )


def _some(labels: Sequence[Any]) -> str:
    return ", ".join(repr(label) for label in labels[:_SHOWN]) + (", ..." if len(labels) > _SHOWN else "")
