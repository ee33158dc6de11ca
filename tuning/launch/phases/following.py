"""What follows the search in one `tune`: the best are confirmed, and the winner is trained with what time is left."""

from __future__ import annotations

import math

from optuna.trial import FrozenTrial

from studies.course import LEAST_CONFIRMED, Course
from studies.phases.known import compared, planned_winner, refitted
from studies.phases.sizing import Pace, epochs_in
from studies.phases.training import Training, training_of
from studies.study_data import images_of
from tuning.launch.phases.confirm import confirm_each
from tuning.launch.phases.pace import Configured, pace_of
from tuning.launch.phases.phase import Opened, run_phase
from tuning.launch.phases.refit import long_training, nothing_to_refit, refit_one
from tuning.launch.spending import Spending
from tuning.words import counted, duration

GROWN = 1.5
"""A winner is trained again where the time has grown so much that it is trained for so many times as many epochs."""
LATE = 1.1
"""Where it took so many times the time, the machine has slowed down, which is said."""


def follow(found: Opened, course: Course, spending: Spending, pace: Pace | None = None) -> int:
    """Confirm and refit as a study's course says, as far as that is not done; return the exit status.

    Args:
        found: the study, whose search is over.
        course: what is to follow.
        spending: how much time is over.
        pace: how fast the winner trains for long; None where that is to be measured.

    Raises:
        TuningError: there is no winner, or a training failed.
    """
    status = _confirm(found, course)
    if not status and course.refit_epochs is not None:
        status = _refit(found, course, spending, pace)
    return status


def _confirm(found: Opened, course: Course) -> int:
    if course.confirm is None:
        return 0
    top, seeds = course.confirm
    best = compared(found.study, found.record.spec, top)
    if len(best) < LEAST_CONFIRMED:
        found.report("confirm: left out, since there is one configuration only")
        return 0
    return confirm_each(found, best, seeds)


def _refit(found: Opened, course: Course, spending: Spending, pace: Pace | None) -> int:
    standing = found.claims("refit").standing()
    if standing.waiting or standing.running:
        found.report("refit: the winner's training goes on")
        return _told(found, course, spending, run_phase(found, "refit", []))
    spec = found.record.spec
    assert found.record.data is not None, "seen to when it was opened"
    best = planned_winner(found.study, spec, found.record.data["validation"])
    if best is None:
        raise nothing_to_refit(found)
    epochs = course.refit_epochs or _epochs(found, course, spending, best, pace)
    done = [training_of(spec, trial) for trial in refitted(found.study)]
    longest = max((one.epochs for one in done), default=0)
    if epochs is None or (done and epochs < (GROWN * longest if course.time_s is not None else longest + 1)):
        return 0
    return _told(found, course, spending, refit_one(found, best, long_training(found, best, epochs)))


def _epochs(found: Opened, course: Course, spending: Spending, best: FrozenTrial, pace: Pace | None) -> int | None:
    """Return for how many epochs the winner can be trained in what is left of the time; None where none is."""
    assert course.time_s is not None, "only a time leaves the number of epochs open"
    if spending.spent_s >= course.time_s:
        found.report(
            f"time is up: {duration(spending.spent_s)} of {duration(course.time_s)}; more is done with more of it"
        )
        return None
    # What is measured is a step, whatever the number of epochs.
    trained = long_training(found, best, found.record.spec.epochs)
    if pace is None:
        pace = _measured(found, best, trained)
    return epochs_in(course.time_s - spending.spent_s, pace, images_of(found.record, found.data, trained.learned))


def _measured(found: Opened, best: FrozenTrial, trained: Training) -> Pace:
    found.report("refit: measuring how fast the winner trains ...")
    assert found.record.data is not None, "seen to when it was opened"
    configured = Configured(found.record.spec, found.record.data, found.user_file, found.objective_file)
    return pace_of(configured, found.home, parameters=best.params, training=trained)


def _told(found: Opened, course: Course, spending: Spending, status: int) -> int:
    if not status and course.time_s is not None and spending.spent_s > LATE * course.time_s:
        late = math.ceil(spending.spent_s - course.time_s)
        found.report(
            f"it took {duration(spending.spent_s)}, {counted(late, 'second')} more than {duration(course.time_s)}: the"
            " machine has slowed down since it was measured"
        )
    return status
