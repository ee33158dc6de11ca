"""The throughput benchmarks run to their end, as small as they can be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(name: str, *arguments: str) -> list[list[str]]:
    """Run a benchmark; return the words of each line that it prints."""
    command = [sys.executable, "-m", f"tests.benchmarks.throughput.{name}", "--smoke", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return [line.split() for line in done.stdout.splitlines() if line]


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.parametrize(
    "names",
    [("tuning",), pytest.param(("bound", "tuning", "optuna", "keras_tuner"), marks=pytest.mark.long)],
    ids=["service", "all"],
)
def test_every_contestant_trains_every_configuration(names: tuple[str, ...]) -> None:
    lines = run("overhead", "--contestants", *names)
    for name in names:
        seconds, results = (line for line in lines if line[0] == name and line[1] != "/")
        assert float(seconds[-1]) > 0.0
        assert results[2] == "4"


@pytest.mark.keras
@pytest.mark.slow
def test_the_memory_of_a_worker_is_seen_at_each_of_its_trials() -> None:
    lines = run("memory", "--trials", "4")
    assert lines[0][:5] == ["4", "trials", "in", "one", "worker,"]
    growth = next(line for line in lines if line[:2] == ["memory", "growth"])
    assert abs(float(growth[5])) < 500.0


@pytest.mark.keras
@pytest.mark.slow
def test_images_per_second_are_counted_without_a_gpu() -> None:
    lines = run("gpu", "--models", "cnn", "--at-once", "2")
    rates, arithmetic, accuracies = (line for line in lines if line[0] == "cnn")
    assert "made-up" in rates or "MNIST" in rates
    assert arithmetic[1] == "14.6"
    assert len(accuracies) == 3
