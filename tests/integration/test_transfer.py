"""Trained models to begin with: how pictures come to them, what is left off, what is kept, and what learns."""

from __future__ import annotations

import importlib
import inspect
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from storage.settings import Home
from tuning.machine.bases import PUBLISHED

pytestmark = pytest.mark.keras

Array = npt.NDArray[Any]


def inputs(shape: tuple[int, int, int] = (8, 8, 3), classes: int = 2) -> Any:
    from models.classifier import Inputs

    channels = shape[2]
    return Inputs(shape, classes, (127.0,) * channels, (60.0,) * channels, False, "uint8", (20,) * classes)


def images(count: int = 60, shape: tuple[int, int, int] = (8, 8, 3)) -> Any:
    """Pictures of noise, dark ones and bright ones."""
    from models.training.feeding import LabelledImages

    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    pictures = rng.integers(0, 156, (count, *shape)) + 100 * labels.reshape(-1, 1, 1, 1)
    return LabelledImages(pictures.astype(np.uint8), labels, np.arange(count, dtype=np.int64))


@pytest.mark.parametrize("name", PUBLISHED)
def test_pixels_are_prepared_as_keras_prepares_them_for_each_of_its_models(name: str) -> None:
    from keras import applications

    from models.transfer.applications import prepared

    module = importlib.import_module(getattr(applications, name).__module__)
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 3, 3)).astype(np.float32)
    np.testing.assert_allclose(
        np.asarray(prepared(name, pixels)), module.preprocess_input(pixels.copy()), rtol=1e-5, atol=1e-4
    )
    # What Keras calls the file of the weights is put together of parts that are in its code.
    file = PUBLISHED[name]
    parts = [part for part in (file, file.removesuffix("_notop.h5"), "weights_mobilenet_v3_") if part in file]
    found = [part for part in (*parts, name.lower()) if part in inspect.getsource(module)]
    assert found or name.startswith("MobileNet")


def test_every_model_of_keras_is_known() -> None:
    from keras import applications

    assert set(PUBLISHED) == {name for name in dir(applications) if name[0].isupper()}


@pytest.mark.parametrize(
    ("name", "given", "shown"),
    [
        ("EfficientNetV2B0", (32, 32), (96, 96)),
        ("EfficientNetV2B0", (28, 28), (96, 96)),
        ("EfficientNetV2B0", (8, 8), (32, 32)),
        ("EfficientNetV2B0", (64, 64), (192, 192)),
        ("EfficientNetV2B0", (256, 256), (224, 224)),
        ("EfficientNetV2S", (200, 200), (384, 384)),
        ("Xception", (16, 16), (96, 96)),
        ("ResNet50", (48, 64), (128, 160)),
    ],
)
def test_small_pictures_are_enlarged_as_far_as_it_is_worth(
    name: str, given: tuple[int, int], shown: tuple[int, int]
) -> None:
    from models.transfer.applications import suited_shape

    assert suited_shape(name, given) == shown


def test_published_weights_are_loaded_as_keras_does_it_and_never_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras
    from keras.src.utils import file_utils

    from models.transfer.applications import application

    loaded = []
    monkeypatch.setattr(keras.Model, "load_weights", lambda self, file, *_, **__: loaded.append(str(file)))
    before = file_utils.get_file
    file = tmp_path / PUBLISHED["EfficientNetB0"]
    model = application("EfficientNetB0", file, (32, 32), published=True)
    assert loaded == [str(file)]
    assert file_utils.get_file is before
    # Keras rescales once more only with these weights.
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in model.layers) == 2


def saved(tmp_path: Path, *ending: Any, shape: tuple[int, int, int] = (8, 8, 3)) -> Path:
    import keras
    from keras import layers

    keras.utils.set_random_seed(1)
    model = keras.Sequential([
        keras.Input(shape), layers.Rescaling(1 / 255), layers.Conv2D(4, 3, activation="relu", name="lower"),
        layers.BatchNormalization(), layers.Conv2D(6, 3, activation="relu", name="upper"), *ending,
    ])  # fmt: skip
    file = tmp_path / "base.keras"
    model.save(file)
    return file


def endings() -> dict[str, tuple[list[Any], str, bool, int]]:
    """Layers at the end of a model; which is left off; whether maps are left, and of how many channels."""
    from keras import layers

    pooled, flat = layers.GlobalAveragePooling2D, layers.Flatten
    return {
        "maps": ([], "", True, 6),
        "pooling": ([pooled()], "", True, 6),
        "flat": ([flat()], "", False, 96),
        "classes": ([pooled(), layers.Dropout(0.1), layers.Dense(9, name="said")], "said", True, 6),
        "softmax": ([pooled(), layers.Dense(9, name="said"), layers.Softmax()], "said", True, 6),
        "own": ([pooled(), layers.BatchNormalization(), layers.Dropout(0.1), layers.Dense(9, name="a")], "a", True, 6),
        "dense": ([flat(), layers.Dense(5), layers.ReLU(), layers.Dense(9, name="last")], "last", False, 5),
    }


