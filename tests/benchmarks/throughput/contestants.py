"""Who trains the list of configurations, and how long each takes for it."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import optuna
import psutil

from storage.errors import TuningError
from tests.benchmarks.throughput import parsing
from tests.benchmarks.throughput.data import Plan, make_home, make_task, write_spec
from tests.benchmarks.throughput.peer_names import OPTUNA_STUDY, TUNER_PROJECT
from tests.benchmarks.throughput.processes import TUNING, ended_cpu_s, module, peer_environment, programs

STUDY: Final = "overhead"


@dataclass(frozen=True)
class Outcome:
    """What one contestant did in one repeat.

    Attributes:
        wall_s: seconds from the start of its processes to their end.
        preflight_s: what of it the service's preflight took; 0 for those that have none.
        cpu_s: CPU seconds of its processes, the preflight's among them; other work on the machine does not count.
        values: the best validation accuracy of each configuration, by its number.
    """

    wall_s: float
    preflight_s: float
    cpu_s: float
    values: Mapping[int, float]

    @property
    def training_s(self) -> float:
        """Seconds without the preflight."""
        return self.wall_s - self.preflight_s


# (what is trained, how many processes, threads of each or None, an empty folder) -> what came of it
Contestant = Callable[[Plan, int, int | None, Path], Outcome]


def run_tuning(plan: Plan, workers: int, threads: int | None, folder: Path) -> Outcome:
    """Run the service's own command line, which sets its threads itself."""
    home = make_home(folder, plan.dataset)
    environment = {**os.environ, "TUNING_HOME": str(home.root), "CUDA_VISIBLE_DEVICES": "-1"}
    command: list[str | Path] = [TUNING, "tune", "--spec", write_spec(folder, plan), "--study", STUDY]
    command += ["--workers", str(workers), "--no-progress"]
    before_s = ended_cpu_s()
    with programs(folder) as running:
        began = time.perf_counter()
        running.start("tuning", command, environment)
        running.wait()
        wall_s, cpu_s = time.perf_counter() - began, ended_cpu_s() - before_s
        logs = [file.read_text(encoding="utf-8") for file in sorted(home.logs(STUDY).glob("*.log"))]
        preflight = parsing.preflight_s(*logs, running.log("tuning").read_text(encoding="utf-8"))
        if preflight is None:
            raise TuningError("the launcher printed no `preflight took`. Mend parsing.py: its line has changed.")
        listing: list[str | Path] = [TUNING, "trials", "--study", STUDY, "--format", "json"]
        running.start("trials", listing, environment, stdout=(folder / "trials.json").open("w"))
        running.wait()
    return Outcome(wall_s, preflight, cpu_s, trial_values(json.loads((folder / "trials.json").read_text()), plan))


def trial_values(trials: list[dict[str, Any]], plan: Plan) -> dict[int, float]:
    """Return the value of each trial that ``tuning trials`` lists.

    Raises:
        TuningError: it is not the list that was asked for.
    """
    for trial in trials:
        number, state, params = trial["number"], trial["state"], trial["params"]
        wanted = dict(plan.configurations[number]) if number < len(plan.configurations) else None
        if state.upper() != "COMPLETE" or params != wanted:
            raise TuningError(f"trial {number} is {state} with {params}, not COMPLETE with {wanted}. Look at its log.")
    return {trial["number"]: float(trial["value"]) for trial in trials}


def run_optuna(plan: Plan, workers: int, threads: int | None, folder: Path) -> Outcome:
    """Run several processes of one script on one SQLite file; its study is made before the clock starts."""
    task = make_task(folder, plan)
    storage = f"sqlite:///{folder / 'optuna.db'}"
    study = optuna.create_study(study_name=OPTUNA_STUDY, storage=storage, direction="maximize")
    before_s = ended_cpu_s()
    with programs(folder) as running:
        began = time.perf_counter()
        for number in range(workers):
            running.start(f"optuna-{number}", module("peer_optuna", task.path, storage), peer_environment(threads))
        running.wait()
        wall_s = time.perf_counter() - began
    complete = [trial for trial in study.get_trials() if trial.state == optuna.trial.TrialState.COMPLETE]
    values = {trial.number: trial.value for trial in complete if trial.value is not None}
    return Outcome(wall_s, 0.0, ended_cpu_s() - before_s, values)


def run_keras_tuner(plan: Plan, workers: int, threads: int | None, folder: Path) -> Outcome:
    """Run a chief and workers, until the last worker's end: the chief looks for that only every 20 seconds."""
    task = make_task(folder, plan)
    environment = peer_environment(threads) | {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(free_port()),
    }
    command = module("peer_keras_tuner", task.path, folder / "keras_tuner")
    names = [f"tuner{number}" for number in range(workers)]
    before_s = ended_cpu_s()
    with programs(folder) as running:
        began = time.perf_counter()
        for name in ("chief", *names):
            with (folder / f"{name}.out").open("w") as output:
                running.start(name, command, {**environment, "KERASTUNER_TUNER_ID": name}, stdout=output)
        running.wait(*names)
        wall_s = time.perf_counter() - began
    cpu_s = ended_cpu_s() - before_s
    values = {}
    for file in sorted((folder / "keras_tuner" / TUNER_PROJECT).glob("trial_*/trial.json")):
        trial = json.loads(file.read_text(encoding="utf-8"))
        if trial["status"] != "COMPLETED":
            raise TuningError(f"KerasTuner's trial {trial['trial_id']} is {trial['status']}: {trial['message']}")
        values[int(trial["trial_id"])] = float(trial["score"])
    return Outcome(wall_s, 0.0, cpu_s, values)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def run_bound(plan: Plan, workers: int, threads: int | None, folder: Path) -> Outcome:
    """Run one process for each core, which have imported Keras before the clock starts."""
    task = make_task(folder, plan)
    left = queue.SimpleQueue[int]()
    for number in range(len(plan.configurations)):
        left.put(number)
    values: dict[int, float] = {}
    before_s = ended_cpu_s()
    with programs(folder) as running:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        started = [
            running.start(f"bound-{number}", module("peer_bound", task.path), peer_environment(threads), **pipes)
            for number in range(workers)
        ]
        for process in started:
            assert process.stdout is not None
            process.stdout.readline()
        before_s += sum(sum(psutil.Process(process.pid).cpu_times()[:2]) for process in started)
        began = time.perf_counter()
        served = [threading.Thread(target=_serve, args=(process, left, values)) for process in started]
        for thread in served:
            thread.start()
        for thread in served:
            thread.join()
        wall_s = time.perf_counter() - began
        running.wait()
    return Outcome(wall_s, 0.0, ended_cpu_s() - before_s, values)


def _serve(process: subprocess.Popen[str], left: queue.SimpleQueue[int], values: dict[int, float]) -> None:
    """Give a process one configuration after the other, until none is left."""
    assert process.stdin is not None and process.stdout is not None
    with process.stdin, process.stdout:
        while True:
            try:
                number = left.get_nowait()
            except queue.Empty:
                return
            process.stdin.write(f"{number}\n")
            process.stdin.flush()
            line = process.stdout.readline()
            if not line:  # it failed, which its status says
                return
            answer = json.loads(line)
            values[answer["number"]] = answer["value"]


CONTESTANTS: Final[Mapping[str, Contestant]] = {
    "bound": run_bound,
    "tuning": run_tuning,
    "optuna": run_optuna,
    "keras_tuner": run_keras_tuner,
}
PEERS: Final = ("optuna", "keras_tuner")
