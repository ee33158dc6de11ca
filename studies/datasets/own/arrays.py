"""Arrays in one ``.npz`` file: examples and their labels, by the names that people give them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput, shown
from studies.datasets.own.listing import Part
from studies.datasets.own.numbers.archive import Archive, open_archive
from studies.datasets.own.numbers.labels import number_classes
from studies.datasets.own.numbers.values import Values, convert

Role = Literal["x", "y"]

PART_NAMES: dict[str, Part] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""What people call the parts of a data set, in small letters."""

_ROLES: dict[str, Role] = {
    **dict.fromkeys(("x", "data", "images", "features"), "x"),
    **dict.fromkeys(("y", "labels", "label", "targets", "target"), "y"),
}
_CLASS_NAMES = ("class_names", "classes", "label_names")


@dataclass(frozen=True)
class Arrays:
    """Examples in memory.

    Attributes:
        class_names: one per label, in the order of the labels.
        parts: of each part the examples, ``(n, ...)`` uint8 or float32, and their labels, int64 ``(n,)`` of 0 to
            classes - 1; "train" is always there.
        remarks: lines worth telling.
        is_pictures: whether the examples are pictures: uint8 ``(n, height, width, 1 or 3)``.
    """

    class_names: tuple[str, ...]
    parts: Mapping[Part, tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]
    remarks: tuple[str, ...]
    is_pictures: bool


def read_npz(file: Path) -> Arrays:
    """Return the examples of an ``.npz`` file.

    It holds ``x_train`` and ``y_train``, or ``x`` and ``y``; where it has them also ``x_val``, ``y_val``, ``x_test``,
    ``y_test`` and ``class_names``. Longer names are known as well: ``train_images``, ``val_labels``.

    Raises:
        BadInput: it is no such file, or its arrays cannot be used: which one, and why.
    """
    archive = open_archive(file)
    found, others = _members(archive)
    labels, where = {}, {}
    examples = {part: archive.values(found["x", part]) for _, part in found if ("x", part) in found}
    for part, values in examples.items():
        name = found["y", part]
        where[part] = shown(name)
        _require_length(file, values, archive.values(name))
        labels[part] = archive.array(name)
    names = next((_class_names(archive, name) for name in others if name.lower() in _CLASS_NAMES), None)
    numbers = number_classes(labels, where, names)
    converted = convert(examples, shown(file))
    unknown = [name for name in others if name.lower() not in _CLASS_NAMES]
    passed = (f"passed over {shown(', '.join(unknown))}.",) if unknown else ()
    return Arrays(
        class_names=numbers.class_names,
        parts={part: (converted.parts[part], numbers.parts[part]) for part in examples},
        remarks=(*passed, *converted.remarks),
        is_pictures=converted.is_pictures,
    )


def _members(archive: Archive) -> tuple[dict[tuple[Role, Part], str], list[str]]:
    """Return the names of examples and labels, and the other names."""
    found: dict[tuple[Role, Part], str] = {}
    others = []
    for name in archive.members:
        meaning = _meaning(name)
        if meaning is None:
            others.append(name)
        elif meaning in found:
            raise BadInput(
                f"{shown(archive.file)} holds {shown(found[meaning])} and {shown(name)}, which mean the same. Keep "
                "one of them."
            )
        else:
            found[meaning] = name
    there = shown(", ".join(archive.members))
    if ("x", "train") not in found or ("y", "train") not in found:
        raise BadInput(f"{shown(archive.file)} holds {there}. Name the arrays x_train and y_train, or x and y.")
    for (role, part), name in found.items():
        if ("y" if role == "x" else "x", part) not in found:
            raise BadInput(
                f"{shown(archive.file)} holds {shown(name)} without its {'labels' if role == 'x' else 'examples'}: "
                f"{there}."
            )
    return found, others


def _meaning(name: str) -> tuple[Role, Part] | None:
    words = re.split(r"[_\-. ]", name.lower())
    roles = [_ROLES[word] for word in words if word in _ROLES]
    parts = [PART_NAMES[word] for word in words if word in PART_NAMES]
    if len(roles) != 1 or len(parts) > 1 or len(words) != len(roles) + len(parts):
        return None
    return roles[0], parts[0] if parts else "train"


def _require_length(file: Path, examples: Values, labels: Values) -> None:
    if labels.shape[:1] != examples.shape[:1]:
        raise BadInput(
            f"{shown(file)}: {examples.name} has the shape {examples.shape}, {labels.name} {labels.shape}. Give each "
            "example one label, in the same order."
        )


def _class_names(archive: Archive, name: str) -> tuple[str, ...]:
    names = archive.array(name)
    if names.ndim != 1 or names.dtype.kind != "U":
        raise BadInput(
            f"{shown(archive.file)}: {shown(name)} is {names.dtype} of shape {names.shape}. Give text, one per class."
        )
    return tuple(names.tolist())
