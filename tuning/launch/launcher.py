"""One study on this machine, from its beginning to the last phase that follows its search. Never imports Keras."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from functools import partial

from rich.console import Console

from storage.settings import Home
from studies.phases.known import refitted
from studies.phases.sizing import Pace
from studies.stored import StudyRecord
from tuning.launch.begin import Begun, begun
from tuning.launch.dashboard import dashboard_of
from tuning.launch.engines.chosen import serve
from tuning.launch.phases.following import follow
from tuning.launch.phases.phase import Opened, PhaseOptions
from tuning.launch.searching import is_over, search
from tuning.launch.spending import Spending
from tuning.launch.summary import Report, print_plan
from tuning.launch.timed import timed
from tuning.launch.understand import Asked, TuneOptions, understood


def tune(options: TuneOptions, home: Home, console: Console) -> int:
    """Run or continue a study on this machine's devices; return the exit status: 0 done, 1 failed, 130 interrupted.

    Raises:
        BadInput: something given cannot be used; nothing was created or changed.
        TuningError: the study cannot go on.
    """
    spending = Spending()
    report = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    asked, pace = understood(options, home), None
    if options.for_s is not None:
        asked, pace = timed(asked, spending, report)
    study = begun(asked)
    spending.on(study.study)
    print_plan(report, asked, study)
    if asked.places.cluster is None:
        with _dashboard(asked, console, report):
            return _tuned(asked, study, spending, pace, console, report)
    try:
        serve(asked.places.cluster, home, asked.spec, study.dataset, asked.places.shipped)
        with _dashboard(asked, console, report):
            return _tuned(asked, study, spending, pace, console, report)
    finally:
        asked.places.cluster.close()


def _tuned(asked: Asked, study: Begun, spending: Spending, pace: Pace | None, console: Console, report: Report) -> int:
    status = search(asked, study, spending, console, report)
    if status or asked.course is None or not is_over(asked, study, spending):
        return status
    found = _opened(asked, study, spending, console)
    before = len(refitted(study.study))
    try:
        status = follow(found, asked.course, spending, pace)
    finally:
        spending.note()
    if not status and found.claims("refit").standing().done:
        if asked.course.refit_epochs is not None and 0 < len(refitted(study.study)) == before:
            more = "more trials" if asked.course.time_s is None else "more time"
            report(f"nothing to do: all of it is done. Give it {more}")
        report(f"next: make export {found.arguments}")
    return status


def _dashboard(asked: Asked, console: Console, report: Report) -> AbstractContextManager[None]:
    """The dashboard meanwhile, where somebody looks."""
    looked_at = asked.options.dashboard and console.is_terminal
    return dashboard_of(asked.url, asked.home, report) if looked_at else nullcontext()


def _opened(asked: Asked, study: Begun, spending: Spending, console: Console) -> Opened:
    options, elapsed_s = asked.options, spending.elapsed_s
    model = str(asked.user_file) if asked.user_file is not None else None
    left_s = max(1.0, options.timeout_s - elapsed_s) if options.timeout_s is not None else None
    objective = str(asked.objective_file) if asked.objective_file is not None else None
    given = PhaseOptions(
        study=asked.name, storage=options.storage, model=model, objective=objective, workers=options.workers,
        timeout_s=left_s, progress=options.progress, cluster=options.cluster, ship=options.ship,
    )  # fmt: skip
    return Opened(
        given, asked.home, asked.url, study.database, study.study, StudyRecord.of(study.study), asked.user_file,
        asked.objective_file, console, spending.note, asked.places.cluster,
    )  # fmt: skip
