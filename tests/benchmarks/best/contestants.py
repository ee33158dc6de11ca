"""Who trains, each in processes of its own, from the start of the first to the end of the last."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna

from storage.errors import TuningError
from storage.processes.cores import usable_cores
from storage.settings import Home
from studies.datasets.registry import dataset_info
from studies.spec import HYPERMODELS
from tests.benchmarks.best.cells import NETWORKS, Cell
from tests.benchmarks.best.task import Answer, Task
from tests.benchmarks.throughput.data import make_home
from tests.benchmarks.throughput.peer_names import OPTUNA_STUDY
from tests.benchmarks.throughput.processes import TUNING, Programs, peer_environment, programs
from tuning.words import counted

STUDY: Final = "best"
# What `tuning export` needs at the end, the imports included; of a short time, a third.
EXPORT_S: Final = 20.0
OPTUNA_WORKERS: Final = 2
# Who has not ended after so many times its time, and two minutes, hangs.
PATIENCE: Final = 2.0


@dataclass(frozen=True)
class Found:
    """What a contestant hands over.

    Attributes:
        accuracy: on the test split.
        wall_s: how long it took.
        network: what was trained.
        epochs: of the training that is handed over.
        told: what was done, for people.
    """

    accuracy: float
    wall_s: float
    network: str
    epochs: int
    told: str


def run_ours(cell: Cell, folder: Path) -> Found:
    """Run the service as a user does: tune for the time, then export; then look at what it did."""
    home = make_home(folder, cell.dataset)
    environment = {**os.environ, "TUNING_HOME": str(home.root), "CUDA_VISIBLE_DEVICES": "-1"}
    tune: list[str | Path] = [TUNING, "tune", "--dataset", cell.dataset, "--for", f"{tuned_s(cell.seconds)}s"]
    tune += ["--study", STUDY, "--seed", str(cell.seed), "--no-progress"]
    with programs(folder) as running:
        began = time.perf_counter()
        _start(running, "tune", tune, environment)
        running.wait(within_s=_limit_s(cell))
        tuned = time.perf_counter()
        _start(running, "export", [TUNING, "export", "--study", STUDY], environment)
        running.wait(within_s=_limit_s(cell))
        ended = time.perf_counter()
        # Off the clock: what the same model is with mirror images, where they keep their class.
        mirrored: list[str | Path] = [TUNING, "export", "--study", STUDY, "--flips", "--out", folder / "mirrored"]
        if meant_to_be_mirrored(cell.dataset):
            _start(running, "mirrored", mirrored, environment)
            running.wait(within_s=_limit_s(cell))
        listing: list[str | Path] = [TUNING, "trials", "--study", STUDY, "--format", "json"]
        _start(running, "trials", listing, environment)
        running.wait(within_s=_limit_s(cell))
    bundle = home.export(STUDY)
    metrics, card = (json.loads((bundle / name).read_text(encoding="utf-8")) for name in ("metrics.json", "card.json"))
    trials = json.loads((folder / "trials.out").read_text(encoding="utf-8"))
    told = f"{told_of_phases(trials)}; export {ended - tuned:.0f} s"
    if meant_to_be_mirrored(cell.dataset):
        both = json.loads((folder / "mirrored" / "metrics.json").read_text(encoding="utf-8"))
        told += f"; with mirror images {both['test']['accuracy']:.4f}"
    return Found(metrics["test"]["accuracy"], ended - began, _short(card["spec"]["model"]), card["epochs"], told)


def meant_to_be_mirrored(dataset: str) -> bool:
    """Return whether a mirrored picture of a data set keeps its class."""
    return dataset_info(dataset).natural_images


def tuned_s(seconds: float) -> int:
    """Return what of a time is given to `tuning tune`, in seconds; the rest is for `tuning export`."""
    return max(1, round(seconds - min(EXPORT_S, seconds / 3.0)))


def told_of_phases(trials: Sequence[Mapping[str, Any]]) -> str:
    """Return what each phase did, by the rows of `tuning trials --format json`, for people."""
    phases = dict.fromkeys(trial["phase"] for trial in trials)
    return "; ".join(_told_of_phase(phase, [one for one in trials if one["phase"] == phase]) for phase in phases)


def _told_of_phase(phase: str, trials: Sequence[Mapping[str, Any]]) -> str:
    epochs = sum(one["epochs"] for one in trials)
    seconds = sum(one["seconds"] or 0.0 for one in trials)
    return f"{phase}: {counted(len(trials), 'trial')}, {counted(epochs, 'epoch')}, {seconds:.0f} s of training"


def _short(model: str) -> str:
    return next((name for name, place in HYPERMODELS.items() if place == model), model)


def run_defaults(cell: Cell, folder: Path) -> Found:
    """Train the defaults once, for the whole time."""
    return _run_script("peer_defaults", cell, folder)


def run_keras_tuner(cell: Cell, folder: Path) -> Found:
    """Run KerasTuner's Hyperband and the retraining of its best."""
    return _run_script("peer_keras_tuner", cell, folder, folder / "keras_tuner")


