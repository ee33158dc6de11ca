"""What is built: the hyperparameters declared, the layers, the exported classifier."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from models.backend import set_precision
from models.classifier import ImageClassifier, Inputs
from models.cnn import CNN
from models.deep_cnn import DeepCNN
from models.evaluation import evaluate
from models.fast_cnn import FastCNN
from models.recipe import Recipe
from models.remarks import remarks_on
from models.resnet import ResNet
from models.training.augmentation import RandomAugmentation
from models.training.feeding import LabelledImages
from storage.settings import Home
from studies.datasets.preparing import prepare

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

BACKBONES: list[type[ImageClassifier]] = [CNN, DeepCNN, FastCNN, ResNet]
CORE = {"batch_size", "optimizer", "learning_rate", "dropout"}
TINY = {"width": 4, "depth": 1, "batch_size": 16, "augmentation": 0.0}


def toy(count: int = 96, side: int = 12, channels: int = 3, seed: int = 0) -> LabelledImages:
    """Two classes told apart by which half of the picture is brighter."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, count)
    images = random.integers(0, 120, (count, side, side, channels))
    images[labels == 0, : side // 2] += 100
    images[labels == 1, side // 2 :] += 100
    return LabelledImages(images.astype(np.uint8), labels, np.arange(count))


def hypermodel(kind: type[ImageClassifier] = CNN, *, extended: bool = True, flips: bool = False) -> ImageClassifier:
    inputs = Inputs((12, 12, 3), 2, mean=(110.0, 110.0, 110.0), std=(60.0, 60.0, 60.0), flips=flips)
    return kind(inputs, extended=extended, epochs=4, train_images=96)


def hyperparameters(**values: Any) -> keras_tuner.HyperParameters:
    hp = keras_tuner.HyperParameters()
    hp.values.update({**TINY, **values})
    return hp


@pytest.mark.parametrize("kind", BACKBONES)
def test_every_backbone_learns(kind: type[ImageClassifier]) -> None:
    keras.utils.set_random_seed(1)
    hp = hyperparameters(optimizer="adam", learning_rate=5e-3, dropout=0.0)
    classifier = hypermodel(kind)
    model = classifier.build(hp)
    result = classifier.fit(hp, model, toy(), toy(40, seed=1), seed=1)
    assert result.history["loss"][-1] < result.history["loss"][0]
    assert result.value > 0.8


@pytest.mark.parametrize("kind", BACKBONES)
def test_the_core_space_has_exactly_four_names(kind: type[ImageClassifier]) -> None:
    hp = keras_tuner.HyperParameters()
    hypermodel(kind, extended=False).build(hp)
    assert set(hp.values) == CORE


@pytest.mark.parametrize("kind", BACKBONES)
def test_building_the_extended_space_declares_every_name(kind: type[ImageClassifier]) -> None:
    hp = keras_tuner.HyperParameters()
    hp.values["optimizer"] = "sgd"
    hypermodel(kind).build(hp)
    extended = {"weight_decay", "momentum", "label_smoothing", "augmentation", "schedule", "width"}
    assert set(hp.values) - {"depth"} == CORE | extended
    assert ("depth" in hp.values) is (kind is not FastCNN)


@pytest.mark.parametrize(("optimizer", "active"), [("sgd", True), ("adam", False), ("adamw", False)])
def test_momentum_is_active_with_sgd_only(optimizer: str, active: bool) -> None:
    hp = hyperparameters(optimizer=optimizer)
    hypermodel().build(hp)
    declared = next(each for each in hp.space if each.name == "momentum")
    assert hp.is_active(declared) is active
    assert ("momentum" in hp.values) is active


def test_the_classifier_takes_raw_pixels_and_normalises_them() -> None:
    classifier = hypermodel()
    model = classifier.classifier(classifier.build(hyperparameters()))
    pixels = np.asarray(toy().images[:4])
    normalisation = keras.Model(model.input, model.get_layer("pixel_normalization").output)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(normalisation(pixels.astype("float32"))), (pixels - 110.0) / 60.0, atol=1e-5
    )
    probabilities = model.predict_on_batch(pixels)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(axis=-1), 1.0, atol=1e-5)


