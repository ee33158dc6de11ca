"""Syne Tune as a contestant. Its versions and ours exclude each other, so each lives behind a pipe (syne_driver.py)."""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Mapping
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any, Final

from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from studies.simulation.virtual_clock import Run

ENVIRONMENTS: Final = Path(__file__).resolve().parents[3] / ".bench"
_DRIVER: Final = Path(__file__).with_name("syne_driver.py")
_studies = count()


def python_of(environment: str) -> Path:
    """Return the interpreter of an environment that `make bench-peers` makes."""
    return ENVIRONMENTS / environment / "bin" / "python"


def missing(environment: str) -> str | None:
    """Return why an environment cannot be used, or None."""
    python = python_of(environment)
    if python.exists():
        return None
    return f"no {python.relative_to(ENVIRONMENTS.parent)}; make bench-peers installs it"


class SyneTune:
    """A scheduler of Syne Tune.

    Args:
        space: what to choose from.
        horizon: R.
        seed: of the scheduler.
        environment: the folder under .bench that has the version wanted.
        scheduler: the name of its class.
        options: further arguments of it.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        horizon: int,
        seed: int,
        *,
        environment: str,
        scheduler: str,
        options: Mapping[str, Any],
    ) -> None:
        self._driver = _driver(environment)
        self._study = next(_studies)
        described = [_described(name, distribution) for name, distribution in space.items()]
        self._ask("begin", scheduler=scheduler, options=options, space=described, horizon=horizon, seed=seed)

    def next(self) -> Run | None:
        answer = self._ask("next")
        return None if answer is None else Run(*answer)

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        told = None if math.isnan(value) else value
        return bool(self._ask("reported", number=trial, epoch=epoch, value=told))

    def close(self) -> None:
        """Let go of the scheduler; its process serves the next study."""
        self._ask("end")

    def _ask(self, do: str, **request: Any) -> Any:
        assert self._driver.stdin is not None and self._driver.stdout is not None
        self._driver.stdin.write(json.dumps({"do": do, "study": self._study, **request}) + "\n")
        self._driver.stdin.flush()
        line = self._driver.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended"}
        if "error" in answer:
            raise RuntimeError(f"Syne Tune could not answer {do!r}: {answer['error']}. Its log is {_log()}.")
        return answer["answer"]


def _log() -> Path:
    return ENVIRONMENTS / "syne-tune.log"


@cache
def _driver(environment: str) -> subprocess.Popen[str]:
    """Start the driver, once for each process of ours; it ends when its pipe is closed, with that process."""
    with _log().open("w") as log:
        return subprocess.Popen(
            # -P: the modules beside the driver are not to be taken for installed ones
            [str(python_of(environment)), "-P", str(_DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": ""},
        )


def _described(name: str, distribution: BaseDistribution) -> dict[str, Any]:
    if isinstance(distribution, CategoricalDistribution):
        return {"name": name, "kind": "choice", "log": False, "choices": list(distribution.choices)}
    assert isinstance(distribution, FloatDistribution | IntDistribution)
    kind = "int" if isinstance(distribution, IntDistribution) else "float"
    return {"name": name, "kind": kind, "log": distribution.log, "low": distribution.low, "high": distribution.high}
