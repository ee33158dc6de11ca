"""A compiled model serves one training after the other, and none of them can tell."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import numpy as np
import pytest
from keras import layers

from models.backend import seed_generators, set_precision
from models.classifier import ImageClassifier, Inputs
from models.cnn import CNN
from models.training.compiled import CompiledModels
from models.training.dropout import TunedDropout
from models.training.feeding import LabelledImages, OnDevice
from models.training.loop import FitResult
from models.training.model import TrainingModel

pytestmark = [
    pytest.mark.keras,
    # Keras 3.15 turns variables into arrays in a way that NumPy 2 will not allow for ever.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

ROOT = Path(__file__).resolve().parents[2]
VALUES: dict[str, Any] = {
    "width": 16, "depth": 1, "batch_size": 32, "optimizer": "sgd", "schedule": "constant", "learning_rate": 0.01,
    "dropout": 0.3, "augmentation": 0.5, "label_smoothing": 0.1, "weight_decay": 0.01, "momentum": 0.9,
}  # fmt: skip

# Trains what it is told, one after the other on shared models, and writes what came out of each.
SCRIPT = """
import json, sys
from pathlib import Path
import numpy as np
from models.importing import importing_keras
with importing_keras():
    import keras_tuner
from models.classifier import Inputs
from models.cnn import CNN
from models.backend import seed_generators
from models.training.compiled import CompiledModels
from models.deep_cnn import DeepCNN
from models.fast_cnn import FastCNN
from models.resnet import ResNet
from models.training.feeding import LabelledImages

rng = np.random.default_rng(0)
images = rng.integers(0, 256, (150, 8, 8, 1), dtype=np.uint8)
labels = (images.mean((1, 2, 3)) > 127).astype(int)
training = LabelledImages(images, labels, np.arange(100))
validation = LabelledImages(images, labels, np.arange(100, 150))
inputs, models, out = Inputs((8, 8, 1), 2, (127.0,), (70.0,), False), CompiledModels(), Path(sys.argv[2])
for name, kind, values in json.loads(sys.argv[1]):
    defaults = {"averaging": values.pop("averaging", 0.0)}
    classifier = {"cnn": CNN, "deep_cnn": DeepCNN, "fast_cnn": FastCNN, "resnet": ResNet}[kind](
        inputs, extended=True, epochs=2, train_images=100, models=models, defaults=defaults
    )
    hp = keras_tuner.HyperParameters()
    hp.values.update(values)
    seed_generators(sum(map(ord, name)))
    model = classifier.build(hp)
    traces = model.steps.traces
    result = classifier.fit(hp, model, training, validation, seed=3)
    np.savez(out / f"{name}.npz", *[np.asarray(weights) for weights in model.get_weights()])
    new = model.steps.traces - traces
    (out / f"{name}.json").write_text(json.dumps([new, result.history, result.best_epoch, result.value]))
"""


def run_script(trainings: list[tuple[str, str, dict[str, Any]]], out: Path) -> None:
    out.mkdir()
    one = {"TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1", "OMP_NUM_THREADS": "1"}
    # A fixture of a module comes before the one that hides accelerators.
    hidden = {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(trainings), str(out)],
        cwd=ROOT, env={**os.environ, **one, **hidden}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert not done.returncode, done.stderr


def outcome(folder: Path, name: str) -> tuple[int, Any, list[np.ndarray]]:
    """How often a training was traced, its history, its weights."""
    traces, *history = json.loads((folder / f"{name}.json").read_text())
    with np.load(folder / f"{name}.npz") as stored:
        return traces, history, [stored[key] for key in stored.files]


KINDS = ("cnn", "deep_cnn", "fast_cnn", "resnet")
TRAININGS: list[tuple[str, str, dict[str, Any]]] = [
    (
        f"{kind}-{optimizer}-{schedule}",
        kind,
        {**VALUES, "optimizer": optimizer, "schedule": schedule, "dropout": dropout},
    )
    for kind in KINDS
    for optimizer in ("sgd", "adam", "adamw")
    for schedule, dropout in (("constant", 0.3), ("cosine", 0.2))
]
TRAININGS += [
    (f"{kind}-averaged-{averaging}", kind, {**VALUES, "averaging": averaging})
    for kind in ("cnn", "fast_cnn")
    for averaging in (0.9, 0.99)
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is first of its signature in one process comes on a used model in the other; the last of each kind alone."""
    folder = tmp_path_factory.mktemp("trained")
    run_script(TRAININGS, folder / "forwards")
    run_script(TRAININGS[::-1], folder / "backwards")
    run_script([last_of(kind) for kind in KINDS], folder / "alone")
    return folder