@pytest.mark.parametrize("side", [4, 8, 28])
@pytest.mark.parametrize("channels", [1, 3])
def test_fast_cnn_takes_pictures_of_any_size(side: int, channels: int) -> None:
    inputs = Inputs((side, side, channels), 2, mean=(110.0,) * channels, std=(60.0,) * channels, flips=False)
    classifier = FastCNN(inputs, extended=True, epochs=4, train_images=96)
    model = classifier.classifier(classifier.build(hyperparameters()))
    assert model.predict_on_batch(np.zeros((3, side, side, channels), np.uint8)).shape == (3, 2)


def test_fast_cnn_has_as_many_weights_as_was_measured() -> None:
    inputs = Inputs((32, 32, 3), 10, mean=(110.0,) * 3, std=(60.0,) * 3, flips=True)
    classifier = FastCNN(inputs, extended=False, epochs=1, train_images=96)
    assert classifier.build(keras_tuner.HyperParameters()).weight_count == 499_266


def convolutions_of_fast_cnn(channels: int) -> list[Any]:
    inputs = Inputs((32, 32, channels), 10, mean=(110.0,) * channels, std=(60.0,) * channels, flips=True)
    network = FastCNN(inputs, extended=False, epochs=1, train_images=96).untrained(keras_tuner.HyperParameters())
    return [layer for layer in network.layers if isinstance(layer, layers.Conv2D)]


def test_fast_cnn_begins_with_the_patterns_of_photographs_each_about_as_strong_as_the_others(tmp_path: Path) -> None:
    images = np.asarray(prepare("cifar10_sample", Home(tmp_path)).train_images[:500]).astype("float64")
    images = (images - images.mean((0, 1, 2))) / images.std((0, 1, 2))
    filters = np.array(convolutions_of_fast_cnn(3)[0].kernel)
    np.testing.assert_array_equal(filters[..., :12], -filters[..., 12:])
    patches = np.lib.stride_tricks.sliding_window_view(images, (2, 2), axis=(1, 2))  # (n, 31, 31, 3, 2, 2)
    spread = np.einsum("nhwcyx,yxcf->nhwf", patches, filters[..., :12]).std((0, 1, 2))
    # Those that vary least in photographs are not made as strong as the others.
    assert 0.7 < np.median(spread) < 1.4
    assert spread.max() < 1.4
    assert spread.min() > 0.1


def test_the_stages_of_fast_cnn_begin_by_handing_on_what_they_are_given() -> None:
    random = np.random.default_rng(0)
    for convolution in convolutions_of_fast_cnn(3)[1:]:
        given = convolution.kernel.shape[2]
        features = random.normal(size=(1, 8, 8, given)).astype("float32")
        handed_on = keras.ops.convert_to_numpy(convolution(features))[..., :given]
        np.testing.assert_allclose(handed_on, features, atol=1e-5)


def test_of_grey_pictures_fast_cnn_draws_its_patterns() -> None:
    first, *_ = convolutions_of_fast_cnn(1)
    assert np.unique(np.array(first.kernel)).size == first.kernel.shape[-1] * 4


