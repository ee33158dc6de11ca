"""After the search: interrupted and killed while it is confirmed and refitted, a study loses nothing."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Claims, Planned
from tests.faults.breaking import Fault, Faults, wait_for_end
from tests.faults.slow_studies import (
    MODELS,
    QUICK,
    STUDY,
    classes_given_up,
    command_line,
    opened,
    trials,
    tune,
    write_spec,
)
from tests.integration.command_line import CommandLine, interrupt, wait_until

pytestmark = [pytest.mark.faults, pytest.mark.keras]

REFIT_EPOCHS = 6


def later(command: str, *more: str) -> list[str]:
    return [command, "--study", STUDY, "--model", f"{MODELS}:Slow", "--no-progress", *more]


CONFIRM = later("confirm", "--top", "2", "--seeds", "2", "--workers", "1")
REPLAY = ["replay", "--study", STUDY, "--model", f"{MODELS}:Slow"]
REFIT = later("refit", "--epochs", str(REFIT_EPOCHS))


def of_phase(command: CommandLine, phase: str) -> list[FrozenTrial]:
    return [trial for trial in trials(command) if trial.system_attrs.get(attributes.PHASE) == phase]


def results(command: CommandLine, phase: str) -> list[Any]:
    """What each training of a phase came to, to the last bit."""
    found = of_phase(command, phase)
    assert all(trial.state == TrialState.COMPLETE for trial in found)
    return [
        (trial.number, trial.system_attrs[attributes.TRAINING], trial.params, trial.values, trial.intermediate_values)
        for trial in found
    ]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a study of two trials."""
    folder = tmp_path_factory.mktemp("searched")
    command = command_line(folder)
    command.run(*tune(write_spec(folder, epochs=2), trials=2, workers=1))
    return command.home


def again(searched: Path, folder: Path, faults: Faults | None = None, *, epoch_s: float = 0.0) -> CommandLine:
    """A copy of that home."""
    command = command_line(folder, faults, epoch_s=epoch_s)
    shutil.copytree(searched, command.home)
    return command


