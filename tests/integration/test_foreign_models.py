"""Hypermodels that know nothing of this project: from the command line, and what is refused of them."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import BadInput
from tests.contract.test_foreign_contract import IMAGES
from tests.integration.command_line import CommandLine
from tuning.user_classes import parse_model
from tuning.worker.preflight.timing import ESTIMATED
from tuning.worker.preflight.walk import preflight
from tuning.worker.preparing.hypermodels import load_hypermodel
from tuning.worker.training_data import Classifiers, TrainingData

pytestmark = pytest.mark.keras

SMALL = ("--dataset", "mnist_sample", "--train-images", "256", "--epochs", "2", "--trials", "2", "--workers", "1")

SCRIPT = """
import keras
import keras_tuner
from keras import layers

print("about to search")


class Net(keras.Model):
    def __init__(self, units):
        super().__init__()
        self.flat = layers.Flatten()
        self.dense = layers.Dense(units, activation="relu")
        self.last = layers.Dense(10)

    def call(self, x):
        return self.last(self.dense(self.flat(x)))


def build_model(hp):
    model = Net(hp.Int("units", 8, 16, step=8))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"])
    return model


tuner = keras_tuner.RandomSearch(build_model, objective="val_accuracy", max_trials=2, directory="kt_output")
tuner.search_space_summary()
tuner.search([], [])
raise SystemExit("searched")
"""

LOOPING = """
import keras
import keras_tuner
from keras import layers


class Looping(keras_tuner.HyperModel):
    def build(self, hp):
        units = hp.Int("units", 8, 16, step=8)
        return keras.Sequential([layers.Rescaling(1 / 255), layers.Flatten(), layers.Dense(units), layers.Dense(10)])

    def fit(self, hp, model, x, y, validation_data, callbacks=None, **kwargs):
        size = hp.Choice("batch_size", [32, 64])
        for start in range(0, len(x), size):
            model.train_on_batch(x[start:start + size], y[start:start + size])
        return {"val_loss": 1.0}


hypermodel = Looping()
"""


@pytest.fixture(autouse=True)
def loaded_anew() -> Iterator[None]:
    yield
    for name in [name for name in sys.modules if name.startswith("user_model_")]:
        del sys.modules[name]


@pytest.mark.slow
def test_a_script_with_a_subclassed_model_is_tuned_once_and_exported_with_its_file(tmp_path: Path) -> None:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT)
    command = CommandLine(tmp_path / "home")
    done = command.run("tune", *SMALL, "--model", f"{file}:build_model")
    said = [line for line in done.stderr.splitlines() if line.startswith("model: ")]
    assert said[0].startswith("model: its RandomSearch.search in line 28 was not run")
    assert said[1] == "model: printed by it: about to search"
    assert len(said) == 3
    assert not list(tmp_path.rglob("kt_output"))
    command.run("export", "--model", f"{file}:build_model", "--format", "keras")
    card = json.loads((command.home / "exports" / "mnist_sample" / "card.json").read_text())
    assert card["formats"] == {"weights": "model.weights.h5", "code": "model_code"}


@pytest.mark.slow
def test_a_training_that_loops_by_itself_runs_whole_which_its_trial_says(tmp_path: Path) -> None:
    file = tmp_path / "looping.py"
    file.write_text(LOOPING)
    command = CommandLine(tmp_path / "home")
    command.run("tune", *SMALL, "--model", f"{file}:hypermodel", "--strategy", "none")
    trials = command.study("mnist_sample").trials
    assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE"]
    for trial in trials:
        assert set(trial.params) == {"units", "batch_size"}
        assert trial.user_attrs["tuning:whole"].endswith("nothing is reported before its end")
        assert trial.intermediate_values == {1: trial.value}
    command.run("export", "--format", "keras")


# --- Refused in one line, before the first trial ---

HEAD = """
import keras
import keras_tuner
from keras import layers


