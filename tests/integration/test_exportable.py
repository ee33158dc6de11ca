"""Whether a model can be exported is tried before the study, by a process that does not know the user's file."""

from __future__ import annotations

import re
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from models.classifier import ImageClassifier, Inputs
from models.recipe import Recipe
from tuning.building import Building
from tuning.tasks import Judge
from tuning.user_classes import UserFile
from tuning.worker.preflight.exporting import ON_CPU, NotExportable, why_not_whole

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


class Elsewhere(WithLambda):
    def backbone(self, hp: Any, x: Any) -> Any:
        assert (Path(__file__).parent / "command_line.py").is_file(), "read beside the file"
        return super().backbone(hp, x)


INPUTS = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)


def asked_of(kind: type[ImageClassifier], judge: Judge) -> str | None:
    file = UserFile(Path(__file__), kind.__name__)
    hp = keras_tuner.HyperParameters()
    made = kind(INPUTS, extended=False, epochs=1, train_images=96)
    classifier = made.classifier(made.build(hp))
    building = Building(
        model=file.name, inputs=asdict(INPUTS), extended=False, epochs=1, train_images=96, patience=3,
        parameters=dict(hp.values), precision="float32",
    )  # fmt: skip
    return why_not_whole(classifier, judge, file.path, INPUTS, building)


def test_what_keras_can_load_by_itself_needs_nothing_else() -> None:
    with Judge(ON_CPU) as judge:
        assert asked_of(Adapted, judge) is None


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        (WithLambda, "Keras cannot load the saved model where your file is unknown (.*doubled.*)"),
        (OwnLayer, "Keras cannot load the saved model where your file is unknown (.*Scale.*)"),
        (Unsaved, "Keras cannot save the model as one file (NotImplementedError: nobody wrote it)"),
        (Subclassed, "Keras cannot save the model as one file (.*must override `get_config.*)"),
    ],
)
def test_what_a_users_file_can_build_again_is_enough_and_why_it_is_needed_is_told(
    kind: type[ImageClassifier], reason: str
) -> None:
    with Judge(ON_CPU) as judge:
        line = asked_of(kind, judge)
    assert line is not None and "\n" not in line
    assert re.match(reason.replace("(", r"\(").replace(")", r"\)"), line), line


def test_a_model_that_says_something_else_once_it_is_loaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keras.Model, "predict_on_batch", lambda self, images: np.full((len(images), 2), 2.0))
    with Judge(ON_CPU) as judge, pytest.raises(NotExportable, match=r"other probabilities.*other probabilities"):
        asked_of(Plain, judge)


def test_what_neither_gives_again_is_no_model_for_a_study() -> None:
    with Judge(ON_CPU) as judge, pytest.raises(NotExportable) as raised:
        asked_of(Elsewhere, judge)
    assert raised.value.whole.startswith("Keras cannot load the saved model where your file is unknown (")
    assert re.search("does not build it .*read beside the file", raised.value.built), raised.value.built
