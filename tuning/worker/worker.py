"""One process on one device: claim a trial, run it, tell the result, until the budget is spent.

Imported without Keras; Keras comes in once the process is known to have a study to work on.

A worker that a launcher started talks with it through its `Supervisor`, and ends when it is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
import traceback
from typing import TYPE_CHECKING

from storage import attributes
from storage.claims import Claim
from storage.errors import ClaimLost, StorageUnavailable, TuningError, UnfitMachine
from storage.leases import Heartbeat, LeaseWatch
from storage.processes.isolation import python_environment
from storage.settings import STORAGE_VARIABLE, Home
from studies.stored import StudyRecord
from tuning.machine.compile_cache import seal_compiled
from tuning.machine.devices import CPU, cpu_environment
from tuning.machine.memory import resident_bytes
from tuning.messages import (
    RENEWED,
    Crashed,
    Finished,
    Note,
    OutOfMemory,
    Refused,
    Started,
    WorkerOptions,
)
from tuning.worker.endings import ERROR, Interrupted, TrialError, failure_of
from tuning.worker.functions.trial_runner import FunctionTrialRunner, function_trial_runner
from tuning.worker.joining import ScheduledStudy, join
from tuning.worker.preparing.preparation import prepare
from tuning.worker.recording.result_writer import ResultWriter
from tuning.worker.supervisor import Supervisor

if TYPE_CHECKING:
    from tuning.worker.trial_runner import TrialRunner

logger = logging.getLogger(__name__)

# How often a worker without a trial looks for one, and for leases that ran out.
IDLE_S = 1.0


def work(options: WorkerOptions, storage_url: str, home: Home) -> int:
    """Run trials until none is left or a stop is asked for; return the exit status.

    SIGTERM and SIGINT end it after the running step, its trial put back into the queue; the second one ends it at once,
    unless it has a launcher.

    Args:
        options: what the worker is started with.
        storage_url: where the study is.
        home: where data and artifacts are.
    """
    supervisor = Supervisor(supervised=options.supervised, go=options.go)
    supervisor.heed_signals()
    supervisor.listen()
    try:
        status = _Worker(options, storage_url, home, supervisor).run()
    except TuningError as error:
        supervisor.tell(Refused(str(error), error.exit_status, isinstance(error, UnfitMachine)))
        if not options.supervised:
            raise
        return error.exit_status
    except Exception as error:
        logger.error("the worker failed: %s", traceback.format_exc())
        supervisor.tell(Crashed(f"{type(error).__name__}: {error}"))
        raise
    return 130 if supervisor.stop.is_set() else status


class _Worker:
    def __init__(self, options: WorkerOptions, storage_url: str, home: Home, supervisor: Supervisor) -> None:
        self._storage_url = storage_url
        self._home = home
        self._supervisor = supervisor
        self._joined = joined = join(options, storage_url)
        self._options = options
        if isinstance(joined, ScheduledStudy):
            self._options = options.computing_in(joined.record.spec.precision)
        self._database, self._claims = joined.database, joined.claims
        self._limits = joined.record.limits
        self._watch = LeaseWatch(self._claims)
        timeout_s, hangs = self._limits["trial_timeout_s"], supervisor.steps.hangs
        self._heartbeat = Heartbeat(self._claims, timeout_s=timeout_s, hangs=hangs, give_up=self._give_up_hung)
        self._results = ResultWriter(self._database, self._claims, self._over)

    def run(self) -> int:
        """Run trials until none is left; return the exit status.

        Raises:
            StudyDeleted: the study is not there any more.
        """
        try:
            return self._run()
        except KeyError:  # Optuna's word for what is not there
            self._claims.standing()
            raise

    def _run(self) -> int:
        # Owners are told apart by name: the launcher puts back what a worker held that it saw die.
        self._supervisor.tell(Started(self._claims.owner))
        if self._options.claim is not None:
            self._supervisor.ready.set()  # it holds a trial already, which a stop must put back
        kept_alive = self._heartbeat.of(self._options.claim) if self._options.claim else contextlib.nullcontext()
        with kept_alive:
            runner = self._prepared()
        self._supervisor.wait_for_go()
        self._supervisor.ready.set()
        self._expect_first_calls()
        try:
            status = self._run_trials(runner)
        finally:
            self._results.settle()
        return self._renew() if status == RENEWED else status

    def _prepared(self) -> TrialRunner | FunctionTrialRunner:
        joined = self._joined
        if isinstance(joined, ScheduledStudy):
            return prepare(joined, self._options, self._home, self._supervisor)
        return function_trial_runner(joined, self._options, self._home, self._supervisor)

    def _expect_first_calls(self) -> None:
        # After the preflight, which another worker may have made.
        first = StudyRecord.of(self._joined.study).first_calls.get(self._options.device)
        if first is not None:
            # TensorFlow keeps nothing that it compiled for a CPU: see `tuning.machine.compile_cache`.
            alone = self._options.device == CPU and os.environ.get("KERAS_BACKEND") == "tensorflow"
            self._supervisor.steps.expect(first, compiling=not alone)

    def _run_trials(self, runner: TrialRunner | FunctionTrialRunner) -> int:
        if self._options.claim is not None:
            self._database.fence(self._options.claim.trial_id, self._options.claim.id)
            self._run_trial(runner, self._options.claim)
            if self._supervisor.stop.is_set() or self._supervisor.leaving.is_set():
                return 0
            # The threads were that trial's.
            self._results.settle()
            self._start_again(self._options.successor())
            return 0
        began_bytes = resident_bytes()
        trials_run = 0
        while not self._supervisor.stop.is_set() and not self._supervisor.leaving.is_set():
            grown_bytes = resident_bytes() - began_bytes
            if self._results.mistaken.is_set() or self._has_grown(trials_run, grown_bytes):
                logger.info("renewed after %d trials, grown by %.0f MB", trials_run, grown_bytes / 1e6)
                return RENEWED
            claim = self._joined.next()
            if claim is not None:
                if not self._may_run(claim):
                    continue
                if not claim.ends and not self._continue_with_its_threads(claim):
                    return 0
                trials_run += 1
                if self._spoils(self._run_trial(runner, claim)):
                    return RENEWED
            elif self._results.pending:
                # To the others that trial still runs: what comes next may wait for its end.
                self._results.settle()
            elif self._claims.standing().done:
                return 0
            else:
                self._watch.put_back_expired()
                # Not `stop.wait`: a signal that came just then would set the event inside its own lock, for ever.
                time.sleep(IDLE_S)
        return 0

    def _spoils(self, failure: str | None) -> bool:
        """Return whether a failure may have left this process unfit for another trial.

        A GPU's context may be lost with an error, and then fails every later trial: which one, no text says for sure.
        """
        return failure == attributes.OUT_OF_MEMORY or (failure == ERROR and self._options.device != CPU)

    def _may_run(self, claim: Claim) -> bool:
        """Wait until the end of the trial before is recorded; return whether the claim is held still.

        What is trained next may abort this process, which must not cost that trial its result.
        """
        with self._heartbeat.of(claim):
            try:
                self._results.settle()
            except StorageUnavailable as error:
                with contextlib.suppress(StorageUnavailable):
                    self._claims.put_back(claim, str(error))
                raise
        if self._results.mistaken.is_set():
            # Perhaps just the trial whose end was not recorded, which this process remembers as over.
            self._claims.put_back(claim, "interrupted")
            return False
        return True

    def _has_grown(self, trials_run: int, grown_bytes: int) -> bool:
        return trials_run >= self._limits["trials_per_worker"] or grown_bytes > self._limits["memory_growth_bytes"]

    def _renew(self) -> int:
        """Make way for a fresh process: the launcher starts it, or this one becomes it."""
        if not self._options.supervised:
            self._start_again(self._options.successor())
        return RENEWED

    def _run_trial(self, runner: TrialRunner | FunctionTrialRunner, claim: Claim) -> str | None:
        """Run a claimed trial; return the class of its failure, if it failed.

        How it ended is recorded while the next one is chosen, a failure at once.
        """
        logger.info("trial %d: claim %d", claim.number, claim.count)
        with contextlib.ExitStack() as held:
            held.callback(self._database.unfence, claim.trial_id)
            held.enter_context(self._heartbeat.of(claim))
            try:
                outcome = runner.run(claim)
            except Interrupted:
                self._claims.put_back(claim, "interrupted")
                return None
            except TrialError as error:
                self._claims.put_back(claim, error.reason, "error")
                failure = failure_of(error.__cause__)[0] if isinstance(error.__cause__, Exception) else ERROR
                if failure == attributes.OUT_OF_MEMORY:
                    # Perhaps for want of what its neighbours have: the launcher makes room.
                    self._supervisor.tell(OutOfMemory(claim.number))
                return failure
            except ClaimLost as error:
                logger.warning("%s; dropped", error)
                return None
            except StorageUnavailable as error:
                # It cannot be said to the database, perhaps; then the lease says it.
                with contextlib.suppress(StorageUnavailable):
                    self._claims.put_back(claim, str(error))
                raise
            if outcome is not None:
                self._results.submit(claim, outcome.result, lambda: runner.record(claim, outcome), held.pop_all())
        seal_compiled(self._home)
        if outcome is None:
            self._over(claim)
            return None
        if outcome.failure is not None:
            self._results.settle()
            logger.info("trial %d failed: %s", claim.number, outcome.failure)
        if outcome.failure == attributes.OUT_OF_MEMORY:
            self._supervisor.tell(OutOfMemory(claim.number))
        return outcome.failure

    def _over(self, claim: Claim) -> None:
        logger.info("trial %d: over", claim.number)
        self._supervisor.tell(Finished(claim.number))

    def _give_up_hung(self, claim: Claim, why: str) -> None:
        fact = f"trial {claim.number} {why}"
        logger.error("%s; this worker ends", fact)
        try:
            self._claims.put_back(claim, fact, "timeout")
            self._supervisor.tell(Note(f"{fact} and is given up by its worker"))
        finally:
            with contextlib.suppress(OSError):
                self._renew()
            os._exit(RENEWED)

    def _continue_with_its_threads(self, claim: Claim) -> bool:
        """Become a worker with the trial's number of threads if it has a checkpoint made with another.

        Another number of threads gives other weights, in the last digits, and after an epoch in all. Return whether
        this process has the trial still.
        """
        trial = self._database.get_trial(claim.trial_id)
        threads = attributes.read(trial.user_attrs, attributes.THREADS, int)
        device = attributes.read(trial.user_attrs, attributes.DEVICE, str)
        begun = claim.count > 1 and device == self._options.device == CPU
        if begun and threads is not None and threads != self._options.threads:
            self._start_again(self._options.successor(claim=claim, threads=threads))
            return False
        return True

    def _start_again(self, options: WorkerOptions) -> None:
        """Become a fresh worker, or put its claim back and return if a stop was asked for: the other would not know.

        The same process with another program image: the launcher, the claim and its owner stay what they are.
        """
        threads = options.threads
        other = cpu_environment(threads, os.environ) if threads != self._options.threads else {}
        environment = {**python_environment(os.environ), **other, STORAGE_VARIABLE: self._storage_url}
        command = options.command()
        if self._supervisor.stop.is_set():
            if options.claim is not None:
                self._claims.put_back(options.claim, "interrupted")
            return
        self._supervisor.hand_over()
        os.execve(command[0], command, environment)
