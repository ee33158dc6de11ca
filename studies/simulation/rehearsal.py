"""A study of this service on a virtual clock: claims, strategy and reports are real, training is a recording."""

from __future__ import annotations

import math
from collections.abc import Mapping

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims, owner_name
from storage.database import Database
from storage.rows.memory_rows import Memory
from studies.objectives.objective import VALIDATION_ACCURACY, Objective
from studies.scheduler import Scheduler
from studies.simulation.virtual_clock import Run
from studies.space import Parameter, SearchSpace
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.strategies.chosen import make_strategy
from studies.strategies.strategy import Strategy
from studies.trials import values_of

# More than any budget of epochs has room for.
UNBOUNDED_TRIALS = 100_000


class Rehearsal:
    """One study, as all its workers run it: a `studies.simulation.virtual_clock.Contestant`.

    Args:
        space: what is searched, without conditions.
        horizon: R, the epochs of a full trial.
        seed: the study's.
        strategy: the study's.
        sampler: the study's.
        trials: the study's budget.
        budget_epochs: likewise; None without a bound.
        storage: where the study is kept.
        users: the class of a strategy of the user's own.
        objective: of which values are reported. To the virtual clock higher is better, whatever it is.
        audit: the share of trials that are finished in any case.
    """

    def __init__(
        self,
        space: Mapping[str, BaseDistribution],
        horizon: int,
        seed: int,
        *,
        strategy: StrategyChoice,
        sampler: Sampler,
        trials: int = UNBOUNDED_TRIALS,
        budget_epochs: int | None = None,
        storage: Memory | Database | None = None,
        users: type[Strategy] | None = None,
        objective: Objective = VALIDATION_ACCURACY,
        audit: float = 0.0,
    ) -> None:
        storage = Memory() if storage is None else storage
        spec = _spec(horizon, seed, strategy, sampler, objective).model_copy(update={"audit": audit})
        study_id = storage.create_new_study([objective.optunas], "rehearsal")
        parameters = {name: Parameter(distribution) for name, distribution in space.items()}
        storage.set_study_user_attr(study_id, attributes.SPACE, SearchSpace(parameters).document())
        storage.set_study_user_attr(study_id, attributes.BUDGET_EPOCHS, budget_epochs)
        self.study = optuna.load_study(study_name="rehearsal", storage=storage)
        self._space = space
        self._horizon = horizon
        self._objective = objective
        self._claims = Claims(storage, study_id, owner_name())
        self._claims.set_budget(trials)
        self._strategy = make_strategy(spec, users)
        self._scheduler = Scheduler(self.study, spec, self._strategy, self._claims)
        self._held: dict[int, Claim] = {}

    def limit_trials(self, trials: int) -> None:
        """Start at most so many trials, where the strategy goes on with them for as long as it is let."""
        if self._strategy.needs_budget:
            self._claims.set_budget(trials)

    def next(self) -> Run | None:
        """Return what a free worker trains; None when there is nothing now."""
        while (claim := self._scheduler.next()) is not None:
            if not claim.ends:
                return self._run(claim)
            self._finish(claim, TrialState.PRUNED)
        return None

    def _run(self, claim: Claim) -> Run:
        trial = self._scheduler.trial(claim)
        params = {name: trial._suggest(name, distribution) for name, distribution in self._space.items()}
        self._held[claim.number] = claim
        trained = len(values_of(trial.storage.get_trial(claim.trial_id)))
        return Run(claim.number, params, trained + 1)

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        """Report an epoch; return whether the trial goes on."""
        claim = self._held[trial]
        if math.isnan(value):
            return self._broke_off(claim, epoch)
        verdict = self._scheduler.epoch_ended(claim, epoch, self._objective.oriented(value))
        if epoch >= self._horizon:
            return self._finish(claim, TrialState.COMPLETE)
        if verdict == "prune":
            return self._finish(claim, TrialState.PRUNED)
        if verdict == "freeze":
            self._claims.progressed(claim, epoch)
            self._claims.put_back(claim, f"frozen after epoch {epoch}", "frozen")
            return False
        return True

    def _broke_off(self, claim: Claim, epoch: int) -> bool:
        """A recording that ends early was stopped early, one that never began diverged."""
        if epoch > 1:
            return self._finish(claim, TrialState.COMPLETE)
        self.study._storage.set_trial_user_attr(claim.trial_id, attributes.FAILURE, attributes.DIVERGED)
        self.study._storage.set_trial_state_values(claim.trial_id, TrialState.FAIL)
        return False

    def _finish(self, claim: Claim, state: TrialState) -> bool:
        values = values_of(self.study._storage.get_trial(claim.trial_id))
        value = self._objective.best(values) if state == TrialState.COMPLETE else values[-1]
        assert value is not None, "it had a value after its first epoch"
        self.study._storage.set_trial_state_values(claim.trial_id, state, [value])
        return False


def _spec(horizon: int, seed: int, strategy: StrategyChoice, sampler: Sampler, objective: Objective) -> StudySpec:
    return StudySpec(
        dataset="recorded",
        model="recorded",
        space="core",
        parameters={},
        seed=seed,
        plan_name="cpu",
        epochs=horizon,
        train_images=None,
        validation_images=1,
        patience=horizon,
        sampler=sampler.model_copy(update={"default_first": False}),
        strategy=strategy,
        objectives=(objective,),
    )
