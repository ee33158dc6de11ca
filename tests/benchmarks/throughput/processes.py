"""Other programs: started with an environment of their own, waited for, and never left behind."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.errors import TuningError
from tests.benchmarks.throughput.data import ROOT
from tuning.machine.devices import cpu_environment

TUNING = Path(sys.executable).with_name("tuning")
# How much of a log is shown when its program failed.
SHOWN_CHARACTERS = 1_500
POLL_S = 0.02


class ProgramFailed(TuningError):
    """A program that was measured ended with another status than 0."""


@dataclass
class Programs:
    """Programs that run at once.

    Attributes:
        folder: where each one's log goes.
        running: those that were started, with their names.
    """

    folder: Path
    running: list[tuple[str, subprocess.Popen[str]]] = field(default_factory=list)

    def start(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str], **more: Any
    ) -> subprocess.Popen[str]:
        """Start a program in the checkout; what it says on standard error goes to its log."""
        with self.log(name).open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [str(part) for part in command], cwd=ROOT, env=dict(environment), text=True, **{"stderr": log, **more}
            )
        self.running.append((name, process))
        return process

    def log(self, name: str) -> Path:
        """Return the file of a program's log."""
        return self.folder / f"{name}.log"

    def wait(self, *names: str, within_s: float = math.inf) -> None:
        """Wait until programs have ended, all by default; do not wait for others once one has failed.

        Args:
            names: of the programs.
            within_s: how long at most.

        Raises:
            ProgramFailed: one failed, and the message has the end of its log; or one has not ended in that time.
        """
        until = time.monotonic() + within_s
        left = [(name, process) for name, process in self.running if not names or name in names]
        while left:
            for name, process in left:
                if process.poll():
                    log = self.log(name).read_text(encoding="utf-8", errors="replace")[-SHOWN_CHARACTERS:]
                    raise ProgramFailed(
                        f"{name} ended with status {process.returncode}. Mend what its log says:\n{log}"
                    )
            left = [(name, process) for name, process in left if process.returncode is None]
            if left and time.monotonic() > until:
                raise ProgramFailed(f"{left[0][0]} has not ended after {within_s:.0f} s. See whether it hangs.")
            time.sleep(POLL_S if left else 0.0)


@contextmanager
def programs(folder: Path) -> Iterator[Programs]:
    """Run programs; those that are left at the end are ended."""
    made = Programs(folder)
    try:
        yield made
    finally:
        for _, process in made.running:
            if process.poll() is None:
                process.terminate()
        for _, process in made.running:
            try:
                process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ended_cpu_s() -> float:
    """Return the CPU seconds of all programs started from here that have ended, and of those that these waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def module(name: str, *arguments: str | Path) -> list[str | Path]:
    """Return the command that runs a module of this package."""
    return [sys.executable, "-m", f"tests.benchmarks.throughput.{name}", *arguments]


def peer_environment(threads: int | None) -> dict[str, str]:
    """Return what peers are started with: the cores only, and so many threads; None for what the framework takes."""
    if threads is not None:
        return {**os.environ, **cpu_environment(threads, os.environ)}
    return {**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"}
