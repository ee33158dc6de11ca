"""One study on this machine: begin it, start workers, watch, drain. Never imports Keras."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from rich.console import Console

from storage import attributes
from storage.claims import Standing
from storage.errors import BadInput, StorageUnavailable, TuningError
from storage.leases import LeaseWatch
from storage.processes.cores import usable_cores
from storage.settings import STORAGE_VARIABLE, Home, mark
from studies.forecast import Launched, WorkLeft, work_left
from studies.stored import StudyRecord
from studies.trials import of_phase, spent_epochs
from tuning.launch.begin import Begun, begun
from tuning.launch.packer import Packer, make_packer
from tuning.launch.progress import Progress
from tuning.launch.summary import Report, print_end, print_forecast, print_plan, print_preflight
from tuning.launch.understand import Asked, TuneOptions, understood
from tuning.launch.workforce import Workforce
from tuning.machine.compile_probe import prepare_compile_caches
from tuning.machine.memory import free_bytes
from tuning.messages import LAUNCHER_GRACE_S, Cost, WorkerOptions

TICK_S = 0.5
# How often leases are looked at.
WATCH_S = 5.0


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
        _logs(asked, study),
        report,
    )


def _logs(asked: Asked, study: Begun) -> Path:
    uid = study.record.uid
    folder = asked.home.make(asked.home.logs(asked.name, uid))
    if uid:
        mark(folder, uid)
    return folder


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


class Launcher:
    """Runs a study that was begun: until its budget is spent, its time is up, or a stop is asked for.

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
        self._asked = asked
        self._begun = study
        self._study = study.study
        self._claims = study.claims
        self._workforce = workforce
        self._packer = packer
        self._progress = progress
        self._report = report
        self._clock = clock
        self._started = clock()
        timeout_s = asked.options.timeout_s
        # Asked to stop a little before the end of its time, so that the study ends in it.
        self._deadline = None if timeout_s is None else self._started + timeout_s - min(LAUNCHER_GRACE_S, timeout_s / 4)
        self._watch = LeaseWatch(study.claims)
        self._watched = self._started
        self._interrupts = 0
        self._exports_with_file = False

    def run(self) -> int:
        """Run the study; return the exit status. Afterwards no worker is left.

        Raises:
            BadInput: the preflight refused it.
            TuningError: it cannot go on.
        """
        with self._signals():
            try:
                self._workforce.start()
                self._preflight()
                self._progress.start()
                try:
                    self._watch_workers()
                finally:
                    self._progress.stop()
            finally:
                before = self._interrupts
                try:
                    if before:
                        self._report(
                            "stopping: running trials go on to the end of their epoch if that is near, and back into"
                            f" the queue, within {LAUNCHER_GRACE_S:g} s; Ctrl-C again ends them now"
                        )
                finally:  # what reads the output may be gone
                    self._workforce.end(hurry=lambda: self._interrupts > max(before, 1))
        interrupted, elapsed_s = self.interrupted, self._clock() - self._started
        with_file = self._exports_with_file
        print_end(
            self._report, self._asked, self._begun, elapsed_s=elapsed_s, interrupted=interrupted, with_file=with_file
        )
        return 130 if interrupted else 0

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(_number: int, _frame: object) -> None:
            self._interrupts += 1

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def interrupted(self) -> bool:
        """Whether a stop was asked for by a signal."""
        return self._interrupts > 0

    def wait_for_database(self, seconds: float) -> None:
        """Wait between two tries of a call; a signal meanwhile ends the waiting.

        Raises:
            StorageUnavailable: a stop was asked for.
        """
        before, until = self._interrupts, self._clock() + seconds
        while self._clock() < until:
            if self._interrupts > before:
                raise StorageUnavailable("interrupted while the database is busy or away; the same command goes on")
            time.sleep(0.05)

    def _stopping(self) -> bool:
        return self._interrupts > 0 or (self._deadline is not None and self._clock() >= self._deadline)

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

    def _pack(self, standing: Standing) -> None:
        if self._packer is not None:
            self._packer.adjust(standing.budget - standing.finished)

    def _forecast_s(self, left: WorkLeft, cost: Cost) -> float:
        slots = self._workforce.slots
        # More threads than cores share the cores; the preflight measured with a core to itself.
        crowding = max(1.0, sum(slot.placement.threads for slot in slots) / usable_cores())
        return left.seconds(start_s=cost.start_s, epoch_s=cost.epoch_s, workers=len(slots), crowding=crowding)

    def _watch_workers(self) -> None:
        """Watch until the budget is spent, the time is up, or a stop is asked for.

        Raises:
            TuningError: the study cannot go on.
        """
        while not self._stopping():
            standing = self._claims.standing()
            self._progress.update()
            if standing.done and not standing.running:
                return
            self._workforce.tend()
            self._pack(standing)
            if self._clock() - self._watched >= WATCH_S:
                self._watched = self._clock()
                for claim in self._watch.put_back_expired():
                    self._workforce.kill_owner(claim.owner)
                    self._report(f"trial {claim.number}: its worker fell silent, so the trial is given up by it")
            self._pause()

    def _pause(self) -> None:
        # Short naps, since a signal only sets a number.
        until = self._clock() + TICK_S
        while self._clock() < until and not self._interrupts:
            time.sleep(0.05)
