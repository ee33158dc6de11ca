"""Syne Tune behind a pipe: runs in an environment of its own, reads requests and writes answers, one JSON line each.

``begin`` makes the scheduler of a study, ``next`` asks it for work, ``reported`` tells it a value, ``end`` forgets the
study. Imports nothing of this project, and works with Syne Tune 0.13 as well as with 0.16.
"""

from __future__ import annotations

import inspect
import json
import math
import os
import sys
from datetime import datetime
from importlib import import_module
from typing import Any

METRIC = "loss"  # Syne Tune minimises by default: it is told the value with its sign changed
RESOURCE = "epoch"


class Study:
    """A scheduler and what Syne Tune's own tuner would hold for it.

    Args:
        scheduler: the name of its class: ``ASHA`` or ``MOBSTER``.
        options: further arguments of it.
        space: the parameters as ``_described`` of syne_tune.py writes them.
        horizon: R.
        seed: of the scheduler.
    """

    def __init__(
        self, scheduler: str, options: dict[str, Any], space: list[dict[str, Any]], horizon: int, seed: int
    ) -> None:
        made = getattr(import_module("syne_tune.optimizer.baselines"), scheduler)
        resource = {"time_attr" if scheduler == "ASHA" and _is_new() else "resource_attr": RESOURCE}
        config_space = {parameter["name"]: _domain(parameter) for parameter in space}
        self._scheduler = made(config_space, metric=METRIC, max_t=horizon, random_seed=seed, **resource, **options)
        self._numbered = "trial_id" in inspect.signature(self._scheduler.suggest).parameters
        self._trials: list[Any] = []
        self._trained: dict[int, int] = {}

    def next(self) -> list[Any] | None:
        """Return a trial's number, its configuration and the epoch to train next."""
        suggestion = self._scheduler.suggest(*([len(self._trials)] if self._numbered else []))
        if suggestion is None:
            return None
        if suggestion.spawn_new_trial_id:
            trial_class = import_module("syne_tune.backend.trial_status").Trial
            trial = trial_class(len(self._trials), suggestion.config, datetime.now())
            self._trials.append(trial)
            self._scheduler.on_trial_add(trial=trial)
        else:
            trial = self._trials[int(suggestion.checkpoint_trial_id)]
        return [trial.trial_id, trial.config, self._trained.get(trial.trial_id, 0) + 1]

    def reported(self, number: int, epoch: int, value: float | None) -> bool:
        """Return whether the trial goes on."""
        trial = self._trials[number]
        if value is None or not math.isfinite(value):
            self._scheduler.on_trial_error(trial)
            return False
        self._trained[number] = epoch
        decision = self._scheduler.on_trial_result(trial=trial, result={METRIC: -value, RESOURCE: epoch})
        if decision != "CONTINUE":
            self._scheduler.on_trial_remove(trial=trial)
        return bool(decision == "CONTINUE")


def _is_new() -> bool:
    version = import_module("syne_tune").__version__.split(".")
    return (int(version[0]), int(version[1])) >= (0, 14)


def _domain(parameter: dict[str, Any]) -> Any:
    spaces = import_module("syne_tune.config_space")
    match parameter["kind"], parameter["log"]:
        case "choice", _:
            return spaces.choice(parameter["choices"])
        case "int", log:
            return (spaces.lograndint if log else spaces.randint)(parameter["low"], parameter["high"])
        case _, log:
            return (spaces.loguniform if log else spaces.uniform)(parameter["low"], parameter["high"])


def _answer(studies: dict[int, Study], request: dict[str, Any]) -> Any:
    study = request.pop("study")
    match request.pop("do"):
        case "begin":
            studies[study] = Study(**request)
            return None
        case "next":
            return studies[study].next()
        case "reported":
            return studies[study].reported(**request)
        case _:
            studies.pop(study, None)
            return None


def main() -> None:
    """Answer until the pipe is closed."""
    # Syne Tune prints what it could not import; only answers may reach the pipe.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    studies: dict[int, Study] = {}
    for line in sys.stdin:
        try:
            answer = {"answer": _answer(studies, json.loads(line))}
        except Exception as error:  # told to who asked
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=lambda number: number.item()), file=answers, flush=True)


if __name__ == "__main__":
    main()
