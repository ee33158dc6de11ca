"""A study computes in one precision on all cores, whatever these are fastest in, and repeats to the last bit in it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from storage import attributes
from tests.integration.command_line import CommandLine

SMALL = ("--dataset", "mnist_sample", "--train-images", "256", "--epochs", "2", "--workers", "1", "--strategy", "none")


def test_a_study_begun_in_half_precision_goes_on_in_it_on_cores_that_are_faster_without(home: Path) -> None:
    command = CommandLine(home)
    fast = replace(command, environment={**command.environment, "TUNING_PRECISION": "mixed_bfloat16"})
    slow = replace(command, environment={**command.environment, "TUNING_PRECISION": "float32"})
    fast.run("tune", *SMALL, "--trials", "1")
    said = slow.run("tune", *SMALL, "--trials", "2").stderr
    assert "the study computes in mixed_bfloat16, which these cores are slow in" in said
    study = command.study("mnist_sample")
    assert study.user_attrs[attributes.SPEC]["precision"] == "mixed_bfloat16"
    assert [trial.user_attrs[attributes.PRECISION] for trial in study.trials] == ["mixed_bfloat16"] * 2

    assert "equal in every bit: " in slow.run("replay", "--trial", "0").stderr
    slow.run("export", "--format", "keras")
    card = json.loads((command.home / "exports" / "mnist_sample" / "card.json").read_text())
    assert card["precision"] == "mixed_bfloat16"
