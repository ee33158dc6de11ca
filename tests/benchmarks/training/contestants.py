"""Who searches, each in processes of its own, from their start on."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from storage.errors import TuningError
from storage.processes.cores import usable_cores
from studies.spec import BUDGET_SHARE
from tests.benchmarks.throughput.contestants import free_port
from tests.benchmarks.throughput.data import make_home
from tests.benchmarks.throughput.processes import TUNING, Programs, peer_environment, programs
from tests.benchmarks.training.outcomes import Outcome
from tests.benchmarks.training.plan import Plan
from tests.benchmarks.training.watching import seen_in_database, seen_in_lines, watch
from tuning.machine.devices import place_workers

OURS: Final = "ours"
STUDY: Final = "training"

# (what is trained, an empty folder) -> what came of it
Contestant = Callable[[Plan, Path], Outcome]


def run_ours(plan: Plan, folder: Path) -> Outcome:
    """Run the service's command line with its default strategy and a plan's trials for the budget, to its own end."""
    trials = max(1, round(plan.budget / (BUDGET_SHARE * plan.epochs)))
    return _run_tuning(plan, folder, "model", "freeze_thaw", trials, ["--budget-epochs", str(plan.budget)])


def run_tpe_median(plan: Plan, folder: Path) -> Outcome:
    """Run the same command line with Optuna's TPE and median pruner, and stop it when its epochs are trained.

    It is not told of the budget: with one, the service keeps an epoch back for each trial yet to come, and near the end
    prunes what the median pruner would not. It has more trials than it can use: each trains an epoch at least.
    """
    return _run_tuning(plan, folder, "tpe", "median", plan.budget + 1, [], stopped_at=plan.budget)


def _run_tuning(
    plan: Plan,
    folder: Path,
    sampler: str,
    strategy: str,
    trials: int,
    more: Sequence[str],
    stopped_at: float = math.inf,
) -> Outcome:
    home = make_home(folder, plan.dataset)
    environment = {**os.environ, "TUNING_HOME": str(home.root), "CUDA_VISIBLE_DEVICES": "-1"}
    command: list[str | Path] = [TUNING, "tune", "--spec", plan.write_spec(folder, sampler, strategy), "--study", STUDY]
    command += ["--trials", str(trials), "--workers", str(plan.workers), "--no-progress", *more]
    look = partial(seen_in_database, home.root / "studies.db")
    with programs(folder) as running:
        began = time.perf_counter()
        running.start("tuning", command, environment, stdout=subprocess.DEVNULL)
        outcome = watch(look, partial(_over, running), budget=stopped_at, began=began)
        _require_success(running)
    return outcome


def run_keras_tuner(plan: Plan, folder: Path) -> Outcome:
    """Run KerasTuner's Hyperband as a chief and workers, and stop them when their epochs are trained."""
    home = make_home(folder, plan.dataset)
    threads = place_workers([], usable_cores(), workers=plan.workers, per_device=None, environ=os.environ)[0].threads
    environment = peer_environment(threads if plan.pinned else None) | {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(free_port()),
    }
    project, reports = folder / "keras_tuner", folder / "epochs.txt"
    script = [sys.executable, "-m", "tests.benchmarks.training.peer_keras_tuner"]
    # It reads the images and the model from the same file as the service does.
    command: list[str | Path] = [*script, home.root, plan.write_spec(folder, "random", "none"), project, reports]
    workers = [f"tuner{number}" for number in range(plan.workers)]
    with programs(folder) as running:
        began = time.perf_counter()
        for name in ("chief", *workers):
            running.start(name, command, {**environment, "KERASTUNER_TUNER_ID": name}, stdout=subprocess.DEVNULL)
        look = partial(seen_in_lines, reports, plan.budget)
        outcome = watch(look, partial(_over, running, workers), budget=plan.budget, began=began)
        _require_success(running)
    _require_valid_trials(project)
    return outcome


def _over(running: Programs, names: Sequence[str] = ()) -> bool:
    """Return whether these programs ended, all by default, or any of all failed."""
    statuses = {name: process.poll() for name, process in running.running}
    return any(statuses.values()) or all(statuses[name] is not None for name in names or statuses)


def _require_success(running: Programs) -> None:
    """Raise for the first program that failed; those that still run did not."""
    for name, process in running.running:
        if process.poll():
            running.wait(name)


def _require_valid_trials(project: Path) -> None:
    """Refuse a search in which a trial of KerasTuner raised.

    Raises:
        TuningError: one did.
    """
    for file in sorted(project.glob("*/trial_*/trial.json")):
        trial = json.loads(file.read_text(encoding="utf-8"))
        if trial["status"] in ("INVALID", "FAILED"):
            raise TuningError(f"KerasTuner's trial {trial['trial_id']} is {trial['status']}: {trial['message']}")


CONTESTANTS: Final[Mapping[str, Contestant]] = {
    OURS: run_ours,
    "tpe_median": run_tpe_median,
    "keras_tuner_hyperband": run_keras_tuner,
}
