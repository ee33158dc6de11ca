"""Classes of unlike sizes: how well each is told, and weights with which they count alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import keras
import numpy as np
import numpy.typing as npt
from keras import ops

from models.recipe import ClassWeights, declare_class_weights


class BalancedAccuracy(keras.metrics.Metric):
    """The mean over the classes of their recall; classes without pictures are left out (Brodersen et al. 2010).

    It is scikit-learn's `balanced_accuracy_score`. A picture of weight 0 counts nothing, any other once: whole numbers
    add up exactly, in whatever order and in batches of whatever size.

    Args:
        classes: how many there are.
    """

    def __init__(self, classes: int) -> None:
        super().__init__(name="balanced_accuracy")
        self._classes = classes
        self.right = self.add_variable(shape=(classes,), initializer="zeros", name="right")
        self.seen = self.add_variable(shape=(classes,), initializer="zeros", name="seen")

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        """Count a batch: labels `(batch,)`, logits or probabilities `(batch, classes)`, weights `(batch,)`."""
        labels = ops.cast(y_true, "int32")
        seen = ops.one_hot(labels, self._classes, dtype="float32")
        if sample_weight is not None:
            seen = seen * ops.cast(sample_weight > 0.0, "float32")[:, None]
        hit = ops.cast(ops.equal(ops.cast(ops.argmax(y_pred, axis=-1), "int32"), labels), "float32")
        self.seen.assign(self.seen + ops.sum(seen, axis=0))
        self.right.assign(self.right + ops.sum(seen * hit[:, None], axis=0))

    def result(self) -> Any:
        """Return the figure so far; 0 before the first picture."""
        recall = self.right / ops.maximum(self.seen, 1.0)
        return ops.sum(recall) / ops.maximum(ops.sum(ops.cast(self.seen > 0.0, "float32")), 1.0)


def balanced_weights(counts: Sequence[int]) -> npt.NDArray[np.float32]:
    """Return a weight for each class, `(classes,)`: pictures / (classes * pictures of the class).

    It is scikit-learn's "balanced" (King and Zeng 2001): each class weighs alike in all, and a picture 1 on average.
    Classes without pictures do not count as classes, and nothing is weighed with their 1.

    Args:
        counts: how many pictures each class has.
    """
    pictures = np.asarray(counts, np.float64)
    present = pictures > 0
    weights = np.ones_like(pictures)
    weights[present] = pictures.sum() / (present.sum() * pictures[present])
    return weights.astype(np.float32)


def declared_class_weights(
    hp: Any, asked: ClassWeights | Literal["search"], counts: Sequence[int] | None
) -> npt.NDArray[np.float32] | None:
    """Return the weight of each class `(classes,)` that `hp` gives; None where all pictures weigh alike.

    Args:
        hp: the hyperparameters, on which it is declared if that is asked.
        asked: what the study says, see `declare_class_weights`.
        counts: how many pictures each class has; a study that weighs classes has them recorded.
    """
    if declare_class_weights(hp, asked) == "none":
        return None
    assert counts is not None, "seen to before"
    return balanced_weights(counts)