@pytest.mark.parametrize("ending", ["maps", "pooling", "flat", "classes", "softmax", "own", "dense"])
def test_the_head_of_a_saved_model_is_left_off(tmp_path: Path, ending: str) -> None:
    from models.transfer.bases import base_from_file

    layers, left_off, pools, channels = endings()[ending]
    base = base_from_file(saved(tmp_path, *layers), inputs())
    assert (base.left_off, base.pools, base.channels) == (left_off, pools, channels)


def test_what_is_no_base_is_refused_in_one_line(tmp_path: Path) -> None:
    import keras
    from keras import layers

    from models.classifier import Inputs, UnusableModel
    from models.transfer.bases import base_from_file, base_from_weights

    def refused(load: Callable[[], Any]) -> str:
        with pytest.raises(UnusableModel) as raised:
            load()
        assert "\n" not in str(raised.value)
        return str(raised.value)

    flat = [layers.GlobalAveragePooling2D(), layers.Reshape((6,), name="shaped")]
    assert "ends with 'shaped'" in refused(lambda: base_from_file(saved(tmp_path, *flat), inputs()))
    grey = saved(tmp_path, shape=(8, 8, 1))
    assert "takes 1 channels, and the pictures have 3" in refused(lambda: base_from_file(grey, inputs()))
    (tmp_path / "no.keras").write_bytes(b"no model")
    assert "cannot load" in refused(lambda: base_from_file(tmp_path / "no.keras", inputs()))
    rows = keras.Sequential([keras.Input((5,)), layers.Dense(2)])
    rows.save(tmp_path / "rows.keras")
    assert "takes (5,), and no pictures" in refused(lambda: base_from_file(tmp_path / "rows.keras", inputs()))
    numbers = Inputs((5,), 2, (0.0,) * 5, (1.0,) * 5, False, "float32")
    for load in (
        lambda: base_from_file(grey, numbers),
        lambda: base_from_weights("MobileNetV3Small", grey, numbers, published=False),
    ):
        assert "Received: the shape (5,) of the type float32" in refused(load)
    other = tmp_path / "other.weights.h5"
    rows.save_weights(other)
    line = refused(lambda: base_from_weights("MobileNetV3Small", other, inputs(), published=False))
    assert "has no weights of MobileNetV3Small without its last layers" in line
    assert "keras.applications.MobileNetV3Small(include_top=False).save_weights" in line


class Trial:
    """One training on a base."""

    def __init__(self, models: Any, epochs: int = 2, ends_after: int = 99, **values: Any) -> None:
        import keras
        import keras_tuner

        from models.backend import seed_generators
        from models.training.compiled import CompiledModels

        data = images()
        self.tunable = models(inputs(), extended=False, epochs=epochs, train_images=60, models=CompiledModels())
        self.hp = keras_tuner.HyperParameters()
        self.hp.values = {"batch_size": 32, **values}
        seed_generators(0)
        self.model = self.tunable.build(self.hp)

        def end(epoch: int, _logs: object) -> None:
            if epoch + 1 == ends_after:
                self.model.stop_training = True

        ending = keras.callbacks.LambdaCallback(on_epoch_end=end)
        self.result = self.tunable.fit(self.hp, self.model, data, data, seed=0, callbacks=[ending])


def test_only_the_last_layers_learn_and_batch_normalisation_stays_as_it_was(tmp_path: Path) -> None:
    import keras

    from models.transfer.named import transfer_models

    file = saved(tmp_path)
    before = {layer.name: layer.get_weights() for layer in keras.saving.load_model(file).layers}
    models = transfer_models("base.keras", file, None, published=False)

    def changed(trial: Trial) -> set[str]:
        base = next(layer for layer in trial.model.network.layers if hasattr(layer, "layers"))
        pairs = {layer.name: zip(layer.get_weights(), before.get(layer.name, []), strict=True) for layer in base.layers}
        return {name for name, weights in pairs.items() if any((one != other).any() for one, other in weights)}

    rate: dict[str, Any] = {"learning_rate": 0.1, "fine_tuning_rate": 1e-2}
    last = Trial(models, 4, unfrozen=0.3, frozen=0.25, **rate)
    assert last.result.best_epoch >= 1, "in the second phase"
    assert [layer.name for layer in models.base(inputs()).layers_that_learn()] == ["lower", "upper"]
    assert changed(last) == {"upper"}
    frozen = Trial(models, 2, frozen=1.0, **rate)
    assert changed(frozen) == set()
    assert frozen.tunable.phases(frozen.hp) == [(1.0, frozen.tunable)]
    assert [share for share, _ in last.tunable.phases(last.hp)] == [0.25, 0.75]


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_training_that_is_ended_ends_in_either_phase(tmp_path: Path, epochs: int) -> None:
    from models.transfer.named import transfer_models

    models = transfer_models("base.keras", saved(tmp_path), None, published=False)
    ended = Trial(models, 4, ends_after=epochs, frozen=0.25)
    assert len(ended.result.history["val_accuracy"]) == epochs
    assert ended.tunable.classifier(ended.model).output_shape == (None, 2)