def test_a_saved_classifier_loads_where_the_project_is_unknown(tmp_path: Path) -> None:
    pixels = np.asarray(toy().images[:8])
    np.save(tmp_path / "pixels.npy", pixels)
    expected = {}
    for kind in BACKBONES:
        classifier = hypermodel(kind)
        model = classifier.classifier(classifier.build(hyperparameters(augmentation=0.5)))
        model.save(tmp_path / f"{kind.__name__}.keras")
        expected[kind.__name__] = model.predict_on_batch(pixels)
    script = (
        "import sys, keras, numpy as np\n"
        "for name in sys.argv[1:]:\n"
        "    model = keras.saving.load_model(name + '.keras')\n"
        "    np.save(name + '.npy', model.predict_on_batch(np.load('pixels.npy')))\n"
        "assert not any(name.split('.')[0] == 'models' for name in sys.modules)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", script, *expected], cwd=tmp_path, check=True, capture_output=True)
    for name, probabilities in expected.items():
        np.testing.assert_allclose(np.load(tmp_path / f"{name}.npy"), probabilities, atol=1e-5, err_msg=name)


def test_augmentation_acts_in_training_only() -> None:
    keras.utils.set_random_seed(0)
    layer = RandomAugmentation(flips=True, fill=(9.0, 9.0, 9.0))
    pixels = np.asarray(toy().images[:8])
    still = keras.ops.convert_to_numpy(layer(pixels, training=False))
    first = keras.ops.convert_to_numpy(layer(pixels, training=True))
    second = keras.ops.convert_to_numpy(layer(pixels, training=True))
    np.testing.assert_array_equal(still, pixels)
    assert first.dtype == np.uint8 and first.shape == pixels.shape
    assert (first != pixels).any() and (first != second).any()


def test_augmentation_of_strength_zero_does_nothing() -> None:
    pixels = np.asarray(toy().images[:8])
    layer = RandomAugmentation(flips=False, fill=(9.0, 9.0, 9.0))
    layer.strength.assign(0.0)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(pixels, training=True)), pixels)


@pytest.mark.parametrize("flips", [True, False])
def test_only_pictures_that_may_be_mirrored_are(flips: bool) -> None:
    keras.utils.set_random_seed(0)
    # So weak that nothing but a mirror image is left of the changes.
    layer = RandomAugmentation(flips=flips, fill=(0.0,))
    layer.strength.assign(1e-6)
    ramp = np.broadcast_to(np.arange(8, dtype=np.uint8)[None, None, :, None], (64, 8, 8, 1))
    out = keras.ops.convert_to_numpy(layer(ramp, training=True))
    mirrored = [np.array_equal(picture, ramp[0, :, ::-1]) for picture in out]
    assert any(mirrored) is flips
    assert not all(mirrored)


def test_bfloat16_keeps_logits_and_probabilities_in_float32() -> None:
    try:
        set_precision("mixed_bfloat16")
        classifier = hypermodel()
        hp = hyperparameters()
        model = classifier.build(hp)
        result = classifier.fit(hp, model, toy(), toy(40), seed=0)
        assert model.output.dtype == "float32"
        assert classifier.classifier(model).output.dtype == "float32"
        assert all(np.isfinite(result.history["loss"]))
    finally:
        set_precision("float32")


class _Fixed:
    """Stands for a classifier: these probabilities for these pictures, which hold their own row number."""

    def __init__(self, probabilities: np.ndarray) -> None:
        self.probabilities = probabilities

    def predict_on_batch(self, batch: np.ndarray) -> np.ndarray:
        rows: np.ndarray = self.probabilities[batch[:, 0, 0, 0]]
        return rows


def test_evaluation_counts_as_one_does_by_hand() -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3], [1.0, 0.0, 0.0]])
    images = np.arange(5, dtype=np.uint8).reshape(5, 1, 1, 1)
    result = evaluate(_Fixed(probabilities), images, np.array([0, 1, 1, 1, 0]), classes=3, batch_size=2)
    assert result.accuracy == pytest.approx(0.8)
    assert result.balanced_accuracy == pytest.approx((1 + 2 / 3) / 2), "a class without pictures is left out"
    assert result.loss == pytest.approx(-np.log([0.7, 0.8, 0.3, 0.5, 1.0]).mean())
    np.testing.assert_array_equal(result.confusion, [[2, 0, 0], [1, 2, 0], [0, 0, 0]])
    assert [each.precision for each in result.per_class] == pytest.approx([2 / 3, 1.0, 0.0])
    assert [each.recall for each in result.per_class] == pytest.approx([1.0, 2 / 3, 0.0])
    assert [each.support for each in result.per_class] == [2, 3, 0]


