"""Running a script of a user's: a process of its own, in a folder of its own, with a home there."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import optuna

from storage.settings import Home
from tests.integration.command_line import ROOT


@dataclass(frozen=True)
class UserScript:
    """A script that a test writes and runs.

    Attributes:
        folder: where it is run.
    """

    folder: Path

    @property
    def home(self) -> Home:
        """Its `TUNING_HOME`."""
        return Home(self.folder / "home")

    def start(self, text: str, **environment: str) -> subprocess.Popen[str]:
        """Start it, with variables besides."""
        (self.folder / "script.py").write_text(text)
        said = {"TUNING_HOME": str(self.home.root), "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "-1"}
        return subprocess.Popen(
            [sys.executable, "script.py"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.folder,
            env={**os.environ, **said, **environment},
        )

    def finish(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        """Return what it printed to standard output and error; it must succeed."""
        stdout, stderr = process.communicate(timeout=200)
        logs = "\n".join(file.read_text()[-2000:] for file in self.home.root.glob("logs/*/*.log"))
        assert process.returncode == 0, f"{stdout}\n{stderr}\n{logs}"
        return stdout, stderr

    def run(self, text: str, **environment: str) -> tuple[str, str]:
        """Start it, and wait for its end."""
        return self.finish(self.start(text, **environment))

    def trials(self, name: str, database: str) -> list[optuna.trial.FrozenTrial]:
        """The trials of a study as stock Optuna sees them, in a file of the folder."""
        url = f"sqlite:///{self.folder / database}"
        return optuna.load_study(study_name=name, storage=url).get_trials(deepcopy=False)
