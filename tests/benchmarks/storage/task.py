"""One thing that is measured, as a process of its own, which prints what it took as JSON.

`python -m tests.benchmarks.storage.task TASK CONTESTANT URL [NUMBER]`
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Final, cast

import optuna
from optuna.trial import TrialState
from rich.console import Console

from storage.claims import Claims
from storage.database import Database
from storage.opening import open_database
from studies.stored import StudyRecord
from tests.benchmarks.storage.contestants import Contestant, Step, writer
from tests.benchmarks.storage.studies import REPORTS, STUDY
from tuning.cli import run
from tuning.launch.progress import Progress
from tuning.launch.watching import TICK_S

Found = dict[str, Any]
OTHERS_REPORT_S: Final = 0.25


def look(_contestant: Contestant, url: str, _number: int) -> Found:
    """What `tuning status` says, as far as stock Optuna can tell it."""
    study = _stock(url)
    trials = study.get_trials(deepcopy=False)
    best = study.best_trial.number if any(trial.state == TrialState.COMPLETE for trial in trials) else None
    return {"trials": {state.name: sum(trial.state == state for trial in trials) for state in TrialState}, "best": best}


def status(_contestant: Contestant, url: str, _number: int) -> Found:
    """`tuning status`, whose output goes nowhere."""
    with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
        assert run(["status", "--study", STUDY, "--storage", url]) == 0
    return {}


def resume(contestant: Contestant, url: str, _number: int) -> Found:
    """What a launcher reads when a study goes on: its record, where it stands, what is over."""
    if contestant != "tuning":
        return look(contestant, url, 0)
    study, database = _ours(url)
    record = StudyRecord.of(study)
    standing = Claims(database, study._study_id, "resume", uid=record.uid).standing()
    progress = _progress(study, live=False)
    progress.start()
    progress.update()
    return {"done": standing.finished}


def write(contestant: Contestant, url: str, number: int) -> Found:
    """Milliseconds of this process's processor time of each kind of call, and of a whole trial, over so many trials."""
    writes = writer(contestant, url)
    taken: dict[Step, list[float]] = {}

    def do(step: Step, values: int, call: Callable[[], Any]) -> Any:
        began = time.process_time()
        answer = call()
        taken.setdefault(step, []).append((time.process_time() - began) / values * 1e3)
        return answer

    whole = list[float]()
    for _ in range(number + 1):
        began = time.process_time()
        writes.trial(do)
        whole.append((time.process_time() - began) * 1e3)
    medians: Found = {step: statistics.median(each[len(each) // (number + 1) :]) for step, each in taken.items()}
    return {
        **medians,
        "trial": statistics.median(whole[1:]),
    }


def watch(_contestant: Contestant, url: str, number: int) -> Found:
    """The share of a core that the live view takes, over so many seconds in which another process reports."""
    study, _ = _ours(url)
    with open(os.devnull, "w") as nowhere:
        progress = _progress(study, live=True, console=Console(file=nowhere, force_terminal=True, width=100))
        progress.start()
        progress.update()
        share = _share(progress.follow, url, number)
        progress.stop()
    return {"share": share}


def poll(_contestant: Contestant, url: str, number: int) -> Found:
    """The same with stock Optuna, which reads the trials as often."""
    study = _stock(url)
    study.get_trials(deepcopy=False)
    return {"share": _share(lambda: study.get_trials(deepcopy=False), url, number)}


def _share(update: Callable[[], Any], url: str, seconds: int) -> float:
    command = [sys.executable, "-m", "tests.benchmarks.storage.task", "report", "tuning", url, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as other:
        time.sleep(2.0)  # until it is up
        began, processor = time.monotonic(), time.process_time()
        while time.monotonic() < began + seconds:
            update()
            time.sleep(TICK_S)
        share = (time.process_time() - processor) / (time.monotonic() - began)
        other.wait()
    return share


def report(_contestant: Contestant, url: str, number: int) -> Found:
    """Train a trial, as far as others see it, for so many seconds and some more."""
    study, database = _ours(url)
    for _ in _epochs(database, study, number):
        time.sleep(OTHERS_REPORT_S)
    return {}


def _epochs(database: Database, study: optuna.Study, seconds: int) -> Any:
    claims = Claims(database, study._study_id, "another")
    end = time.monotonic() + seconds + 4
    while time.monotonic() < end:
        claim = claims.next()
        assert claim is not None
        for epoch in range(1, REPORTS):
            database.set_trial_intermediate_value(claim.trial_id, epoch, 0.1 + epoch / 1e3)
            yield epoch
            if time.monotonic() > end:
                break
        claims.put_back(claim, "frozen", "frozen")


def epoch(contestant: Contestant, url: str, number: int) -> Found:
    """Milliseconds of processor time in which a worker reads all trials, after each of so many reports of another."""
    study = _ours(url)[0] if contestant == "tuning" else _stock(url)
    study.get_trials(deepcopy=False)
    taken = list[float]()
    other, database = _ours(url)
    for _, _epoch in zip(range(number), _epochs(database, other, 600), strict=False):
        began = time.process_time()
        study.get_trials(deepcopy=False)
        taken.append((time.process_time() - began) * 1e3)
    return {"reading": statistics.median(taken)}


def _ours(url: str) -> tuple[optuna.Study, Database]:
    database = open_database(url)
    return optuna.load_study(study_name=STUDY, storage=database), database


def _stock(url: str) -> optuna.Study:
    return optuna.load_study(study_name=STUDY, storage=optuna.storages.RDBStorage(url))


def _progress(study: optuna.Study, *, live: bool, console: Console | None = None) -> Progress:
    return Progress(study, REPORTS, console or Console(quiet=True), live=live)


TASKS: Final[dict[str, Callable[[Contestant, str, int], Found]]] = {
    task.__name__: task for task in (look, status, resume, write, watch, poll, report, epoch)
}


def main() -> None:
    """Do what the command line says."""
    name, contestant, url, *more = sys.argv[1:]
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = TASKS[name](cast(Contestant, contestant), url, int(more[0]) if more else 0)
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({**found, "processor_s": used.ru_utime + used.ru_stime, "memory_mb": _peak_mb()}))


def _peak_mb() -> float:
    """The most memory that this process had. `ru_maxrss` begins with what the process had that started it."""
    (line,) = (one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024 / 1e6


if __name__ == "__main__":
    main()
