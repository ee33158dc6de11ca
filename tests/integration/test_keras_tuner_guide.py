"""KerasTuner's guide for beginners, written anew: each of its parts, as KerasTuner's own script but for one line."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tests.integration.command_line import CommandLine
from tests.integration.user_script import UserScript
from tests.pages.page import Page

pytestmark = [pytest.mark.keras, pytest.mark.slow]

THEIRS, OURS = "from keras_tuner import RandomSearch as Tuner", "from tuning.keras_tuner import Tuner"

GUIDE = """
import os

import keras
import keras_tuner
import numpy as np
from keras import layers
from keras_tuner import RandomSearch as Tuner

random = np.random.default_rng(0)
x, y = random.random((120, 28, 28, 1)).astype("float32"), keras.utils.to_categorical(random.integers(0, 10, 120))
x_train, y_train, x_val, y_val = x[:90], y[:90], x[90:], y[90:]


def saved_in(project):
    return {"overwrite": True, "directory": "my_dir", "project_name": project}


# The architecture


def existing_code(widths, activation, dropout, rate):
    model = keras.Sequential([layers.Flatten()])
    for width in widths:
        model.add(layers.Dense(width, activation=activation))
    if dropout:
        model.add(layers.Dropout(0.25))
    model.add(layers.Dense(10, activation="softmax"))
    model.compile(keras.optimizers.Adam(rate), "categorical_crossentropy", metrics=["accuracy"])
    return model


def build_model(hp):
    widths = [hp.Int(f"units_{i}", min_value=32, max_value=96, step=32) for i in range(hp.Int("num_layers", 1, 3))]
    rate = hp.Float("lr", min_value=1e-4, max_value=1e-2, sampling="log")
    return existing_code(widths, hp.Choice("activation", ["relu", "tanh"]), hp.Boolean("dropout"), rate)


build_model(keras_tuner.HyperParameters())
tuner = Tuner(
    hypermodel=build_model, objective="val_accuracy", max_trials=2, executions_per_trial=1, **saved_in("helloworld")
)
tuner.search_space_summary()
tuner.search(x_train, y_train, epochs=2, validation_data=(x_val, y_val))
models = tuner.get_best_models(num_models=2)
models[0].build(input_shape=(None, 28, 28, 1))
models[0].summary()
tuner.results_summary()
best_hps = tuner.get_best_hyperparameters(5)
print("architecture", len(models), len(best_hps), "num_layers" in best_hps[0].values)
build_model(best_hps[0]).fit(x, y, epochs=1)

# The training, and what is done to the data


class Cropping(keras_tuner.HyperModel):
    def build(self, hp):
        size = hp.Int("image_size", 10, 28)
        inputs = keras.Input((size, size))
        hidden = layers.Dense(hp.Int("units", 32, 96, step=32), activation="relu")(layers.Flatten()(inputs))
        model = keras.Model(inputs, layers.Dense(10, activation="softmax")(hidden))
        model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        return model

    def fit(self, hp, model, x, y, validation_data=None, **kwargs):
        if hp.Boolean("normalize"):
            x = layers.Normalization()(x)
        size = hp.get("image_size")
        if validation_data:
            validation_data = (validation_data[0][:, :size, :size, :], validation_data[1])
        x = x[:, :size, :size, :]
        return model.fit(x, y, shuffle=hp.Boolean("shuffle"), validation_data=validation_data, **kwargs)


tuner = Tuner(Cropping(), objective="val_accuracy", max_trials=2, **saved_in("tune_hypermodel"))
tuner.search(x_train, y_train, epochs=2, validation_data=(x_val, y_val))
best_hp = tuner.get_best_hyperparameters()[0]
print("training", sorted(best_hp.values))
Cropping().fit(best_hp, Cropping().build(best_hp), x, y, epochs=1)

# The objective

regression = {"x": random.random((100, 10)), "y": random.random((100, 1))}
regression["validation_data"] = random.random((20, 10)), random.random((20, 1))


def regressor(hp, metrics=None):
    model = keras.Sequential([layers.Dense(hp.Int("units", 32, 128, 32), activation="relu"), layers.Dense(1)])
    model.compile("adam", "mean_squared_error", metrics=metrics)
    return model


def with_a_metric_of_kerass(hp):
    return regressor(hp, [keras.metrics.MeanAbsoluteError()])


tuner = Tuner(
    with_a_metric_of_kerass,
    objective=keras_tuner.Objective("val_mean_absolute_error", direction="min"),
    max_trials=1,
    **saved_in("built_in_metrics"),
)
tuner.search(**regression)
tuner.results_summary()


class CustomMetric(keras.metrics.Metric):
    def __init__(self, **kwargs):
        super().__init__(name="custom_metric", **kwargs)
        self.sum = self.add_weight(name="sum", initializer="zeros")
        self.count = self.add_weight(name="count", initializer="zeros")

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.sum.assign_add(keras.ops.sum(keras.ops.square(y_pred - keras.ops.cast(y_true, y_pred.dtype))))
        self.count.assign_add(keras.ops.cast(keras.ops.shape(y_true)[0], "float32"))

    def result(self):
        return self.sum / self.count


def with_a_metric_of_ones_own(hp):
    return regressor(hp, [CustomMetric()])


