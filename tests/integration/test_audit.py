"""An audit in real training: what is pruned goes on in the same worker, what was frozen is taken up again."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState

from storage import attributes
from studies.trials import audited_after
from tests.integration.command_line import CommandLine


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["successive_halving", "promotion"])
def test_what_the_strategy_ends_is_trained_to_its_end_all_the_same(home: Path, strategy: str) -> None:
    command = CommandLine(home)
    small = ("--dataset", "mnist_sample", "--trials", "3", "--epochs", "3", "--train-images", "300", "--search-only")
    done = command.run("tune", *small, "--study", "s", "--workers", "1", "--strategy", strategy, "--audit", "1")
    assert "100% of the trials are trained to their end in any case" in done.stderr
    trials = command.study("s").trials
    assert [(trial.state, trial.last_step) for trial in trials] == [(TrialState.COMPLETE, 3)] * 3
    audited = [trial for trial in trials if audited_after(trial) is not None]
    assert audited
    assert all(attributes.of_trial(trial, attributes.BEST_EPOCH, int) for trial in audited)
