"""``make bench-memory``: what a worker keeps of the trials that it has run, and how long it takes to the first step.

200 trials of one epoch on few images, over the 12 signatures of the core space, in one worker that is not renewed: how
often a training step was traced, and how much memory each trial left behind. Then the time from ``tuning tune`` to the
end of the first training step, against a script that does only what that takes.
"""

from __future__ import annotations

import argparse
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Final

import optuna
import psutil

from storage import attributes
from storage.errors import BadInput, TuningError
from storage.processes.cores import usable_cores
from storage.settings import Home
from tests.benchmarks.command import exit_status
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.throughput import parsing
from tests.benchmarks.throughput.configurations import SIGNATURES, draw_in_rounds
from tests.benchmarks.throughput.data import Plan, make_home, make_task, prepared, scratch, write_spec
from tests.benchmarks.throughput.measures import median, median_ratio, shown, slope
from tests.benchmarks.throughput.processes import TUNING, Programs, module, peer_environment, programs

STUDY: Final = "memory"
# So many trials may grow the worker by what is kept on purpose: a model for each signature, and Keras itself.
SETTLING_TRIALS: Final = 2 * len(SIGNATURES)
MOST_TRACES: Final = 0.1
MOST_GROWTH_MB: Final = 0.5
MOST_FIRST_STEP: Final = 1.3
POLL_S: Final = 0.05


