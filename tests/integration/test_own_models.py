"""What a user's own model brings with it is told before the first trial, and what it made can be used at the end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from optuna.trial import TrialState

from tests.integration.command_line import ROOT, CommandLine
from tuning.bundles.images import load_image

pytestmark = pytest.mark.keras

# Two trials of about a second.
SMALL = ("--dataset", "mnist_sample", "--train-images", "256", "--epochs", "1", "--trials", "2", "--workers", "1")

DIGIT = ROOT / ".readme" / "digit.png"

HEAD = """
import keras
from keras import layers

from models.classifier import ImageClassifier
from models.recipe import Recipe


class Mine(ImageClassifier):
    defaults = Recipe(batch_size=64, optimizer="adamw", learning_rate=3e-3, dropout=0.2)
"""

PREPROCESSED = (
    HEAD
    + """
    def backbone(self, hp, x):
        base = keras.Sequential([keras.Input((28, 28, 1)), layers.Conv2D(4, 3, strides=2)])
        base.trainable = False
        x = base(keras.applications.mobilenet_v2.preprocess_input(x), training=False)
        return layers.Dense(hp.Int("units", 8, 16, step=8))(layers.GlobalAveragePooling2D()(x))
"""
)


BLOCKS = """
import keras
from keras import layers


@keras.saving.register_keras_serializable(package="mine")
class Scale(layers.Layer):
    def __init__(self, start=1.0, **kw):
        super().__init__(**kw)
        self.start = start

    def build(self, shape):
        self.by = self.add_weight(shape=(shape[-1],), initializer=keras.initializers.Constant(self.start))

    def call(self, x):
        return x * self.by

    def get_config(self):
        return {**super().get_config(), "start": self.start}


class Body(keras.Model):
    def __init__(self, width):
        super().__init__()
        self.flat = layers.Flatten()
        self.dense = layers.Dense(width, activation="relu")

    def call(self, x, training=False):
        return self.dense(self.flat(x))
"""

LAMBDA_AND_LAYER = (
    "from blocks import Scale\n"
    + HEAD
    + """
    def backbone(self, hp, x):
        x = layers.Lambda(lambda t: keras.ops.image.resize(t, (14, 14)))(x)
        x = layers.Dense(hp.Int("units", 16, 32, step=16), activation="relu")(layers.Flatten()(x))
        return Scale(hp.Float("start", 0.5, 2.0))(x)
"""
)

SUBCLASSED = (
    "from blocks import Body\n"
    + HEAD
    + """
    def backbone(self, hp, x):
        return Body(hp.Int("width", 16, 32, step=16))(x)
"""
)

ADAPTED = (
    HEAD
    + """
    def backbone(self, hp, x):
        norm = layers.Normalization(axis=-1)
        norm.adapt(keras.ops.reshape(keras.ops.linspace(0.0, 10.0, 784), (1, 28, 28, 1)))
        return layers.Dense(hp.Int("units", 16, 32, step=16), activation="relu")(layers.Flatten()(norm(x)))
"""
)

UNALIKE = (
    "import os\n"
    + HEAD
    + """
    def backbone(self, hp, x):
        by = 1.0 + 3.0 * int.from_bytes(os.urandom(4), "big") / 2**32  # never the same, and nothing saturates
        return layers.Dense(hp.Int("units", 8, 16, step=8))(layers.Flatten()(layers.Lambda(lambda t: t * by)(x)))
"""
)


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home")


def own(folder: Path, text: str) -> str:
    folder.mkdir(exist_ok=True)
    file = folder / "mine.py"
    file.write_text(text)
    (folder / "blocks.py").write_text(BLOCKS)
    return f"{file}:Mine"


def best_of_the_saved_model(bundle: Path) -> list[str]:
    """The classes that the SavedModel names, which needs no file of the user's, for the same picture."""
    pixels = load_image(DIGIT, (28, 28, 1), "digit")[None].astype(np.float32)
    said = np.asarray(keras.layers.TFSMLayer(str(bundle / "saved_model"), call_endpoint="serve")(pixels))[0]
    return [str(place) for place in np.argsort(-said, kind="stable")[:5]]


def warnings(said: str) -> list[str]:
    return [line for line in said.splitlines() if line.startswith("warning: ")]