def dense(shape, outputs):
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(outputs, activation="softmax")])
"""

RETURNS_NOTHING = """
class build(keras_tuner.HyperModel):
    def build(self, hp):
        return dense((8, 8, 1), 4)

    def fit(self, hp, model, *args, **kwargs):
        model.fit(*args, **kwargs)
"""

REFUSED = [
    (
        "def build(hp):\n    return dense((32, 32, 3), 10)",
        r"the model takes \(32, 32, 3\), and an example .* \(8, 8, 1\)",
    ),
    (
        "def build(hp):\n    return dense((8, 8, 1), 7)",
        "the model gives 7 numbers for each example, and the data have 4 cl",
    ),
    (
        "def build(hp):\n    return dense((8, 8, 1), 1)",
        "the model gives one number for each example, and the data have 4",
    ),
    ("def build(hp):\n    return layers.Dense(4)", "build must return a keras.Model. Received: Dense"),
    (
        "def build(hp):\n    return keras.Sequential([layers.Conv2D(4, 3)])",
        "the model must give one vector for each exam",
    ),
    (
        "class build(keras_tuner.HyperModel):\n    def __init__(self, width):\n        super().__init__()",
        "build is a class that needs width, which nobody knows here. Make an instance in the file, hypermodel = build",
    ),
    ("build = 5", "build must be a function build.hp. that returns a keras.Model, .* Received: 5"),
    (
        "build = dense((8, 8, 1), 4)",
        "build must be a function build.hp. that returns a keras.Model, .* Received: <Sequ",
    ),
    ("import keras_tunner\nbuild = 5", "cannot be imported: ModuleNotFoundError: No module named 'keras_tunner'"),
    (
        "def build(hp):\n    hp.Float('m', 0.5, 0.9, sampling='reverse_log')",
        "'m' has sampling='reverse_log', which Optuna",
    ),
    (
        RETURNS_NOTHING,
        "the fit of build must return a History, a number or a dict, as KerasTuner has it. Received: NoneType",
    ),
]


def classifiers(hypermodel: Any, *, images: int = IMAGES, epochs: int = 1) -> Classifiers:
    from models.training.compiled import CompiledModels
    from studies.spec import Sampler, StrategyChoice, StudySpec
    from tests.contract.test_foreign_contract import Data

    data = Data((8, 8, 1), 4, images)
    spec = StudySpec(
        dataset="mnist_sample", model="mine.py:build@0", space="core", parameters={}, seed=0, plan_name="cpu",
        epochs=epochs, train_images=None, validation_images=500, patience=1, sampler=Sampler(),
        strategy=StrategyChoice(),
    )  # fmt: skip
    parts = TrainingData(data.training, data.validation, data.training, data.inputs, ("a", "b", "c", "d"))
    return Classifiers(hypermodel, spec, parts, CompiledModels())


def findings(text: str, tmp_path: Path, clock: Callable[[], float] = time.monotonic, **of: int) -> Any:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + "\n\n" + text)
    return preflight(classifiers(load_hypermodel(*parse_model(f"{file}:build")), **of), None, clock)


@pytest.mark.parametrize(("text", "says"), REFUSED)
def test_what_cannot_be_tuned_is_refused_in_one_line(text: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=says) as refused:
        findings(text, tmp_path)
    assert "\n" not in str(refused.value)


def test_what_a_training_of_its_own_declares_is_part_of_the_space(tmp_path: Path) -> None:
    text = """
class build(keras_tuner.HyperModel):
    def build(self, hp):
        if hp.Choice("kernel", [1, 3]) != hp.Choice("kernel", [1, 3, 5]):
            raise ValueError
        return dense((8, 8, 1), 4)

    def fit(self, hp, model, *args, **kwargs):
        return model.fit(*args, batch_size=hp.Choice("batch_size", [16, 32]), **kwargs)
