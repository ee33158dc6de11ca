"""One process on one device: claim a trial, run it, tell the result, until the budget is spent.

Imported without Keras; Keras comes in once the process is known to have a study to work on.

A worker that a launcher started talks with it, see `tuning.messages`, and ends when it is gone.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

import optuna

from storage import attributes
from storage.artifacts import Artifacts
from storage.claims import Claim, Claims, owner_name
from storage.database import OUTAGE_S, Database
from storage.errors import BadInput, ClaimLost, StorageUnavailable, TuningError
from storage.leases import Heartbeat, LeaseWatch
from storage.opening import open_database
from storage.settings import STORAGE_VARIABLE, Home
from studies.scheduler import Course, Taken, first_configurations
from studies.spec import StudySpec
from studies.stored import DEFAULT_LIMITS, Limits, find_study
from studies.strategies.chosen import make_strategy
from studies.strategies.samplers import require_room
from tuning.machine.compile_cache import cache_environment, seal_compiled
from tuning.machine.devices import CPU, cpu_environment
from tuning.messages import (
    ORPHAN_GRACE_S,
    RENEWED,
    Alone,
    Crashed,
    Crowded,
    Failed,
    Finished,
    FromWorker,
    Go,
    Leave,
    Note,
    OutOfMemory,
    Started,
    WorkerOptions,
    decode,
    encode,
)
from tuning.user_classes import load_strategy
from tuning.worker.failures import failure_of
from tuning.worker.hypermodels import load_hypermodel
from tuning.worker.result_writer import Endings

if TYPE_CHECKING:
    from tuning.worker.objective import Objective, TrainingData

logger = logging.getLogger(__name__)

# How often a worker without a trial looks for one, and for leases that ran out.
IDLE_S = 1.0


def work(options: WorkerOptions, storage_url: str, home: Home) -> int:
    """Run trials until none is left or a stop is asked for; return the exit status.

    Args:
        options: what the worker is started with.
        storage_url: where the study is.
        home: where data and artifacts are.

    SIGTERM and SIGINT end it after the running step, its trial put back into the queue; the second one ends it at once,
    unless it has a launcher.
    """
    stop, ready = threading.Event(), threading.Event()
    _stop_on_signals(stop, ready, impatient=not options.supervised)
    launcher = _Launcher(options.supervised, stop, ready)
    if options.go:
        launcher.go()
    try:
        status = _Worker(options, storage_url, home, stop, launcher).run(ready)
    except TuningError as error:
        launcher.tell(Failed(str(error), error.exit_status))
        if not options.supervised:
            raise
        return error.exit_status
    except Exception as error:
        logger.error("the worker failed: %s", traceback.format_exc())
        launcher.tell(Crashed(f"{type(error).__name__}: {error}"))
        raise
    return 130 if stop.is_set() else status


def _stop_on_signals(stop: threading.Event, ready: threading.Event, *, impatient: bool) -> None:
    def on_signal(_number: int, _frame: object) -> None:
        # A worker that is not ready yet holds no trial, and may be deep in a preflight.
        # Where all processes of a service are sent the signal, a worker gets it from its launcher once more; a
        # launcher that cannot wait kills.
        if not ready.is_set() or (stop.is_set() and impatient):
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)


class _Launcher:
    """The worker's side of the talk with its launcher; silent where there is none."""

    def __init__(self, supervised: bool, stop: threading.Event, ready: threading.Event) -> None:
        self._stop = stop
        self._ready = ready
        self._go = threading.Event()
        self._output: IO[str] | None = None
        # Set when this worker is to end after its trial, and while others share its device.
        self.leaving = threading.Event()
        self.crowded = threading.Event()
        if not supervised:
            self._go.set()
            return
        # Whatever a library prints must not end up between the messages.
        self._output = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            match decode(line):
                case Go():
                    self._go.set()
                case Leave():
                    self.leaving.set()
                    self._go.set()
                case Crowded():
                    self.crowded.set()
                case Alone():
                    self.crowded.clear()
                case other:
                    logger.warning("the launcher said what means nothing here: %s", other)
        # End of file: the launcher is gone.
        self._stop.set()
        self._go.set()
        if self._ready.is_set():
            time.sleep(ORPHAN_GRACE_S)
        os._exit(1)

    def tell(self, message: FromWorker) -> None:
        if self._output is None:
            return
        try:
            self._output.write(encode(message))
        except OSError:  # nobody reads any more: the end of input will say so
            logger.warning("the launcher does not listen: %s", message)

    def go(self) -> None:
        """Take `Go` as said."""
        self._go.set()

    def wait_for_go(self) -> None:
        self._go.wait()

    def hand_over(self) -> None:
        """Give standard output back to the messages, for the program that takes this process over."""
        if self._output is not None:
            os.dup2(self._output.fileno(), 1)


