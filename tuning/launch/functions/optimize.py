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

from storage.claims import Claims
from storage.database import Database
from storage.errors import BadInput
from storage.opening import open_database
from storage.processes.cores import usable_cores
from storage.settings import Home
from studies.functions.opening import begin, claims_of, find_or_create, is_in_memory, move, url_of
from studies.leaderboard import best_trial
from studies.stored import StudyRecord
from tuning.launch.dashboard import dashboard_of
from tuning.launch.progress import Progress
from tuning.launch.summary import Report
from tuning.launch.watching import Watching
from tuning.launch.workforce import Workforce
from tuning.machine.devices import Placement, find_gpus, place_workers
from tuning.messages import WorkerOptions
from tuning.user_functions import Handed, hand_over, in_words
from tuning.words import counted, duration, parameters_in_words

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
        progress: whether standard error shows the live view where it is a terminal.
        dashboard: whether the dashboard is served meanwhile where standard error is a terminal.

    Raises:
        BadInput: something given cannot be used.
        TuningError: the study cannot go on.
        KeyboardInterrupt: after Ctrl-C, when all is put back.
    """
    if trials < 1:
        raise BadInput(f"trials={trials}: must be at least 1: the study's total of finished trials.")
    home, console = Home.from_environment(), Console(stderr=True)
    report: Report = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    places = place_workers(find_gpus(), usable_cores(), workers=workers, per_device=None, environ=os.environ)
    home.make(home.root)
    found, database = _opened(study, direction, home, report)
    record, url = begin(database, found, in_words(objective)), url_of(found)
    claims = claims_of(database, found, record, "launcher")
    with tempfile.TemporaryDirectory(prefix="tuning-objective-") as folder:
        file = Path(folder) / "objective"
        alone = len(places) == 1 and not found.get_trials(deepcopy=False)
        hand_over(file, Handed(objective, found.sampler, found.pruner, repeats=alone))
        _say_what(report, found, record, database.shown_url, trials, places)
        claims.set_budget(trials)

        def options(place: Placement) -> WorkerOptions:
            return WorkerOptions.at(place, found.study_name, None, None, function=str(file))

        workers_of = partial(Workforce.of_study, home=home, url=url, record=record, report=report)
        shown = Progress(found, None, console, live=progress)
        optimizing = Optimizing(found, trials, claims, workers_of(claims, places, options), shown, report, timeout)
        with dashboard_of(url, home, report) if dashboard and console.is_terminal else nullcontext():
            status = optimizing.run_on(database)
    if status == INTERRUPTED:
        raise KeyboardInterrupt
    return found


def _opened(study: optuna.Study | str, direction: str, home: Home, report: Report) -> tuple[optuna.Study, Database]:
    """Return the study that is meant, and its database.

    Raises:
        BadInput: it cannot be had.
    """
    home.require_folders()
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # its notices would stand between the lines of the progress
    if isinstance(study, optuna.Study) and not is_in_memory(study):
        return study, open_database(url_of(study))
    database = open_database(home.database_url, create=True)
    if isinstance(study, optuna.Study):
        goes_on = move(study, database)
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


class Optimizing(Watching):
    """Runs the trials of an objective: until the budget is spent, the time is up, or a stop is asked for.

    Args:
        study: Optuna's own.
        trials: how many were asked for.
        claims: the study's.
        workforce: its workers on this machine.
        progress: shows what happens meanwhile.
        report: takes one line for the user.
        timeout_s: seconds in which it ends; None for as long as it takes.
    """

    def __init__(
        self,
        study: optuna.Study,
        trials: int,
        claims: Claims,
        workforce: Workforce,
        progress: Progress,
        report: Report,
        timeout_s: float | None,
    ) -> None:
        super().__init__(claims, workforce, None, progress, report, timeout_s)
        self._study = study
        self._trials = trials

    def run(self) -> int:
        """Run them; see `Watching.run`. Where none is left, no worker is started."""
        standing = self._claims.standing()
        if standing.done:
            self._report(f"nothing to do: {standing.finished} of {standing.budget} trials are finished")
            return 0
        return super().run()

    def _begin(self) -> None:
        self._workforce.start(preflight=False)
        self._workforce.go()

    def _conclude(self, elapsed_s: float) -> None:
        standing, best = self._claims.standing(), best_trial(self._study)
        self._report(
            f"{standing.finished} of {counted(standing.budget, 'trial')} finished ({standing.complete} complete,"
            f" {standing.pruned} pruned), {standing.failed} failed, in {duration(elapsed_s)}"
        )
        if best is not None:
            self._report(f"best: trial {best.number}, {best.value:.6g}, {parameters_in_words(best.params)}")
        if not standing.done:
            why = "interrupted" if self.interrupted else "time is up"
            waiting = counted(standing.waiting, "trial")
            self._report(f"{why}: {waiting} back in the queue; the same call goes on")
        elif standing.budget < self._trials:
            self._report(f"the objective or its sampler stopped the study before its {self._trials} trials")