def test_pixels_prepared_as_an_application_wants_them_are_told_in_one_line(
    command: CommandLine, tmp_path: Path
) -> None:
    done = command.run("tune", *SMALL, "--model", own(tmp_path, PREPROCESSED))
    (warning,) = warnings(done.stderr)
    assert warning.startswith("warning: 'true_divide' shrinks what is normalised already")
    assert "an application's preprocess_input" in warning


@pytest.mark.slow
def test_a_model_that_keras_cannot_load_by_itself_is_exported_with_its_file(
    command: CommandLine, tmp_path: Path
) -> None:
    model = own(tmp_path / "mine", LAMBDA_AND_LAYER)
    (warning,) = warnings(command.run("tune", *SMALL, "--model", model).stderr)
    assert warning.startswith("warning: Keras cannot load the saved model where your file is unknown (")
    command.run("export", "--model", model, "--format", "tf_saved_model")
    require_bundle_that_predicts(command, tmp_path / "mine")


@pytest.mark.slow
def test_a_model_that_keras_cannot_save_is_exported_with_its_file_which_is_run_on_demand_only(
    command: CommandLine, tmp_path: Path
) -> None:
    model = own(tmp_path / "mine", SUBCLASSED)
    done = command.run("tune", *SMALL, "--model", model)
    (warning,) = warnings(done.stderr)
    assert warning.startswith("warning: Keras cannot save the model as one file (NotImplementedError: Object Body was")
    assert "the study runs" in warning and warning.endswith(f"MODEL={model}")
    assert done.stderr.strip().splitlines()[-1] == f"next: make export STUDY=mnist_sample MODEL={model}"
    assert {trial.state for trial in command.study("mnist_sample").trials} <= {TrialState.COMPLETE, TrialState.PRUNED}

    without = command.run("export", status=1).stderr.strip().splitlines()[-1]
    assert "cannot be loaded where its file is unknown" in without and "give --model mine.py:Mine" in without
    changed = own(tmp_path / "changed", SUBCLASSED + "\n")
    assert "Give the same file, unchanged" in command.run("export", "--model", changed, status=2).stderr
    assert not (command.home / "exports" / "mnist_sample").exists()
    command.run("export", "--model", model, "--format", "tf_saved_model")
    refused = command.run("predict", str(DIGIT), status=2).stderr
    assert refused.startswith("error: the model in ") and "--run-code (make: RUN_CODE=1)" in refused
    require_bundle_that_predicts(command, tmp_path / "mine")


def require_bundle_that_predicts(command: CommandLine, file_folder: Path) -> None:
    """Compare what a bundle with code holds and says with what it should, where the user's own file is gone."""
    bundle = command.home / "exports" / "mnist_sample"
    card = json.loads((bundle / "card.json").read_text())
    assert card["formats"] == {"weights": "model.weights.h5", "code": "model_code", "tf_saved_model": "saved_model"}
    assert set(card["skipped"]) == {"keras"}
    assert not (bundle / "model.keras").exists()
    shutil.rmtree(file_folder)
    asked = command.run("predict", str(DIGIT), "--run-code", "--json")
    assert asked.stderr == f"running {bundle}/model_code/mine.py:Mine, as exported: {card['building']['model']}\n"
    (said,) = json.loads(asked.stdout)
    assert [guess["label"] for guess in said["classes"]] == best_of_the_saved_model(bundle)
    # No bytecode either, which the next one would have to refuse.
    assert {path.name for path in (bundle / "model_code").rglob("*")} == {"mine.py", "blocks.py"}


def test_an_adapted_layer_is_part_of_kerass_own_file(command: CommandLine, tmp_path: Path) -> None:
    done = command.run("tune", *SMALL, "--model", own(tmp_path, ADAPTED))
    assert warnings(done.stderr) == []
    command.run("export", "--format", "keras")
    assert (command.home / "exports" / "mnist_sample" / "model.keras").is_file()


def test_a_model_that_nothing_can_build_again_is_refused_before_the_first_trial(
    command: CommandLine, tmp_path: Path
) -> None:
    done = command.run("tune", *SMALL, "--model", own(tmp_path, UNALIKE), status=2)
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.startswith("error: the model cannot be exported with batch_size=")
    assert "Keras cannot load the saved model where your file is unknown (" in error
    assert "a copy of your file does not build it again for its weights (loaded, it says other probabilities" in error
    assert "Put layers in place of what is not Keras's own (of a Lambda, say)" in error
