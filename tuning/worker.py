"""One process on one device: claim a trial, run it, tell the result, until the budget is spent.

Imported without Keras; Keras comes in once the process is known to have a study to work on.

A worker that a launcher started talks with it in lines: JSON events on standard output, `go` on standard input once
the preflight is over. The end of standard input means that the launcher is gone, however it went, and the worker ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

import optuna

from storage.artifacts import Artifacts
from storage.claims import BEAT_S, Claim, Claims, LeaseWatch, owner_name
from storage.database import Database, open_database
from storage.errors import BadInput, ClaimLost, StorageUnavailable, TuningError
from storage.settings import Home
from studies import attributes
from studies.leaderboard import find_study
from studies.spec import StudySpec
from studies.strategies import make_pruner
from tuning.hypermodels import UserFile, load_hypermodel

if TYPE_CHECKING:
    from tuning.objective import Objective, TrainingData

logger = logging.getLogger(__name__)

# How often a worker without a trial looks for one, and for leases that ran out.
IDLE_S = 1.0
# How long a worker whose launcher is gone may take to put its trial back.
ORPHAN_GRACE_S = 10.0


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is started with.

    Attributes:
        study: the study's name.
        storage_url: where the study is.
        home: where data and artifacts are.
        user_file: the file with the study's hypermodel, if it is a user's.
        precision: the Keras dtype policy.
        threads: CPU threads of the framework, recorded with each trial.
        supervised: whether a launcher reads the output and writes the input.
        preflight: whether this worker makes the preflight before it asks for trials.
    """

    study: str
    storage_url: str
    home: Home
    user_file: UserFile | None
    precision: str
    threads: int
    supervised: bool = False
    preflight: bool = False


def work(options: WorkerOptions) -> int:
    """Run trials until none is left or a stop is asked for; return the exit status.

    SIGTERM and SIGINT end it after the running step, its trial put back into the queue; the second one ends it at once.
    """
    stop, ready = threading.Event(), threading.Event()
    _stop_on_signals(stop, ready)
    launcher = _Launcher(options.supervised, stop, ready)
    try:
        _Worker(options, stop, launcher).run(ready)
    except TuningError as error:
        launcher.tell("error", message=str(error), exit_status=error.exit_status)
        if not options.supervised:
            raise
        return error.exit_status
    except Exception as error:
        logger.error("the worker failed: %s", traceback.format_exc())
        launcher.tell("crashed", message=f"{type(error).__name__}: {error}")
        raise
    return 130 if stop.is_set() and not launcher.asked_to_stop else 0


def _stop_on_signals(stop: threading.Event, ready: threading.Event) -> None:
    def on_signal(_number: int, _frame: object) -> None:
        # A worker that is not ready yet holds no trial, and may be deep in a preflight.
        if stop.is_set() or not ready.is_set():
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
        self.asked_to_stop = False
        if not supervised:
            self._go.set()
            return
        # Whatever a library prints must not end up between the events.
        self._output = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
        os.dup2(2, 1)
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        for line in sys.stdin:
            if line.strip() == "go":
                self._go.set()
        # End of file: the launcher is gone.
        self.asked_to_stop = True
        self._stop.set()
        self._go.set()
        if self._ready.is_set():
            time.sleep(ORPHAN_GRACE_S)
        os._exit(1)

    def tell(self, event: str, **more: Any) -> None:
        if self._output is None:
            return
        try:
            self._output.write(json.dumps({"event": event, **more}) + "\n")
        except OSError:  # nobody reads any more: the end of input will say so
            logger.warning("the launcher does not listen: %s %s", event, more)

    def wait_for_go(self) -> None:
        self._go.wait()


