"""The pages of studies and models say what there is: keys, plans, strategies, data sets and spaces. No Keras."""

from __future__ import annotations

import ast
import itertools
import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import numpy as np
import pytest
from optuna.distributions import FloatDistribution

from studies.datasets.registry import DATASETS
from studies.declaration import CATALOG, catalog_names, from_catalog, hypermodel_name, read_declaration
from studies.simulation.rehearsal import Rehearsal
from studies.simulation.virtual_clock import Recording, simulate
from studies.spec import CORE_PARAMETERS, HYPERMODELS, STRATEGIES, VALIDATION_IMAGES, Sampler, StrategyChoice
from studies.strategies.strategy import Strategy, View
from tests.pages.page import Page, named, page_paths, row_of, rows
from tests.pages.study_file import spec_keys
from tuning.user_classes import UserFile, load_strategy

STUDIES = Page.read("studies/README.md")
STRATEGY = Page.read("studies/strategies/README.md")
DATA = Page.read("studies/datasets/README.md")
MODELS = Page.read("models/README.md")

# --- A study's file


SPEC_KEYS = spec_keys()


def literals(annotation: Any) -> list[Any]:
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return list(itertools.chain.from_iterable(literals(inner) for inner in get_args(annotation)))


@pytest.mark.parametrize("key", SPEC_KEYS)
def test_every_key_of_a_studys_file_is_described_with_its_default(key: str) -> None:
    field = SPEC_KEYS[key]
    row = row_of(STUDIES.section("A study's file"), key)
    allowed, default = named(row[1]), row[2]
    if field.is_required():
        assert default == "required"
    elif field.default is not None and not key.endswith(".*"):
        assert named(default) == [json.dumps(field.get_default(call_default_factory=True))], key
    for value in literals(field.annotation):
        assert json.dumps(value) in allowed or f"[plan.{value}]" in named(row[3]), (key, value)
    assert row[3], "a key without a meaning: say it in the docstring of its class"


def test_no_key_is_described_that_does_not_exist() -> None:
    described = {named(row[0])[0] for row in rows(STUDIES.section("A study's file")) if "`" in row[0]}
    assert described == set(SPEC_KEYS)


def test_every_example_of_a_studys_file_is_valid(tmp_path: Path) -> None:
    examples = [text for page in map(Page.read, page_paths()) for text in page.blocks("toml")]
    assert examples
    for number, text in enumerate(examples):
        file = tmp_path / f"{number}.toml"
        file.write_text(text)
        declaration = read_declaration(file)
        assert declaration.dataset in DATASETS or declaration.dataset.startswith("./")
        hypermodel_name(declaration.model)


def test_the_examples_of_a_studys_file_have_every_kind_of_key() -> None:
    given: set[str] = set()
    for block in STUDIES.blocks("toml"):
        document = tomllib.loads(block)
        tables = [(name, document.get(name, {})) for name in ("images", "sampler", "strategy")]
        for name in ("plan", "parameters"):
            tables += [(f"{name}.*", table) for table in document.get(name, {}).values()]
        given |= {f"{prefix}.{key}" for prefix, table in tables for key in table} | set(document)
    assert given >= set(SPEC_KEYS) - {"plan.*", "parameters.*"}


@pytest.mark.parametrize("name", catalog_names())
def test_the_catalogs_plans_are_the_declared_ones(name: str) -> None:
    declared = from_catalog(name)
    wanted = []
    for plan in (declared.plan["cpu"], declared.plan["gpu"]):
        wanted += [plan.model or declared.model, str(plan.trials), str(plan.epochs), str(plan.patience)]
    assert declared.plan["cpu"].validation_images == declared.plan["gpu"].validation_images
    wanted.append(f"{declared.plan['cpu'].validation_images or VALIDATION_IMAGES:,}")
    assert [cell.strip("`") for cell in row_of(STUDIES.section("The catalog's plans"), name)[1:]] == wanted


