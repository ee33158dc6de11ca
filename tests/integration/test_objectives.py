"""Studies that optimise something else than the validation accuracy, through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import optuna
import pytest
from optuna.study import StudyDirection
from optuna.trial import TrialState

from storage import attributes
from tests.integration.command_line import CommandLine

pytestmark = pytest.mark.keras

SMALL = ("--dataset", "mnist_sample", "--train-images", "256", "--epochs", "3", "--trials", "4", "--workers", "1")

COSTS = """
def cost(labels, probabilities):
    # To take a nine for a four costs most.
    missed = probabilities.argmax(axis=1) != labels
    return float((missed * (1 + 9 * (labels == 9))).mean())
"""


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    (tmp_path / "costs.py").write_text(COSTS)
    return CommandLine(tmp_path / "home")


def curve_of(command: CommandLine, trial: optuna.trial.FrozenTrial, name: str) -> list[float]:
    kept = (command.home / "artifacts").glob("*")
    histories = [json.loads(file.read_text()) for file in kept if file.read_bytes()[:1] == b"{"]
    reported = [value for _, value in sorted(trial.intermediate_values.items())]
    (history,) = [one for one in histories if one.get(name) == reported]
    return [float(value) for value in history[name]]


def test_a_study_by_the_loss_keeps_the_epoch_with_the_smallest_and_exports_it(command: CommandLine) -> None:
    said = command.run("tune", *SMALL, "--objective", "val_loss").stderr
    assert "objective validation loss, the smallest is the best" in said
    study = command.study("mnist_sample")
    assert study.direction == StudyDirection.MINIMIZE
    complete = [trial for trial in study.trials if trial.state == TrialState.COMPLETE]
    for trial in complete:
        assert trial.value == min(trial.intermediate_values.values())
        assert trial.value == trial.intermediate_values[trial.user_attrs[attributes.BEST_EPOCH]]
        assert 0.0 <= trial.user_attrs[attributes.VALIDATION_ACCURACY] <= 1.0
    best = study.best_trial
    assert f"best: trial {best.number}, validation loss {best.value:.4f}" in said
    status = command.json("status", "--json")
    assert (status["best"]["number"], status["best"]["value"]) == (best.number, best.value)
    assert status["objectives"] == [{"name": "val_loss", "direction": "min"}]
    shown = command.run("status").stdout + command.run("trials").stdout
    assert f"{best.value:.4f} validation loss" in shown
    assert "val loss" in shown
    assert "accuracy" not in said + shown
    exported = command.run("export", "--format", "keras").stderr
    assert f"validation loss      {best.value:.4f}, by which it was chosen" in exported
    card = json.loads((command.home / "exports/mnist_sample/card.json").read_text())
    assert card["objective"] == {"name": "val_loss", "direction": "min", "value": best.value}
    assert card["validation"]["loss"] == pytest.approx(best.value, abs=1e-3)
    refused = command.run("tune", *SMALL, "--objective", "val_accuracy", status=2).stderr
    assert "study 'mnist_sample' exists with another spec: objectives is " in refused
    on = command.run("tune", "--study", "mnist_sample", "--trials", "5", "--workers", "1").stderr
    assert "5 of 5 trials finished" in on, "without a word it goes on with its objective"


def test_a_study_by_a_function_of_the_users_needs_its_file_and_no_other(command: CommandLine, tmp_path: Path) -> None:
    own = f"{tmp_path / 'costs.py'}:cost"
    untold = command.run("tune", *SMALL, "--objective", own, status=2).stderr
    assert "does not say whether the largest value is the best one. Give --direction max or --direction min" in untold
    lacking = command.run("tune", *SMALL, "--objective", "val_top", "--direction", "max", status=2).stderr
    assert "error: objective 'val_top': there is no 'val_top' in the history of the training, which has " in lacking
    assert "loss, val_accuracy, val_balanced_accuracy, val_loss, val_f1_macro, val_auc. Give one of these." in lacking
    said = command.run("tune", *SMALL, "--objective", own, "--direction", "min").stderr
    study = command.study("mnist_sample")
    best = study.best_trial
    assert f"best: trial {best.number}, validation cost " in said
    assert "accuracy" not in said
    assert min(curve_of(command, best, "val_cost")) == best.value
    for arguments in (("refit", "--epochs", "2"), ("tune", "--study", "mnist_sample", "--trials", "5")):
        refused = command.run(*arguments, status=2).stderr
        assert "costs.py:cost" in refused
    again = command.run("refit", "--epochs", "2", "--objective", own).stderr
    assert "validation cost " in again
    assert "next: make export STUDY=mnist_sample\n" in again
    (tmp_path / "costs.py").write_text(COSTS.replace("9 *", "5 *"))
    changed = command.run(
        "tune", "--study", "mnist_sample", "--trials", "5", "--objective", own, "--direction", "min", status=2
    ).stderr
    assert "exists with another spec" in changed


def test_accuracy_against_the_number_of_weights_has_a_front_and_any_trial_of_it_is_exported(
    command: CommandLine,
) -> None:
    two = ("--objective", "val_accuracy weights", "--space", "extended")
    refused = command.run("tune", *SMALL, *two, "--strategy", "promotion", status=2).stderr
    assert "strategy 'promotion': with the objectives val_accuracy and weights every trial is trained" in refused
    timed = command.run("tune", *SMALL[:-4], *two, "--for", "5m", status=2).stderr
    assert "with two objectives no single trial wins" in timed
    said = command.run("tune", *SMALL, *two).stderr
    assert "objective validation accuracy, the largest is the best and weights, the smallest is the best" in said
    study = command.study("mnist_sample")
    assert study.directions == [StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE]
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 4, "whole trials"
    for trial in study.trials:
        assert trial.values == [max(trial.intermediate_values.values()), trial.user_attrs[attributes.WEIGHTS]]
    best = {trial.number for trial in study.best_trials}
    status = command.json("status", "--json")
    assert {one["number"] for one in status["front"]} == best, "Optuna's own front"
    rows = command.json("trials", "--format", "json")
    assert {row["number"] for row in rows if row["front"]} == best
    first = max(study.trials, key=lambda trial: (trial.values[0], -trial.number))
    assert rows[0]["number"] == status["best"]["number"] == first.number
    small = min(study.trials, key=lambda trial: trial.values[1])
    table = command.run("status").stdout + command.run("trials").stdout
    assert f"{small.values[1]:,.0f} weights" in table
    assert "front" in table
    for number in ((), ("--trial", str(small.number))):
        command.run("export", *number, "--format", "keras")
        card = json.loads((command.home / "exports/mnist_sample/card.json").read_text())
        trial = study.trials[card["trial"]]
        assert trial.number == (small.number if number else first.number)
        assert card["costs"] == [{"name": "weights", "direction": "min", "value": trial.values[1]}]
    assert "has 2 objectives and no single winner" in command.run("refit", status=2).stderr
