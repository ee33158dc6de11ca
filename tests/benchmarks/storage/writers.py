"""Several processes that write trials at once, for some seconds."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import optuna
from sqlalchemy.exc import SQLAlchemyError

from storage.errors import StorageUnavailable
from tests.benchmarks.storage.contestants import Contestant, Step, writer


@dataclass(frozen=True)
class Written:
    """What writers came to.

    Attributes:
        per_s: values written a second, by all of them.
        slowest: of the slowest writer, as a share of the mean.
        longest_s: the longest call of any, until it succeeded.
        errors: calls that were refused, and made again.
    """

    per_s: float
    slowest: float
    longest_s: float
    errors: int


def measured(contestant: Contestant, url: str, writers: int, seconds: float) -> Written:
    """Let so many processes write for so many seconds, beginning at once."""
    command = [sys.executable, "-m", "tests.benchmarks.storage.writers", contestant, url, str(seconds)]
    processes = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(writers)
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        found = [json.loads(process.communicate(timeout=seconds + 120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    values = [one["values"] for one in found]
    return Written(
        sum(values) / seconds,
        min(values) / statistics.mean(values),
        max(one["longest_s"] for one in found),
        sum(one["errors"] for one in found),
    )


class _Over(Exception):
    """The time is up."""


def _write(contestant: Contestant, url: str, seconds: float) -> dict[str, Any]:
    writes = writer(contestant, url)
    print("ready", flush=True)
    sys.stdin.readline()
    values, errors, longest_s, end = 0, 0, 0.0, time.monotonic() + seconds

    def do(_step: Step, number: int, call: Callable[[], Any]) -> Any:
        nonlocal values, errors, longest_s
        began = time.monotonic()
        while True:
            if time.monotonic() > end:
                raise _Over
            try:
                answer = call()
            except (optuna.exceptions.StorageInternalError, StorageUnavailable, SQLAlchemyError):
                errors += 1
                longest_s = max(longest_s, time.monotonic() - began)
                continue
            longest_s = max(longest_s, time.monotonic() - began)
            values += number
            return answer

    try:
        while True:
            writes.trial(do)
    except _Over:
        return {"values": values, "errors": errors, "longest_s": longest_s}


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    print(json.dumps(_write(cast(Contestant, sys.argv[1]), sys.argv[2], float(sys.argv[3]))))
