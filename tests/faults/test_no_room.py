"""A study where there is no room, in memory or on a disk: it goes on, or ends with the cause, and loses nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from storage import attributes
from tests.faults.breaking import small_disk
from tests.faults.slow_studies import (
    classes_given_up,
    command_line,
    require_done,
    trials,
    tune,
    write_spec,
)

pytestmark = [pytest.mark.faults, pytest.mark.keras]

EPOCHS = 5


def test_what_ran_out_of_memory_is_not_proposed_again(tmp_path: Path) -> None:
    command = command_line(tmp_path)
    command.run(*tune(write_spec(tmp_path, epochs=1, sampler="random"), trials=6, workers=1, model="RunsOut"))
    require_done(command, count=6, epochs=1)
    found = trials(command)
    ran_out = [trial for trial in found if trial.state == TrialState.FAIL]
    assert ran_out, "the seed of the study proposes large batches"
    assert {trial.user_attrs[attributes.FAILURE] for trial in ran_out} == {"out_of_memory"}
    # Each class of size fails once: 256, and 128 if that was not tried before.
    sizes = [trial.params["batch_size"] for trial in ran_out]
    assert sizes in ([128], [256, 128])
    assert all(t.params["batch_size"] < 128 for t in found if t.number > ran_out[-1].number)
    assert all(classes_given_up(trial) == [] for trial in ran_out), "no second attempt"
    assert "drawn again, as large as trial" in command.logs()


def test_full_disks_end_the_study_with_the_cause_or_cost_only_checkpoints_and_nothing_is_lost(tmp_path: Path) -> None:
    command = command_line(tmp_path)
    arguments = tune(write_spec(tmp_path, epochs=EPOCHS), trials=2, workers=1)
    with (
        small_disk(command.home / "artifacts", "1m") as artifacts,
        small_disk(command.home / "checkpoints", "2m") as checkpoints,
    ):
        artifacts.fill()
        stopped = command.run(*arguments, status=1)
        last = stopped.stderr.strip().splitlines()[-1]
        assert last.startswith("error: model.keras of trial 0 cannot be written to ")
        assert last.endswith("No space left on device. Make room and give the same command again.")
        (trial,) = trials(command)
        assert trial.state == TrialState.WAITING
        assert classes_given_up(trial) == ["interrupted"]
        artifacts.remount("size=64m")
        checkpoints.fill()
        command.run(*arguments)
        assert "no checkpoint after epoch" in command.logs()
        first, _ = require_done(command, count=2, epochs=EPOCHS)
        assert first.params == trial.params
        trained = (tmp_path / "epochs").read_text().splitlines()
        assert len(trained) == 2 * EPOCHS + 1, "the first trial went on from its checkpoint before the last epoch"