def test_a_model_of_keras_is_begun_with_and_handed_over_for_raw_grey_pixels(tmp_path: Path) -> None:
    import keras
    import keras_tuner

    from models.transfer.named import transfer_models

    keras.utils.set_random_seed(0)
    weights = tmp_path / "own.weights.h5"
    trained = keras.applications.MobileNet(include_top=False, weights=None, input_shape=(32, 32, 3))
    for variable in trained.weights:  # as they are drawn, next to nothing is left of a picture at the end
        if "moving_variance" in variable.path:
            variable.assign(0.01 * variable)
    trained.save_weights(weights)
    models = transfer_models("keras.applications:MobileNet", weights, "MobileNet", published=False)
    data, said = images(40, (8, 8, 1)), inputs((8, 8, 1))
    tunable = models(said, extended=True, epochs=2, train_images=40)
    hp = keras_tuner.HyperParameters()
    hp.values = {"frozen": 1.0, "pooling": "both", "batch_size": 32}
    model = tunable.build(hp)
    result = tunable.fit(hp, model, data, data, seed=0)
    assert result.value > 0.6
    assert tunable.weight_count(model) == tunable.untrained(hp).count_params()
    classifier = tunable.classifier(model)
    classifier.save(tmp_path / "whole.keras")
    pictures, labels = data.batch(np.arange(40))
    again = keras.saving.load_model(tmp_path / "whole.keras")
    np.testing.assert_array_equal(again.predict_on_batch(pictures), classifier.predict_on_batch(pictures))
    # Features that were kept and the whole network say the same.
    assert (again.predict_on_batch(pictures).argmax(axis=1) == labels).mean() == pytest.approx(result.value, abs=0.026)


class Counted:
    """Computes features, and counts how often."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.calls: list[int] = []
        self._seconds = seconds

    def __call__(self, some: Any) -> Iterator[Array]:
        self.calls.append(len(some))
        time.sleep(self._seconds)
        pictures, _ = some.batch(np.arange(len(some)))
        values = pictures.reshape(len(some), 1, -1).astype(np.float32)
        yield values[:7]
        yield values[7:]


def test_features_are_computed_once_for_all_workers_and_anew_where_they_are_damaged(home: Path) -> None:
    from models.training.feeding import LabelledImages
    from tuning.worker.preparing.features import KeptFeatures

    mine = Home(home)
    data = images(30)
    part = LabelledImages(data.images, data.labels, np.random.default_rng(0).permutation(20).astype(np.int64))
    expected = data.images[part.indices].reshape(20, 1, -1)
    make = Counted(0.2)

    def worker() -> KeptFeatures:
        return KeptFeatures(mine, "of the data", (part,))

    threads = [threading.Thread(target=lambda: worker()(part, "a base", make)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = worker()(part, "a base", make)
    np.testing.assert_array_equal(kept, expected)
    assert make.calls == [20]
    piece = LabelledImages(data.images, data.labels, part.indices[3:9])
    np.testing.assert_array_equal(worker()(piece, "a base", make), expected[3:9])
    assert make.calls == [20]
    worker()(part, "another base", make)
    KeptFeatures(mine, "of other data", (part,))(part, "a base", make)
    assert make.calls == [20, 20, 20]
    # Of what is no part of a study, nothing is kept.
    files = set(mine.features.iterdir())
    worker()(data, "a base", make)
    assert make.calls[3:] == [30]
    assert set(mine.features.iterdir()) == files

    for file in mine.features.glob("*.npy"):
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    np.testing.assert_array_equal(worker()(part, "a base", make), expected)
    assert make.calls[4:] == [20]


def test_what_a_worker_that_was_killed_had_written_of_features_is_removed_by_the_next(home: Path) -> None:
    from tuning.worker.preparing.features import KeptFeatures

    mine, data = Home(home), images(30)
    part = mine.make(mine.features) / ".0123-abcd1234.npy"
    part.write_bytes(bytes(100))
    os.utime(part, (0, 0))
    assert KeptFeatures(mine, "data", (data,))(data, "a base", single).shape == (30, 1, 2)
    assert sorted(file.suffix for file in mine.features.iterdir()) == [".json", ".lock", ".npy"]
    assert not part.exists()


def test_how_long_features_take_is_told_where_it_is_long(home: Path) -> None:
    from tuning.worker.preparing.features import KeptFeatures

    seconds = iter(range(0, 100, 4))
    said: list[str] = []
    data = images(30)
    KeptFeatures(Home(home), "data", (data,), said.append, lambda: float(next(seconds)))(data, "a base", single)
    assert said == ["computing the features of 30 pictures, once for all trials: 16 s left"]


def single(some: Any) -> Iterator[Array]:
    """Five pictures in a block."""
    for _ in range(0, len(some), 5):
        yield np.zeros((5, 1, 2), np.float32)
