"""`tuning confirm`: the best configurations trained again with other seeds: which is best, and how sure that is."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial
from rich.console import Console

from storage.errors import BadInput, TuningError
from storage.settings import Home
from studies.objectives.objective import Objective
from studies.phases.confirmation import Confirmed, interval, winner
from studies.phases.known import LEAST_SEEDS, best_configurations, confirmed, planned_confirmation
from tuning.launch.phases.phase import Opened, PhaseOptions, opened, run_phase
from tuning.launch.summary import Report
from tuning.words import counted

TOP = 3
SEEDS = 3
MOST_TRAININGS = 1_000


def confirm(options: PhaseOptions, home: Home, console: Console, *, top: int = TOP, seeds: int = SEEDS) -> int:
    """Train the best configurations of a study again; return the exit status: 0 done, 130 interrupted.

    Args:
        options: which study, and where it is trained.
        home: where everything is kept.
        console: takes what is said.
        top: how many configurations.
        seeds: how many other seeds each is trained with.

    Raises:
        BadInput: something given cannot be used.
        TuningError: there is nothing to confirm, or too little of it could be trained.
    """
    if top < 1 or seeds < LEAST_SEEDS or top * seeds > MOST_TRAININGS:
        raise BadInput(
            f"--top {top} --seeds {seeds}: from 1 configuration and {LEAST_SEEDS} seeds to {MOST_TRAININGS:,} trainings"
            f" in all can be confirmed. Take --top {TOP} --seeds {SEEDS}."
        )
    with opened(options, home, console) as found:
        best = best_configurations(found.study, top)
        if not best:
            raise TuningError(
                f"study {found.record.name!r} has no trial with a value to confirm. Wait for one, or give the command"
                " of its search again."
            )
        status = confirm_each(found, best, seeds)
        if found.claims("confirm").standing().done:
            found.report(f"next: make refit {found.phase_arguments}")
    return status


def confirm_each(found: Opened, best: list[FrozenTrial], seeds: int) -> int:
    """Train configurations again and say which is best; return the exit status: 0 done, 130 interrupted.

    Args:
        found: the study.
        best: the trials of the search that tried them.
        seeds: how many other seeds each is trained with.

    Raises:
        TuningError: too little of it could be trained.
    """
    spec = found.record.spec
    names = ", ".join(str(trial.number) for trial in best)
    found.report(f"confirm: trial{'' if len(best) == 1 else 's'} {names}, each with {seeds} other seeds")
    status = run_phase(found, "confirm", planned_confirmation(spec, best, seeds))
    if not found.claims("confirm").standing().done:
        return status
    known = confirmed(found.study, spec)
    if not known:
        raise TuningError(
            f"no configuration has {LEAST_SEEDS} trainings that did not fail. Look at: tuning trials; the same command"
            " trains again what failed."
        )
    _print(found, known)
    return status


def _print(found: Opened, known: Sequence[Confirmed]) -> None:
    report, record = found.report, found.record
    assert record.data is not None, "seen to when it was opened"
    images, objective = record.data["validation"], record.objective
    figure = objective.figure
    for one in sorted(known, key=lambda one: objective.rank(one.mean)):
        report(
            f"  trial {one.of:>3}  {figure(one.searched)} after {counted(one.epochs, 'epoch')} of the search; with"
            f" {counted(len(one.values), 'other seed')} {figure(one.mean)} in the mean, {figure(min(one.values))} to"
            f" {figure(max(one.values))}"
        )
    best = winner(known)
    within = interval(best, known, images)
    why = "seeds differ" + (f", and {images:,} validation images are not all there are" * objective.is_share)
    said = f"90% interval {figure(within.low)} to {figure(within.high)}"
    report(f"winner: trial {best.of}, {figure(best.mean)}, {said}: {why}")
    _print_luck(report, known, objective)


def _print_luck(report: Report, known: Sequence[Confirmed], objective: Objective) -> None:
    first = min(known, key=lambda one: (objective.rank(one.searched), one.of))
    if first.luck > 0:
        said = f"{objective.figure(first.luck)} of that was luck: the best of many looks better than it is"
    else:
        said = "none of that was luck"
    report(f"luck: the search's best, trial {first.of}, had {objective.figure(first.searched)}; {said}")