tuner = Tuner(
    hypermodel=with_a_metric_of_ones_own,
    objective=keras_tuner.Objective("val_custom_metric", direction="min"),
    max_trials=1,
    **saved_in("custom_metrics"),
)
tuner.search(**regression)
tuner.results_summary()


class ByANumber(keras_tuner.HyperModel):
    def build(self, hp):
        return regressor(hp)

    def fit(self, hp, model, x, y, validation_data, **kwargs):
        model.fit(x, y, **kwargs)
        return np.mean(np.abs(model.predict(validation_data[0]) - validation_data[1]))


class BySeveralNumbers(ByANumber):
    def fit(self, hp, model, x, y, validation_data, **kwargs):
        error = super().fit(hp, model, x, y, validation_data, **kwargs)
        return {"metric_a": -error, "metric_b": error**2}


tuner = Tuner(hypermodel=ByANumber(), max_trials=1, **saved_in("custom_eval"))
tuner.search(**regression)
tuner.results_summary()
tuner = Tuner(BySeveralNumbers(), keras_tuner.Objective("metric_a", "max"), 1, **saved_in("custom_eval_dict"))
tuner.search(**regression)
tuner.results_summary()

# The whole


class Anything(Tuner):
    def run_trial(self, trial, *args, **kwargs):
        x = trial.hyperparameters.Float("x", min_value=-1.0, max_value=1.0)
        return x * x + 1


tuner = Anything(max_trials=12, **saved_in("tune_anything"))
tuner.search()
print("anything", tuner.get_best_hyperparameters()[0].get("x") ** 2 + 1 == tuner.oracle.get_best_trials()[0].score)


def keras_code(units, optimizer, saving_path):
    model = keras.Sequential([layers.Dense(units, activation="relu"), layers.Dense(1)])
    model.compile(optimizer, "mean_squared_error")
    model.fit(regression["x"], regression["y"])
    model.save(saving_path)
    x_val, y_val = regression["validation_data"]
    return np.mean(np.abs(model.predict(x_val) - y_val))


class Separate(Tuner):
    def run_trial(self, trial, **kwargs):
        hp = trial.hyperparameters
        return keras_code(
            units=hp.Int("units", 32, 128, 32),
            optimizer=hp.Choice("optimizer", ["adam", "adadelta"]),
            saving_path=os.path.join("saved", f"{trial.trial_id}.keras"),
        )


os.mkdir("saved")
tuner = Separate(max_trials=1, **saved_in("keep_code_separate"))
tuner.search()
best_hp = tuner.get_best_hyperparameters()[0]
keras_code(**best_hp.values, saving_path="saved/best.keras")
print("separate", sorted(os.listdir("saved")))
"""

# What each search of it declares, always.
DECLARED = {
    "helloworld": {"num_layers", "activation", "dropout", "lr", "units_0"},
    "tune_hypermodel": {"image_size", "units", "normalize", "shuffle"},
    "built_in_metrics": {"units"},
    "custom_metrics": {"units"},
    "custom_eval": {"units"},
    "custom_eval_dict": {"units"},
    "tune_anything": {"x"},
    "keep_code_separate": {"units", "optimizer"},
}
TRIALS = {"tune_anything": 12, "helloworld": 2, "tune_hypermodel": 2}
MAXIMIZED = {"helloworld", "tune_hypermodel", "custom_eval_dict"}


def test_the_guide_runs_with_one_line_changed(tmp_path: Path) -> None:
    script = UserScript(tmp_path)
    assert GUIDE.count(THEIRS) == 1
    stdout, _ = script.run(GUIDE.replace(THEIRS, OURS))
    for said in (
        "architecture 2 2 True",
        "training ['image_size', 'normalize', 'shuffle', 'units']",
        "anything True",
        "separate ['0.keras', 'best.keras']",
    ):
        assert said in stdout.splitlines()
    url = f"sqlite:///{tmp_path / 'my_dir' / 'studies.db'}"
    assert set(optuna.get_all_study_names(url)) == DECLARED.keys()
    for name, declared in DECLARED.items():
        study = optuna.load_study(study_name=name, storage=url)
        assert (study.direction == StudyDirection.MAXIMIZE) is (name in MAXIMIZED)
        trials = study.get_trials(deepcopy=False)
        require_whole(trials, declared, TRIALS.get(name, 1))
        if name == "custom_eval_dict":
            for trial in trials:
                told = trial.user_attrs["tuning:metrics"]
                assert told["metric_a"] == trial.value and told["metric_b"] == pytest.approx(told["metric_a"] ** 2)


@pytest.mark.long
def test_the_example_of_an_application_runs_as_printed(tmp_path: Path) -> None:
    script = UserScript(tmp_path)
    CommandLine(script.home.root).run("data", "prepare", "mnist_sample")
    text = next(text for text in Page.read("tuning/SCRIPTS.md").blocks("python") if "resnet.py" in text)
    stdout, _ = script.run(text)
    trials = script.trials("resnet", "home/studies.db")
    require_whole(trials, {"version", "pooling", "optimizer", "learning_rate"}, 2)
    assert all((trial.params["conv3_depth"], trial.params["conv4_depth"]) == (4, 6) for trial in trials)
    assert "Results summary" in stdout


def require_whole(trials: list[FrozenTrial], declared: set[str], count: int) -> None:
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * count
    for trial in trials:
        assert trial.value is not None and declared <= set(trial.params)
