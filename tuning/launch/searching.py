"""The search of one study on this machine: start workers, watch, drain. Never imports Keras."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from rich.console import Console

from storage import attributes
from storage.errors import BadInput, StorageUnavailable, TuningError
from storage.processes.cores import usable_cores
from studies.forecast import Launched, WorkLeft, work_left
from studies.phases.known import best_configurations
from studies.stored import StudyRecord
from studies.trials import of_phase, spent_epochs
from tuning.launch.begin import Begun
from tuning.launch.engines.engine import Adjusting
from tuning.launch.packer import packer_of
from tuning.launch.progress import Progress
from tuning.launch.spending import Spending
from tuning.launch.summary import Report, print_end, print_forecast, print_preflight
from tuning.launch.understand import Asked
from tuning.launch.watching import Watching
from tuning.launch.workforce import Workforce
from tuning.machine.compile_probe import prepare_compile_caches
from tuning.messages import LAUNCHER_GRACE_S, Cost, WorkerOptions


def is_over(asked: Asked, study: Begun, spending: Spending) -> bool:
    """Return whether the search is over, and what follows it may begin."""
    return study.claims.standing().done or _is_late(asked, study, spending)


def _is_late(asked: Asked, study: Begun, spending: Spending) -> bool:
    """Return whether the search's share of the time is over; never before there is something to train."""
    ends_s = asked.course.search_s if asked.course is not None else None
    if ends_s is None or spending.spent_s < ends_s - min(LAUNCHER_GRACE_S, ends_s / 4):
        return False
    return bool(best_configurations(study.study, 1))


def search(asked: Asked, study: Begun, spending: Spending, console: Console, report: Report) -> int:
    """Search as far as that is not over; return the exit status."""
    standing = study.claims.standing()
    if is_over(asked, study, spending):
        if asked.course is None or asked.course.refit_epochs is None:
            report(f"nothing to do: {standing.finished} of {standing.budget} trials are finished")
        return 0
    if asked.places.cluster is None:
        prepare_compile_caches(asked.home, asked.placements, os.environ, report)
    progress = Progress(
        study.study,
        asked.spec.epochs,
        console,
        live=asked.options.progress,
        balanced=bool(study.record.imbalanced),
        nodes=asked.places.cluster is not None,
    )
    workforce = _workforce(asked, study, report)
    packer = packer_of(asked, workforce, report)
    launcher = Launcher(asked, study, spending, workforce, packer, progress, report)
    try:
        return launcher.run_on(study.database)
    except StorageUnavailable:
        raise
    except (TuningError, KeyError) as error:
        # Whatever else went wrong then, that the study is gone is why.
        gone = study.gone()
        if gone is not None:
            raise gone from error
        if isinstance(error, BadInput):
            # The preflight refused it before the first trial.
            study.undo()
        raise


def _workforce(asked: Asked, study: Begun, report: Report) -> Workforce:
    return Workforce.of_study(
        study.claims,
        asked.placements,
        lambda place: WorkerOptions.at(
            place, asked.name, asked.user_file, asked.strategy_file, objective_file=asked.objective_file
        ),
        home=asked.home,
        url=asked.url,
        record=study.record,
        report=report,
        engine=asked.places.cluster,
    )


class Launcher(Watching):
    """Runs the search of a study that was begun: until its budget is spent, its time is up, or a stop is asked for.

    Args:
        asked: what is wanted.
        study: the study.
        spending: how much time is over.
        workforce: its workers on this machine.
        packer: finds out how many a device should have; None where that is given.
        progress: shows what happens meanwhile.
        report: takes one line for the user.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        asked: Asked,
        study: Begun,
        spending: Spending,
        workforce: Workforce,
        packer: Adjusting | None,
        progress: Progress,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        whole_s = asked.options.timeout_s
        left_s = max(1.0, whole_s - spending.elapsed_s) if whole_s is not None else None
        super().__init__(study.claims, workforce, packer, progress, report, left_s, clock, spending.note)
        self._spending = spending
        self._asked = asked
        self._begun = study
        self._study = study.study
        self._exports_with_file = False

    def _stopping(self) -> bool:
        return super()._stopping() or _is_late(self._asked, self._begun, self._spending)

    def _begin(self) -> None:
        self._workforce.start()
        self._preflight()

    def _conclude(self, elapsed_s: float) -> None:
        interrupted, with_file = self.interrupted, self._exports_with_file
        print_end(
            self._report, self._asked, self._begun, elapsed_s=elapsed_s, interrupted=interrupted, with_file=with_file
        )

    def _preflight(self) -> None:
        self._report("preflight: walking the space, building the largest model ...")
        found = self._workforce.preflight(give_up=self._stopping)
        if found is None:
            return
        self._exports_with_file = found.exports_with_file
        standing, record = self._claims.standing(), StudyRecord.of(self._study)
        self._pack(standing)
        print_preflight(self._report, found, record, standing)
        spent = spent_epochs(of_phase(self._study.get_trials(deepcopy=False)))
        left = work_left(self._asked.strategy, standing, budget_epochs=record.budget_epochs, spent=spent)
        typical_s, most_s = (self._forecast_s(left, cost) for cost in (found.default_cost, found.largest_cost))
        print_forecast(self._report, standing.budget - standing.finished, typical_s, most_s)
        self._workforce.go()
        # What `status` and the live view forecast from: when the workers were let go, and what is expected.
        epoch_s = typical_s / left.epochs if left.epochs else None
        launched = Launched(at=time.time(), epochs=spent, epoch_s=epoch_s)
        self._study.set_user_attr(attributes.LAUNCHED, launched)
        self._progress.expected_epoch_s = epoch_s

    def _forecast_s(self, left: WorkLeft, cost: Cost) -> float:
        slots = self._workforce.slots
        # More threads than cores share the cores; the preflight measured with a core to itself.
        crowding = max(1.0, sum(slot.placement.threads for slot in slots) / usable_cores())
        return left.seconds(start_s=cost.start_s, epoch_s=cost.epoch_s, workers=len(slots), crowding=crowding)
