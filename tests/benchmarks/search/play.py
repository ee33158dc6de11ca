"""One study, simulated: what a process of the pool does, and the pool."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager

import optuna

from studies.simulation.virtual_clock import Contestant, Run, simulate
from tests.benchmarks.search.contestants import find_contestant, made, version_of
from tests.benchmarks.search.measures import SHARES
from tests.benchmarks.search.results import Key, Result, result_of
from tests.benchmarks.search.tables import find_table


class Timed:
    """A contestant whose decisions are timed.

    Args:
        contestant: who decides.
        clock: in seconds.
    """

    def __init__(self, contestant: Contestant, clock: Callable[[], float]) -> None:
        self._contestant = contestant
        self._clock = clock
        self.thinking_s = 0.0

    def next(self) -> Run | None:
        begun = self._clock()
        run = self._contestant.next()
        self.thinking_s += self._clock() - begun
        return run

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        begun = self._clock()
        wanted = self._contestant.reported(trial, epoch, value)
        self.thinking_s += self._clock() - begun
        return wanted


def quieten() -> None:
    """Keep Optuna from announcing every study and trial."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def prepare_process() -> None:
    """Make a process of the pool quiet, and end it with who started it: by Ctrl-C, or because that was killed."""
    quieten()
    # For KerasTuner, which brings TensorFlow with it and computes nothing here.
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


@contextmanager
def process_pool(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Yield a pool of prepared processes; what has not begun when it is left, also by an error, never will."""
    pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=prepare_process)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def play(key: Key, budget_r: int, until_seen: bool = False) -> Result:
    """Simulate a study for so many R, or until it saw a value in the top 1%."""
    table, entry = find_table(key.table), find_contestant(key.contestant)
    budget = budget_r * table.horizon
    enough = table.threshold(SHARES[0]) if until_seen else math.inf
    with made(entry, table, key.seed) as contestant:
        timed = Timed(contestant, time.perf_counter)
        record = simulate(timed, table.curves(key.seed), workers=key.workers, budget=budget, enough=enough)
    return result_of(key, version_of(entry, table), budget, record, timed.thinking_s, enough)
