"""A spec is a value: the same study has the same fingerprint everywhere, and another one is refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from storage.errors import SpecMismatch
from studies.objectives.objective import Objective
from studies.spec import (
    STRATEGIES,
    Images,
    ParameterRange,
    Sampler,
    StrategyChoice,
    StudySpec,
    derive_seed,
)


def spec(**changes: Any) -> StudySpec:
    values: dict[str, Any] = {
        "dataset": "mnist",
        "model": "models.cnn:CNN",
        "space": "core",
        "parameters": {"learning_rate": ParameterRange(low=1e-4, high=1e-2, log=True)},
        "seed": 0,
        "plan_name": "cpu",
        "epochs": 3,
        "train_images": None,
        "validation_images": 5000,
        "patience": 10,
        "sampler": Sampler(),
        "strategy": StrategyChoice(),
    }
    return StudySpec(**{**values, **changes})


CHANGES: list[dict[str, Any]] = [
    {"dataset": "cifar10"},
    {"model": "models.resnet:ResNet"},
    {"space": "extended"},
    {"parameters": {}},
    {"seed": 1},
    {"plan_name": "gpu"},
    {"epochs": 4},
    {"train_images": 1000},
    {"validation_images": 400},
    {"patience": 3},
    {"sampler": Sampler(startup_trials=3)},
    {"strategy": StrategyChoice(name="median")},
    {"class_weights": "balanced"},
    {"precision": "mixed_bfloat16"},
    {"images": Images()},
    {"defaults": {"augmentation": 0.5}},
    {"test_images": 300},
    {"objectives": (Objective(name="val_loss", direction="min"),)},
    {"audit": 0.1},
]


def test_the_fingerprint_is_the_same_on_every_machine_and_in_every_version() -> None:
    # Written down once: should it change, studies that exist are refused.
    assert spec().fingerprint == "299e87d35764d9422a78c867bbb650f421359624035b22d5d92410d749eedfed"


def test_every_field_is_part_of_the_fingerprint() -> None:
    assert {key for change in CHANGES for key in change} == set(StudySpec.model_fields)
    assert len({spec().fingerprint, *(spec(**change).fingerprint for change in CHANGES)}) == len(CHANGES) + 1


def test_a_spec_says_what_there_was_no_choice_of_before_only_where_another_was_made() -> None:
    assert "class_weights" not in spec().model_dump(mode="json")
    assert spec(class_weights="search").model_dump(mode="json")["class_weights"] == "search"
    assert StudySpec.stored(spec(class_weights="search").model_dump(mode="json")).class_weights == "search"


def test_a_spec_that_was_stored_and_read_back_is_the_same() -> None:
    stored = spec(
        parameters={"batch_size": ParameterRange(choices=(32, 64), default=32), "x": ParameterRange(low=1, high=2)}
    )
    document = json.loads(json.dumps(stored.model_dump(mode="json")))
    assert StudySpec.stored(document) == stored
    assert StudySpec.stored(document).fingerprint == stored.fingerprint


@pytest.mark.parametrize(
    "document", [None, {}, "spec", {"dataset": "mnist"}, {**spec().model_dump(mode="json"), "x": 1}]
)
def test_a_stored_document_that_is_no_spec_is_refused(document: object) -> None:
    with pytest.raises(
        SpecMismatch, match=r"another version of this service, or by another program. Take STUDY=another"
    ):
        StudySpec.stored(document)


def test_the_same_spec_is_accepted() -> None:
    spec().require_same(spec(), "mnist")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"epochs": 4}, "epochs is 3 there, 4 here"),
        ({"train_images": 100}, "train_images is not set there, 100 here"),
        ({"strategy": StrategyChoice(name="none")}, 'strategy.name is "freeze_thaw" there, "none" here'),
        ({"sampler": Sampler(points=4)}, "sampler.points is 3 there, 4 here"),
        ({"parameters": {"learning_rate": ParameterRange(low=1e-4, high=0.1, log=True)}},
         r"parameters.learning_rate.high is 0.01 there, 0.1 here"),
        ({"class_weights": "search"}, 'class_weights is not set there, "search" here'),
        ({"dataset": "cifar10", "epochs": 4}, 'dataset is "mnist" there, "cifar10" here'),
        ({"parameters": {}}, "parameters.learning_rate is {.*} there, not set here"),
    ],
)  # fmt: skip
def test_another_spec_is_refused_with_the_first_difference_and_its_cures(change: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecMismatch, match=f"study 'mine' exists with another spec: {says}") as refused:
        spec(**change).require_same(spec(), "mine")
    cures = "take STUDY=another for a new study, or remove this one with: make delete STUDY=mine"
    assert f"Give what it was begun with to go on with it, or {cures}" in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_no_difference_is_overlooked(change: dict[str, Any]) -> None:
    with pytest.raises(SpecMismatch):
        spec(**change).require_same(spec(), "mine")


def test_a_spec_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        spec().epochs = 5  # type: ignore[misc]


@pytest.mark.parametrize("name", [*STRATEGIES, "mine.py:Mine@0123456789abcdef"])
def test_a_strategy_is_one_of_the_projects_or_a_users(name: str) -> None:
    assert StrategyChoice(name=name).name == name


@pytest.mark.parametrize("name", ["", "asha", "mine.py", "os:system"])
def test_a_strategy_of_another_name_is_refused_with_the_names_that_exist(name: str) -> None:
    with pytest.raises(ValidationError, match=r"must be one of freeze_thaw, promotion, .*, none, or file.py:Class"):
        StrategyChoice(name=name)


# --- Seeds ---

paths = st.lists(st.one_of(st.integers(0, 10**6), st.sampled_from(["trial", "sampler", "split"])), max_size=3)


@given(st.integers(0, 2**32 - 1), paths)
def test_a_derived_seed_is_a_32_bit_number_that_depends_on_nothing_else(seed: int, path: list[str | int]) -> None:
    derived = derive_seed(seed, *path)
    assert 0 <= derived < 2**32
    assert derived == derive_seed(seed, *path)


@given(st.tuples(st.integers(0, 1000), paths), st.tuples(st.integers(0, 1000), paths))
def test_different_paths_give_different_seeds(
    one: tuple[int, list[str | int]], two: tuple[int, list[str | int]]
) -> None:
    if one != two:
        assert derive_seed(one[0], *one[1]) != derive_seed(two[0], *two[1])


def test_neighbouring_studies_and_trials_share_no_seed() -> None:
    assert len({derive_seed(study, "trial", trial) for study in range(50) for trial in range(50)}) == 2500


# --- Ranges ---


@pytest.mark.parametrize(
    "given_range",
    [
        {"low": 0, "high": 1},
        {"low": 1, "high": 1},
        {"low": 0.1, "high": 1, "log": True, "default": 0.5},
        {"low": 0, "high": 10, "step": 2, "default": 10},
        {"choices": [32, 64]},
        {"choices": ["adam", "sgd"], "default": "sgd"},
        {"choices": [True, False], "default": False},
    ],
)
def test_a_range_that_makes_sense_is_taken(given_range: dict[str, Any]) -> None:
    read = ParameterRange.model_validate(given_range)
    assert ParameterRange.model_validate(read.model_dump(mode="json")) == read


@pytest.mark.parametrize(
    ("given_range", "says"),
    [
        ({}, "give choices = .*, or low = ... and high = ..."),
        ({"low": 1}, "give choices"),
        ({"high": 1}, "give choices"),
        ({"low": 2, "high": 1}, "low <= high must hold, received low=2, high=1"),
        ({"low": 0, "high": 1, "log": True}, "low > 0 must hold on a logarithmic scale, received low=0"),
        ({"low": 1, "high": 8, "log": True, "step": 1}, "log and step cannot be combined"),
        ({"low": 0, "high": 1, "step": 0}, "greater than 0"),
        ({"low": 0, "high": 1, "step": -1}, "greater than 0"),
        ({"low": 0, "high": 1, "default": 2}, r"default must lie in \[0, 1\], received 2"),
        ({"low": 0, "high": 1, "default": "a"}, "default must be a number, received 'a'"),
        ({"low": 0, "high": 1, "default": True}, "default must be a number, received True"),
        ({"low": 0, "high": float("nan")}, "finite"),
        ({"low": 0, "high": float("inf")}, "finite"),
        ({"choices": []}, "at least 1 item"),
        ({"choices": [1, 1]}, "choices must differ"),
        ({"choices": [1, 2], "default": 3}, r"default must be one of the choices \[1, 2\]"),
        ({"choices": [1, 2], "low": 1}, "give either choices, or low and high"),
        ({"choices": [1, 2], "log": True}, "give either choices"),
        ({"low": 0, "high": 1, "steps": 1}, "Extra inputs"),
    ],
)
def test_a_range_that_makes_no_sense_is_refused(given_range: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ParameterRange.model_validate(given_range)


@pytest.mark.parametrize(
    ("given_range", "words"),
    [
        ({"low": 1e-4, "high": 0.01, "log": True}, "0.0001 to 0.01, log"),
        ({"low": 1, "high": 9, "step": 2}, "1 to 9, step 2"),
        ({"low": 0, "high": 0.5}, "0 to 0.5"),
        ({"choices": ["a", "b"]}, "one of a, b"),
    ],
)
def test_a_range_says_itself_in_words(given_range: dict[str, Any], words: str) -> None:
    assert str(ParameterRange.model_validate(given_range)) == words
