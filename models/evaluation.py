"""How good a finished classifier is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

LEAST_PROBABILITY = float(np.finfo(np.float32).tiny)
"""A probability that float32 rounded to zero counts as this: a surprise of 87 nats rather than an infinite one."""

MOST_MISTAKES = 18

Labels = npt.NDArray[np.int64]
Probabilities = npt.NDArray[np.float64]

Metric = Callable[[Labels, Probabilities], float]
"""Says of class numbers `(n,)` and probabilities `(n, classes)` how good the latter are."""


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
    return evaluation(np.asarray(labels, dtype=np.int64), predictions(classifier, images, batch_size), classes=classes)


def evaluation(truth: Labels, probabilities: Probabilities, *, classes: int) -> Evaluation:
    """Judge what a classifier said of pictures.

    Args:
        truth: `(n,)` class numbers below `classes`.
        probabilities: `(n, classes)`.
        classes: how many classes there are.
    """
    predicted = probabilities.argmax(axis=-1)
    confusion = _confusion(truth, predicted, classes)
    per_class = _figures(confusion)
    return Evaluation(
        accuracy=accuracy(truth, probabilities),
        balanced_accuracy=balanced_accuracy(truth, probabilities),
        loss=cross_entropy(truth, probabilities),
        confusion=confusion,
        per_class=per_class,
        mistakes=_worst(probabilities, truth, predicted),
    )


def accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Return the share of pictures whose most probable class is theirs."""
    return float(np.mean(probabilities.argmax(axis=-1) == labels))


def balanced_accuracy(labels: Labels, probabilities: Probabilities) -> float:
    """Return the mean over the classes of their recall; classes without pictures are left out."""
    per_class = _figures(_confusion(labels, probabilities.argmax(axis=-1), probabilities.shape[1]))
    return float(np.mean([of.recall for of in per_class if of.support]))


def cross_entropy(labels: Labels, probabilities: Probabilities) -> float:
    """Return the mean cross-entropy in nats."""
    of_truth = np.maximum(probabilities[np.arange(len(labels)), labels], LEAST_PROBABILITY)
    return float(-np.log(of_truth).mean())


def f1_macro(labels: Labels, probabilities: Probabilities) -> float:
    """Return the mean over the classes of 2 right / (pictures + predicted); what is in neither is left out.

    It is scikit-learn's `f1_score` with `average="macro"`.
    """
    confusion = _confusion(labels, probabilities.argmax(axis=-1), probabilities.shape[1])
    either = confusion.sum(axis=1) + confusion.sum(axis=0)
    return float(np.mean(2.0 * confusion.diagonal()[either > 0] / either[either > 0]))


def auc(labels: Labels, probabilities: Probabilities) -> float:
    """Return the area under the ROC curve: each class against the rest, and the mean of these.

    It is the share of pairs, a picture of the class and one of another, of which the first is said to be the more
    probable one; equal ones count half (Hanley and McNeil 1982). Classes that all pictures have, or none, are left
    out; NaN where that leaves none. It is scikit-learn's `roc_auc_score` with `multi_class="ovr"`.
    """
    areas = []
    for label in range(probabilities.shape[1]):
        scores, own = probabilities[:, label], labels == label
        positives = int(own.sum())
        negatives = len(labels) - positives
        if positives and negatives:
            _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
            ranks = (np.cumsum(count) - (count - 1) / 2)[place]  # equal ones have the mean of their ranks
            areas.append((ranks[own].sum() - positives * (positives + 1) / 2) / (positives * negatives))
    return float(np.mean(areas)) if areas else float("nan")


METRICS: Mapping[str, Metric] = {
    "val_accuracy": accuracy,
    "val_balanced_accuracy": balanced_accuracy,
    "val_loss": cross_entropy,
    "val_f1_macro": f1_macro,
    "val_auc": auc,
}
"""What can be computed of the validation part after an epoch, by the names of their curves."""


def _confusion(truth: Labels, predicted: npt.NDArray[np.int64], classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(truth * classes + predicted, minlength=classes * classes).reshape(classes, classes)


def _worst(probabilities: Probabilities, truth: Labels, predicted: npt.NDArray[np.int64]) -> tuple[Mistake, ...]:
    wrong = np.flatnonzero(predicted != truth)
    sure = probabilities[wrong, predicted[wrong]]
    places = wrong[np.argsort(-sure, kind="stable")[:MOST_MISTAKES]]
    return tuple(
        Mistake(int(place), int(truth[place]), int(predicted[place]), float(probabilities[place, predicted[place]]))
        for place in places
    )


def predictions(classifier: keras.Model, images: npt.NDArray[Any], batch_size: int = 512) -> Probabilities:
    """Return probabilities `(n, classes)`; the last batch is filled up, so that nothing is traced twice."""
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