"""
    space, found, _ = findings(text, tmp_path)
    assert set(space.parameters) == {"kernel", "batch_size"}
    (warning,) = found.warnings
    assert warning.startswith("parameter 'kernel' is declared with two ranges: Choice, one of 1, 3; and Choice, one of")
    assert found.notes == [
        "given float32 from 0 to 255, as keras.datasets has them, of the shape (8, 8, 1), and the labels as integers"
    ]
    assert np.isfinite(found.default_cost.epoch_s)


# In seconds of a clock that only they turn on: 20 at the first call, 0.5 at each, 0.01 for an image of an epoch.
UNTOLD_FITS = {
    "unheard": """
        self.spend(len(x) * epochs)
        return 0.5
""",
    "told of its epochs": """
        for callback in callbacks:
            callback.set_model(model)
        for epoch in range(epochs):
            self.spend(len(x), start=not epoch)
            for callback in callbacks:
                callback.on_epoch_end(epoch, {})
            if model.stop_training:
                break
        return 0.5
""",
    "in one step": """
        self.spend(len(x))
        return model.fit(x, y, batch_size=len(x), epochs=epochs, callbacks=callbacks, verbose=0)
""",
}
FIT = """
import time


class build(keras_tuner.HyperModel):
    first = True

    def build(self, hp):
        return dense((8, 8, 1), 4)

    def spend(self, images, start=True):
        time.now += (20.5 if self.first else 0.5) * start + 0.01 * images
        type(self).first = False

    def fit(self, hp, model, x, y, validation_data, epochs, callbacks, **kwargs):
"""


@pytest.mark.parametrize("fit", UNTOLD_FITS)
def test_what_a_training_costs_that_tells_nobody_of_its_steps_is_estimated(
    fit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "now", 0.0, raising=False)
    clock: Any = lambda: time.now  # type: ignore[attr-defined]  # noqa: E731
    _, found, _ = findings(FIT + UNTOLD_FITS[fit], tmp_path, clock, images=3_000, epochs=5)
    assert found.default_cost.epoch_s == pytest.approx(0.01 * 2_000, rel=0.05)
    assert found.default_cost.start_s == pytest.approx(20.5, rel=0.05)
    assert ESTIMATED in found.notes


def test_batches_of_its_own_are_seen_in_what_a_training_costs(tmp_path: Path) -> None:
    text = """
class build(keras_tuner.HyperModel):
    def build(self, hp):
        return dense((8, 8, 1), 4)

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        class Slow(keras.callbacks.Callback):
            def on_train_batch_end(self, batch, logs=None):
                time.now += 1.0

        return model.fit(x, y, batch_size=8, **{**kwargs, "callbacks": [Slow(), *kwargs["callbacks"]]})
"""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(time, "now", 0.0, raising=False)
        clock: Any = lambda: time.now  # type: ignore[attr-defined]  # noqa: E731
        _, found, _ = findings("import time\n" + text, tmp_path, clock, images=3_000)
    steps = 2_000 / 8
    assert found.default_cost.epoch_s == pytest.approx(steps + 1_000 / 8 / 3, rel=0.01)
    assert ESTIMATED not in found.notes


def test_a_layer_that_a_module_makes_once_begins_each_trial_as_it_was_given(tmp_path: Path) -> None:
    import keras
    import keras_tuner
    from keras import layers

    from models.foreign.meaning import hypermodel_of

    base = keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4, activation="softmax")])
    given = [np.array(weights) for weights in base.get_weights()]

    def build(hp: Any) -> Any:
        image = keras.Input((8, 8, 1))
        return keras.Model(image, base(image))

    made = classifiers(hypermodel_of(build, "build"))
    for _ in range(2):
        tunable, hp = made.new(), keras_tuner.HyperParameters()
        model = tunable.build(hp)
        for weights, before in zip(base.get_weights(), given, strict=True):
            np.testing.assert_array_equal(weights, before)
        tunable.fit(hp, model, made.data.training, made.data.validation, seed=0)
        assert any((one != other).any() for one, other in zip(base.get_weights(), given, strict=True))
