"""What the pages promise to programs and of reliability is the code's own: keys, statuses and bounds. No Keras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from storage import attributes, checkpoints, claims, leases
from storage.rows import giving_up
from storage.settings import Home
from studies.datasets.inventory import InventoryEntry
from studies.leaderboard import Row
from studies.objectives.objective import VALIDATION_ACCURACY
from studies.status import status
from tests.databases import fresh_database
from tests.pages.page import Page, keys, named, row_of, rows
from tuning import messages, tasks
from tuning.bundles import figures, predict
from tuning.launch import workforce

PAGE = Page.read("tuning/README.md")
STORAGE = Page.read("storage/README.md")

# --- Bounds


@pytest.mark.parametrize(("why", "retries"), giving_up.MAX_RETRIES.items())
def test_the_retries_of_each_class_are_told(why: str, retries: int) -> None:
    assert row_of(STORAGE.section("When a trial is given up"), why)[1] == str(retries)


@pytest.mark.parametrize(
    "words",
    [
        f"every {leases.BEAT_S:g} seconds",
        f"silent for {leases.LEASE_S:g} seconds",
        f"within {leases.LEAST_S:g} seconds and {leases.TIMES} times what the last one took",
        f"may take {leases.UNKNOWN_S / 60:g} minutes",
        f"have {leases.TIMES} times what they took in the preflight, and {leases.LEAST_S:g} seconds",
        f"{leases.COMPILING_S / 60:g} minutes where compiled programs are kept",
        f"{claims.MAX_CONSECUTIVE_FAILURES} failures in a row",
        f"less than {messages.EPOCH_GRACE_S:g} seconds",
        f"after {messages.LAUNCHER_GRACE_S:g} seconds",
        f"within {messages.ORPHAN_GRACE_S:g} seconds",
        f"After {workforce.MAX_DEATHS} deaths in a row",
        f"after {workforce.RESTART_S:g} second",
        f"`{attributes.DIVERGED}`",
        f"`{attributes.OUT_OF_MEMORY}`",
    ],
)
def test_the_bounds_of_reliability_are_the_codes_own(words: str) -> None:
    assert words in " ".join(STORAGE.section("Reliability").split())


def test_as_many_checkpoints_are_kept_as_is_told() -> None:
    assert checkpoints.KEPT == 2
    assert "the one before it is kept" in " ".join(STORAGE.section("Reliability").split())


def test_every_folder_of_a_home_is_described(tmp_path: Path) -> None:
    home = Home(tmp_path)
    made = [
        *(home.dataset("d"), home.downloads, home.given("a", "1"), home.artifacts, home.checkpoints("s", "1")),
        *(home.export("s"), home.exploration("d"), home.compiled("c"), home.copies, home.logs("s"), home.report("s")),
        *(home.base("1"), home.features / "1", home.shipped("1")),
    ]
    tops = {f"{path.relative_to(tmp_path).parts[0]}/" for path in made} | {"studies.db", home.dashboard_tokens.name}
    described = {named(row[0])[0] for row in rows(STORAGE.section("Where files live"))}
    assert {path if "/" not in path else f"{path.partition('/')[0]}/" for path in described} == tops


# --- For programs


@pytest.fixture
def study(tmp_path: Path) -> Iterator[optuna.Study]:
    with fresh_database(tmp_path / "studies.db") as database:
        study = optuna.create_study(storage=database, direction="maximize", study_name="mnist")
        study.set_user_attr(attributes.BUDGET, 2)
        parts = {"checksum": "c", "split": "s", "train": 40, "validation": 10, "mean": [0.0], "std": [1.0]}
        study.set_user_attr(attributes.DATA, parts)
        study.add_trial(create_trial(state=TrialState.COMPLETE, value=0.5))
        yield study


def test_the_status_example_has_the_keys_of_the_code(study: optuna.Study, home: Path) -> None:
    example = PAGE.json_after("### `tuning status --json`")
    produced = status(study, "sqlite:///studies.db", Home(home))
    example["best"]["params"] = produced["best"]["params"] = {}
    produced["objectives"] = [VALIDATION_ACCURACY.model_dump()]  # the study has no spec
    assert keys(example) == keys(produced)
    assert set(example["best"]) == {"number", "value", "params", "balanced_accuracy"}


def names_in(value: Any) -> Iterator[str]:
    """Every key of a JSON value, however deep."""
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else []:
        yield from names_in(inner)
    yield from value if isinstance(value, dict) else []


@pytest.mark.parametrize(
    "title",
    ["`tuning status --json`", "`tuning trials --format json`", "`tuning data list --json`"],
)
def test_every_key_of_an_example_is_described(title: str) -> None:
    example = PAGE.json_after(f"### {title}")
    hyperparameters = {"batch_size", "optimizer", "learning_rate", "dropout"}
    described = {name for row in rows(PAGE.section(title)) for cell in row for name in named(cell)}
    assert set(names_in(example)) - hyperparameters <= described


def test_the_other_examples_have_the_keys_of_the_code() -> None:
    rows_shown = PAGE.json_after("### `tuning trials --format json`")
    assert all(list(row) == list(Row.__annotations__) for row in rows_shown)
    prediction = PAGE.json_after("### `tuning predict --json`")[0]
    assert list(prediction) == list(predict.Prediction.__annotations__)
    assert [list(guess) for guess in prediction["classes"]] == [list(predict.Guess.__annotations__)] * len(
        prediction["classes"]
    )
    entry = PAGE.json_after("### `tuning data list --json`")[0]
    assert list(entry) == [field.name for field in fields(InventoryEntry)]


def test_the_metrics_example_has_the_keys_that_export_writes() -> None:
    example = PAGE.json_after("### `metrics.json`")
    assert list(example) == list(figures.Metrics.__annotations__)
    assert list(example["validation"]) == list(tasks.Figures.__annotations__)
    assert list(example["test"]) == list(tasks.TestFigures.__annotations__)
    assert list(example["test"]["per_class"][0]) == list(tasks.LabelFigures.__annotations__)


def test_the_exit_statuses_are_told() -> None:
    told = {row[0] for row in rows(PAGE.section("For programs"))}
    assert {"0", "1", "2", "130", str(messages.RENEWED)} <= told