class _Worker:
    def __init__(self, options: WorkerOptions, stop: threading.Event, launcher: _Launcher) -> None:
        self._options = options
        self._stop = stop
        self._launcher = launcher
        self._database = open_database(options.storage_url)
        study = find_study(self._database, options.study)
        self._spec = StudySpec.stored(study.user_attrs.get(attributes.SPEC))
        # The pruner is the study's for all trials; the sampler is made for each.
        self._study = optuna.load_study(
            study_name=study.study_name, storage=self._database, pruner=make_pruner(self._spec)
        )
        self._claims = Claims(self._database, self._study._study_id, owner_name())
        self._watch = LeaseWatch(self._claims)

    def run(self, ready: threading.Event) -> None:
        # Owners are told apart by name: the launcher puts back what a worker held that it saw die.
        self._launcher.tell("started", owner=self._claims.owner)
        objective, preflight = self._prepare()
        if preflight is not None:
            self._launcher.tell("preflight", **preflight)
        self._launcher.wait_for_go()
        ready.set()
        heartbeat = Heartbeat(self._claims, self._database)
        while not self._stop.is_set():
            claim = self._claims.next()
            if claim is not None:
                self._run_trial(objective, claim, heartbeat)
            elif self._claims.standing().done:
                return
            else:
                self._watch.put_back_expired()
                self._stop.wait(IDLE_S)

    def _prepare(self) -> tuple[Objective, dict[str, Any] | None]:
        from models.training import set_precision
        from tuning.objective import Objective
        from tuning.preflight import preflight

        options, spec = self._options, self._spec
        hypermodel = load_hypermodel(spec.model, options.user_file)
        set_precision(options.precision)
        data = open_training_data(self._study, spec, options.home)
        objective = Objective(
            self._study,
            spec,
            hypermodel,
            data,
            Artifacts(options.home.make(options.home.artifacts)),
            precision=options.precision,
            threads=options.threads,
            stop=self._stop,
        )
        found = preflight(hypermodel, spec, data).document() if options.preflight else None
        return objective, found

    def _run_trial(self, objective: Objective, claim: Claim, heartbeat: Heartbeat) -> None:
        from tuning.callbacks import Interrupted

        logger.info("trial %d: claimed for the %d. time", claim.number, claim.count)
        with heartbeat.of(claim):
            try:
                state = objective.run(claim)
            except Interrupted:
                self._claims.put_back(claim, "interrupted")
                logger.info("trial %d: interrupted, put back", claim.number)
                return
            except ClaimLost as error:
                logger.warning("%s; dropped", error)
                return
            finally:
                self._database.unfence(claim.trial_id)
        logger.info("trial %d: %s", claim.number, state.name)
        self._launcher.tell("finished", number=claim.number)


class Heartbeat:
    """Shows that this process is alive while it runs a trial, from a thread of its own.

    A storage error ends neither the thread nor the trial: the beat is tried again, and whether the trial is still this
    worker's is decided by the next write to it.

    Args:
        claims: through which the beat is written.
        database: through which it is written.
        interval_s: seconds between two beats.
    """

    def __init__(self, claims: Claims, database: Database, interval_s: float = BEAT_S) -> None:
        self._claims = claims
        self._database = database
        self._interval_s = interval_s

    def of(self, claim: Claim) -> _Beating:
        """Return a context in which the claim's beat goes on."""
        return _Beating(lambda: self._claims.beat(claim), self._interval_s)


class _Beating:
    def __init__(self, beat: Callable[[], None], interval_s: float) -> None:
        self._beat = beat
        self._interval_s = interval_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._over.set()
        # Not waited for: a beat may be waiting for the database, and after the trial it changes nothing.

    def _run(self) -> None:
        while not self._over.wait(self._interval_s):
            try:
                self._beat()
            except ClaimLost:
                return
            except StorageUnavailable as error:
                logger.warning("no heartbeat: %s", error)


def open_training_data(study: optuna.Study, spec: StudySpec, home: Home) -> TrainingData:
    """Return the study's data, memory-mapped; prepared first where this machine does not have it.

    Raises:
        BadInput: the data cannot be had, or are not those that the study records.
    """
    from models.classifier import Inputs
    from models.training import LabelledImages
    from studies.datasets.prepared import prepare
    from studies.study_data import recorded_split
    from tuning.objective import TrainingData

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