@dataclass(frozen=True)
class Trials:
    """What many trials in one worker left.

    Attributes:
        resident_mb: the worker's memory at the end of each trial, in the order in which they ended.
        traces: how many training steps each trial traced, as far as that is recorded.
        seconds: wall seconds of the whole study.
    """

    resident_mb: Sequence[float]
    traces: Sequence[int]
    seconds: float

    @property
    def settling(self) -> int:
        """How many of the first trials do not count for the growth."""
        return min(SETTLING_TRIALS, len(self.resident_mb) // 2)

    @property
    def growth_mb(self) -> float:
        """By how much a trial makes the worker grow."""
        return slope(self.resident_mb[self.settling :])

    @property
    def traces_per_trial(self) -> float:
        """How many training steps are traced for a trial; NaN where that is not recorded."""
        return statistics.fmean(self.traces) if self.traces else math.nan


@dataclass(frozen=True)
class FirstStep:
    """How long it takes to the end of the first step, in seconds from the start of the process.

    Attributes:
        tuning_s: with the service; NaN where its log does not tell.
        preflight_s: what of it the preflight took.
        by_hand_s: with a script that does nothing else.
    """

    tuning_s: float
    preflight_s: float
    by_hand_s: float


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    trials = given.trials if given.trials is not None else (24 if given.smoke else 200)
    repeats = given.repeats if given.repeats is not None else (1 if given.smoke else 3)
    if min(trials, repeats) < 1:
        raise BadInput(f"--trials {trials} --repeats {repeats}: give at least 1.")
    prepared("mnist_sample")
    print(f"{trials} trials in one worker ...", file=sys.stderr)
    many = run_trials(_plan(trials))
    first = [_first_step(number) for number in range(1, repeats + 1)]
    found = report(many, first)
    print(found)
    keep(found, "bench-memory", make_parser(), given)
    return 0


def _plan(trials: int) -> Plan:
    return Plan(
        "mnist_sample", train_images=512, validation_images=250, epochs=1, configurations=draw_in_rounds(trials)
    )


def run_trials(plan: Plan) -> Trials:
    """Run a plan in one worker, watching its memory.

    Raises:
        TuningError: the study failed, or its worker was renewed.
    """
    with scratch() as folder, programs(folder) as running:
        home = make_home(folder, plan.dataset)
        environment = _environment(home)
        began = time.perf_counter()
        launcher = running.start("tuning", module("unrenewed", write_spec(folder, plan), STUDY), environment)
        with _memory_watched(launcher, _worker_log(home)) as resident_mb:
            running.wait()
        seconds = time.perf_counter() - began
        if len(resident_mb) != len(plan.configurations):
            wanted = len(plan.configurations)
            raise TuningError(f"{len(resident_mb)} trials were seen to end, not {wanted}. Look at {parsing.__name__}.")
        study = optuna.load_study(study_name=STUDY, storage=home.database_url)
        attrs = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
        return Trials(resident_mb, [int(one[attributes.TRACES]) for one in attrs if attributes.TRACES in one], seconds)


def _environment(home: Home) -> dict[str, str]:
    return {**os.environ, "TUNING_HOME": str(home.root), "CUDA_VISIBLE_DEVICES": "-1"}


def _worker_log(home: Home) -> Path:
    return home.logs(STUDY) / "worker-0.log"


@contextmanager
def _memory_watched(launcher: subprocess.Popen[str], log: Path) -> Iterator[list[float]]:
    """Read the memory of a launcher's worker, in MB, each time that its log says that a trial is over."""
    found: list[float] = []
    over = Event()
    watching = Thread(target=_watch, args=(launcher.pid, log, found, over))
    watching.start()
    try:
        yield found
    finally:
        over.set()
        watching.join()


def _watch(launcher: int, log: Path, found: list[float], over: Event) -> None:
    worker, known = 0, 0.0
    while True:
        ended = over.is_set()
        worker = worker or _worker_of(launcher)
        # A worker that has ended meanwhile had no more than it had a moment ago.
        known = _resident_mb(worker) or known
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        found += [known] * (len(parsing.finished_trials(text)) - len(found))
        if ended:
            return
        time.sleep(POLL_S)


def _worker_of(launcher: int) -> int:
    try:
        children = psutil.Process(launcher).children()
        return next((child.pid for child in children if "worker" in child.cmdline()), 0)
    except psutil.Error:
        return 0


def _resident_mb(process: int) -> float:
    """Return how much memory a process takes; 0 of one that is gone."""
    try:
        return float(psutil.Process(process).memory_info().rss) / 1e6 if process else 0.0
    except psutil.Error:
        return 0.0


def _first_step(number: int) -> FirstStep:
    print(f"to the first step, {number} ...", file=sys.stderr)
    plan = _plan(1)
    with scratch() as folder, programs(folder) as running:
        home = make_home(folder, plan.dataset)
        command: list[str | Path] = [TUNING, "tune", "--spec", write_spec(folder, plan), "--study", STUDY]
        began = time.time()
        running.start("tuning", [*command, "--workers", "1", "--no-progress"], _environment(home))
        running.wait()
        log = _worker_log(home).read_text(encoding="utf-8")
        at, preflight = parsing.first_step_at(log), parsing.preflight_s(log, running.log("tuning").read_text("utf-8"))
        tuning_s = at - began if at is not None else math.nan
        return FirstStep(tuning_s, math.nan if preflight is None else preflight, _by_hand_s(plan, folder, running))


def _by_hand_s(plan: Plan, folder: Path, running: Programs) -> float:
    task, output = make_task(folder, plan), folder / "by_hand.out"
    environment = peer_environment(usable_cores())
    with output.open("w") as stdout:
        began = time.time()
        running.start("by_hand", module("peer_first_step", task.path), environment, stdout=stdout)
        running.wait()
    return float(output.read_text()) - began


def report(many: Trials, first: Sequence[FirstStep]) -> Report:
    """Return what is printed."""
    resident = many.resident_mb
    left_s = [one.tuning_s - one.preflight_s for one in first]
    hand_s = [one.by_hand_s for one in first]
    preflight_s, each = median([one.preflight_s for one in first]), " ".join(shown(seconds) for seconds in left_s)
    rows = [
        ["figure", "measured", "wanted"],
        ["traces per trial", _known(many.traces_per_trial), f"at most {MOST_TRACES}"],
        ["memory growth per trial, MB", shown(many.growth_mb), f"at most {MOST_GROWTH_MB}"],
        ["first step / by hand", _known(median_ratio(left_s, hand_s)), f"at most {MOST_FIRST_STEP}"],
    ]
    head = f"{len(resident)} trials in one worker, {many.seconds:.0f} s in all"
    grown = (
        f"memory: {resident[0]:.0f} MB after the first trial, {resident[many.settling - 1]:.0f} MB after"
        f" {many.settling}, {resident[-1]:.0f} MB at the end; growth is that after {many.settling}"
    )
    steps = (
        f"first step: {_known(median(left_s))} s ({each}), the preflight's {_known(preflight_s)} s left out;"
        f" by hand {shown(median(hand_s))} s ({' '.join(shown(seconds) for seconds in hand_s)})"
    )
    return Report([Table(head, rows)], [grown, steps])


def _known(value: float) -> str:
    return "not recorded" if math.isnan(value) else shown(value)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.throughput.memory", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="24 trials, one first step; ends in about a minute")
    parser.add_argument("--trials", type=int, help="in the one worker; default: 200")
    parser.add_argument("--repeats", type=int, help="how often the first step is timed; default: 3")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
