"""One study on this machine: begin it, start workers, watch, drain. Never imports Keras."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial

from rich.console import Console

from storage import attributes
from storage.errors import BadInput, StorageUnavailable, TuningError
from storage.processes.cores import usable_cores
from storage.settings import STORAGE_VARIABLE, Home
from studies.forecast import Launched, WorkLeft, work_left
from studies.stored import StudyRecord
from studies.trials import of_phase, spent_epochs
from tuning.launch.begin import Begun, begun
from tuning.launch.packer import Packer, make_packer
from tuning.launch.progress import Progress
from tuning.launch.summary import Report, print_end, print_forecast, print_plan, print_preflight
from tuning.launch.understand import Asked, TuneOptions, understood
from tuning.launch.watching import Watching
from tuning.launch.workforce import Workforce, log_folder
from tuning.machine.compile_probe import prepare_compile_caches
from tuning.machine.memory import free_bytes
from tuning.messages import Cost, WorkerOptions


def tune(options: TuneOptions, home: Home, console: Console) -> int:
    """Run or continue a study on this machine's devices; return the exit status: 0 done, 1 failed, 130 interrupted.

    Raises:
        BadInput: something given cannot be used; nothing was created or changed.
        TuningError: the study cannot go on.
    """
    asked = understood(options, home)
    study = begun(asked)
    report = partial(console.print, highlight=False, markup=False, soft_wrap=True)
    print_plan(report, asked, study)
    standing = study.claims.standing()
    if standing.done:
        report(f"nothing to do: {standing.finished} of {standing.budget} trials are finished")
        return 0
    prepare_compile_caches(asked.home, asked.placements, os.environ, report)
    live, balanced = options.progress and console.is_terminal, bool(study.record.imbalanced)
    progress = Progress(study.study, asked.spec.epochs, console, live=live, balanced=balanced)
    workforce = _workforce(asked, study, report)
    packer = _packer(asked, workforce, report) if asked.packs else None
    launcher = Launcher(asked, study, workforce, packer, progress, report)
    study.database.sleep = launcher.wait_for_database
    try:
        return launcher.run()
    except StorageUnavailable as error:
        if not launcher.interrupted:
            raise
        report(str(error))
        return 130
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
    return Workforce(
        study.claims,
        asked.placements,
        lambda place: WorkerOptions.at(place, asked.name, asked.user_file, asked.strategy_file),
        # The URL may hold a password, and command lines are public.
        {"TUNING_HOME": str(asked.home.root), STORAGE_VARIABLE: asked.url},
        log_folder(asked.home, asked.name, study.record.uid),
        report,
    )


def _packer(asked: Asked, workforce: Workforce, report: Report) -> Packer:
    return make_packer(
        workforce,
        asked.gpus,
        cores=usable_cores(),
        workers=asked.options.workers,
        memory_bytes=free_bytes(),
        environ=os.environ,
        report=report,
    )


class Launcher(Watching):
    """Runs the search of a study that was begun: until its budget is spent, its time is up, or a stop is asked for.

    Args:
        asked: what is wanted.
        study: the study.
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
        workforce: Workforce,
        packer: Packer | None,
        progress: Progress,
        report: Report,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(study.claims, workforce, packer, progress, report, asked.options.timeout_s, clock)
        self._asked = asked
        self._begun = study
        self._study = study.study
        self._exports_with_file = False

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
