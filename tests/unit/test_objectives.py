"""What a study optimises: which of two values is the better one, and how it is called."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

import hypothesis.strategies as st
import numpy as np
import optuna
import pytest
from hypothesis import given
from optuna.trial import TrialState

from storage import attributes
from storage.database import Database
from storage.errors import BadInput
from studies.leaderboard import RowOfSeveral, best_trial, leaderboard
from studies.objectives.directions import direction_of, objective_of
from studies.objectives.objective import VALIDATION_ACCURACY, Objective, objectives_in
from studies.objectives.several import front, require_whole_trials
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.stored import StudyRecord
from tuning.user_classes import UserFile, load_metric, parse_objective, parse_objectives

LOSS = Objective(name="val_loss", direction="min")


def test_of_a_loss_the_smallest_value_is_the_best_and_no_number_is_none() -> None:
    values = [0.5, math.nan, 0.25, math.inf, 0.75]
    assert (LOSS.best(values), VALIDATION_ACCURACY.best(values)) == (0.25, 0.75)
    assert LOSS.best([math.nan]) is None
    assert sorted([0.5, 0.25, 0.75], key=LOSS.rank) == [0.25, 0.5, 0.75]
    assert sorted([0.5, 0.25, 0.75], key=VALIDATION_ACCURACY.rank) == [0.75, 0.5, 0.25]
    assert LOSS.rank(None) == LOSS.rank(math.nan) == math.inf
    assert LOSS.is_better(0.25, 0.5)
    assert not LOSS.is_better(0.5, 0.5)


def test_what_is_maximised_is_searched_with_the_numbers_that_were_reported() -> None:
    values = np.array([0.1, 0.9])
    assert VALIDATION_ACCURACY.oriented(values) is values
    np.testing.assert_array_equal(LOSS.oriented(values), [-0.1, -0.9])


@pytest.mark.parametrize(
    ("name", "words", "heading", "value"),
    [
        ("val_accuracy", "validation accuracy", "val accuracy", "12.34% validation accuracy"),
        ("val_loss", "validation loss", "val loss", "0.1234 validation loss"),
        ("val_balanced_accuracy", "validation balanced accuracy", "val balanced accuracy", None),
        ("val_f1_macro", "validation macro F1", "val macro F1", None),
        ("accuracy", "training accuracy", "training accuracy", "12.34% training accuracy"),
        ("costs.py:cost@0123abcd", "validation cost", "val cost", "0.1234 validation cost"),
        ("costs.py:accuracy@0123abcd", "validation accuracy", "val accuracy", "0.1234 validation accuracy"),
    ],
)
def test_nothing_but_an_accuracy_is_called_one(name: str, words: str, heading: str, value: str | None) -> None:
    objective = Objective(name=name, direction="max")
    assert (objective.words, objective.heading) == (words, heading)
    if value is not None:
        assert objective.in_words(0.1234) == value


def test_a_value_is_written_in_few_characters_whatever_its_size() -> None:
    assert [LOSS.figure(value) for value in (0.0, 0.123456, 1234.5, 1.2345e-5, 3.2e8)] == [
        "0.0000", "0.1235", "1234.5000", "1.234e-05", "3.2e+08",
    ]  # fmt: skip
    assert VALIDATION_ACCURACY.figure(0.001) == "0.0010"


def test_an_objective_whose_name_says_nothing_needs_a_direction() -> None:
    assert objective_of("val_loss") == LOSS
    assert objective_of("f1_macro") == Objective(name="val_f1_macro", direction="max")
    assert objective_of("val_cost", "min") == Objective(name="val_cost", direction="min")
    assert objective_of("val_loss", "max").direction == "max", "whoever says it means it"
    with pytest.raises(
        BadInput, match=r"objective 'val_cost': its name does not say .* --direction max or --direction"
    ):
        objective_of("val_cost")
    with pytest.raises(BadInput, match=r"unknown direction 'mni'. Did you mean 'min'"):
        objective_of("val_loss", "mni")
    assert direction_of("learning_rate") is None


def test_a_function_of_the_users_is_named_with_what_is_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "costs.py"
    file.write_text("def cost(labels, probabilities):\n    return 0.5\n")
    objective, found = parse_objective(f"{file}:cost", "min")
    assert found == UserFile(file, "cost")
    assert (objective.name.partition("@")[0], objective.function, objective.curve) == (
        "costs.py:cost",
        "cost",
        "val_cost",
    )
    metric = load_metric(objective, found)
    assert metric is not None
    assert metric(None, None) == 0.5
    again, _ = parse_objective(f"{file}:cost", None, (objective.name, "min"))
    assert again == objective, "the study says which direction it has"
    file.write_text("def cost(labels, probabilities):\n    return 0.25\n")
    assert parse_objective(f"{file}:cost", "min")[0] != objective
    with pytest.raises(BadInput, match="Start it with the same file, unchanged"):
        load_metric(objective, found)
    assert load_metric(LOSS, None) is None


@pytest.mark.parametrize(
    ("name", "said"), [("val_precision@5", "val_precision@5"), ("costs.py:cost@0123abcd", "costs.py:cost")]
)
def test_an_objective_is_called_as_it_is_given_on_the_command_line(name: str, said: str) -> None:
    assert Objective(name=name, direction="max").given == said
    with pytest.raises(BadInput, match=f"^objective '{said}': its name does not say"):
        objective_of(name)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("two words", "must be one name without spaces"),
        ("", "must be one name without spaces"),
        ("costs.py:accuracy", "every training has a curve called val_accuracy"),
        ("costs.py:no name", "one of your own is given as file.py:function"),
        ("nowhere.py:cost", "there is no file .* Give the path of the file that has the function"),
    ],
)
def test_an_objective_that_is_none_is_refused(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("costs.py").write_text("")
    with pytest.raises(BadInput, match=says):
        parse_objective(text, "max")


def test_a_study_from_before_there_was_a_choice_optimises_the_validation_accuracy() -> None:
    assert objectives_in({"dataset": "mnist"}) == (VALIDATION_ACCURACY,)
    assert objectives_in({"objectives": [LOSS.model_dump()]}) == (LOSS,)
    assert objectives_in({"objectives": [{"name": "val_loss"}]}) == ()
    assert objectives_in(None) == ()


# --- Two of them ---

SEVERAL = (VALIDATION_ACCURACY, Objective(name="weights", direction="min"))


def two(**changes: Any) -> StudySpec:
    usual: dict[str, Any] = {
        "dataset": "mnist",
        "model": "models.cnn:CNN",
        "space": "core",
        "parameters": {},
        "seed": 0,
        "plan_name": "cpu",
        "epochs": 3,
        "train_images": None,
        "validation_images": 500,
        "patience": 2,
        "sampler": Sampler(),
        "strategy": StrategyChoice(name="none"),
        "objectives": SEVERAL,
    }
    return StudySpec(**{**usual, **changes})


def test_what_a_model_costs_stands_behind_what_it_is_judged_by() -> None:
    assert parse_objectives("val_accuracy weights", None) == (SEVERAL, None)
    assert parse_objectives("val_loss bytes", None)[0] == (LOSS, Objective(name="bytes", direction="min"))
    assert parse_objectives("val_cost seconds_per_image", None, ("val_cost bytes", "min"))[0][0].direction == "min"
    for text, says in (
        ("weights", "what a model costs is the second one"),
        (" ", "one name without spaces"),
        ("weights val_loss", "one name without spaces"),
        ("val_accuracy weights bytes", "one name without spaces"),
    ):
        with pytest.raises(BadInput, match=says):
            parse_objectives(text, None)
    assert [one.figure(12345.0) for one in SEVERAL] == ["12345.0000", "12,345"]


@pytest.mark.parametrize(
    ("strategy", "sampler", "says"),
    [
        ("freeze_thaw", "model", "strategy 'freeze_thaw': with the objectives val_accuracy and weights every"),
        ("median", "tpe", "give --strategy none"),
        ("none", "gp", "it knows one objective"),
    ],
)
def test_with_two_objectives_every_trial_is_whole(strategy: str, sampler: str, says: str) -> None:
    require_whole_trials(SEVERAL, strategy="none", sampler="model")
    require_whole_trials(SEVERAL[:1], strategy=strategy, sampler=sampler)
    with pytest.raises(BadInput, match=says):
        require_whole_trials(SEVERAL, strategy=strategy, sampler=sampler)


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_on_the_front_is_what_nothing_dominates(values: list[tuple[int, int]]) -> None:
    trials = [optuna.create_trial(values=[float(up), float(down)]) for up, down in values]
    for number, trial in enumerate(trials):
        trial.number = number
    trials.append(optuna.create_trial(state=TrialState.FAIL))
    best = [one for one in values if not any(a >= one[0] and b <= one[1] and (a, b) != one for a, b in values)]
    found = front(trials, SEVERAL)
    assert sorted(tuple(trial.values) for trial in found) == sorted((float(a), float(b)) for a, b in best)
    assert [trial.values[0] for trial in found] == sorted((trial.values[0] for trial in found), reverse=True)


def test_the_leaderboard_goes_by_the_first_objective_and_marks_the_front(database: Database) -> None:
    study = optuna.create_study(study_name="two", storage=database, directions=["maximize", "minimize"])
    study.set_user_attr(attributes.SPEC, two().model_dump(mode="json"))
    for accuracy, weights in ((0.8, 500.0), (0.9, 900.0), (0.7, 600.0)):
        study.add_trial(optuna.create_trial(values=[accuracy, weights], intermediate_values={1: accuracy}))
    rows = cast(list[RowOfSeveral], leaderboard(study))
    assert [(row["number"], row["value"], row["values"], row["front"]) for row in rows] == [
        (1, 0.9, [0.9, 900.0], True),
        (0, 0.8, [0.8, 500.0], True),
        (2, 0.7, [0.7, 600.0], False),
    ]
    best = best_trial(study)
    assert best is not None
    assert best.number == 1
    record = StudyRecord.of(study)
    assert (record.is_ours, record.objectives) == (True, SEVERAL)