@pytest.fixture(scope="module")
def confirmed(searched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of a copy that was confirmed without any disturbance."""
    command = again(searched, tmp_path_factory.mktemp("confirmed"))
    said = command.run(*CONFIRM).stderr
    assert "winner: trial" in said
    assert "90% interval" in said
    assert "luck: the search's best, trial" in said
    return command.home


@pytest.fixture(scope="module")
def undisturbed(searched: Path, confirmed: Path, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A copy of that which was refitted likewise."""
    before = again(searched, tmp_path_factory.mktemp("before")).json("status", "--study", STUDY, "--json")
    command = again(confirmed, tmp_path_factory.mktemp("undisturbed"))
    command.run(*REFIT)
    after = command.json("status", "--study", STUDY, "--json")
    assert [after["phases"][phase]["complete"] for phase in ("search", "confirm", "refit")] == [2, 4, 1]
    stays = ("state", "trials", "budget", "epochs_trained", "best")
    assert {key: after[key] for key in stays} == {key: before[key] for key in stays}
    return command


def test_a_confirmation_has_other_seeds_and_a_refit_its_own_epochs_and_values(undisturbed: CommandLine) -> None:
    confirmed, (refitted,) = of_phase(undisturbed, "confirm"), of_phase(undisturbed, "refit")
    assert len({trial.system_attrs[attributes.TRAINING]["seed"] for trial in confirmed}) == 4
    assert len({trial.intermediate_values[1] for trial in confirmed}) > 1
    assert all(len(trial.intermediate_values) == 2 for trial in confirmed), "as long as the search trained"
    assert len(refitted.intermediate_values) == REFIT_EPOCHS
    training = refitted.system_attrs[attributes.TRAINING]
    assert set(training["at_least"]) == {"augmentation", "label_smoothing", "averaging"}
    assert 0.5 < training["at_least"]["averaging"] < 1.0
    rows = undisturbed.json("trials", "--study", STUDY, "--format", "json")
    assert [row["phase"] for row in rows] == ["search"] * 2 + ["confirm"] * 4 + ["refit"]


def test_given_again_the_commands_train_nothing_more(undisturbed: CommandLine) -> None:
    undisturbed.run(*CONFIRM)
    undisturbed.run(*REFIT)
    assert len(trials(undisturbed)) == 7


def test_the_refitted_model_is_exported_with_what_the_search_had_given(undisturbed: CommandLine) -> None:
    (refitted,) = of_phase(undisturbed, "refit")
    undisturbed.run("export", "--study", STUDY, "--format", "keras")
    card = json.loads((undisturbed.home / "exports" / STUDY / "card.json").read_text())
    training = refitted.system_attrs[attributes.TRAINING]
    assert (card["trial"], card["phase"], card["seed"]) == (refitted.number, "refit", training["seed"])
    images = "the training part of data"
    assert card["training"] == {"epochs": REFIT_EPOCHS, "at_least": training["at_least"], "images": images}
    assert card["search"]["trial"] == training["of"]
    assert card["search"]["validation_accuracy"] == trials(undisturbed)[training["of"]].value
    assert len(card["confirmation"]["trials"]) == 2
    low, high = card["confirmation"]["interval"]
    assert low < card["confirmation"]["mean"] < high


def test_a_worker_by_hand_takes_up_what_is_enqueued_in_the_phase_that_it_was_given(
    searched: Path, undisturbed: CommandLine, tmp_path: Path
) -> None:
    command = again(searched, tmp_path)
    expected = of_phase(undisturbed, "confirm")[0]
    training = expected.system_attrs[attributes.TRAINING]
    with opened(command) as database:
        claims = Claims(database, database.get_study_id_from_name(STUDY), "test", phase="confirm")
        assert claims.enqueue([Planned(expected.params, training)]) == 1
    here = ["--study", STUDY, "--storage", command.url, "--model", f"{MODELS}:Slow"]
    command.run("worker", *here, "--phase", "confirm")
    assert results(command, "confirm") == results(undisturbed, "confirm")[:1]
    said = command.run("worker", "--study", STUDY, "--storage", command.url, "--phase", "refine", status=2).stderr
    assert "refit" in said


def test_a_trial_of_any_phase_is_replayed_to_the_last_bit_and_its_study_is_as_it_was(undisturbed: CommandLine) -> None:
    before = trials(undisturbed)
    for number in (0, 5, 6):
        said = undisturbed.run(*REPLAY, "--trial", str(number)).stderr
        assert "equal in every bit" in said
        assert "val_loss" in said
    assert trials(undisturbed) == before


def test_a_replay_that_comes_to_something_else_says_where_and_how_far(undisturbed: CommandLine, tmp_path: Path) -> None:
    command = again(undisturbed.home, tmp_path)
    with sqlite3.connect(command.home / "studies.db") as connection:
        changed = connection.execute(
            "UPDATE trial_intermediate_values SET intermediate_value = intermediate_value + 0.25"
            " WHERE step = 2 AND trial_id = (SELECT trial_id FROM trials WHERE number = 6)"
        )
        assert changed.rowcount == 1
    connection.close()
    said = command.run(*REPLAY, "--trial", "6", status=1).stderr
    assert "val_accuracy: in epoch 2 " in said
    assert "0.25 apart at most" in said


def test_a_worker_that_is_killed_while_it_confirms_and_a_ctrl_c_cost_nothing(
    searched: Path, undisturbed: CommandLine, tmp_path: Path
) -> None:
    kill = Fault("os:replace", "kill", match=".checkpoint")
    command = again(searched, tmp_path, Faults(tmp_path / "faults", kill, constants=QUICK), epoch_s=0.5)
    launcher = command.start(*CONFIRM)
    wait_until(lambda: any(trial.state == TrialState.COMPLETE for trial in of_phase(command, "confirm")))
    stopped = interrupt(launcher)
    assert stopped.status == 130
    assert "the same command goes on" in stopped.stderr
    assert len(of_phase(command, "confirm")) == 4
    command.run(*CONFIRM)
    assert results(command, "confirm") == results(undisturbed, "confirm")


def test_a_worker_and_a_launcher_that_are_killed_while_they_refit_cost_no_epoch_that_was_kept(
    confirmed: Path, undisturbed: CommandLine, tmp_path: Path
) -> None:
    command = again(confirmed, tmp_path, Faults(tmp_path / "faults", constants=QUICK), epoch_s=0.7)

    def kept(epochs: int) -> bool:
        return any(
            trial.system_attrs.get(attributes.CLAIM, {}).get("epochs", 0) >= epochs
            for trial in of_phase(command, "refit")
        )

    launcher = command.start(*REFIT)
    wait_until(lambda: kept(1))
    (worker,) = command.workers()
    worker.send_signal(signal.SIGKILL)
    wait_until(lambda: kept(3))
    workers = command.workers()
    launcher.kill()
    launcher.communicate()
    wait_for_end(workers)
    finished = command.run(*REFIT)
    assert "refitted: trial 6" in finished.stderr
    assert results(command, "refit") == results(undisturbed, "refit"), "bit for bit what it is without the kills"
    (refitted,) = of_phase(command, "refit")
    assert "lost" in classes_given_up(refitted)
    # Each epoch was noted by whoever trained it: those that were kept were trained once.
    lines = (tmp_path / "epochs").read_text().splitlines()
    own = [line for line in lines if str(refitted.system_attrs[attributes.TRAINING]["seed"]) in line]
    assert REFIT_EPOCHS <= len(own) <= REFIT_EPOCHS + 3
