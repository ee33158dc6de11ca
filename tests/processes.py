"""What tests let other processes do.

They are forked from a fresh process that has imported this module and done nothing else, so all that they run is
importable from here, and nothing of the test's own process is in them.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier
from typing import Any, TypeVar

from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState

from storage.artifacts import Artifacts
from storage.claims import Claims, owner_name
from storage.opening import open_database
from storage.stores.local import LocalFiles

Result = TypeVar("Result")

_HOLD = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("held", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
connection.close()
"""

_barrier: Barrier | None = None


def _set_barrier(barrier: Barrier) -> None:
    global _barrier  # a process of a pool has no other way to be given one
    _barrier = barrier


def in_processes(count: int, function: Callable[..., Result], *arguments: Any) -> list[Result]:
    """Call a function in so many new processes, all at the same moment; return what each returned."""
    fresh = multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(count, fresh, _set_barrier, (fresh.Barrier(count, timeout=60),)) as pool:
        futures = [pool.submit(_together, function, *arguments) for _ in range(count)]
        return [future.result(timeout=120) for future in futures]


def _together(function: Callable[..., Result], *arguments: Any) -> Result:
    assert _barrier is not None
    _barrier.wait()
    return function(*arguments)


def run_trials(url: str, study_id: int) -> list[tuple[int, int]]:
    """Claim and complete trials until the budget is spent; return each claim's trial number and count."""
    database = open_database(url)
    claims = Claims(database, study_id, owner_name())
    done: list[tuple[int, int]] = []
    while True:
        claim = claims.next()
        if claim is not None:
            database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [float(claim.number)])
            done.append((claim.number, claim.count))
        elif claims.standing().done:
            database.engine.dispose()
            return done
        else:
            time.sleep(0.01)


def open_and_count_studies(url: str) -> int:
    """Open a database that may not be there yet; return how many studies are in it."""
    database = open_database(url, create=True)
    studies = len(database.get_all_studies())
    database.engine.dispose()
    return studies


@contextmanager
def write_lock(file: Path) -> Iterator[Callable[[], None]]:
    """Hold a SQLite file's write lock in another process; what is yielded releases it."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        assert holder.stdout.readline() == "held\n"

        def release() -> None:
            assert holder.stdin is not None
            if not holder.stdin.closed:
                holder.stdin.close()

        try:
            yield release
        finally:
            release()


def _write_weights(file: Path) -> None:
    file.write_bytes(b"weights")


def keep_trials(url: str, study_id: int, artifacts: str, stop: str) -> int:
    """Claim trials and complete each, with parameters, reports and a file, until `stop` appears; return how many."""
    database = open_database(url)
    claims, kept, done = Claims(database, study_id, owner_name()), Artifacts(LocalFiles(Path(artifacts))), 0
    while not Path(stop).exists():
        claim = claims.next()
        assert claim is not None
        database.set_trial_param(claim.trial_id, "x", 0.5, FloatDistribution(0, 1))
        database.set_trial_param(claim.trial_id, "y", float(claim.number), IntDistribution(0, 10**6))
        database.set_trial_intermediate_value(claim.trial_id, 1, 0.25)
        kept.put(database, claim.trial_id, "model", "model.keras", _write_weights)
        database.set_trial_intermediate_value(claim.trial_id, 2, 0.5)
        database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.5])
        done += 1
    database.engine.dispose()
    return done