class Features(ImageClassifier):
    """A model of a user's for numbers that are no pictures."""

    defaults: ClassVar[Recipe] = Recipe(
        batch_size=32, optimizer="adam", learning_rate=1e-2, dropout=0.0, augmentation=0.5
    )

    def backbone(self, hp: Any, x: Any) -> Any:
        x = layers.Flatten()(x)
        return layers.Dense(hp.Int("units", 8, 64, default=32), activation="relu")(x)


def features(
    count: int, shape: tuple[int, ...], dtype: str, seed: int = 0, *, centre: float = 0.0
) -> tuple[LabelledImages, Inputs]:
    """Two classes told apart by the sign of the first number; the channels have scales far apart."""
    random = np.random.default_rng(seed)
    numbers = random.normal(size=(count, *shape))
    labels = (numbers.reshape(count, -1)[:, 0] > 0).astype(np.int64)
    numbers = centre + numbers * 10.0 ** np.arange(shape[-1]) if dtype == "float32" else 128 + 40 * numbers
    numbers = np.clip(numbers, 0, 255) if dtype == "uint8" else numbers
    axes = tuple(range(len(shape)))
    mean, std = numbers.mean(axis=axes).tolist(), numbers.std(axis=axes).tolist()
    inputs = Inputs(shape, 2, tuple(mean), tuple(std), flips=True, dtype=dtype)
    return LabelledImages(numbers.astype(dtype), labels, np.arange(count)), inputs


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
@pytest.mark.parametrize("shape", [(5,), (6, 3), (4, 2, 3, 2), (4, 4, 4)])
def test_a_model_of_ones_own_learns_from_numbers_of_any_shape_and_is_exported_and_judged(
    tmp_path: Path, shape: tuple[int, ...], dtype: str
) -> None:
    keras.utils.set_random_seed(1)
    data, inputs = features(400, shape, dtype)
    assert not inputs.are_pictures
    classifier = Features(inputs, extended=True, epochs=8, train_images=300)
    hp = keras_tuner.HyperParameters()
    model = classifier.build(hp)
    assert "augmentation" not in hp.values
    training, validation = (
        LabelledImages(data.images, data.labels, rows) for rows in (np.arange(300), np.arange(300, 400))
    )
    result = classifier.fit(hp, model, training, validation, seed=1)
    assert result.value > 0.75
    assert remarks_on(classifier, classifier.untrained(hp)) == []

    classifier.classifier(model).save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    judged = evaluate(loaded, data.images[300:], data.labels[300:], classes=2)
    assert judged.accuracy == pytest.approx(result.value)


def test_numbers_are_centred_before_half_precision_rounds_them() -> None:
    """The mean is as far from zero as bfloat16 has no digits for."""
    data, inputs = features(400, (1,), "float32", centre=1e4)
    set_precision("mixed_bfloat16")
    try:
        keras.utils.set_random_seed(1)
        classifier = Features(inputs, extended=False, epochs=8, train_images=300)
        hp = keras_tuner.HyperParameters()
        model = classifier.build(hp)
        parts = [LabelledImages(data.images, data.labels, rows) for rows in (np.arange(300), np.arange(300, 400))]
        assert classifier.fit(hp, model, *parts, seed=1).value > 0.9
    finally:
        set_precision("float32")


def test_pictures_of_floats_are_numbers_to_a_classifier() -> None:
    inputs = Inputs((8, 8, 3), 2, (0.0,) * 3, (1.0,) * 3, flips=True, dtype="float32")
    assert not inputs.are_pictures
    assert Inputs((8, 8, 3), 2, (0.0,) * 3, (1.0,) * 3, flips=True).are_pictures
