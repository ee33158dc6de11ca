"""What the pages say of models is true: the example trains, the search spaces are the models' own."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest

from studies.spec import HYPERMODELS
from tests.integration.command_line import CommandLine
from tests.pages.page import ROOT, Page, keys, named, row_of, rows
from tuning.worker.preparing.hypermodels import load_hypermodel

pytestmark = pytest.mark.keras

MODELS = Page.read("models/README.md")
TUNING = Page.read("tuning/README.md")
STUDIES = Page.read("studies/README.md")


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
    command.run("export", "--study", "my_model", "--format", "keras")
    metrics = json.loads((command.home / "exports" / "my_model" / "metrics.json").read_text())
    assert keys(metrics) == keys(TUNING.json_after("### `metrics.json`"))
    digit = ROOT / ".readme" / "digit.png"
    assert keys(command.json("predict", "--study", "my_model", "--json", str(digit))) == keys(
        TUNING.json_after("### `tuning predict --json`")
    )


@pytest.mark.slow
def test_the_example_of_a_hypermodel_is_tuned_as_printed_and_exported(tmp_path: Path) -> None:
    file = tmp_path / "my_hypermodel.py"
    file.write_text(next(text for text in MODELS.blocks("python") if "class MyHyperModel" in text))
    command = CommandLine(tmp_path / "home", folder=tmp_path)
    (line,) = (text for text in MODELS.blocks("console") if "my_hypermodel.py" in text)
    small = ("--train-images", "256", "--epochs", "2", "--trials", "1", "--workers", "1")
    done = command.run(*flags(shlex.split(line.removeprefix("$ "))), *small)
    (printed,) = (text for text in MODELS.blocks("") if text.startswith("model: given"))
    assert printed in done.stderr
    (trial,) = command.study("my_hypermodel").trials
    assert {"layers", "units_0", "dropout", "learning_rate", "batch_size"} == set(trial.params)
    assert trial.value is not None and trial.value > 0.3
    assert "tuning:whole" not in trial.user_attrs
    command.run("export", "--study", "my_hypermodel", "--format", "keras")
    assert (command.home / "exports" / "my_hypermodel" / "model.keras").is_file()


@pytest.mark.slow
def test_the_example_of_a_trained_model_is_tuned_as_printed_and_exported(tmp_path: Path) -> None:
    text = MODELS.section("Begin with a trained model")
    command = CommandLine(tmp_path / "home", folder=tmp_path)
    (tmp_path / "halves.py").write_text(next(block for block in MODELS.blocks("python") if "known.keras" in block))
    (lines,) = (block for block in MODELS.blocks("console") if "halves.py" in block)
    python, tune, export = (shlex.split(line.removeprefix("$ ")) for line in lines.splitlines())
    assert python == [".venv/bin/python", "halves.py"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TUNING_HOME": str(command.home)}
    subprocess.run([sys.executable, "halves.py"], cwd=tmp_path, env=environment, check=True, capture_output=True)
    small = ("--trials", "1", "--epochs", "4", "--workers", "1", "--search-only")
    done = command.run(*flags(tune), *small)
    (printed,) = (block for block in MODELS.blocks("") if "the base without" in block)
    assert printed in done.stderr
    (trial,) = command.study("new_digits").trials
    assert trial.value is not None and trial.value > 0.7
    known = {cell: row for row in rows(text) for cell in named(row[0])}
    assert set(trial.params) == {*known, "batch_size", "optimizer", "learning_rate", "dropout"}
    for name, row in known.items():
        shown = in_words_of(done.stderr, name)
        assert shown == f"{row[2] if 'log' in row[2] else 'one of ' + row[2]}, first {row[3]}"
    # Nothing of the file is needed any more.
    (tmp_path / "known.keras").unlink()
    command.run(*flags(export), "--format", "keras")
    card = json.loads((command.home / "exports" / "new_digits" / "card.json").read_text())
    assert card["base"]["model"] == "known.keras"
    (base,) = (command.home / "bases").iterdir()
    assert base.name.startswith(card["base"]["sha256"])


def flags(make: list[str]) -> list[str]:
    """A line of make as the command that it runs."""
    program, command, *variables = make
    assert program == "make"
    pairs = [variable.split("=", 1) for variable in variables]
    return [command, *(part for name, value in pairs for part in (f"--{name.lower().replace('_', '-')}", value))]


def in_words_of(printed: str, parameter: str) -> str:
    """What is printed of a parameter before the first trial, without where it is searched."""
    line = next(line for line in printed.splitlines() if line.split()[:1] == [parameter])
    return re.sub(r" \(where .*\)", "", line.split(maxsplit=1)[1])


@pytest.mark.slow
def test_the_example_for_what_is_no_picture_is_tuned_on_a_table_and_exported(tmp_path: Path) -> None:
    numbers = np.random.default_rng(0).normal(size=(900, 20))
    rows = [",".join(map(str, [*row, "high" if row[3] > 0 else "low"])) for row in numbers]
    table = tmp_path / "rows.csv"
    table.write_text("\n".join([",".join([*(f"f{number}" for number in range(20)), "class"]), *rows]))
    file = tmp_path / "rows.py"
    file.write_text(next(text for text in MODELS.blocks("python") if "class Rows" in text))
    command = CommandLine(tmp_path / "home")
    few = (
        "--dataset",
        str(table),
        "--study",
        "rows",
        "--trials",
        "1",
        "--epochs",
        "6",
        "--workers",
        "1",
        "--search-only",
    )

    refused = command.run("tune", *few, "--model", "cnn", status=2)
    assert refused.stderr.splitlines()[-1].startswith("error: cnn takes pictures, and ")
    assert not optuna.get_all_study_names(command.url)

    command.run("tune", *few, "--model", f"{file}:Rows", "--space", "extended")
    (trial,) = command.study("rows").trials
    assert {"depth", "units", "label_smoothing"} < set(trial.params)
    assert "augmentation" not in trial.params
    command.run("export", "--study", "rows", "--format", "keras")
    bundle = command.home / "exports" / "rows"
    assert json.loads((bundle / "metrics.json").read_text())["test"]["accuracy"] > 0.75
    assert json.loads((bundle / "card.json").read_text())["input"]["shape"] == [20]
    refused = command.run("predict", "--study", "rows", str(ROOT / ".readme" / "digit.png"), status=2)
    assert "takes 20 numbers, not pictures" in refused.stderr


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


@pytest.mark.slow
def test_the_examples_of_objectives_are_tuned_as_printed(tmp_path: Path) -> None:
    printed = [line for text in STUDIES.blocks("console") for line in text.splitlines() if "OBJECTIVE=" in line]
    said = [dict(word.split("=", 1) for word in shlex.split(line) if "=" in word) for line in printed]
    assert [one["STUDY"] for one in said] == ["by_loss", "by_cost", "small"]
    (tmp_path / "costs.py").write_text(next(text for text in STUDIES.blocks("python") if "def cost" in text))
    command = CommandLine(tmp_path / "home", folder=tmp_path)
    few = ("--train-images", "256", "--epochs", "2", "--trials", "2", "--workers", "1")
    names = (["validation loss"], ["validation cost"], ["validation accuracy", "weights"])
    for one, metrics in zip(said, names, strict=True):
        options = [part for name, value in one.items() for part in (f"--{name.lower()}", value)]
        command.run("tune", *options, *few)
        study = command.study(one["STUDY"])
        assert study.directions[-1] == optuna.study.StudyDirection.MINIMIZE
        assert study.metric_names == metrics
    assert "val cost" in command.run("trials", "--study", "by_cost").stdout
    assert " front " in command.run("trials", "--study", "small").stdout
