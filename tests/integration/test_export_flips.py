"""A model is handed over that looks at a picture and at its mirror image: it says the mean, wherever it is loaded."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import optuna
import pytest
from PIL import Image

from storage import attributes
from storage.artifacts import Artifacts
from storage.errors import BadInput, TuningError
from storage.opening import open_database
from storage.settings import CHECKOUT, Home
from storage.stores.local import LocalFiles
from studies.datasets.preparing import prepare
from studies.spec import StudySpec
from studies.study_data import describe, split_of
from tests.reported import SPEC
from tuning.building import WEIGHTS
from tuning.bundles.export import export
from tuning.bundles.loading import load
from tuning.bundles.predict import predict
from tuning.user_classes import UserFile, parse_model

# TensorFlow's variables do not know an argument that NumPy 2 gives them.
pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

OWN = """
from keras import layers
from models.classifier import ImageClassifier
from models.recipe import Recipe

class Own(ImageClassifier):
    defaults = Recipe(batch_size=64, optimizer="adamw", learning_rate=3e-3, dropout=0.0)

    def backbone(self, hp, x):
        return layers.Flatten()(layers.AveragePooling2D(4)(x))
"""


def spec_of(dataset: str, model: str = "models.cnn:CNN") -> StudySpec:
    return SPEC.model_copy(update={"dataset": dataset, "model": model, "epochs": 1})


class Made:
    """A study with one COMPLETE trial, whose model has the weights that were drawn: it tells left from right."""

    def __init__(self, home: Path, dataset: str, user_file: UserFile | None = None) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.home = Home(home)
        self.home.make(self.home.artifacts)
        self.spec = spec_of(dataset, "models.cnn:CNN" if user_file is None else user_file.name)
        self.data = prepare(dataset, self.home, report=lambda _: None)
        self.split = split_of(self.data, self.spec)
        self.database = open_database(self.home.database_url, create=True)
        self.study = optuna.create_study(study_name=dataset, storage=self.database, direction="maximize")
        self.study.set_user_attr(attributes.SPEC, self.spec.model_dump(mode="json"))
        self.study.set_user_attr(attributes.DATA, describe(self.data, self.spec))
        self.study.set_user_attr(attributes.BUDGET, 1)

    def add(self, classifier: Any, name: str, value: float) -> None:
        trial = self.study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.report(value, 1)
        file = self.home.root / name
        (classifier.save_weights if name == WEIGHTS else classifier.save)(file)
        write = partial(shutil.copyfile, file)
        Artifacts(LocalFiles(self.home.artifacts)).put(self.database, trial._trial_id, "model", name, write)
        trial.set_user_attr(attributes.BEST_EPOCH, 1)
        self.study.tell(trial, value)

    def accuracy(self, probabilities: npt.NDArray[Any]) -> float:
        return float(np.mean(probabilities.argmax(1) == self.data.train_labels[self.split.validation]))

    @property
    def validation(self) -> npt.NDArray[Any]:
        return np.asarray(self.data.train_images[self.split.validation])


def drawn() -> Any:
    import keras

    keras.utils.set_random_seed(1)
    pixels = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 64)(keras.layers.AveragePooling2D(4)(pixels))
    return keras.Model(pixels, keras.layers.Dense(10, activation="softmax")(keras.layers.Flatten()(x)))


def mean_of_both(classifier: Any, images: npt.NDArray[Any]) -> npt.NDArray[Any]:
    alone, flipped = classifier.predict_on_batch(images), classifier.predict_on_batch(images[:, :, ::-1])
    assert np.abs(alone - flipped).max() > 0.01
    mean: npt.NDArray[Any] = (alone + flipped) / 2
    return mean


def test_what_is_handed_over_says_the_mean_of_a_picture_and_its_mirror_image(home: Path, tmp_path: Path) -> None:
    made, classifier = Made(home, "cifar10_sample"), drawn()
    made.add(classifier, "model.keras", made.accuracy(classifier.predict_on_batch(made.validation)))
    bundle = export(made.study, made.home, flips=True)

    images, labels = made.data.test()
    both = mean_of_both(classifier, np.asarray(images))
    metrics, card = (json.loads((bundle / name).read_text()) for name in ("metrics.json", "card.json"))
    assert metrics["flips"] is card["flips"] is True
    assert card["output"].startswith("the mean over the picture and its mirror image of one probability for each class")
    assert metrics["test"]["accuracy"] == pytest.approx(np.mean(both.argmax(1) == labels), abs=0.005)
    expected = made.accuracy(mean_of_both(classifier, made.validation))
    assert metrics["validation"]["accuracy"] == pytest.approx(expected, abs=0.006)

    # Where nothing of this project is known.
    np.savez(tmp_path / "images.npz", images=images[:8])
    code = (
        f"import sys; sys.path = [p for p in sys.path if p != {str(CHECKOUT)!r}]; import keras, numpy\n"
        f"model = keras.saving.load_model({str(bundle / 'model.keras')!r})\n"
        "numpy.save('said.npy', model.predict_on_batch(numpy.load('images.npz')['images']))"
    )
    subprocess.run([sys.executable, "-I", "-c", code], cwd=tmp_path, check=True, capture_output=True)
    assert np.abs(np.load(tmp_path / "said.npy") - both[:8]).max() < 1e-5

    for name, picture in (("left", images[3]), ("right", images[3][:, ::-1])):
        Image.fromarray(np.asarray(picture)).save(tmp_path / f"{name}.png")
    left, right = predict(bundle, [tmp_path / "left.png", tmp_path / "right.png"])
    assert [guess["label"] for guess in left["classes"]] == [guess["label"] for guess in right["classes"]]
    assert left["classes"][0]["probability"] == pytest.approx(both[3].max(), abs=1e-5)
    # The SavedModel was compared with it, where it could be written.
    assert "tf_saved_model" in {**card["formats"], **card["skipped"]}


def test_a_model_that_is_not_what_its_trial_recorded_is_not_mirrored_either(home: Path) -> None:
    made, classifier = Made(home, "cifar10_sample"), drawn()
    recorded = made.accuracy(classifier.predict_on_batch(made.validation)) + 0.1
    made.add(classifier, "model.keras", recorded)
    with pytest.raises(TuningError, match=f"recorded was {recorded:.4f}"):
        export(made.study, made.home, flips=True)
    assert not (made.home.root / "exports" / "cifar10_sample").exists()


def test_digits_are_refused_in_one_line(home: Path) -> None:
    made = Made(home, "mnist_sample")
    made.add(drawn(), "model.keras", 0.5)
    with pytest.raises(BadInput, match=r"^--flips: .*mnist_sample.* mirrored.*Leave it out") as refused:
        export(made.study, made.home, flips=True)
    assert "\n" not in str(refused.value)


def test_a_model_that_a_users_file_builds_is_mirrored_as_it_is_built(home: Path, tmp_path: Path) -> None:
    import keras_tuner

    from models.classifier import Inputs
    from studies.study_data import inputs_of
    from tuning.user_classes import load_class

    (tmp_path / "own.py").write_text(OWN)
    name, user_file = parse_model(f"{tmp_path / 'own.py'}:Own")
    assert user_file is not None
    made = Made(home, "cifar10_sample", user_file)
    recorded: Any = describe(made.data, made.spec)
    from models.classifier import ImageClassifier

    hypermodel = load_class("model", name, user_file, lambda: ImageClassifier)
    maker = hypermodel(
        Inputs(**inputs_of(made.data, recorded, made.split)), extended=False, epochs=1, train_images=1600
    )
    classifier = maker.untrained_classifier(keras_tuner.HyperParameters())
    made.add(classifier, WEIGHTS, made.accuracy(classifier.predict_on_batch(made.validation)))

    bundle = export(made.study, made.home, user_file=user_file, formats=[], flips=True)
    images = np.asarray(made.data.test()[0][:8])
    said = load(bundle, run_code=True).predict_on_batch(images)
    assert np.abs(said - mean_of_both(classifier, images)).max() < 1e-5
    assert json.loads((bundle / "card.json").read_text())["building"]["mirrored"] is True
