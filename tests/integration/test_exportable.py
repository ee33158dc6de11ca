"""What cannot be exported is told before the study, by a process that does not know the user's file."""

from __future__ import annotations

import re
from typing import Any, ClassVar

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from models.classifier import ImageClassifier, Inputs
from models.recipe import Recipe
from storage.errors import in_one_line
from tuning.tasks import Judge
from tuning.worker.preflight import ON_CPU, NotSaved, what_export_will_say

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]


class Plain(ImageClassifier):
    defaults: ClassVar[Recipe] = Recipe(batch_size=32, optimizer="sgd", learning_rate=0.1, dropout=0.2)

    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Dense(4, activation="relu")(layers.Flatten()(x))


class Adapted(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        norm = layers.Normalization(axis=-1)
        norm.adapt(np.linspace(0, 10, 64, dtype=np.float32).reshape(1, 8, 8, 1))
        return super().backbone(hp, norm(x))


class WithLambda(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, layers.Lambda(doubled)(x))


def doubled(x: Any) -> Any:
    return x * 2.0


class Scale(layers.Layer):
    def call(self, x: Any) -> Any:
        return x * 2.0


class OwnLayer(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, Scale()(x))


class Body(keras.Model):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.flat = layers.Flatten()
        self.dense = layers.Dense(width)

    def call(self, x: Any) -> Any:
        return self.dense(self.flat(x))


class Subclassed(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return Body(4)(x)


class Forgetful(layers.Layer):
    def __init__(self, by: Any) -> None:
        super().__init__()
        self.by = by

    def call(self, x: Any) -> Any:
        return x * self.by

    def get_config(self) -> dict[str, Any]:
        raise NotImplementedError("nobody wrote it")


class Unsaved(Plain):
    def backbone(self, hp: Any, x: Any) -> Any:
        return super().backbone(hp, Forgetful(2.0)(x))


def classifier_of(kind: type[ImageClassifier]) -> keras.Model:
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    made = kind(inputs, extended=False, epochs=1, train_images=96)
    return made.classifier(made.build(keras_tuner.HyperParameters()))


@pytest.mark.parametrize(
    ("kind", "reason"),
    [(Adapted, None), (WithLambda, "doubled"), (OwnLayer, "Scale")],
)
def test_what_a_fresh_process_cannot_load_is_told_with_the_reason(
    kind: type[ImageClassifier], reason: str | None
) -> None:
    classifier = classifier_of(kind)
    with Judge(ON_CPU) as judge:
        found = what_export_will_say(classifier, judge)
    if reason is None:
        assert found == []
    else:
        (line,) = found
        assert line.startswith("the model cannot be exported: where your file is unknown") and reason in line
        assert "Trials train all the same" in line and "\n" not in line


def test_a_model_that_says_something_else_once_it_is_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = classifier_of(Plain)
    monkeypatch.setattr(type(classifier), "predict_on_batch", lambda self, images: np.full((len(images), 2), 2.0))
    with Judge(ON_CPU) as judge:
        (line,) = what_export_will_say(classifier, judge)
    assert "other probabilities" in line


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (Unsaved, "NotImplementedError: nobody wrote it"),
        (Subclassed, "must override `get_config.*` in order to be"),
    ],
)
def test_a_model_that_cannot_be_saved_is_no_model_for_a_study(kind: type[ImageClassifier], reason: str) -> None:
    classifier = classifier_of(kind)
    with Judge(ON_CPU) as judge, pytest.raises(NotSaved) as raised:
        what_export_will_say(classifier, judge)
    assert re.search(reason, in_one_line(raised.value.reason))