class _Worker:
    def __init__(
        self, options: WorkerOptions, storage_url: str, home: Home, stop: threading.Event, launcher: _Launcher
    ) -> None:
        self._options = options
        self._storage_url = storage_url
        self._home = home
        self._stop = stop
        self._launcher = launcher
        # Who started this process has had the study open: if it is away, it comes back.
        patience_s = OUTAGE_S if options.supervised or options.go else 0.0
        self._database = _open_patiently(storage_url, patience_s)
        study = find_study(self._database, options.study)
        self._spec = StudySpec.stored(study.user_attrs.get(attributes.SPEC))
        self._limits: Limits = {**DEFAULT_LIMITS, **study.user_attrs.get(attributes.LIMITS, {})}
        self._study = study
        owner = options.claim.owner if options.claim is not None else owner_name()
        uid = study.user_attrs.get(attributes.UID)
        self._claims = Claims(self._database, study._study_id, owner, uid=uid)
        strategy = make_strategy(self._spec, load_strategy(self._spec.strategy.name, options.strategy_file))
        self._course = Course(self._study, self._spec, strategy, self._claims)
        self._watch = LeaseWatch(self._claims)
        self._heartbeat = Heartbeat(
            self._claims, timeout_s=self._limits["trial_timeout_s"], timed_out=self._give_up_hung
        )
        self._endings = Endings(self._database, self._claims, self._over)

    def run(self, ready: threading.Event) -> int:
        """Run trials until none is left; return the exit status."""
        # Owners are told apart by name: the launcher puts back what a worker held that it saw die.
        self._launcher.tell(Started(self._claims.owner))
        if self._options.claim is not None:
            ready.set()  # it holds a trial already, which a stop must put back
        kept_alive = self._heartbeat.of(self._options.claim) if self._options.claim else contextlib.nullcontext()
        with kept_alive:
            objective = self._prepare()
            objective.tidy()
        self._launcher.wait_for_go()
        ready.set()
        try:
            status = self._run_trials(objective)
        finally:
            self._endings.settle()
        return self._renew() if status == RENEWED else status

    def _run_trials(self, objective: Objective) -> int:
        if self._options.claim is not None:
            self._database.fence(self._options.claim.trial_id, self._options.claim.id)
            self._run_trial(objective, Taken(self._options.claim))
            if self._stop.is_set() or self._launcher.leaving.is_set():
                return 0
            # The threads were that trial's.
            self._endings.settle()
            self._start_again(self._options.successor())
            return 0
        began_bytes = resident_bytes()
        trials_run = 0
        while not self._stop.is_set() and not self._launcher.leaving.is_set():
            grown_bytes = resident_bytes() - began_bytes
            grown = trials_run >= self._limits["trials_per_worker"] or grown_bytes > self._limits["memory_growth_bytes"]
            if grown or self._endings.mistaken.is_set():
                logger.info("renewed after %d trials, grown by %.0f MB", trials_run, grown_bytes / 1e6)
                return RENEWED
            taken = self._course.next()
            if taken is not None and self._endings.mistaken.is_set():
                # Perhaps just the trial whose end was not recorded, which this process remembers as over.
                self._claims.put_back(taken.claim, "interrupted")
            elif taken is not None:
                if not taken.ends and not self._continue_with_its_threads(taken.claim):
                    return 0
                trials_run += 1
                if self._run_trial(objective, taken) == attributes.OUT_OF_MEMORY:
                    return RENEWED
            elif self._endings.pending:
                # To the others that trial still runs: what comes next may wait for its end.
                self._endings.settle()
            elif self._claims.standing().done:
                return 0
            else:
                self._watch.put_back_expired()
                # Not `stop.wait`: a signal that came just then would set the event inside its own lock, for ever.
                time.sleep(IDLE_S)
        return 0

    def _renew(self) -> int:
        """Make way for a fresh process: the launcher starts it, or this one becomes it."""
        if not self._options.supervised:
            self._start_again(self._options.successor())
        return RENEWED

    def _prepare(self) -> Objective:
        gpu = self._options.device if self._options.device != CPU else None
        options, spec, home = self._options, self._spec, self._home
        home.make(home.root)
        # Frameworks read it when they are imported.
        os.environ.update(cache_environment(home, gpu, os.environ))
        with _no_garbage():
            from models.backend import set_precision
            from models.training.compiled import CompiledModels
            from tuning.worker.objective import Objective, Place
            from tuning.worker.preflight import preflight
            from tuning.worker.throughput import peaks

            hypermodel = load_hypermodel(spec.model, options.user_file)
        set_precision(options.precision)
        data, models = open_training_data(self._study, spec, home), CompiledModels()
        if options.preflight:
            space, found = preflight(hypermodel, spec, data, models)
            logger.info("preflight took %.3f s", found.seconds)
            first = first_configurations(spec, space, self._study.user_attrs.get(attributes.FIRST, []))
            require_room(spec, space, self._claims.standing().budget, len(first))
            self._study.set_user_attr(attributes.SPACE, space.document())
            self._launcher.tell(peaks())
            self._launcher.tell(found)
        checkpoints = home.checkpoints(self._study.study_name, self._study.user_attrs.get(attributes.UID, ""))
        return Objective(
            self._study,
            self._course,
            spec,
            hypermodel,
            data,
            models,
            self._claims,
            Artifacts(home.make(home.artifacts)),
            # Made at once: to `gc` it says that this home serves the study.
            home.make(checkpoints),
            self._limits,
            Place(options.device, options.precision, options.threads),
            self._stop,
            self._launcher.crowded,
            self._launcher.tell,
        )

    def _run_trial(self, objective: Objective, taken: Taken) -> str | None:
        """Run a claimed trial; return the class of its failure, if it failed.

        How it ended is recorded beside what comes next, a failure at once.
        """
        from tuning.worker.callbacks import Interrupted
        from tuning.worker.objective import TrialError

        claim = taken.claim
        logger.info("trial %d: claim %d", claim.number, claim.count)
        with contextlib.ExitStack() as held:
            held.callback(self._database.unfence, claim.trial_id)
            held.enter_context(self._heartbeat.of(claim))
            try:
                ending = objective.run(taken)
                self._endings.settle()
            except Interrupted:
                self._claims.put_back(claim, "interrupted")
                return None
            except TrialError as error:
                self._claims.put_back(claim, error.reason, "error")
                if (
                    isinstance(error.__cause__, Exception)
                    and failure_of(error.__cause__)[0] == attributes.OUT_OF_MEMORY
                ):
                    # Perhaps for want of what its neighbours have: the launcher makes room.
                    self._launcher.tell(OutOfMemory(claim.number))
                    return attributes.OUT_OF_MEMORY
                return None
            except ClaimLost as error:
                logger.warning("%s; dropped", error)
                return None
            except StorageUnavailable as error:
                # It cannot be said to the database, perhaps; then the lease says it.
                with contextlib.suppress(StorageUnavailable):
                    self._claims.put_back(claim, str(error))
                raise
            if ending is not None:
                self._endings.submit(claim, ending.result, lambda: objective.record(claim, ending), held.pop_all())
        seal_compiled(self._home)
        if ending is None:
            self._over(claim)
            return None
        if ending.failure is not None:
            self._endings.settle()
            logger.info("trial %d failed: %s", claim.number, ending.failure)
        if ending.failure == attributes.OUT_OF_MEMORY:
            self._launcher.tell(OutOfMemory(claim.number))
        return ending.failure

    def _over(self, claim: Claim) -> None:
        logger.info("trial %d: over", claim.number)
        self._launcher.tell(Finished(claim.number))

    def _give_up_hung(self, claim: Claim) -> None:
        timeout = f"trial {claim.number} took longer than its time limit of {self._limits['trial_timeout_s']:g} s"
        logger.error("%s; this worker ends", timeout)
        try:
            self._claims.put_back(claim, timeout, "timeout")
            self._launcher.tell(Note(f"{timeout} and is given up by its worker"))
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
        threads = trial.user_attrs.get(attributes.THREADS)
        begun = claim.count > 1 and trial.user_attrs.get(attributes.DEVICE) == self._options.device == CPU
        if begun and threads is not None and threads != self._options.threads:
            self._endings.settle()
            self._start_again(self._options.successor(claim=claim, threads=threads))
            return False
        return True

    def _start_again(self, options: WorkerOptions) -> None:
        """Become a fresh worker, or put its claim back and return if a stop was asked for: the other would not know.

        The same process with another program image: the launcher, the claim and its owner stay what they are.
        """
        threads = options.threads
        other = cpu_environment(threads, os.environ) if threads != self._options.threads else {}
        environment = {**os.environ, **other, STORAGE_VARIABLE: self._storage_url}
        command = options.command()
        if self._stop.is_set():
            if options.claim is not None:
                self._claims.put_back(options.claim, "interrupted")
            return
        self._launcher.hand_over()
        os.execve(sys.executable, command, environment)


