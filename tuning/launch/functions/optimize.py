"""`tuning.optimize`: what `Study.optimize` does, in worker processes that may be killed."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import optuna
from optuna.study import StudyDirection
from rich.console import Console

from storage.database import Database
from storage.errors import BadInput
from storage.opening import open_database
from storage.processes.cores import usable_cores
from storage.settings import Home
from studies.functions.in_process import pruner_named
from studies.functions.opening import begin, claims_of, find_or_create, is_in_memory, move, total_of_trials, url_of
from studies.stored import StudyRecord
from tuning.launch.dashboard import dashboard_of
from tuning.launch.functions.optimizing import Optimizing, workforce_of
from tuning.launch.progress import Progress
from tuning.launch.summary import Report
from tuning.launch.workforce import log_folder
from tuning.machine.devices import Placement, find_gpus, place_workers
from tuning.user_functions import Handed, hand_over, in_words
from tuning.words import counted

INTERRUPTED = 130
"""The exit status of what Ctrl-C ended."""


def optimize(
    objective: Callable[[optuna.Trial], Any],
    *,
    study: optuna.Study | str,
    trials: int,
    workers: int | None = None,
    timeout: float | None = None,
    direction: str = "minimize",
    strategy: str | None = None,
    progress: bool = True,
    dashboard: bool = True,
) -> optuna.Study:
    """Run an Optuna objective in worker processes until the study has so many finished trials; return the study.

    A trial whose worker is killed goes back into the queue as itself: with its parameters, what it reported and its
    folder, `trial.user_attrs["checkpoint"]`. Run again, the same call goes on with the study.

    Args:
        objective: takes a trial, and returns a value or one for each of the study's objectives. It stands at the top of
            a module, or of the script that was started; an object with `__call__` will do.
        study: with its sampler and its pruner. One in memory moves into `TUNING_HOME/studies.db`; a name is that of a
            study there, which is made where it is not there.
        trials: the study's total of finished trials, COMPLETE and PRUNED; failed ones do not count.
        workers: how many processes; by default one on each GPU, or one on each core where there is no GPU.
        timeout: seconds in which it ends; trials that are not over go back into the queue.
        direction: of a study that is made by its name.
        strategy: `median`, `successive_halving`, `hyperband` or `none` say what `trial.should_prune` answers, in place
            of the study's pruner.
        progress: whether standard error shows the live view where it is a terminal.
        dashboard: whether the dashboard is served meanwhile where standard error is a terminal.

    Raises:
        BadInput: something given cannot be used.
        TuningError: the study cannot go on.
        KeyboardInterrupt: after Ctrl-C, when all is put back.
    """
    trials = total_of_trials("trials", trials)
    _require_time(timeout)
    pruner = pruner_named(strategy) if strategy is not None else None
    home, console = Home.from_environment(), Console(stderr=True)
    report: Report = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    places = place_workers(find_gpus(), usable_cores(), workers=workers, per_device=None, environ=os.environ)
    found, database = _opened(study, in_words(objective), direction, home, report)
    found.pruner = pruner or found.pruner
    record, url = begin(database, found, in_words(objective)), url_of(found)
    # There, what a killed process leaves goes with the study.
    with tempfile.TemporaryDirectory(prefix="objective-", dir=log_folder(home, record.name, record.uid)) as folder:
        file = Path(folder) / "objective"
        hand_over(file, Handed(objective, found.sampler, found.pruner))
        _say_what(report, found, record, database.shown_url, trials, places)
        claims = claims_of(database, found, record, "launcher")
        claims.set_budget(trials)
        workforce = workforce_of(claims, places, file, home, url, record, report)
        shown = Progress(found, None, console, live=progress)
        optimizing = Optimizing(found, trials, claims, workforce, shown, report, timeout)
        with dashboard_of(url, home, report) if dashboard and console.is_terminal else nullcontext():
            status = optimizing.run_on(database)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return found


def _require_time(timeout: float | None) -> None:
    if timeout is not None and timeout <= 0:
        raise BadInput(f"timeout={timeout}: must be above 0: seconds in which it ends. Leave it out for none.")


def _opened(
    study: optuna.Study | str, function: str, direction: str, home: Home, report: Report
) -> tuple[optuna.Study, Database]:
    """Return the study that is meant, and its database.

    Raises:
        BadInput: it cannot be had.
    """
    home.require_folders()
    home.make(home.root)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its notices would stand between the lines of the progress
    if isinstance(study, optuna.Study) and not is_in_memory(study):
        return study, open_database(url_of(study))
    database = open_database(home.database_url, create=True)
    if isinstance(study, optuna.Study):
        goes_on = move(study, database, function)
        how = "goes on where it is" if goes_on else "was in memory, and is from now on"
        report(f"study {study.study_name!r} {how} in {database.shown_url}")
        return study, database
    known = {one.name.lower(): one for one in (StudyDirection.MINIMIZE, StudyDirection.MAXIMIZE)}
    if direction not in known:
        raise BadInput(f"direction={direction!r}: must be one of {', '.join(known)}.")
    return find_or_create(database, study, [known[direction]]), database


def _say_what(
    report: Report, study: optuna.Study, record: StudyRecord, database: str, trials: int, places: list[Placement]
) -> None:
    devices = ", ".join(sorted({place.device.name for place in places}))
    rows = {
        "study": f"{study.study_name}, in {database}",
        "objective": record.function or "",
        "plan": f"{counted(trials, 'trial')} in all, {type(study.sampler).__name__} and {type(study.pruner).__name__}",
        "workers": f"{len(places)} on {devices}, {places[0].threads} thread(s) each",
    }
    for name, words in rows.items():
        report(f"{name:<10}{words}")
