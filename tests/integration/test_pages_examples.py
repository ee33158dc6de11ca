"""What the pages say of models is true: the example trains, the search spaces are the models' own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studies.datasets.own.arrays import Arrays
from studies.datasets.own.tables import read_table
from studies.datasets.splits import channel_statistics
from studies.spec import HYPERMODELS
from tests.integration.command_line import CommandLine
from tests.pages.page import ROOT, Page, keys, named, row_of, rows
from tuning.user_classes import UserFile
from tuning.worker.joining import load_hypermodel

pytestmark = pytest.mark.keras

MODELS = Page.read("models/README.md")
TUNING = Page.read("tuning/README.md")


@pytest.fixture
def my_model(tmp_path: Path) -> Path:
    file = tmp_path / "my_model.py"
    file.write_text(next(text for text in MODELS.blocks("python") if "ImageClassifier" in text))
    return file


@pytest.mark.slow
def test_the_example_model_is_tuned_exported_and_asked(my_model: Path, tmp_path: Path) -> None:
    command = CommandLine(tmp_path / "home")
    small = ("--train-images", "256", "--epochs", "1", "--trials", "1", "--workers", "1")
    model = ("--model", f"{my_model}:MyModel", "--study", "my_model")
    finished = command.run("tune", "--dataset", "mnist_sample", *small, *model)
    assert "filters" in finished.stderr
    (trial,) = command.study("my_model").trials
    assert {"filters", "batch_size", "optimizer", "learning_rate", "dropout"} == set(trial.params)
    command.run("export", "--study", "my_model")
    metrics = json.loads((command.home / "exports" / "my_model" / "metrics.json").read_text())
    assert keys(metrics) == keys(TUNING.json_after("### `metrics.json`"))
    digit = ROOT / ".readme" / "digit.png"
    assert keys(command.json("predict", "--study", "my_model", "--json", str(digit))) == keys(
        TUNING.json_after("### `tuning predict --json`")
    )


def test_the_example_for_what_is_no_picture_learns_from_the_rows_of_a_table(tmp_path: Path) -> None:
    import keras
    import keras_tuner

    from models.classifier import Inputs
    from models.evaluation import evaluate
    from models.training.feeding import LabelledImages

    random = np.random.default_rng(0)
    numbers = random.normal(size=(600, 20))
    rows = [",".join(map(str, [*row, "high" if row[3] > 0 else "low"])) for row in numbers]
    (tmp_path / "rows.csv").write_text("\n".join([",".join([*(f"f{number}" for number in range(20)), "class"]), *rows]))
    table = read_table(tmp_path / "rows.csv")
    assert isinstance(table, Arrays)
    x, y = table.parts["train"]
    mean, std = channel_statistics(x)

    (tmp_path / "rows.py").write_text(next(text for text in MODELS.blocks("python") if "class Rows" in text))
    own = UserFile.parse("model", f"{tmp_path / 'rows.py'}:Rows")
    hypermodel = load_hypermodel(own.name, own)
    inputs = Inputs(x.shape[1:], 2, mean, std, flips=False, dtype=x.dtype.name)
    classifier = hypermodel(inputs, extended=False, epochs=10, train_images=500)
    hp, parts = keras_tuner.HyperParameters(), (np.arange(500), np.arange(500, 600))
    keras.utils.set_random_seed(0)
    model = classifier.build(hp)
    result = classifier.fit(hp, model, *(LabelledImages(x, y, part) for part in parts), seed=0)
    assert set(hp.values) == {"depth", "units", "batch_size", "optimizer", "learning_rate", "dropout"}
    assert result.value > 0.85
    judged = evaluate(classifier.classifier(model), x[500:], y[500:], classes=2)
    assert judged.accuracy == pytest.approx(result.value)


def declared(name: str, *, extended: bool) -> dict[str, Any]:
    """A model's searched parameters, also those under a condition, by name."""
    from models.classifier import Inputs
    from tuning.worker.hyperparameters import RangedHyperParameters

    inputs = Inputs(shape=(32, 32, 3), classes=10, mean=(120.0,) * 3, std=(60.0,) * 3, flips=True)
    hypermodel = load_hypermodel(HYPERMODELS[name], None)
    found: dict[str, Any] = {}
    for optimizer in ("sgd", "adam", "adamw"):
        hp = RangedHyperParameters({}, {"optimizer": optimizer})
        hypermodel(inputs, extended=extended, epochs=1, train_images=1_000).build(hp)
        found |= hp.active
    return found


def in_words(parameter: Any) -> str:
    """A range as the page writes it."""
    if hasattr(parameter, "values") and type(parameter).__name__ == "Choice":
        return ", ".join(str(value) for value in parameter.values)
    low, high = (f"{bound:g}" for bound in (parameter.min_value, parameter.max_value))
    scale = ", log" if parameter.sampling == "log" else ""
    step = f", step {parameter.step:g}" if parameter.step not in (None, 1) else ""
    return f"{low} to {high}{scale}{step}"


@pytest.mark.parametrize("name", HYPERMODELS)
def test_the_search_spaces_are_the_models_own(name: str) -> None:
    text = MODELS.section("Models and search spaces")
    position = list(HYPERMODELS).index(name)
    own = {row[1].strip("`"): row for row in rows(text) if row[0] == f"`{name}`"}
    core, extended = (declared(name, extended=choice) for choice in (False, True))
    for parameter, known in extended.items():
        if parameter in own:
            _, _, space, words, default = own[parameter]
        else:
            _, space, words, defaults, _ = row_of(text, parameter)
            each = defaults.split(", ")
            default = each[position] if len(each) > 1 else each[0]
        assert space.partition(",")[0] == ("core" if parameter in core else "extended"), parameter
        assert words == in_words(known), parameter
        shown = f"{known.default:g}" if isinstance(known.default, float) else str(known.default)
        assert default == shown, parameter
    shared = {cell for row in rows(text) for cell in named(row[0])} - set(HYPERMODELS)
    assert set(extended) == set(own) | shared
