"""The weights that a trial begins with are those that the user's code left, on a new model and on a used one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from models.backend import seed_generators
from models.classifier import ImageClassifier, Inputs
from models.recipe import Recipe
from models.training.compiled import CompiledModels
from models.training.feeding import LabelledImages
from models.training.model import TrainingModel

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

INPUTS = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
IMAGES = np.random.default_rng(0).integers(0, 256, (96, 8, 8, 1)).astype(np.uint8)
TOY = LabelledImages(IMAGES, np.arange(96) % 2, np.arange(96))


def a_base(pixels: Any) -> keras.Model:
    y = layers.Conv2D(4, 3, use_bias=False, name="first")(pixels)
    y = layers.Conv2D(4, 3, use_bias=False, name="second")(layers.ReLU()(y))
    return keras.Model(keras.utils.get_source_inputs(pixels), y)  # as `keras.applications` does


@pytest.fixture(scope="module")
def weights_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "base.weights.h5"
    base = a_base(keras.Input((8, 8, 1)))
    base.set_weights([np.full(one.shape, 0.25, np.float32) for one in base.get_weights()])
    base.save_weights(file)
    return file


class Given(ImageClassifier):
    """A model that brings weights: `given` of them, of the value `value`, in the layers named `first` and `second`."""

    defaults: ClassVar[Recipe] = Recipe(batch_size=32, optimizer="sgd", learning_rate=0.1, dropout=0.2)
    weights: ClassVar[Path]
    value: ClassVar[float] = 0.25
    shared: ClassVar[bool] = True

    def backbone(self, hp: Any, x: Any) -> Any:
        return layers.Dense(4)(layers.Flatten()(self.base(hp, x)))

    def base(self, hp: Any, x: Any) -> Any:
        raise NotImplementedError


class SetWeights(Given):
    def base(self, hp: Any, x: Any) -> Any:
        first = layers.Conv2D(4, 3, use_bias=False, name="first")
        y = first(x)
        first.set_weights([np.full((3, 3, 1, 4), 0.25, np.float32)])
        return y


class Assigned(Given):
    def base(self, hp: Any, x: Any) -> Any:
        first = layers.Conv2D(4, 3, use_bias=False, name="first")
        y = first(x)
        first.kernel.assign(first.kernel * 0.0 + 0.25)
        return y


class OwnInitializer(Given):
    shared = False

    def base(self, hp: Any, x: Any) -> Any:
        def quarters(shape: Any, dtype: Any = None) -> Any:
            return keras.ops.full(shape, 0.25, dtype=dtype)

        return layers.Conv2D(4, 3, use_bias=False, name="first", kernel_initializer=quarters)(x)


class FlatBase(Given):
    def base(self, hp: Any, x: Any) -> Any:
        base = a_base(x)
        base.load_weights(self.weights)
        return base.output


class NestedBase(Given):
    shared = False

    def base(self, hp: Any, x: Any) -> Any:
        base = a_base(keras.Input((8, 8, 1)))
        base.load_weights(self.weights)
        return base(x)


class FrozenBase(Given):
    def base(self, hp: Any, x: Any) -> Any:
        base = a_base(x)
        base.load_weights(self.weights)
        for layer in base.layers:
            layer.trainable = False
        return base.output


class MadeBefore(Given):
    """A base that is made when the file is imported."""

    shared = False

    before: ClassVar[list[keras.Model]] = []

    def base(self, hp: Any, x: Any) -> Any:
        return self.before[0](x)


class MadeOnce(Given):
    """A base that is made in the first trial and kept, as scripts do that cache it: each trial trains it."""

    shared = False
    once: ClassVar[keras.Model | None] = None

    def base(self, hp: Any, x: Any) -> Any:
        cls = type(self)
        if cls.once is None:
            cls.once = a_base(keras.Input((8, 8, 1)))
            cls.once.load_weights(self.weights)
        return cls.once(x)


class LayersMadeOnce(MadeOnce):
    def base(self, hp: Any, x: Any) -> Any:
        super().base(hp, x)
        assert self.once is not None
        for layer in self.once.layers[1:]:
            x = layer(x)
        return x


MODELS = [SetWeights, Assigned, OwnInitializer, FlatBase, NestedBase, FrozenBase]


def built(kind: type[Given], models: CompiledModels, **values: Any) -> tuple[Given, Any, TrainingModel]:
    classifier = kind(INPUTS, extended=False, epochs=1, train_images=96, models=models)
    hp = keras_tuner.HyperParameters()
    hp.values.update(values)
    seed_generators(7)
    return classifier, hp, classifier.build(hp)


def train(classifier: ImageClassifier, hp: Any, model: TrainingModel) -> None:
    classifier.fit(hp, model, TOY, TOY, seed=1)


def given_weights(model: keras.Model) -> dict[str, Any]:
    every = model._flatten_layers(include_self=False)
    return {one.name: np.array(one.get_weights()[0]) for one in every if one.name in ("first", "second")}


@pytest.mark.parametrize("kind", [*MODELS, MadeBefore, MadeOnce, LayersMadeOnce])
def test_weights_that_a_model_brings_are_there_in_every_trial(
    kind: type[Given], weights_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Given, "weights", weights_file, raising=False)
    monkeypatch.setattr(kind, "once", None, raising=False)
    before = a_base(keras.Input((8, 8, 1)))
    before.load_weights(weights_file)
    monkeypatch.setattr(MadeBefore, "before", [before])
    shared, used, others = CompiledModels(), set(), []
    for learning_rate in (0.1, 0.01, 0.1):
        classifier, hp, model = built(kind, shared, learning_rate=learning_rate)
        used.add(id(model))
        found = given_weights(model.network)
        assert found
        for name, values in found.items():
            np.testing.assert_array_equal(values, np.full(values.shape, 0.25, np.float32), err_msg=name)
        others.append(model.get_layer("network").get_layer("logits").get_weights()[0])
        if len(others) < 3:
            train(classifier, hp, model)
        assert len(used) == 1 or not kind.shared
    np.testing.assert_array_equal(others[1], others[2], err_msg="what is drawn is drawn by the seed")
    if not issubclass(kind, MadeOnce):  # there the first trial draws for its base, too
        np.testing.assert_array_equal(others[0], others[1], err_msg="what is drawn is drawn by the seed")


class Adapted(Given):
    """Its statistics follow a parameter: they are constants of the graph, as well as weights."""

    def base(self, hp: Any, x: Any) -> Any:
        scale = hp.Float("scale", 1.0, 8.0, default=2.0)
        norm = layers.Normalization(axis=-1)
        norm.adapt(scale * np.linspace(-1.0, 1.0, 64, dtype=np.float32).reshape(1, 8, 8, 1))
        return norm(x)


def test_an_adapted_layer_normalizes_by_its_own_trials_statistics_and_so_does_its_file(tmp_path: Path) -> None:
    models, outputs = CompiledModels(), {}
    for scale in (1.0, 4.0):
        classifier, hp, model = built(Adapted, models, scale=scale)
        train(classifier, hp, model)
        classifier.classifier(model).save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        outputs[scale] = np.asarray(classifier.classifier(model).predict_on_batch(IMAGES))
        np.testing.assert_allclose(np.asarray(loaded.predict_on_batch(IMAGES)), outputs[scale], atol=1e-6)
        _, _, alone = built(Adapted, CompiledModels(), scale=scale)
        train(classifier, hp, alone)
        expected = np.asarray(classifier.classifier(alone).predict_on_batch(IMAGES))
        np.testing.assert_allclose(outputs[scale], expected, atol=1e-6)
    assert np.abs(outputs[1.0] - outputs[4.0]).max() > 1e-3
