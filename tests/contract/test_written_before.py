"""What an earlier version wrote goes on here: its studies, its checkpoints, a backup and a bundle.

`written_before/README.md` tells which version, and how. All is asked through the command line and stock Optuna, which
stay the same wherever the code behind them moves.
"""

from __future__ import annotations

import json
import re
import shutil
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import FrozenTrial, TrialState

from tests.integration.command_line import CommandLine

FOLDER = Path(__file__).with_name("written_before")
TOLD = json.loads((FOLDER / "told.json").read_text(encoding="utf-8"))

# Nobody rounds a value of this size away, and none of 400 validation images makes one.
MARK = 1e-6


def command_line(home: Path) -> CommandLine:
    # A study goes on with the backend that it was begun with, and on the cores.
    return CommandLine(home, {"KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"})


@dataclass(frozen=True)
class Written:
    """What is in the archive.

    Attributes:
        home: a `TUNING_HOME` with the studies `small` and `halves`, interrupted, and the bundle of `small`.
        backup: of `small`.
        files: a user's: a study's file, a hypermodel, a strategy, a picture.
    """

    home: Path
    backup: Path
    files: Path


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder = tmp_path_factory.mktemp("written")
    with tarfile.open(FOLDER / "written.tar.xz") as archive:
        # The first releases of Python 3.11 have no filters.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(folder)
    return Written(folder / "home", folder / "backup", folder / "files")


