"""One trial of a user's objective: call it, and say how it ended."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims
from storage.database import Result
from storage.errors import ClaimLost, StorageUnavailable
from storage.settings import Home
from studies.functions.trials import ClaimedTrial, FunctionTrials, SamplerOf, values_of
from tuning.messages import Note, WorkerOptions
from tuning.user_functions import take
from tuning.worker.endings import ERROR, Interrupted, Outcome, TrialError, failure_of
from tuning.worker.joining import JoinedStudy
from tuning.worker.supervisor import Supervisor

logger = logging.getLogger(__name__)


class FunctionTrialRunner:
    """Runs the trials of one study in this process, one after the other.

    Args:
        function: the user's.
        study: Optuna's own.
        trials: gives each trial.
        claims: the study's.
        supervisor: says when to stop.
        device: where this process computes, recorded with each trial.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        function: Callable[[optuna.Trial], Any],
        study: optuna.Study,
        trials: FunctionTrials,
        claims: Claims,
        supervisor: Supervisor,
        device: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._function = function
        self._study = study
        self._trials = trials
        self._claims = claims
        self._supervisor = supervisor
        self._device = device
        self._clock = clock

    def run(self, claim: Claim) -> Outcome:
        """Run a claimed trial to its end; `record` does the rest.

        Raises:
            Interrupted: the worker was asked to stop when the trial reported; the caller puts it back.
            TrialError: the function raised; likewise.
            ClaimLost: the trial was given to another worker; nothing was written since.
            StorageUnavailable: the database could not be reached; likewise.
        """
        stopped = False

        def reported(_step: int) -> None:
            nonlocal stopped
            if self._supervisor.stop.is_set():
                stopped = True
                raise Interrupted

        trial = self._trials.trial(claim, reported)
        trial.set_user_attr(attributes.DEVICE, self._device)
        began = self._clock()
        try:
            returned = self._function(trial)
        except Exception as error:
            if stopped and not isinstance(error, (ClaimLost, StorageUnavailable)):
                raise Interrupted from error  # the function may have made another error of it
            self._record_time(trial, claim, began)
            return self._raised(trial, error)
        if stopped:
            raise Interrupted
        self._record_time(trial, claim, began)
        try:
            values = values_of(returned, len(self._study.directions))
        except ValueError as error:
            return self._failed(trial, ERROR, f"the objective {error}")
        if any(map(math.isnan, values)):
            return self._failed(trial, attributes.DIVERGED, "the objective returned what is no number")
        return Outcome(self._trials.over(trial, TrialState.COMPLETE, values))

    def _raised(self, trial: ClaimedTrial, error: Exception) -> Outcome:
        if isinstance(error, (ClaimLost, StorageUnavailable)):
            raise error
        if isinstance(error, optuna.TrialPruned):
            last = trial.last_value
            return Outcome(self._trials.over(trial, TrialState.PRUNED, [] if last is None else [last]))
        failure, reason = failure_of(error)
        logger.exception("trial %d: %s", trial.number, failure, exc_info=error)
        if failure == ERROR or self._supervisor.crowded.is_set():
            raise TrialError(reason) from error
        return self._failed(trial, failure, reason)

    def _failed(self, trial: ClaimedTrial, failure: str, reason: str) -> Outcome:
        """Return the outcome of a trial that would fail so again."""
        trial.set_user_attr(attributes.FAILURE, failure)
        trial.set_user_attr(attributes.REASON, reason)
        self._trials.over(trial, TrialState.FAIL)
        return Outcome(Result(TrialState.FAIL, None), failure)

    def _record_time(self, trial: ClaimedTrial, claim: Claim, began: float) -> None:
        before = attributes.read(trial.user_attrs, attributes.SECONDS, float) or 0.0
        with self._claims.together(claim):
            trial.set_user_attr(attributes.SECONDS, round(before + self._clock() - began, 3))

    def record(self, claim: Claim, outcome: Outcome) -> None:
        """Record how a trial ended; in any thread. The folder of one that is COMPLETE stays.

        Raises:
            ClaimLost: the trial was given to another worker; nothing was written since.
            StorageUnavailable: the database could not be reached.
        """
        self._study._storage.set_trial_state_values(claim.trial_id, outcome.result.state, outcome.result.values)
        if outcome.result.state != TrialState.COMPLETE:
            self._trials.remove(claim.number)


def drawing_apart(sampler: BaseSampler) -> SamplerOf:
    """Return what gives each trial of this process a sampler, seeded or not, which draws like that of no other.

    The process that begins with the study's first trial draws as the user's own would; all others begin anew.
    """
    begun = False

    def sampler_of(claim: Claim) -> BaseSampler:
        nonlocal begun
        if not begun and (claim.number, claim.count) != (0, 1):
            sampler.reseed_rng()
        begun = True
        return sampler

    return sampler_of


def function_trial_runner(
    joined: JoinedStudy, options: WorkerOptions, home: Home, supervisor: Supervisor
) -> FunctionTrialRunner:
    """Return what runs the trials of the study that a worker was started for.

    Raises:
        BadInput: the user's objective cannot be imported here.
    """
    assert options.function is not None
    handed = take(Path(options.function), lambda line: supervisor.tell(Note(line)))
    study, folder = joined.study, home.checkpoints(joined.record.name, joined.record.uid)
    trials = FunctionTrials(study, joined.claims, folder, drawing_apart(handed.sampler), handed.pruner)
    return FunctionTrialRunner(handed.objective, study, trials, joined.claims, supervisor, options.device)
