"""How good a finished classifier is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""A probability that float32 rounded to zero counts as this: a surprise of 87 nats rather than an infinite one."""

MOST_MISTAKES = 18


@dataclass(frozen=True)
class ClassFigures:
    """One class: `precision` and `recall` in 0..1 (0 where undefined), `support` in pictures."""

    label_index: int
    precision: float
    recall: float
    support: int


@dataclass(frozen=True)
class Mistake:
    """A picture, by its place, that was taken for another class, and how probable that one was said to be, 0..1."""

    place: int
    label_index: int
    predicted: int
    probability: float


@dataclass(frozen=True)
class Evaluation:
    """How a classifier did.

    Attributes:
        accuracy: the share of pictures whose most probable class is theirs.
        balanced_accuracy: the mean over the classes of their recall; classes without pictures are left out.
        loss: the mean cross-entropy in nats.
        confusion: `(classes, classes)` counts, a row for each true class, a column for each predicted one.
        per_class: the figures of each class, in order.
        mistakes: the worst, at most `MOST_MISTAKES`: those of which it was the surest.
    """

    accuracy: float
    balanced_accuracy: float
    loss: float
    confusion: npt.NDArray[np.int64]
    per_class: tuple[ClassFigures, ...]
    mistakes: tuple[Mistake, ...] = ()


def evaluate(
    classifier: keras.Model,
    images: npt.NDArray[Any],
    labels: npt.NDArray[np.integer[Any]],
    *,
    classes: int,
    batch_size: int = 512,
) -> Evaluation:
    """Judge a classifier, which maps raw pixels to probabilities `(batch, classes)`.

    Args:
        classifier: what `ImageClassifier.classifier` returns.
        images: `(n, height, width, channels)` raw pixels, or what else it takes, memory-mapped if you like.
        labels: `(n,)` class numbers below `classes`.
        classes: how many classes there are.
        batch_size: pictures in memory at a time.

    Raises:
        ValueError: if there are no pictures, or not one label for each.
    """
    if not len(images) or len(images) != len(labels):
        raise ValueError(f"Each picture needs one label. Received: {len(images)} pictures, {len(labels)} labels.")
    truth = np.asarray(labels, dtype=np.int64)
    probabilities = _predict(classifier, images, batch_size)
    predicted = probabilities.argmax(axis=-1)
    confusion = np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)
    surprise = -np.log(np.maximum(probabilities[np.arange(len(truth)), truth], LEAST_PROBABILITY))
    per_class = _figures(confusion)
    return Evaluation(
        accuracy=float(np.mean(predicted == truth)),
        balanced_accuracy=float(np.mean([of.recall for of in per_class if of.support])),
        loss=float(surprise.mean()),
        confusion=confusion,
        per_class=per_class,
        mistakes=_worst(probabilities, truth, predicted),
    )


def _worst(
    probabilities: npt.NDArray[np.float64], truth: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64]
) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(predicted != truth)
    sure = probabilities[wrong, predicted[wrong]]
    places = wrong[np.argsort(-sure, kind="stable")[:MOST_MISTAKES]]
    return tuple(
        Mistake(int(place), int(truth[place]), int(predicted[place]), float(probabilities[place, predicted[place]]))
        for place in places
    )


def _predict(classifier: keras.Model, images: npt.NDArray[Any], batch_size: int) -> npt.NDArray[np.float64]:
    """Probabilities `(n, classes)`; the last batch is filled up, so that nothing is traced twice."""
    batch_size = min(batch_size, len(images))
    parts = []
    for start in range(0, len(images), batch_size):
        batch = np.asarray(images[start : start + batch_size])
        real = len(batch)
        if real < batch_size:
            batch = np.concatenate([batch, np.repeat(batch[-1:], batch_size - real, axis=0)])
        parts.append(np.asarray(classifier.predict_on_batch(batch), dtype=np.float64)[:real])
    return np.concatenate(parts)


def _figures(confusion: npt.NDArray[np.int64]) -> tuple[ClassFigures, ...]:
    right = confusion.diagonal()
    predicted = confusion.sum(axis=0)
    support = confusion.sum(axis=1)
    return tuple(
        ClassFigures(
            label_index=label,
            precision=float(right[label] / max(1, predicted[label])),
            recall=float(right[label] / max(1, support[label])),
            support=int(support[label]),
        )
        for label in range(len(confusion))
    )