def _open_patiently(url: str, patience_s: float) -> Database:
    until = time.monotonic() + patience_s
    while True:
        try:
            return open_database(url)
        except BadInput as error:
            if time.monotonic() >= until:
                raise
            logger.warning("the database is away, waiting: %s", error)
            time.sleep(IDLE_S)


@contextlib.contextmanager
def _no_garbage() -> Iterator[None]:
    """Import a framework: a million objects that stay. Looking for garbage among them takes a quarter of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def resident_bytes() -> int:
    """Return how much memory this process takes; its peak where the system tells no more."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        usage = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return usage if sys.platform == "darwin" else usage * 1024


def open_training_data(study: optuna.Study, spec: StudySpec, home: Home) -> TrainingData:
    """Return the study's data, memory-mapped; prepared first where this machine does not have it.

    Raises:
        BadInput: the data cannot be had, or are not those that the study records.
    """
    from models.classifier import Inputs
    from models.training.feeding import LabelledImages
    from studies.datasets.prepared import prepare
    from studies.study_data import recorded_split
    from tuning.worker.objective import TrainingData

    recorded = study.user_attrs.get(attributes.DATA)
    if recorded is None:
        raise BadInput(
            f"study {study.study_name!r} records no data. Start it with: tuning tune --dataset {spec.dataset}"
        )
    dataset = prepare(spec.dataset, home)
    split = recorded_split(dataset, spec, recorded)
    images, labels = dataset.train_images, dataset.train_labels
    return TrainingData(
        training=LabelledImages(images, labels, split.train),
        validation=LabelledImages(images, labels, split.validation),
        inputs=Inputs(
            shape=dataset.info.shape,
            classes=len(dataset.info.class_names),
            mean=tuple(recorded["mean"]),
            std=tuple(recorded["std"]),
            flips=dataset.info.natural_images,
        ),
    )
