"""Trials that this process itself runs, one after the other; other processes that run the same share the study."""

from __future__ import annotations

import os
import random
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Claim
from storage.errors import BadInput
from storage.leases import Heartbeat, LeaseWatch
from storage.opening import open_database
from storage.settings import Home
from studies.functions.opening import begin, claims_of, find_or_create, require_no_spec
from studies.functions.trials import ClaimedTrial, FunctionTrials
from studies.spec import STRATEGIES, Sampler, StrategyChoice, derive_seed
from studies.strategies.samplers import tpe
from studies.strategies.stopping import pruner_of

IDLE_S = 1.0
"""How often who has no trial looks for one."""


@dataclass(frozen=True)
class Meant:
    """Which study is meant, and how it is searched.

    Attributes:
        home: where it is, with its files.
        name: the study's.
        objective: what its objective is called, as the dashboard shows it.
        direction: of it.
        function: what runs its trials, in words.
        seed: what is tried derives from it; None for another each time.
        strategy: the name of one that stops trials, or `none`.
    """

    home: Home
    name: str
    objective: str
    direction: Literal["min", "max"]
    function: str
    seed: int | None
    strategy: str


def pruner_named(strategy: str) -> optuna.pruners.BasePruner:
    """Return the pruner that stops trials as a strategy does.

    Raises:
        BadInput: it does not stop trials.
    """
    known = {name: pruner_of(StrategyChoice(name=name)) for name in STRATEGIES}
    found = known.get(strategy)
    if found is None:
        stopping = ", ".join(name for name, pruner in known.items() if pruner is not None)
        raise BadInput(f"strategy={strategy!r}: trials that a script runs itself take one of {stopping}.")
    return found


class OwnTrials:
    """The trials of one study, as this process runs them.

    Args:
        meant: which study, and how.
        delete: deletes the study of that name, where there is one that a function's trials made; None to go on with it.

    Raises:
        BadInput: the study cannot be had.
        TuningError: it is to be deleted, and is running.
    """

    def __init__(self, meant: Meant, delete: Callable[[], object] | None = None) -> None:
        pruner, home, direction = pruner_named(meant.strategy), meant.home, meant.direction
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        home.require_folders()
        home.make(home.root)
        self._database = open_database(home.database_url, create=True)
        if delete is not None and meant.name in optuna.get_all_study_names(self._database):
            require_no_spec(optuna.load_study(study_name=meant.name, storage=self._database))
            delete()
        wanted = StudyDirection.MAXIMIZE if direction == "max" else StudyDirection.MINIMIZE
        self.study = find_or_create(self._database, meant.name, [wanted])
        record = begin(self._database, self.study, meant.function)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            self.study.set_metric_names([meant.objective])
        self.folder: Path = home.checkpoints(meant.name, record.uid)
        self._claims = claims_of(self._database, self.study, record)
        self._watch = LeaseWatch(self._claims)
        self._heartbeat = Heartbeat(self._claims, timeout_s=None, give_up=lambda _claim, _why: None)
        seed = meant.seed if meant.seed is not None else random.SystemRandom().randrange(2**31)
        startup = Sampler().startup_trials
        self._trials = FunctionTrials(
            self.study,
            self._claims,
            self.folder,
            lambda claim: tpe(derive_seed(seed, "sampler", claim.number), startup),
            pruner,
        )
        self._held: dict[int, tuple[Claim, ClaimedTrial, ExitStack, float]] = {}

    @property
    def shown_url(self) -> str:
        """The URL of the database, without a password."""
        return self._database.shown_url

    def set_budget(self, trials: int) -> int:
        """Set the study's total of finished trials; return how many there are."""
        self._claims.set_budget(trials)
        return self._claims.standing().finished

    def take(self, waiting: Callable[[], None] = lambda: None) -> ClaimedTrial | None:
        """Return the next trial, kept alive until it is told how it ended; None once the budget is spent.

        Args:
            waiting: called once where others run what is left.

        Raises:
            TooManyFailures: the last trials all failed.
            StudyDeleted: the study is gone.
            StorageUnavailable: the database cannot be reached.
        """
        told = False
        while (claim := self._trials.next()) is None:
            if self._claims.standing().done:
                return None
            if not told:
                waiting()
                told = True
            self._watch.put_back_expired()
            time.sleep(IDLE_S)
        kept = ExitStack()
        kept.callback(self._database.unfence, claim.trial_id)
        kept.enter_context(self._heartbeat.of(claim))
        trial = self._trials.trial(claim)
        self._held[claim.number] = (claim, trial, kept, time.monotonic())
        return trial

    def report(self, number: int, value: float) -> bool:
        """Report the next epoch of a trial that was taken; return whether it goes on."""
        _, trial, _, _ = self._held[number]
        trial.report(value, trial.steps + 1)
        return not trial.should_prune()

    def complete(self, number: int, value: float, found: Mapping[str, Any]) -> None:
        """Record that a trial ended with a value, and what is said of it."""
        self._end(number, TrialState.COMPLETE, [value], found)

    def prune(self, number: int) -> None:
        """Record that a trial was stopped."""
        last = self._held[number][1].last_value
        self._end(number, TrialState.PRUNED, [] if last is None else [last], {})

    def fail(self, number: int, failure: str, reason: str) -> None:
        """Record that a trial failed, for good: a class of failures, and why in one line."""
        self._end(number, TrialState.FAIL, [], {attributes.FAILURE: failure, attributes.REASON: reason})

    def _end(self, number: int, state: TrialState, values: list[float], found: Mapping[str, Any]) -> None:
        claim, trial, kept, began = self._held.pop(number)
        with kept:  # a claim that was lost is told by the first write
            before = attributes.read(trial.user_attrs, attributes.SECONDS, float) or 0.0
            said = {**found, attributes.SECONDS: round(before + time.monotonic() - began, 3)}
            for key, value in said.items():
                trial.set_user_attr(key, value)
            result = self._trials.over(trial, state, values)
            self.study._storage.set_trial_state_values(claim.trial_id, result.state, result.values)
        if state != TrialState.COMPLETE:
            self._trials.remove(number)

    def put_back(self, number: int) -> None:
        """Put a trial that was taken back into the queue, as itself."""
        claim, _, kept, _ = self._held.pop(number)
        with kept:
            self._claims.put_back(claim, "interrupted")

    def folder_of(self, number: int) -> str:
        """Return the folder of a trial's own."""
        return os.fspath(self._trials.folder(number))

    def recorded(self) -> list[FrozenTrial]:
        """Return all trials of the study, the best of those that are COMPLETE first."""
        trials = self.study.get_trials(deepcopy=False)
        sign = -1.0 if self.study.direction == StudyDirection.MAXIMIZE else 1.0
        complete = sorted(
            (trial for trial in trials if trial.state == TrialState.COMPLETE and trial.value is not None),
            key=lambda trial: (sign * (trial.value or 0.0), trial.number),
        )
        return [*complete, *(trial for trial in trials if trial not in complete)]
