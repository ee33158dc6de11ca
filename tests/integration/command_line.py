"""Running the command line as a user does: a process of its own, with a home of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
import psutil

from storage.processes.isolation import python_module

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Finished:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


@dataclass(frozen=True)
class CommandLine:
    """The `tuning` command with a home of its own.

    Attributes:
        home: its `TUNING_HOME`.
        environment: variables besides.
        folder: where it is given.
    """

    home: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path = ROOT

    @property
    def url(self) -> str:
        return f"sqlite:///{self.home / 'studies.db'}"

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        here = [sys.executable, "-m", "tuning", *arguments]
        return subprocess.Popen(
            here if self.folder == ROOT else python_module("tuning", *arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, "TUNING_HOME": str(self.home), **self.environment},
        )

    def run(self, *arguments: str, status: int = 0) -> Finished:
        process = self.start(*arguments)
        stdout, stderr = process.communicate(timeout=280)
        assert process.returncode == status, f"exit status {process.returncode}\n{stdout}\n{stderr}\n{self.logs()}"
        return Finished(process.returncode, stdout, stderr)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments).stdout)

    def logs(self) -> str:
        return "\n".join(file.read_text()[-2000:] for file in self.home.glob("logs/*/*.log"))

    def study(self, name: str) -> optuna.Study:
        """The study as stock Optuna sees it."""
        return optuna.load_study(study_name=name, storage=self.url)

    def workers(self) -> list[psutil.Process]:
        """The worker processes that use this home."""
        found = []
        for process in psutil.process_iter():
            try:
                if "worker" in process.cmdline() and process.environ().get("TUNING_HOME") == str(self.home):
                    found.append(process)
            except psutil.Error:  # gone since, or somebody else's
                continue
        return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def wait_until(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """Return the condition's value once it is true."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.1)
    raise AssertionError(f"not within {timeout_s} s")


def interrupt(process: subprocess.Popen[str]) -> Finished:
    """Press Ctrl-C once and wait."""
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=60)
    return Finished(process.returncode, stdout, stderr)