@pytest.fixture(scope="module")
def restored(written: Written, tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """Another home, with what the backup brought."""
    command = command_line(tmp_path_factory.mktemp("restored"))
    finished = command.run("restore", str(written.backup))
    assert "restored study 'small'" in finished.stderr
    return command


@pytest.fixture
def command(written: Written, tmp_path: Path) -> CommandLine:
    """A copy of the home: the others look at it as it was."""
    return command_line(shutil.copytree(written.home, tmp_path / "home"))


def trials_of(command: CommandLine, study: str) -> list[FrozenTrial]:
    return command.study(study).trials


def mark_curves(command: CommandLine, study: str) -> list[FrozenTrial]:
    """Change each waiting trial's first value a little, which a training from the beginning would report anew."""
    storage = optuna.storages.RDBStorage(command.url)
    for trial in trials_of(command, study):
        if trial.state == TrialState.WAITING:
            storage.set_trial_intermediate_value(trial._trial_id, 1, trial.intermediate_values[1] + MARK)
    storage.engine.dispose()
    return trials_of(command, study)


def curve_of(trial: FrozenTrial) -> list[tuple[int, float]]:
    return sorted(trial.intermediate_values.items())


def require_gone_on(command: CommandLine, study: str, before: list[FrozenTrial]) -> None:
    """Fail unless the study is done, and each trial is the one that it was, trained on from where it stood."""
    status = command.json("status", "--study", study, "--json")
    assert status["state"] == "done"
    assert status["budget"]["done"] == status["budget"]["trials"]
    after = trials_of(command, study)
    assert len(after) >= len(before)
    for was, is_now in zip(before, after, strict=False):
        assert (was.number, was._trial_id, was.params) == (is_now.number, is_now._trial_id, is_now.params)
        if was.state.is_finished():
            assert is_now == was
        else:
            assert is_now.state in (TrialState.COMPLETE, TrialState.PRUNED)
            assert curve_of(is_now)[: len(curve_of(was))] == curve_of(was)
    assert "is set aside" not in command.logs()
    assert list((command.home / "checkpoints").glob(f"{study}-*/*/*")) == []


def keys_of(trial: FrozenTrial) -> set[str]:
    """What is recorded of a trial: files have names of their own, and what had no prefix then has one now."""
    keys = {key.removeprefix("tuning:") for key in (*trial.user_attrs, *trial.system_attrs)}
    return {re.sub("[0-9a-f-]{36}", "a file", key) for key in keys}


def interrupted(trials: list[FrozenTrial]) -> set[int]:
    """The trials that were in the middle of an epoch when the study was stopped; the others that wait are frozen."""
    waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
    return {trial.number for trial in waiting if trial.system_attrs.get("tuning:frozen") is None}


def as_far_as(told: Any, now: Any) -> Any:
    """What is said now without the keys that were not there then: programs are promised that none goes or changes."""
    if isinstance(told, dict) and isinstance(now, dict):
        return {key: as_far_as(told[key], value) for key, value in now.items() if key in told}
    if isinstance(told, list) and isinstance(now, list) and len(told) == len(now):
        return [as_far_as(*both) for both in zip(told, now, strict=True)]
    return now


def require_told_as_before(command: CommandLine, study: str) -> None:
    told = TOLD[study]["trials"]
    assert as_far_as(told, command.json("trials", "--study", study, "--format", "json")) == told


@pytest.mark.parametrize("study", ["small", "halves"])
def test_a_study_is_told_as_by_the_version_that_wrote_it(command: CommandLine, study: str) -> None:
    told = TOLD[study]["status"]
    assert as_far_as(told, command.json("status", "--study", study, "--json")) == told
    require_told_as_before(command, study)


def test_every_file_is_known_to_belong_to_a_study(command: CommandLine) -> None:
    assert "left over: nothing" in command.run("gc").stderr


@pytest.mark.keras
def test_a_bundle_gives_the_same_probabilities(written: Written, command: CommandLine) -> None:
    (prediction,) = command.json("predict", "--study", "small", "--json", str(written.files / "four.png"))
    (told,) = TOLD["predicted"]
    assert [guess["label"] for guess in prediction["classes"]] == [guess["label"] for guess in told]
    probabilities = [guess["probability"] for guess in prediction["classes"]]
    assert probabilities == pytest.approx([guess["probability"] for guess in told], abs=1e-5)


def test_a_backup_is_restored(restored: CommandLine) -> None:
    require_told_as_before(restored, "small")


@pytest.mark.keras
@pytest.mark.slow
def test_a_restored_study_goes_on_from_its_checkpoints(written: Written, restored: CommandLine, tmp_path: Path) -> None:
    command = command_line(shutil.copytree(restored.home, tmp_path / "home"))
    before = mark_curves(command, "small")
    spec = ("--spec", str(written.files / "small.toml"), "--study", "small")
    command.run("tune", *spec, "--trials", "11", "--workers", "2")
    require_gone_on(command, "small", before)
    after = trials_of(command, "small")
    assert len(interrupted(before)) == 2
    for number in interrupted(before):
        assert len(after[number].intermediate_values) > len(before[number].intermediate_values)
        # Complete, it is recorded as one was then, and so is the one that is new.
        assert keys_of(before[2]) <= keys_of(after[number])
    begun = next(trial for trial in after[len(before) :] if trial.state != TrialState.FAIL)
    assert keys_of(before[0]) - {"frozen", "worked"} <= keys_of(begun)


@pytest.mark.keras
@pytest.mark.slow
def test_a_study_of_a_users_model_and_strategy_goes_on_with_the_same_files(
    written: Written, command: CommandLine
) -> None:
    before = mark_curves(command, "halves")
    finished = command.run(
        *("tune", "--dataset", "mnist_sample", "--study", "halves", "--seed", "1", "--workers", "1"),
        *("--epochs", "6", "--train-images", "1600"),
        *("--model", f"{written.files / 'my_model.py'}:MyModel"),
        *("--strategy", f"{written.files / 'halves.py'}:Halves"),
    )
    require_gone_on(command, "halves", before)
    after = trials_of(command, "halves")
    # The one that was interrupted comes to half of its epochs; the best of all was frozen there, and is thawed.
    (stopped,) = interrupted(before)
    assert [len(trial.intermediate_values) for trial in after] == [3, 6, 3, 3]
    assert (stopped, after[1].state) == (3, TrialState.COMPLETE)
    assert "thawed   after epoch 3" in finished.stderr


@pytest.mark.keras
@pytest.mark.slow
def test_a_study_from_before_there_were_phases_is_confirmed_refitted_and_exported(command: CommandLine) -> None:
    before = trials_of(command, "small")
    said = command.run("confirm", "--study", "small", "--top", "1", "--seeds", "2", "--workers", "2").stderr
    assert "winner: trial" in said
    command.run("refit", "--study", "small", "--epochs", "3")
    after = trials_of(command, "small")
    assert after[: len(before)] == before, "what the search has begun waits as it did"
    assert [trial.state for trial in after[len(before) :]] == [TrialState.COMPLETE] * 3
    command.run("export", "--study", "small", "--format", "keras")
    card = json.loads(next(command.home.glob("exports/small*/card.json")).read_text())
    assert (card["trial"], card["phase"]) == (len(before) + 2, "refit")