def last_of(kind: str) -> tuple[str, str, dict[str, Any]]:
    return [training for training in TRAININGS if training[1] == kind][-1]


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_on_a_used_model_is_that_on_a_new_one_bit_for_bit(kind: str, trained: Path) -> None:
    for name in (name for name, of, _ in TRAININGS if of == kind):
        one_traces, one, weights = outcome(trained / "forwards", name)
        two_traces, two, others = outcome(trained / "backwards", name)
        assert {one_traces, two_traces} == {0, 1}, f"{name}: one of the two had a used model"
        assert one == two, name
        for mine, other in zip(weights, others, strict=True):
            np.testing.assert_array_equal(mine, other, err_msg=name)
    last = last_of(kind)[0]
    assert outcome(trained / "alone", last)[1] == outcome(trained / "forwards", last)[1]


def toy(count: int, first: int = 0) -> LabelledImages:
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 200)
    images = random.integers(0, 160, (200, 8, 8, 1)) + 60 * labels[:, None, None, None]
    return LabelledImages(images.astype(np.uint8), labels, np.arange(first, first + count))


def train(
    models: CompiledModels, kind: type[ImageClassifier] = CNN, *, training: LabelledImages | None = None, **values: Any
) -> tuple[TrainingModel, FitResult]:
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    classifier = kind(inputs, extended=True, epochs=3, train_images=96, models=models)
    hp = keras_tuner.HyperParameters()
    hp.values.update({**VALUES, **values})
    seed_generators(1)
    model = classifier.build(hp)
    return model, classifier.fit(hp, model, training or toy(96), toy(40, first=96), seed=1)


@pytest.mark.parametrize(
    ("name", "value", "optimizer", "schedule"),
    [
        ("learning_rate", 0.02, "sgd", "constant"),
        ("learning_rate", 0.02, "adam", "cosine"),
        ("momentum", 0.8, "sgd", "constant"),
        ("weight_decay", 0.3, "sgd", "constant"),
        ("weight_decay", 0.3, "adamw", "constant"),
        ("dropout", 0.5, "sgd", "constant"),
        ("label_smoothing", 0.0, "sgd", "constant"),
        ("augmentation", 1.0, "sgd", "constant"),
        ("schedule", "cosine", "sgd", "constant"),
        ("batch_size", 16, "sgd", "constant"),
    ],
)
def test_a_value_changes_the_result_without_a_new_trace(name: str, value: Any, optimizer: str, schedule: str) -> None:
    models = CompiledModels()
    values: dict[str, Any] = {"optimizer": optimizer, "schedule": schedule}
    model, first = train(models, **values)
    again, second = train(models, **{**values, name: value})
    assert again is model
    assert model.steps.traces == 1
    assert first.history["loss"] != second.history["loss"]
    _, third = train(models, **values)
    assert third == first, "nothing of the training between is left"


def test_the_length_of_the_schedule_is_a_value() -> None:
    models = CompiledModels()
    _, whole = train(models, schedule="cosine")
    _, short = train(models, schedule="cosine", batch_size=96)  # 3 steps in all instead of 9
    assert whole.history["learning_rate"][-1] == pytest.approx(0.0, abs=1e-8)
    assert short.history["learning_rate"][-1] == pytest.approx(0.0, abs=1e-8)


@pytest.mark.parametrize("change", [{"width": 24}, {"depth": 2}, {"optimizer": "adam"}, {"augmentation": 0.0}])
def test_what_changes_the_graph_has_a_model_of_its_own(change: dict[str, Any]) -> None:
    models = CompiledModels()
    one, _ = train(models)
    other, _ = train(models, **change)
    assert other is not one
    again, _ = train(models)
    assert again is one


def test_the_precision_is_part_of_the_signature() -> None:
    models = CompiledModels()
    one, _ = train(models)
    try:
        set_precision("mixed_bfloat16")
        other, result = train(models)
    finally:
        set_precision("float32")
    assert other is not one
    assert all(np.isfinite(result.history["loss"]))


def test_the_scale_of_the_loss_begins_anew_in_half_precision() -> None:
    models = CompiledModels()
    try:
        set_precision("mixed_float16")
        _, first = train(models)
        _, again = train(models)
    finally:
        set_precision("float32")
    assert first == again


def test_only_so_many_models_are_kept() -> None:
    models = CompiledModels(kept=2)
    one, _ = train(models, optimizer="sgd")
    train(models, optimizer="adam")
    train(models, optimizer="adamw")
    assert train(models, optimizer="adamw")[0].steps.traces == 1
    assert train(models, optimizer="sgd")[0] is not one


