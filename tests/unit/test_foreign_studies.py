"""Studies of people and of other programs are shown as what they are, or refused in one line. Nothing adopts them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import TrialState, create_trial

from storage import attributes
from storage.opening import open_database
from storage.settings import Home
from studies.stored import find_study
from tuning.cli import run

LEARNING_RATE: dict[str, BaseDistribution] = {"learning_rate": FloatDistribution(1e-5, 1.0, log=True)}
MINIMIZE, MAXIMIZE = StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE
TUNE = ["tune", "--dataset", "mnist_sample"]


@pytest.fixture
def storage(home: Path) -> Iterator[optuna.storages.RDBStorage]:
    """A database that stock Optuna made."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.storages.RDBStorage(Home(home).database_url)
    yield made
    made.engine.dispose()


def minimizing(storage: optuna.storages.RDBStorage, name: str = "theirs") -> optuna.Study:
    study = optuna.create_study(study_name=name, storage=storage, direction="minimize")
    for rate, value in ((0.1, 1.3393), (0.01, 0.25), (0.3, 0.5)):
        study.add_trial(
            create_trial(
                params={"learning_rate": rate},
                distributions=LEARNING_RATE,
                value=value,
                intermediate_values={1: 2.0, 2: value},
            )
        )
    return study


def told(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a command that succeeds prints."""
    assert run([*arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run([*arguments]) == 2
    *before, said = capsys.readouterr().err.splitlines()
    assert said.startswith("error: ")
    assert all("images: verified" in line for line in before), "that a data set was made ready"
    return said


def test_status_shows_the_best_by_the_studys_own_direction(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    minimizing(storage)
    said = json.loads(told(capsys, "status", "--json"))
    assert (said["ours"], said["directions"]) == (False, ["minimize"])
    assert said["best"] == {"number": 1, "value": 0.25, "params": {"learning_rate": 0.01}, "balanced_accuracy": None}
    assert said["budget"] == {"trials": 0, "done": 3, "epochs": None}
    shown = told(capsys, "status")
    assert "another program, to minimize" in shown
    assert "trial 1: value 0.25" in shown
    assert "accuracy" not in shown
    assert "of 0 trials" not in shown


def test_trials_are_in_the_studys_own_order(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    minimizing(storage)
    rows = json.loads(told(capsys, "trials", "--format", "json"))
    assert [row["value"] for row in rows] == [0.25, 0.5, 1.3393]
    shown = told(capsys, "trials")
    assert "value (minimize)" in shown
    assert "accuracy" not in shown


def test_several_objectives_are_shown_and_none_is_the_best(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    study = optuna.create_study(study_name="pareto", storage=storage, directions=["minimize", "maximize"])
    for value in (0.1, 0.2):
        study.add_trial(create_trial(values=[value, 1 - value]))
    study.add_trial(create_trial(state=TrialState.FAIL))
    said = json.loads(told(capsys, "status", "--json"))
    assert (said["best"], said["directions"]) == (None, ["minimize", "maximize"])
    assert "there are several objectives" in told(capsys, "status")
    rows = json.loads(told(capsys, "trials", "--format", "json"))
    assert [(row["value"], row.get("values")) for row in rows] == [(None, [0.1, 0.9]), (None, [0.2, 0.8]), (None, None)]
    assert "0.1000, 0.9000" in told(capsys, "trials")
    assert '"[0.1, 0.9]"' in told(capsys, "trials", "--format", "csv")


def test_values_that_are_no_numbers_are_no_best_ones(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    study = optuna.create_study(study_name="infinite", storage=storage, direction="maximize")
    odd: dict[str, BaseDistribution] = {"momentum": CategoricalDistribution([math.nan, math.inf, None])}
    study.add_trial(create_trial(value=math.inf, intermediate_values={1: math.nan, 2: math.inf}))
    study.add_trial(create_trial(value=-math.inf))
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={1: -math.inf}))
    study.add_trial(create_trial(value=0.5, params={"momentum": math.inf}, distributions=odd))
    said = json.loads(told(capsys, "status", "--json"))
    assert said["best"] == {"number": 3, "value": 0.5, "params": {"momentum": "inf"}, "balanced_accuracy": None}
    rows = json.loads(told(capsys, "trials", "--format", "json"))
    assert [row["value"] for row in rows] == [0.5, None, None, None]
    told(capsys, "trials")


EVERYDAY = [
    {"epochs": "12/50", "seconds": "1 min"},
    {"epochs": [1, 2], "seconds": -90, "worker": 3},
    {"given_up": True, "reason": {"a": 1}, "failure": 7},
    {"epochs": 9, "seconds": 3600, "worker": "me", "reason": "because"},
]


@pytest.mark.parametrize("attrs", EVERYDAY)
def test_attributes_of_everyday_names_are_not_taken_for_ours(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str], attrs: dict[str, Any]
) -> None:
    study = optuna.create_study(study_name="everyday", storage=storage, direction="maximize")
    for state, value in ((TrialState.COMPLETE, 0.5), (TrialState.FAIL, None), (TrialState.WAITING, None)):
        study.add_trial(create_trial(state=state, value=value, user_attrs=attrs))
    for arguments in (["status"], ["status", "--json"], ["trials"], ["trials", "--format", "csv"]):
        told(capsys, *arguments)
    for row in json.loads(told(capsys, "trials", "--format", "json")):
        assert (row["epochs"], row["worker"], row["reason"]) == (0, None, None)
        assert row["seconds"] is None or 0 <= row["seconds"] < 1


@pytest.mark.parametrize(
    "attrs",
    [
        {"budget": {"gpu_hours": 3}},
        {"budget": 1},
        {"data": "cats.csv", "first": 1, "space": "log", "limits": [1]},
        {"spec": {"a": 1}, "fingerprint": 7, "uid": 5},
    ],
)
def test_a_studys_attributes_of_everyday_names_are_not_taken_for_ours(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str], attrs: dict[str, Any]
) -> None:
    study = optuna.create_study(study_name="mnist_sample", storage=storage, direction="maximize")
    for key, value in attrs.items():
        study.set_user_attr(key, value)
    assert "has attributes but no spec: another program made it" in refused(capsys, *TUNE)
    study.add_trial(create_trial(value=0.5))
    assert json.loads(told(capsys, "status", "--json"))["state"] == "stopped"
    told(capsys, "trials")
    assert "has trials but no spec: another program made it" in refused(capsys, *TUNE)


@pytest.mark.parametrize(
    ("directions", "says"), [([MINIMIZE], "does not maximize"), ([MINIMIZE, MAXIMIZE], "has 2 objectives")]
)
@pytest.mark.parametrize("tried", [False, True], ids=["empty", "tried"])
@pytest.mark.parametrize("adopted", [False, True], ids=["theirs", "adopted"])
def test_a_study_that_does_not_maximize_is_not_adopted(
    storage: optuna.storages.RDBStorage,
    capsys: pytest.CaptureFixture[str],
    directions: list[StudyDirection],
    says: str,
    tried: bool,
    adopted: bool,
) -> None:
    study = optuna.create_study(study_name="mnist_sample", storage=storage, directions=directions)
    if tried:
        study.add_trial(create_trial(values=[0.5] * len(directions)))
    if adopted:  # by an earlier version
        study.set_user_attr("spec", {"dataset": "mnist_sample"})
        study.set_user_attr("fingerprint", "f")
    elif tried and len(directions) == 1:
        says = "has trials but no spec"
    before = study.user_attrs
    assert f"study 'mnist_sample' {says}: another program made it. Take STUDY=another" in refused(capsys, *TUNE)
    assert optuna.load_study(study_name="mnist_sample", storage=storage).user_attrs == before


def test_warm_start_is_not_from_a_study_of_another_program(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    minimizing(storage)
    assert "study 'theirs' has no spec" in refused(capsys, *TUNE, "--from-study", "theirs")


def test_what_needs_a_study_of_ours_refuses_another(
    storage: optuna.storages.RDBStorage,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    minimizing(storage)
    monkeypatch.setattr(os, "environ", os.environ.copy())  # a worker puts into it what its device wants
    for command in (
        ["export", "--study", "theirs"],
        ["export"],
        ["predict", "picture.png"],
        ["record", "--study", "theirs", "--out", str(tmp_path / "t.npz")],
        ["worker", "--study", "theirs", "--storage", storage.url],
    ):
        assert "study 'theirs' has no spec: another program made it" in refused(capsys, *command)
    assert "objectives" not in told(capsys, "backup", "--study", "theirs", "--out", str(tmp_path / "copy"))


def test_a_study_of_another_program_is_not_meant_where_none_is_named(storage: optuna.storages.RDBStorage) -> None:
    ours = optuna.create_study(study_name="ours", storage=storage, direction="maximize")
    ours.set_user_attr(attributes.SPEC, {})
    ours.add_trial(create_trial(value=0.5))
    minimizing(storage)
    database = open_database(storage.url)
    assert find_study(database, None).study_name == "ours"
    assert find_study(database, "theirs").study_name == "theirs"
    database.delete_study(ours._study_id)
    assert find_study(database, None).study_name == "theirs"
    database.engine.dispose()


def test_a_study_of_ours_whose_attributes_somebody_overwrote_is_still_told(
    storage: optuna.storages.RDBStorage, capsys: pytest.CaptureFixture[str]
) -> None:
    study = optuna.create_study(study_name="ours", storage=storage, direction="maximize")
    study.set_user_attr(attributes.SPEC, {})
    study.add_trial(create_trial(value=0.5))
    for key, value in (
        (attributes.BUDGET, "ten"),
        (attributes.BUDGET_EPOCHS, "x"),
        (attributes.LAUNCHED, {"at": "noon"}),
        (attributes.UID, 5),
        (attributes.LIMITS, {"trials_per_worker": "many"}),
        (attributes.FIRST, [1]),
        (attributes.DATA, {"checksum": 1}),
    ):
        study.set_user_attr(key, value)
        told(capsys, "status")
        told(capsys, "trials")
    assert "spec cannot be read" in refused(capsys, *TUNE, "--study", "ours")
