"""A study's learning curves become a table, if every one of them is whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import optuna
import pytest

from storage import attributes
from storage.errors import BadInput
from studies.simulation.curve_tables import RECORDED, CurveTable
from studies.spec import Sampler, StrategyChoice, StudySpec
from tests.benchmarks.search.tables import recorded_table
from tuning.commands.record import record

SPEC = StudySpec(
    dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=0, plan_name="cpu", epochs=3,
    train_images=None, validation_images=5000, patience=3, sampler=Sampler(), strategy=StrategyChoice(name="none"),
)  # fmt: skip


def study_of(curves: list[list[float]], state: str = "complete") -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=0))
    study.set_user_attr(attributes.SPEC, SPEC.model_dump(mode="json"))
    for values in curves:
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("optimizer", ["sgd", "adam"])
        for epoch, value in enumerate(values, start=1):
            trial.report(value, epoch)
        trial.set_user_attr(attributes.SECONDS, 2.0 * len(values))
        outcome = {"complete": optuna.trial.TrialState.COMPLETE, "pruned": optuna.trial.TrialState.PRUNED}[state]
        study.tell(trial, values[-1] if outcome == optuna.trial.TrialState.COMPLETE else None, state=outcome)
    return study


def test_a_study_without_pruning_becomes_a_table_with_its_seconds(tmp_path: Path) -> None:
    study = study_of([[0.1, 0.2, 0.3], [0.2, 0.4]])
    record(study, tmp_path / "a.npz")
    table = CurveTable.load(tmp_path / "a.npz")
    assert table.names == ("learning_rate", "optimizer")
    np.testing.assert_array_equal(table.curves, [[0.1, 0.2, 0.3], [0.2, 0.4, np.nan]])
    assert table.seconds is not None
    np.testing.assert_array_equal(table.seconds[0], [2.0, 2.0, 2.0])
    assert table.params(0) == study.trials[0].params


def test_what_diverged_has_a_curve_and_what_failed_of_something_else_has_none(tmp_path: Path) -> None:
    study = study_of([[0.1, 0.2, 0.3]])
    for failure, curve in (
        (attributes.DIVERGED, [0.1, 0.15]),
        (attributes.DIVERGED, []),
        ("lost", [0.2, 0.3]),
        (attributes.OUT_OF_MEMORY, []),
    ):
        trial = study.ask()
        trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True)
        trial.suggest_categorical("optimizer", ["sgd", "adam"])
        for epoch, value in enumerate(curve, start=1):
            trial.report(value, epoch)
        trial.set_user_attr(attributes.FAILURE, failure)
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
    table = record(study, tmp_path / "a.npz")
    assert table.seconds is None  # of what diverged it was not kept
    expected = [[0.1, 0.2, 0.3], [0.1, 0.15, np.nan], [np.nan] * 3]
    np.testing.assert_array_equal(CurveTable.load(tmp_path / "a.npz").curves, expected)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"there is no folder .*none\. Make it, or give another name"):
        record(study_of([[0.1]]), tmp_path / "none" / "a.npz")


def test_a_study_that_was_pruned_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="trial 0 was pruned"):
        record(study_of([[0.1]], state="pruned"), tmp_path / "a.npz")
    assert not (tmp_path / "a.npz").exists()


def test_a_study_that_still_runs_is_refused(tmp_path: Path) -> None:
    study = study_of([[0.1, 0.2, 0.3]])
    study.ask()
    with pytest.raises(BadInput, match="trial 1 is not finished"):
        record(study, tmp_path / "a.npz")


def test_a_file_that_is_there_is_not_written_over_and_a_name_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"mine")
    with pytest.raises(BadInput, match="is there already"):
        record(study_of([[0.1]]), tmp_path / "a.npz")
    with pytest.raises(BadInput, match=r"must end in \.npz"):
        record(study_of([[0.1]]), tmp_path / "a.csv")
    assert (tmp_path / "a.npz").read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_the_tables_that_ship_are_whole_and_can_be_searched(name: str) -> None:
    table = CurveTable.load(RECORDED / f"{name}.npz")
    assert table.curves.shape == (60, 12)
    assert np.isfinite(table.finals).all()
    assert set(table.names) == {"batch_size", "optimizer", "learning_rate", "dropout"}
    searched = recorded_table(RECORDED / f"{name}.npz")
    assert searched.horizon == 12
    assert searched.threshold(0.05) < searched.best