def run_optuna(cell: Cell, folder: Path) -> Found:
    """Run Optuna's workers, each with its share of the cores, then the retraining; the study is made before."""
    storage = f"sqlite:///{folder / 'optuna.db'}"
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    optuna.create_study(study_name=OPTUNA_STUDY, storage=storage, direction="maximize")
    threads = max(1, usable_cores() // OPTUNA_WORKERS)
    answer = folder / "answer.json"
    home = make_home(folder, cell.dataset)
    with programs(folder) as running:
        began = time.perf_counter()
        task = _write_task(cell, home, folder)
        for number in range(OPTUNA_WORKERS):
            command = _script("peer_optuna", task, storage, str(number), str(OPTUNA_WORKERS))
            _start(running, f"optuna-{number}", command, peer_environment(threads))
        running.wait(within_s=_limit_s(cell))
        _start(running, "retrain", _script("peer_optuna", task, storage, answer), peer_environment(None))
        running.wait(within_s=_limit_s(cell))
        wall_s = time.perf_counter() - began
    return _found(answer, wall_s, cell)


def _limit_s(cell: Cell) -> float:
    return PATIENCE * cell.seconds + 120.0


def _run_script(name: str, cell: Cell, folder: Path, *more: Path) -> Found:
    answer, home = folder / "answer.json", make_home(folder, cell.dataset)
    with programs(folder) as running:
        began = time.perf_counter()
        task = _write_task(cell, home, folder)
        _start(running, name, _script(name, task, answer, *more), peer_environment(None))
        running.wait(within_s=_limit_s(cell))
        wall_s = time.perf_counter() - began
    return _found(answer, wall_s, cell)


def _write_task(cell: Cell, home: Home, folder: Path) -> Path:
    now = time.time()
    file = folder / "task.json"
    Task(str(home.root), cell.dataset, NETWORKS[cell.dataset], cell.seed, now, now + cell.seconds).write(file)
    return file


def _script(name: str, *arguments: str | Path) -> list[str | Path]:
    return [sys.executable, "-m", f"tests.benchmarks.best.{name}", *arguments]


def _start(running: Programs, name: str, command: Sequence[str | Path], environment: Mapping[str, str]) -> None:
    with (running.folder / f"{name}.out").open("w") as output:
        running.start(name, command, environment, stdout=output)


def _found(answer: Path, wall_s: float, cell: Cell) -> Found:
    if not answer.is_file():
        raise TuningError(f"{cell.name} ended without an answer. Run it again: make bench-best CELLS={cell.name}")
    one = Answer.read(answer)
    return Found(one.accuracy, wall_s, NETWORKS[cell.dataset], one.epochs, one.told)


RUNNERS: Final[Mapping[str, Callable[[Cell, Path], Found]]] = {
    "ours": run_ours,
    "keras_tuner": run_keras_tuner,
    "optuna": run_optuna,
    "defaults": run_defaults,
}