@pytest.mark.parametrize("name", catalog_names())
def test_every_catalog_file_says_what_it_costs(name: str) -> None:
    head = (CATALOG / f"{name}.toml").read_text(encoding="utf-8").partition("\ndataset")[0]
    assert f"make tune DATASET={name}" in head
    cpu, gpu = re.findall(r"^# [CG]PU plan: (.*(?:\n#   .*)*)", head, re.MULTILINE)
    for measured in (cpu, gpu):
        words = " ".join(measured.split())
        assert words == "not measured yet." or re.match(r"20\d\d-\d\d-\d\d, .*: \d+ trials in .* accuracy", words)


# --- Strategies


def test_every_strategy_is_told_apart() -> None:
    for name in STRATEGIES:
        assert len(row_of(STRATEGY.section("The strategies"), name)) == 3
        assert name in named(row_of(STUDIES.section("A study's file"), "strategy.name")[3])


def test_all_that_a_strategy_sees_and_may_say_is_described() -> None:
    text = STRATEGY.section("A strategy of your own")
    described = set(named(text))
    assert {f"view.{field.name}" for field in fields(View)} <= described
    flags = {name for name, value in vars(Strategy).items() if isinstance(value, bool)}
    assert all(f"`{flag} = True`" in text for flag in flags)


class Ramps:
    """The value of a trial is its parameter `x`, more of it with every epoch."""

    horizon = 4

    def curve_of(self, trial: int, params: Any) -> Recording:
        return Recording(float(params["x"]) * np.linspace(0.5, 1.0, self.horizon))


def test_the_example_strategy_does_what_is_said_of_it(tmp_path: Path) -> None:
    example = next(text for text in STRATEGY.blocks("python") if "(Strategy)" in text)
    file = tmp_path / example.partition("\n")[0].removeprefix("# ")
    file.write_text(example)
    assert f"STRATEGY={file.name}:Halves" in STRATEGY.text
    given = UserFile.parse("strategy", f"{file}:Halves")
    study = Rehearsal(
        {"x": FloatDistribution(0.0, 1.0)},
        Ramps.horizon,
        0,
        strategy=StrategyChoice(name=given.name),
        sampler=Sampler(name="random"),
        trials=8,
        users=load_strategy(given.name, given),
    )
    simulate(study, Ramps(), workers=2, budget=1_000)
    trained = [len(trial.intermediate_values) for trial in study.study.get_trials()]
    assert sorted(trained) == [2] * 6 + [4] * 2
    best = sorted(study.study.get_trials(), key=lambda trial: -trial.intermediate_values[2])[:2]
    assert all(len(trial.intermediate_values) == 4 for trial in best)


# --- Data sets and models


def test_every_data_set_is_listed() -> None:
    for info in DATASETS.values():
        row = row_of(DATA.prose, info.name)
        assert row[1] == f"{info.images('train'):,} + {info.images('test'):,}"
        assert row[2].startswith(f"{len(info.class_names)} ")
        assert row[3].startswith(f"{info.shape[0]}x{info.shape[1]}, {'grey' if info.shape[2] == 1 else 'colour'}")


def test_every_model_and_core_parameter_is_named() -> None:
    text = MODELS.section("Models and search spaces")
    assert set(HYPERMODELS) <= set(named(text))
    for name in CORE_PARAMETERS:
        assert row_of(text, name)[1] == "core"
        assert f"**`{name}`**" in Page.read("tuning/WALK.md").section("What is searched")


def test_the_example_model_names_its_file() -> None:
    example = next(text for text in MODELS.blocks("python") if "ImageClassifier" in text)
    classes = [node for node in ast.parse(example).body if isinstance(node, ast.ClassDef)]
    assert [node.name for node in classes] == ["MyModel"]
    assert [base.id for base in classes[0].bases if isinstance(base, ast.Name)] == ["ImageClassifier"]
    assert "my_model.py:MyModel" in MODELS.text
