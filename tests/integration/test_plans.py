"""What follows a search in the same `tune`, through the command line: a plan that says so, and a time that is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from tests.faults.slow_studies import MODELS, STUDY, trials
from tests.integration.command_line import CommandLine, interrupt, wait_until

pytestmark = pytest.mark.keras

PLAN = """
dataset = "mnist_sample"

[plan.cpu]
trials = 3
epochs = 1
train_images = 256
validation_images = 200
confirm = [2, 2]
refit_epochs = 6
"""


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home", {"SLOW_EPOCH_S": "0.3"})


def of_phase(command: CommandLine, phase: str) -> list[FrozenTrial]:
    return [trial for trial in trials(command) if attributes.phase_in(trial.system_attrs) == phase]


def test_a_plan_searches_confirms_and_refits_in_one_command_that_goes_on_where_it_was_interrupted(
    command: CommandLine, tmp_path: Path
) -> None:
    spec = tmp_path / "plan.toml"
    spec.write_text(PLAN)
    tune = ("tune", "--spec", str(spec), "--study", STUDY, "--model", f"{MODELS}:Slow")
    process = command.start(*tune)
    wait_until(lambda: any(trial.intermediate_values for trial in of_phase(command, "refit")), timeout_s=240.0)
    assert "the same command goes on" in interrupt(process).stderr
    finished = command.run(*tune)
    assert "refit: the winner's training goes on" in finished.stderr
    assert "next: make export" in finished.stderr
    counts = {phase: len(of_phase(command, phase)) for phase in ("search", "confirm", "refit")}
    assert counts == {"search": 3, "confirm": 4, "refit": 1}
    (winner,) = of_phase(command, "refit")
    assert winner.state == TrialState.COMPLETE
    assert len(winner.intermediate_values) == 6
    assert "nothing to do" in command.run(*tune).stderr
    command.run("export", "--study", STUDY, "--format", "keras")
    card = json.loads((command.home / "exports" / STUDY / "card.json").read_text())
    assert card["trial"] == winner.number
    trained_on_all_is_claimed_for_nothing(command)


def trained_on_all_is_claimed_for_nothing(command: CommandLine) -> None:
    model = ("--model", f"{MODELS}:Slow")
    told = command.run("refit", "--study", STUDY, "--epochs", "2", "--all-data", *model).stderr
    assert "2 epochs of 2,000 images" in told
    assert "no validation figure" in told
    row = json.loads(command.run("trials", "--study", STUDY, "--format", "json").stdout)[-1]
    assert (row["phase"], row["value"], row["epochs"]) == ("refit", None, 2)
    exported = command.run("export", "--study", STUDY, "--format", "keras").stderr
    assert "validation           none: it learned from these images, too" in exported
    bundle = command.home / "exports" / STUDY
    metrics, card = (json.loads((bundle / name).read_text()) for name in ("metrics.json", "card.json"))
    assert metrics["validation"] is card["validation"] is card["objective"]["value"] is None
    assert (card["trial"], card["training"]["images"]) == (row["number"], "all but test images")
    assert 0 < metrics["test"]["accuracy"] < 1
    assert "validation |" not in (bundle / "card.md").read_text()
    assert not (bundle / "validation.json").exists()
    assert (
        "equal in every bit: " in command.run("replay", "--study", STUDY, "--trial", str(row["number"]), *model).stderr
    )
    report = command.run("report", "--study", STUDY)
    assert "learned from the validation images, too" in Path(report.stdout.splitlines()[0]).read_text()


@pytest.mark.long
def test_a_study_of_a_given_time_ends_in_it_or_says_that_the_machine_has_slowed_down(command: CommandLine) -> None:
    finished = command.run("tune", "--dataset", "mnist_sample", "--study", STUDY, "--for", "100s")
    (winner,) = of_phase(command, "refit")
    assert winner.state == TrialState.COMPLETE
    spent_s = command.study(STUDY).user_attrs[attributes.SPENT]
    assert spent_s <= 110 or "slowed down" in finished.stderr
    assert "time is up" in command.run("tune", "--study", STUDY, "--for", f"{spent_s:g}s").stderr
