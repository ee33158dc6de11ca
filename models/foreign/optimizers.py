"""The optimizers of a model: its own, and those that a training step of its author's has besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras


def optimizers_of(model: keras.Model) -> dict[str, Any]:
    """Return the optimizers that a model, its layers, and lists and dicts of theirs have, by where they are found.

    A model that is built again has them in the same places.
    """
    return dict(_found(model, "", set()))


def inner_optimizers(optimizer: Any) -> Iterator[Any]:
    """Yield an optimizer, the one that it wraps, and so on."""
    while optimizer is not None:
        yield optimizer
        optimizer = getattr(optimizer, "inner_optimizer", None)


def _found(part: Any, place: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    optimizer = isinstance(part, keras.optimizers.Optimizer)
    if id(part) in seen or not (optimizer or isinstance(part, (keras.Layer, list, tuple, dict))):
        return
    seen.add(id(part))
    if optimizer:
        yield place, part
        return
    if isinstance(part, (list, tuple)):
        inside = [(str(number), each) for number, each in enumerate(part)]
    else:
        inside = [(str(name), each) for name, each in (part if isinstance(part, dict) else vars(part)).items()]
    for name, each in inside:
        yield from _found(each, f"{place}/{name}" if place else name, seen)
