"""The trials of a function's study: each claimed, seen by Optuna's sampler and pruner, and told how it ended.

A trial that is taken up again is itself. Its parameters are suggested as before; what it reported under a former claim
holds up to the step that it reports now; and what it left in its folder is there.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from copy import copy
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims, Start
from storage.database import Result

SamplerOf = Callable[[Claim], BaseSampler]
"""Returns the sampler of a claimed trial."""


class ClaimedTrial(optuna.trial.Trial):
    """A claimed trial as an objective sees it.

    Args:
        study: as its sampler and its pruner see it.
        trial_id: the trial's id.
        reported: called with each step that was reported; what it raises ends the objective.
    """

    def __init__(self, study: optuna.Study, trial_id: int, reported: Callable[[int], None]) -> None:
        super().__init__(study, trial_id)
        own = self._cached_frozen_trial = copy(self._cached_frozen_trial)
        self._former = own.intermediate_values
        own.intermediate_values = {}
        self._reported = reported

    def report(self, value: float, step: int) -> None:
        """Report a value; see `optuna.trial.Trial.report`. A step that a former claim reported is written anew."""
        super().report(value, step)
        known = self._cached_frozen_trial.intermediate_values
        for before, its in self._former.items():
            if before < int(step):
                known.setdefault(before, its)
        self._reported(int(step))

    @property
    def steps(self) -> int:
        """The last step that this claim reported; 0 before, where steps are counted from 1."""
        return max(self._cached_frozen_trial.intermediate_values, default=0)

    @property
    def last_value(self) -> float | None:
        """What it reported last; None where it reported nothing, or nothing that is a number."""
        known = self._cached_frozen_trial.intermediate_values
        value = known[max(known)] if known else math.nan
        return None if math.isnan(value) else value


class _Seen(optuna.Study):
    """A study as sampler, pruner and objective see it: to stop it is to start no further trial."""

    claims: Claims

    def stop(self) -> None:
        """Let no trial begin any more; those that began go on to their end."""
        self.claims.set_budget(self.claims.standing().started)


class FunctionTrials:
    """Gives one process trials of a study, one after the other.

    Args:
        study: Optuna's own.
        claims: under this process's name.
        checkpoints: the folder of the study's checkpoints.
        sampler_of: says what each trial tries.
        pruner: says whether it goes on.
    """

    def __init__(
        self, study: optuna.Study, claims: Claims, checkpoints: Path, sampler_of: SamplerOf, pruner: BasePruner
    ) -> None:
        self._study = study
        self._claims = claims
        self._checkpoints = checkpoints
        self._sampler_of = sampler_of
        self._pruner = pruner

    def next(self) -> Claim | None:
        """Take up a trial that was put back or enqueued, else create the next one; None where there is none now.

        Raises:
            TooManyFailures: the last trials all failed.
            StudyDeleted: the study is gone.
            StorageUnavailable: the database cannot be reached.
        """
        return self._claims.next(Start())

    def trial(self, claim: Claim, reported: Callable[[int], None] = lambda _: None) -> ClaimedTrial:
        """Return a claimed trial, ready to suggest its parameters; its folder is there.

        Args:
            claim: the right to it.
            reported: called with each step that was reported; what it raises ends the objective.
        """
        storage = self._study._storage
        # It was created in a transaction of its own; Optuna's cache learns of it by reading.
        storage.get_all_trials(self._study._study_id, deepcopy=False)
        study = _Seen(self._study.study_name, storage, self._sampler_of(claim), self._pruner)
        study.claims = self._claims
        former = storage.get_trial(claim.trial_id).intermediate_values
        furthest = max(former, default=-1)

        def moved(step: int) -> None:
            nonlocal furthest
            if step > furthest:
                furthest = step
                self._claims.progressed(claim, step + 1)
            reported(step)

        trial = ClaimedTrial(study, claim.trial_id, moved)
        trial.set_user_attr(attributes.CHECKPOINT, str(self.folder(claim.number)))
        return trial

    def folder(self, number: int) -> Path:
        """Return the folder of a trial's own, which outlives its worker; it is made where it is not there."""
        folder = self._checkpoints / str(number)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def remove(self, number: int) -> None:
        """Remove the folder of a trial that ended without a result."""
        shutil.rmtree(self._checkpoints / str(number), ignore_errors=True)

    def over(self, trial: ClaimedTrial, state: TrialState, values: Sequence[float] = ()) -> Result:
        """Tell the sampler how a trial ended; return what is to be recorded."""
        study: Any = optuna.pruners._filter_study(trial.study, trial._cached_frozen_trial)
        told = list(values) or None
        trial.study.sampler.after_trial(study, self._study._storage.get_trial(trial._trial_id), state, told)
        return Result(state, values[0] if values else None, tuple(values[1:]))


def values_of(returned: object, objectives: int) -> list[float]:
    """Return what an objective returned as the values that Optuna records; NaN is told by the caller.

    Raises:
        ValueError: it is not a number for each objective.
    """
    given = list(returned) if isinstance(returned, Sequence) and not isinstance(returned, str) else [returned]
    if len(given) != objectives:
        raise ValueError(f"returned {len(given)} values and the study has {objectives} objectives")
    try:
        return [float(value) for value in given]  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"returned {returned!r}, which is not a number") from None
