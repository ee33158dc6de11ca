"""What a free worker takes up, and after each epoch whether its trial goes on.

That is the search's to decide. A trial of another phase is there with all that it trains with, and goes on to its end.

A trial that is audited goes on where it would be ended, see `studies.strategies.audit`.

The same code serves real training and studies on a virtual clock; it knows no Keras, no process and no clock.

A study ends when its trials were all started and its epochs are spent, or when the strategy wants none of the frozen
ones. Then the trial with the best value is trained to its end if it was frozen, since what is exported must be whole,
and the other frozen ones become PRUNED.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Choice, Claim, Claims, End, Start, Thaw
from storage.errors import TuningError
from studies.space import SearchSpace
from studies.spec import STRATEGIES, StudySpec, derive_seed
from studies.stored import StudyRecord
from studies.strategies import audit
from studies.strategies.samplers import SearchedStudy, SeenBySampler, make_sampler
from studies.strategies.strategy import VERDICTS, Strategy, Verdict, View
from studies.trials import (
    as_decided,
    as_searched,
    audited_after,
    incumbent,
    is_foreign,
    is_frozen,
    is_running,
    spent_epochs,
)

logger = logging.getLogger(__name__)

T = TypeVar("T")

# How often a worker chooses anew at once when others were quicker, before it waits a little.
MAX_OVERTAKEN = 5


@dataclass(frozen=True)
class _Audit(Thaw):
    """Thaw a trial that would be ended, and train it to its end."""


class UnusableStrategy(TuningError):
    """A strategy raised, or answered what means nothing; no other worker would be answered better."""


class Scheduler:
    """Says what one worker does next in one study.

    Args:
        study: Optuna's own.
        spec: the study's.
        strategy: decides.
        claims: the study's.
    """

    def __init__(self, study: optuna.Study, spec: StudySpec, strategy: Strategy, claims: Claims) -> None:
        self._study = study
        self._searched = SearchedStudy.of(study)
        self._spec = spec
        self._strategy = strategy
        self._claims = claims
        # The record of which the space was parsed.
        self._read: StudyRecord | None = None

    def next(self) -> Claim | None:
        """Take up what comes next; None when there is nothing to do now.

        Raises:
            TooManyFailures: the last trials all failed.
            StudyDeleted: the study is gone.
            StorageUnavailable: the database cannot be reached.
        """
        if self._claims.phase != attributes.SEARCH:
            return self._claims.next(None)
        for _ in range(MAX_OVERTAKEN):
            view = self._view()
            choice = self._choice(view)
            claim = self._claims.next(choice)
            if claim is not None:
                # A trial that was put back goes before any choice.
                thawed = isinstance(choice, Thaw) and claim.number == choice.number
                if thawed and isinstance(choice, _Audit):
                    # Given up before this was written, it is frozen again after an epoch, and comes here again.
                    self._audit(claim, len(view.trials[claim.number].intermediate_values))
                elif thawed and view.epochs_left > 0 and not self._room_for(claim):
                    self._claims.put_back(claim, "another worker took the last epoch", "frozen")
                    continue
                return claim
            if choice is None:
                break
        return None

    def _room_for(self, claim: Claim) -> bool:
        """Return whether a trial that was just thawed may train an epoch, seen with all that others did meanwhile."""
        return self._view(up_to=(claim.number, self._spec.epochs)).epochs_left > 0

    def _choice(self, view: View) -> Choice | None:
        choice: Choice | None = None
        if view.trials_left or view.epochs_left > 0:
            choice = self._answer(lambda: self._strategy.ask(view))
        if isinstance(choice, Thaw) and view.epochs_left <= 0:
            choice = Start() if view.trials_left else None
        # What cannot be done is no choice: waiting for it, the study would never end.
        if isinstance(choice, Start) and not view.trials_left:
            choice = None
        if isinstance(choice, Start) and view.space is not None:
            self._require_parameters(choice.params, view.space)
        if isinstance(choice, Thaw | End) and all(choice.number != trial.number for trial in view.frozen()):
            choice = None
        if isinstance(choice, End):
            return self._ended(choice.number)
        if choice is not None or any(is_running(trial) for trial in view.trials):
            return choice
        if view.trials_left:
            return Start()
        frozen = view.frozen()
        best = incumbent(view.trials, self._spec.objective)
        if best is not None and is_frozen(best):
            return Thaw(best.number)
        return self._ended(frozen[0].number) if frozen else None

    def _ended(self, number: int) -> Choice:
        """Return what becomes of a frozen trial that is not wanted any more."""
        return _Audit(number) if audit.is_drawn(self._spec, number) else End(number)

    def _audit(self, claim: Claim, epoch: int) -> None:
        self._study._storage.set_trial_system_attr(claim.trial_id, attributes.AUDITED, epoch)

    def trial(self, claim: Claim, attempt: int = 0) -> optuna.trial.Trial:
        """Return a claimed trial, ready to suggest its parameters.

        Args:
            claim: the right to it.
            attempt: how often its parameters were drawn before.
        """
        storage = self._study._storage
        record = StudyRecord.read(storage, self._study._study_id, self._study.study_name)
        space = self._space_of(record)
        first = first_configurations(self._spec, space, record.first) if claim.phase == attributes.SEARCH else []
        if claim.number < len(first) and attempt == 0:
            storage.set_trial_system_attr(claim.trial_id, attributes.FIXED_PARAMETERS, first[claim.number])
        proposed = self._strategy.proposes and self._spec.sampler.name == "model"
        if proposed or claim.phase != attributes.SEARCH:
            seed = derive_seed(self._spec.seed, "sampler", claim.number, attempt)
            sampler: optuna.samplers.BaseSampler = RandomSampler(seed=seed)
        else:
            sampler = make_sampler(
                self._spec, space, claim.number, attempt, first=len(first), freezes=self._strategy.freezes
            )
        # A study of its own for each trial: `Study` remembers the trials that its last `ask` or `tell` saw, and no
        # trial here passes through those.
        study = SeenBySampler(study_name=self._study.study_name, storage=storage, sampler=sampler)
        # The trial was created in a transaction of its own; Optuna's cache learns of it by reading.
        storage.get_all_trials(study._study_id, deepcopy=False)
        sampler.before_trial(study, storage.get_trial(claim.trial_id))
        return optuna.trial.Trial(study, claim.trial_id)

    def epoch_ended(self, claim: Claim, epoch: int, value: float, *, last: bool = False) -> Verdict:
        """Report a trial's epoch; return whether it goes on.

        Args:
            claim: the right to it.
            epoch: counted from 1.
            value: of the objective after it. An epoch trained again overwrites its report.
            last: whether the trial ends with this epoch whatever is decided.

        Raises:
            ClaimLost: the trial was given to another worker.
        """
        storage = self._study._storage
        storage.set_trial_intermediate_value(claim.trial_id, epoch, value)
        if last or epoch >= self._spec.epochs or claim.phase != attributes.SEARCH:
            return "go on"
        drawn = audit.is_drawn(self._spec, claim.number)
        if drawn and audited_after(storage.get_trial(claim.trial_id)) is not None:
            return "go on"  # that was decided before
        # Reports of a former claim that lie ahead are not yet this one's.
        view = self._view(up_to=(claim.number, epoch))
        trial = view.trials[claim.number]
        if view.epochs_left > 0:
            verdict = self._answer(lambda: self._strategy.decide(view, trial))
        else:
            verdict = self._out_of_budget(view, trial)
        if verdict not in VERDICTS:
            raise self._unusable(f"decided {verdict!r} and may decide {', '.join(VERDICTS)}")
        if verdict == "prune" and drawn:
            self._audit(claim, epoch)
            return "go on"
        return verdict

    def _answer(self, ask: Callable[[], T]) -> T:
        # What a strategy of the project's own raises is a defect of the project: it ends the worker as any other.
        try:
            return ask()
        except Exception as error:
            if isinstance(error, TuningError) or self._spec.strategy.name in STRATEGIES:
                raise
            logger.error("strategy %r raised", self._spec.strategy.name, exc_info=error)
            last = traceback.extract_tb(error.__traceback__)[-1]
            place = f"{Path(last.filename).name}, line {last.lineno}"
            raise self._unusable(f"raised {type(error).__name__}: {error} ({place})") from error

    def _require_parameters(self, params: Mapping[str, Any], space: SearchSpace) -> None:
        for name, value in params.items():
            if name not in space.parameters or not _is_in(space.parameters[name].distribution, value):
                raise self._unusable(f"starts a trial with {name} = {value!r}, which is not in the search space")

    def _unusable(self, what: str) -> UnusableStrategy:
        return UnusableStrategy(
            f"strategy {self._spec.strategy.name!r} {what}. Mend it, and take STUDY=another: a study goes on with the"
            " strategy that it was begun with."
        )

    def _out_of_budget(self, view: View, trial: FrozenTrial) -> Verdict:
        best = incumbent(view.trials, self._spec.objective) is trial
        if not self._strategy.freezes:
            return "go on" if best else "prune"
        # While others run, each may be the best in its turn: the best of all is thawed when nothing runs any more.
        alone = not any(is_running(other) for other in view.trials if other is not trial)
        return "go on" if best and alone and not view.trials_left else "freeze"

    def _view(self, up_to: tuple[int, int] | None = None) -> View:
        record = StudyRecord.of(self._study)
        trained = as_searched(self._study.get_trials(deepcopy=False))
        if up_to is not None:
            number, epoch = up_to
            trained[number] = known = copy(trained[number])
            known.intermediate_values = {at: value for at, value in known.intermediate_values.items() if at <= epoch}
        trials = [as_decided(trial) for trial in trained]
        started = sum(trial.state != TrialState.FAIL and not is_foreign(trial) for trial in trials)
        trials_left = max(0, record.budget - started)
        budget = record.budget_epochs
        epochs_left = math.inf
        if budget is not None:
            best = incumbent(trials, self._spec.objective)
            # Each trial yet to come trains an epoch, and the best one to its end.
            epochs_left = budget - spent_epochs(trained) - trials_left - self._set_aside(best)
            epochs_left -= audit.set_aside(self._spec, trained, trials_left, best)
            epochs_left -= self._under_way(trials, best, besides=None if up_to is None else up_to[0])
        return View(self._searched, trials, self._space_of(record), self._spec.epochs, trials_left, epochs_left)

    def _space_of(self, record: StudyRecord) -> SearchSpace | None:
        if self._read is None or self._read.space_document != record.space_document:
            self._read = record
        return self._read.space

    def _set_aside(self, best: FrozenTrial | None) -> int:
        over = best is None or best.state.is_finished()
        return 0 if over or best is None else self._spec.epochs - len(best.intermediate_values)

    def _under_way(self, trials: Sequence[FrozenTrial], best: FrozenTrial | None, besides: int | None) -> int:
        """Return how many epochs are being trained that nobody has reported or set aside yet.

        Args:
            trials: the study's.
            best: of them.
            besides: the number of the trial that it is decided of, which is between two epochs.
        """
        others = [trial for trial in trials if is_running(trial) and trial is not best and trial.number != besides]
        others = [trial for trial in others if not audit.is_drawn(self._spec, trial.number)]
        return sum(len(trial.intermediate_values) < self._spec.epochs for trial in others)


def first_configurations(
    spec: StudySpec, space: SearchSpace | None, known_good: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what is tried first, each once: the defaults where they come first, then what is known to be good.

    Args:
        spec: the study's.
        space: what is searched; None where it was not recorded.
        known_good: configurations that the study records.
    """
    if space is None:
        return []
    first = [space.defaults] if spec.sampler.default_first else []
    for configuration in map(space.fits, known_good):
        # Of another space, perhaps, nothing of which is in this one.
        if configuration and configuration not in first:
            first.append(configuration)
    return first


def first_in_words(spec: StudySpec, space: SearchSpace, known_good: Sequence[dict[str, Any]]) -> str | None:
    """Return what is tried first besides the defaults; None where that is nothing."""
    known = len(first_configurations(spec, space, known_good)) - int(spec.sampler.default_first)
    if not known:
        return None
    then = "the defaults, then " if spec.sampler.default_first else ""
    return f"{then}{known} known configuration{'' if known == 1 else 's'}"


def _is_in(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return distribution._contains(distribution.to_internal_repr(value))
    except (ValueError, TypeError):
        return False
