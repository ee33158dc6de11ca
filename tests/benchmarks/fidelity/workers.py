"""Trainings in processes of their own, each kept as soon as it is over."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from tests.benchmarks.fidelity.trainings import Job, Trained, Trainings


def train(missing: Sequence[Job], kept: Trainings, workers: int) -> None:
    """Train, and say what came of each.

    Args:
        missing: what is to be trained, in this order.
        kept: where it goes.
        workers: how many processes.
    """
    if not missing:
        return
    # A process that was forked would share what Keras has begun; one that is spawned takes its threads from the
    # environment.
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(trained, job) for job in missing]
        try:
            for number, future in enumerate(as_completed(running), 1):
                one = future.result()
                kept.add(one)
                print(f"{number}/{len(running)}: {_told(one)}", file=sys.stderr, flush=True)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def trained(job: Job) -> Trained:
    """Train in this process."""
    from tests.benchmarks.fidelity import training  # Keras

    return training.trained(job)


def _told(one: Trained) -> str:
    value = "diverged" if one.accuracy is None else f"{one.accuracy:.4f}"
    return f"configuration {one.job.number}, {one.job.fidelity}: {value} in {one.seconds:.0f} s"
