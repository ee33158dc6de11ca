"""What is compared: networks and recipes that differ from the first of their group in one part or two. No Keras."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Swap = Literal["largest", "relu", "drawn"]


@dataclass(frozen=True)
class Variant:
    """One of them.

    Attributes:
        model: its hypermodel; a group is compared with the first variant of its model.
        words: how it differs, for people.
        width: of its network.
        defaults: of its recipe, in place of the hypermodel's own.
        swaps: what stands in the place of layers of the network; `drawn` for weights that are drawn at random where
            the network has others.
    """

    model: str
    words: str
    width: int
    defaults: Mapping[str, Any] = field(default_factory=dict)
    swaps: tuple[Swap, ...] = ()


def _tried(words: str, swaps: tuple[Swap, ...] = ("largest", "drawn"), **recipe: Any) -> Variant:
    first = {"learning_rate": 0.005, "augmentation": 0.4, "label_smoothing": 0.1}
    return Variant("fast_cnn", words, 16, first | recipe, swaps)


def _mean(words: str, **recipe: Any) -> Variant:
    return _tried(words, ("drawn",), **{"augmentation": 0.2, **recipe})


def _deep(words: str, **recipe: Any) -> Variant:
    first = {"batch_size": 64, "learning_rate": 0.006, "dropout": 0.2, "augmentation": 0.0, "label_smoothing": 0.0}
    return Variant("deep_cnn", words, 32, first | recipe)


def _cnn(words: str, **recipe: Any) -> Variant:
    first = {"batch_size": 64, "learning_rate": 0.01, "dropout": 0.3, "augmentation": 0.0, "label_smoothing": 0.0}
    return Variant("cnn", words, 24, first | recipe)


VARIANTS: Final[Mapping[str, Variant]] = {
    "fast": _tried("as first tried: the largest value over the picture, augmentation 0.4, label smoothing 0.1"),
    "fast-relu": _tried("ReLU in place of GELU", ("largest", "relu", "drawn")),
    "fast-mean": _tried("the mean over the picture", ("drawn",)),
    "fast-unsmoothed": _tried("no label smoothing", label_smoothing=0.0),
    "fast-unaugmented": _tried("no augmentation", augmentation=0.0),
    "fast-augmentation-0.2": _tried("augmentation 0.2", augmentation=0.2),
    "fast-rate-0.0025": _tried("a learning rate of 0.0025 in place of 0.005", learning_rate=0.0025),
    "fast-mean-0.2": _mean("the mean and augmentation 0.2"),
    "fast-mean-0.2-unsmoothed": _mean("the mean, augmentation 0.2, no label smoothing", label_smoothing=0.0),
    "fast-mean-0.2-averaged": _mean("the mean, augmentation 0.2, weights averaged with 0.98", averaging=0.98),
    "fast-patterns": _tried(
        "the mean, augmentation 0.2, filters that begin with patterns of photographs and with the identity",
        (),
        augmentation=0.2,
    ),
    "deep": _deep("AdamW at 0.006, batches of 64, dropout 0.2"),
    "deep-smoothed": _deep("label smoothing 0.1", label_smoothing=0.1),
    "deep-augmentation-0.2": _deep("augmentation 0.2", augmentation=0.2),
    "cnn": _cnn("AdamW at 0.01, batches of 64, dropout 0.3"),
    "cnn-smoothed": _cnn("label smoothing 0.1", label_smoothing=0.1),
    "cnn-augmentation-0.2": _cnn("augmentation 0.2", augmentation=0.2),
    "cnn-both": _cnn("label smoothing 0.1 and augmentation 0.2", label_smoothing=0.1, augmentation=0.2),
    "cnn-augmentation-0.4": _cnn("augmentation 0.4", augmentation=0.4),
    "cnn-both-0.4": _cnn("label smoothing 0.1 and augmentation 0.4", label_smoothing=0.1, augmentation=0.4),
}