class Doubled(layers.Layer):
    """A layer whose configuration does not say by how much it multiplies."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def call(self, x: Any) -> Any:
        return x * self.factor

    def get_config(self) -> dict[str, Any]:
        return {}


class Baked(CNN):
    """A user's model with a hyperparameter in its graph."""

    def backbone(self, hp: Any, x: Any) -> Any:
        return Doubled(hp.Float("factor", 0.5, 2.0))(layers.Flatten()(x))


class Regularized(CNN):
    """A user's model with a dropout of its own and a regularizer."""

    def backbone(self, hp: Any, x: Any) -> Any:
        x = layers.SpatialDropout2D(0.2)(x)
        x = layers.Dropout(hp.Float("early_dropout", 0.1, 0.5), noise_shape=(None, 1, 1, 1))(x)
        return layers.Dense(8, kernel_regularizer=keras.regularizers.L2(hp.Float("l2", 1e-6, 1.0)))(layers.Flatten()(x))


class NamedByValue(CNN):
    """A user's model whose layer is named after what it computes."""

    def backbone(self, hp: Any, x: Any) -> Any:
        kind = hp.Choice("activation", ["tanh", "relu"])
        return layers.Dense(8, activation=kind, name=kind)(layers.Flatten()(x))


def test_a_layer_named_after_its_activation_is_not_taken_for_one_with_another() -> None:
    models = CompiledModels()
    one, first = train(models, NamedByValue, activation="tanh")
    other, second = train(models, NamedByValue, activation="relu")
    assert other is not one
    assert first.history["loss"] != second.history["loss"]


def test_a_layer_that_is_not_keras_own_is_compiled_for_each_trial() -> None:
    models = CompiledModels()
    one, first = train(models, Baked, factor=0.5)
    other, second = train(models, Baked, factor=2.0)
    assert other is not one
    assert first.history["loss"] != second.history["loss"]
    assert train(models, Baked, factor=0.5)[1] == first


def test_a_dropout_inside_the_backbone_is_a_value_and_a_regularizer_is_not() -> None:
    models = CompiledModels()
    one, first = train(models, Regularized, early_dropout=0.1, l2=1e-6)
    same, second = train(models, Regularized, early_dropout=0.5, l2=1e-6)
    other, third = train(models, Regularized, early_dropout=0.1, l2=1.0)
    assert same is one and first.history["loss"] != second.history["loss"]
    assert other is not one
    assert third.history["loss"][0] > first.history["loss"][0] + 0.5, "the penalty counts in training"


def test_the_exported_classifier_has_keras_own_dropout_with_the_rate_of_its_trial(tmp_path: Path) -> None:
    models = CompiledModels()
    inputs = Inputs((8, 8, 1), 2, mean=(110.0,), std=(60.0,), flips=False)
    classifier = CNN(inputs, extended=True, epochs=1, train_images=96, models=models)
    for rate in (0.1, 0.4):
        hp = keras_tuner.HyperParameters()
        hp.values.update({**VALUES, "dropout": rate})
        seed_generators(1)
        model = classifier.build(hp)
        classifier.fit(hp, model, toy(96), toy(40), seed=1)
        classifier.classifier(model).save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert loaded.get_layer("head_dropout").rate == rate
        assert {type(layer).__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
        assert [layer.name for layer in loaded.layers if "conv2d" in layer.name] == ["conv2d"]
        pixels = np.asarray(toy(20).images[:20])
        logits = keras.ops.convert_to_numpy(model(pixels, training=False))
        found = np.asarray(loaded.predict_on_batch(pixels))
        np.testing.assert_allclose(found, keras.ops.convert_to_numpy(keras.ops.softmax(logits)), atol=1e-6)


def test_the_order_and_the_result_do_not_depend_on_the_feeding(monkeypatch: pytest.MonkeyPatch) -> None:
    models = CompiledModels()
    _, host = train(models)
    resident = toy(96)
    vars(resident)["source"] = OnDevice(resident)
    _, device = train(models, training=resident)
    monkeypatch.setattr("models.training.feeding.FromHost.most", 1)
    _, single = train(models)
    assert host == device == single


def test_tuned_dropout_drops_its_share_and_keeps_the_mean() -> None:
    layer = TunedDropout(0.0)
    ones = np.ones((200, 200), np.float32)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(ones, training=True)), ones)
    layer.rate.assign(0.25)
    dropped = keras.ops.convert_to_numpy(layer(ones, training=True))
    assert np.mean(dropped == 0.0) == pytest.approx(0.25, abs=0.02)
    np.testing.assert_allclose(dropped[dropped > 0], 1 / 0.75, rtol=1e-6)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layer(ones, training=False)), ones)
    mask = keras.ops.convert_to_numpy(TunedDropout(0.5, noise_shape=(None, 1))(ones, training=True))
    assert {len(set(row)) for row in mask.tolist()} == {1}, "one draw for each row"
