"""A worker without training: what the service's worker asks of a study, in its order, by the same code.

What is left out is Keras, and with it the epochs: they are waited for. The end of a trial is recorded before the next
one is claimed, which a worker does meanwhile; its checkpoints, two small writes a minute, are not made.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import optuna
from optuna.trial import TrialState

from storage import attributes
from storage.artifacts import Artifacts
from storage.claims import Claim, Claims, owner_name
from storage.leases import Heartbeat
from storage.stores.local import LocalFiles
from studies.scheduler import Scheduler
from studies.spec import Sampler, StrategyChoice
from studies.stored import StudyRecord
from studies.strategies.strategy import Strategy
from tests.benchmarks.claims.timed import Call, TimedDatabase
from tests.benchmarks.storage.studies import REPORTS, SPACE, STUDY
from tuning.machine.devices import CPU, Place
from tuning.worker.recording.trial_record import TrialRecord
from tuning.worker.trial_files import TrialFiles

BEAT: Final = "beat"
BEFORE: Final = ("claim", "draw", "begin")
AFTER: Final = ("tell", "files", "end")
STEPS: Final = (*BEFORE, *["report"] * REPORTS, *AFTER)
"""The calls of a trial, in their order; beats come besides."""

_ROLES: Final = ("model", "history", "learning_curve", "confusion_matrix", "mistakes")
_BYTES: Final = bytes(35_000)
_PLACE: Final = Place(CPU, "tensorflow", "float32", 1)


class _Over(Exception):
    """The time is up."""


@dataclass(frozen=True)
class Pace:
    """How a worker works.

    Attributes:
        epoch_s: how long an epoch is trained.
        beats: whether it beats after each report as well, to see what that takes.
        flushed: whether the database waits for the disk.
        trials: how many it brings to their end at least, however long that takes.
    """

    epoch_s: float = 0.0
    beats: bool = False
    flushed: bool = True
    trials: int = 0


@dataclass
class Worked:
    """What a worker came to.

    Attributes:
        calls: all that it made.
        seconds: for how long.
        cpu_s: the processor time of its process meanwhile.
    """

    calls: list[Call] = field(default_factory=list)
    seconds: float = 0.0
    cpu_s: float = 0.0

    @property
    def share(self) -> float:
        """The share of its time in which it did not train; what its heartbeat does is done beside the training."""
        return sum(call.wall_s for call in self.calls if call.step != BEAT) / self.seconds


class Worker:
    """One worker of a made study.

    Args:
        url: where the study is.
        folder: for its files.
        pace: how it works.
        seed: of the moment at which it begins.
    """

    def __init__(self, url: str, folder: Path, pace: Pace, seed: int = 0) -> None:
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._pace = pace
        self._rng = random.Random(seed)
        self._database = TimedDatabase(url, flushed=pace.flushed)
        self._study = optuna.load_study(study_name=STUDY, storage=self._database)
        record = StudyRecord.of(self._study)
        # A search that thinks of nothing: what is measured is not its thinking.
        alone = {"epochs": REPORTS, "sampler": Sampler(name="random"), "strategy": StrategyChoice(name="none")}
        spec = record.spec.model_copy(update=alone)
        self._claims = _BeatsTimed(self._database, self._study._study_id, owner_name(), uid=record.uid)
        self._scheduler = Scheduler(self._study, spec, Strategy(spec), self._claims)
        self._artifacts = Artifacts(LocalFiles(folder / "artifacts"))
        self._artifacts.files.make()
        checkpoints = LocalFiles(folder / "checkpoints")
        self._files = TrialFiles(self._study, spec.fingerprint, self._claims, self._artifacts, checkpoints)
        self._heartbeat = Heartbeat(self._claims, timeout_s=None, give_up=lambda *_: None)
        self._until, self._trials = math.inf, 0
        # The first reading is long, and made once; and who works already is somewhere in a trial, each elsewhere.
        self._begun = self._begin()
        self._database.calls.clear()

    def work(self, seconds: float) -> Worked:
        """Work for so long, from somewhere in a trial on."""
        began, cpu_s, self._until = time.perf_counter(), time.process_time(), time.perf_counter() + seconds
        try:
            self._train(self._rng.random())
            self._go_on(*self._begun, self._rng.randrange(REPORTS))
            while True:
                self._go_on(*self._begin(), 0)
        except _Over:
            pass
        return Worked(self._database.calls, time.perf_counter() - began, time.process_time() - cpu_s)

    def close(self) -> None:
        """Close its connections."""
        self._database.engine.dispose()

    def _do(self, step: str, call: Callable[[], object]) -> None:
        if self._trials >= self._pace.trials and time.perf_counter() >= self._until:
            raise _Over
        with self._database.timed(step):
            call()

    def _train(self, epochs: float = 1.0) -> None:
        time.sleep(max(0.0, min(epochs * self._pace.epoch_s, self._until - time.perf_counter())))

    def _begin(self) -> tuple[Claim, TrialRecord]:
        claimed: list[Claim | None] = []
        self._do("claim", lambda: claimed.append(self._scheduler.next()))
        claim = claimed[0]
        assert claim is not None
        drawn: list[optuna.trial.Trial] = []
        self._do("draw", lambda: drawn.append(self._draw(claim)))
        record = TrialRecord(drawn[0], claim, self._claims)
        self._do("begin", lambda: record.begun(_PLACE, 237_730, resumed=False))
        return claim, record

    def _go_on(self, claim: Claim, record: TrialRecord, epochs: int) -> None:
        # Without pause nobody trains, and a trial is over before its first beat where few others are at work.
        with self._heartbeat.of(claim) if self._pace.epoch_s else nullcontext():
            for epoch in range(epochs + 1, REPORTS + 1):
                self._train()
                self._do("report", partial(self._scheduler.epoch_ended, claim, epoch, 1 - 0.6**epoch))
                if self._pace.beats:
                    self._claims.beat(claim)
            self._do("tell", lambda: record.trained(epochs=REPORTS, seconds=1.0, traces=0))
            self._do("files", lambda: self._keep(claim, record))
            self._do("end", lambda: self._end(claim))
        self._database.unfence(claim.trial_id)
        self._trials += 1

    def _draw(self, claim: Claim) -> optuna.trial.Trial:
        trial = self._scheduler.trial(claim)
        with self._claims.together(claim):
            for name, distribution in SPACE.items():
                trial._suggest(name, distribution)
        self._study.get_trials(deepcopy=False)  # in which those are looked for that ran out of memory
        return trial

    def _keep(self, claim: Claim, record: TrialRecord) -> None:
        record.best(REPORTS, {attributes.VALIDATION_ACCURACY: 0.9, attributes.VALIDATION_LOSS: 0.1})
        for role in _ROLES:
            self._artifacts.put(self._study._storage, claim.trial_id, role, f"{role}.png", _write)

    def _end(self, claim: Claim) -> None:
        self._study._storage.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.9])
        self._files.checkpoints_of(claim).remove()
        self._files.tidy()


def _write(file: Path) -> None:
    file.write_bytes(_BYTES)


class _BeatsTimed(Claims):
    """`Claims` whose beats are timed, in whatever thread."""

    _ledger: TimedDatabase

    def beat(self, claim: Claim) -> None:
        with self._ledger.timed(BEAT):
            super().beat(claim)
