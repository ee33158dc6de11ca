"""Studies, rehearsed: what is started, frozen, thawed and ended, with the real claims and no training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.claims import Choice, Claim, Claims, Start, Thaw
from storage.database import Database, Result
from storage.rows.memory_rows import Memory
from studies.objectives.objective import VALIDATION_ACCURACY
from studies.scheduler import (
    Scheduler,
    UnusableStrategy,
    first_configurations,
    first_in_words,
)
from studies.simulation.rehearsal import Rehearsal
from studies.simulation.virtual_clock import Record, Recording, Run, simulate
from studies.space import Parameter, SearchSpace
from studies.spec import STRATEGIES, Sampler, Scalar, StrategyChoice, StudySpec
from studies.stored import StudyRecord
from studies.strategies.chosen import make_strategy
from studies.strategies.freeze_thaw import policy
from studies.strategies.freeze_thaw.model import Proposal
from studies.strategies.strategy import Strategy, Verdict, View
from studies.trials import incumbent, is_frozen, spent_epochs
from tests.databases import Kept, claimed, fresh_ledger
from tuning.user_classes import load_strategy, parse_strategy

R = 9
FREEZING = ("freeze_thaw", "promotion")
STOPPING = ("successive_halving", "hyperband", "median", "none")

SPACE: dict[str, BaseDistribution] = {
    "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
    "layers": IntDistribution(1, 4),
    "optimizer": CategoricalDistribution(["sgd", "adam"]),
}


class Hill:
    """Curves that follow from the configuration: one best learning rate, late bloomers among the deep ones."""

    horizon = R

    def __init__(self) -> None:
        self.params: dict[int, Mapping[str, Scalar]] = {}

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        self.params[trial] = params
        distance = abs(math.log10(float(params["learning_rate"])) + 2)
        best = 0.9 - 0.1 * distance + 0.01 * float(params["layers"]) + (0.02 if params["optimizer"] == "adam" else 0)
        pace = 0.5 + 0.5 * float(params["layers"])
        return Recording(best * (1 - np.exp(-np.arange(1, R + 1) / pace)))


class Seen:
    """One study that was rehearsed, and what was seen of it."""

    def __init__(
        self,
        strategy: str,
        *,
        trials: int = 12,
        budget_epochs: int | None = 40,
        workers: int = 1,
        seed: int = 0,
        sampler: str = "model",
        startup: int = 4,
        storage: Kept | None = None,
        meanwhile: tuple[int, Callable[[Seen], None]] | None = None,
        curves: Hill | None = None,
        users: type[Strategy] | None = None,
        ended_by_death: bool = False,
        audit: float = 0.0,
    ) -> None:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.rehearsal = Rehearsal(
            SPACE, R, seed, strategy=StrategyChoice(name=strategy), trials=trials, budget_epochs=budget_epochs,
            sampler=Sampler(name=sampler, startup_trials=startup),
            storage=storage, users=users, audit=audit,
        )  # fmt: skip
        self.curves = curves or Hill()
        self._workers = workers
        self._meanwhile = meanwhile
        self._epochs = 0
        self.died = 0
        if ended_by_death:
            self._let_one_die()
        self.record: Record
        self.go_on()

    def _let_one_die(self) -> None:
        """Let the first worker that ends a frozen trial die of it."""
        finish = self.rehearsal._finish

        def die_once(claim: Claim, state: TrialState) -> bool:
            if state == TrialState.COMPLETE or self.died:
                return finish(claim, state)
            self.died += 1
            assert self.rehearsal._claims.put_back(claim, "its worker died", "lost")
            return False

        self.rehearsal._finish = die_once  # type: ignore[method-assign]

    def go_on(self) -> None:
        """Rehearse until there is nothing more to do."""
        self.record = simulate(self, self.curves, workers=self._workers, budget=10_000)

    def next(self) -> Run | None:
        return self.rehearsal.next()

    def reported(self, trial: int, epoch: int, value: float) -> bool:
        self._epochs += 1
        if self._meanwhile is not None and self._epochs == self._meanwhile[0]:
            self._meanwhile[1](self)
        return self.rehearsal.reported(trial, epoch, value)

    @property
    def trials(self) -> list[FrozenTrial]:
        return self.rehearsal.study.get_trials(deepcopy=False)

    @property
    def complete(self) -> list[FrozenTrial]:
        return [trial for trial in self.trials if trial.state == TrialState.COMPLETE]

    @property
    def standing(self) -> Any:
        return self.rehearsal._claims.standing()

    @property
    def told(self) -> list[Any]:
        """Each epoch in the order in which it was trained: trial, epoch, and the trial's parameters."""
        pairs = zip(self.record.trial, self.record.epoch, strict=True)
        return [(int(trial), int(epoch), dict(self.curves.params[int(trial)])) for trial, epoch in pairs]

    def extend(self, trials: int, budget_epochs: int | None) -> None:
        study = self.rehearsal.study
        self.rehearsal._claims.set_budget(trials)
        study._storage.set_study_user_attr(study._study_id, attributes.BUDGET_EPOCHS, budget_epochs)


def require_done(seen: Seen, trials: int) -> None:
    """Check what holds of every study that is over."""
    assert seen.standing.done
    assert seen.standing.finished == len(seen.trials) == trials
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in seen.trials)
    assert not any(is_frozen(trial) for trial in seen.trials)
    for trial in seen.trials:
        epochs = list(trial.intermediate_values)
        assert epochs == list(range(1, len(epochs) + 1))
        assert (len(epochs) == R) == (trial.state == TrialState.COMPLETE)
    # No epoch was trained twice.
    assert len(seen.told) == len({(trial, epoch) for trial, epoch, _ in seen.told}) == spent_epochs(seen.trials)


# --- N means N, and the budget of epochs ---


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_study_starts_as_many_trials_as_were_asked_for_and_ends(strategy: str, workers: int) -> None:
    seen = Seen(strategy, workers=workers)
    require_done(seen, 12)
    assert seen.rehearsal.next() is None


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("strategy", FREEZING)
def test_where_trials_are_frozen_the_best_one_is_whole_and_the_others_are_pruned(strategy: str, workers: int) -> None:
    seen = Seen(strategy, workers=workers)
    require_done(seen, 12)
    best = incumbent(seen.trials, VALIDATION_ACCURACY)
    assert best is not None
    assert best.state == TrialState.COMPLETE
    assert best.value == max(value for trial in seen.trials for value in trial.intermediate_values.values())
    assert seen.rehearsal.study.best_trial.number == best.number
    pruned = [trial for trial in seen.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert all(trial.value == trial.intermediate_values[len(trial.intermediate_values)] for trial in pruned)


@settings(max_examples=25)
@given(
    strategy=st.sampled_from(["promotion", "successive_halving", "median", "none"]),
    trials=st.integers(1, 12),
    budget_epochs=st.integers(1, 80),
    workers=st.integers(1, 5),
    seed=st.integers(0, 99),
)
def test_a_budget_of_epochs_is_kept_but_for_what_runs_and_the_end_of_the_best_trial(
    strategy: str, trials: int, budget_epochs: int, workers: int, seed: int
) -> None:
    seen = Seen(
        strategy, trials=trials, budget_epochs=budget_epochs, workers=workers, seed=seed, sampler="random"
    )  # fmt: skip
    require_done(seen, trials)
    # Each trial trains an epoch, each worker may be within one, and the best trial may be found last. What cannot be
    # taken up again goes on while it is the best, which several may be in turn.
    to_their_end = 1 if strategy in FREEZING else workers
    assert len(seen.told) <= max(budget_epochs, trials) + workers + to_their_end * (R - 1)


class Restless(Strategy):
    """Trains on whatever there is until it is stopped, and freezes and thaws by the roll of a die."""

    freezes = True

    def ask(self, view: View) -> Choice | None:
        frozen = view.frozen()
        if view.trials_left and (not frozen or self._roll(view) < 0.5):
            return Start()
        return Thaw(frozen[int(self._roll(view) * len(frozen))].number) if frozen else None

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        return "freeze" if self._roll(view) < 0.4 else "go on"

    def _roll(self, view: View) -> float:
        return float(np.random.default_rng([self.spec.seed, spent_epochs(view.trials)]).random())


class Uneven(Hill):
    """Epochs take one to nine units of time, and values go up and down; the first trial may be the best at once."""

    def __init__(self, seed: int, *, first_is_best: bool) -> None:
        super().__init__()
        self._random = np.random.default_rng(seed)
        self._first_is_best = first_is_best

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        values = self._random.permutation(super().curve_of(trial, params).values)
        seconds = self._random.integers(1, 10, R).astype(float)
        if self._first_is_best and trial == 0:
            values, seconds[0] = values + 1, 0.5
        return Recording(values, seconds)


def uneven(
    strategy: str, *, trials: int, budget_epochs: int, workers: int, seed: int, first_is_best: bool = False
) -> Seen:
    users = Restless if strategy == "restless" else None
    seen = Seen(
        "mine.py:Restless@0123456789abcdef" if users else strategy, trials=trials, budget_epochs=budget_epochs,
        workers=workers, seed=seed, sampler="random", curves=Uneven(seed, first_is_best=first_is_best), users=users,
    )  # fmt: skip
    require_done(seen, trials)
    return seen


schedules = given(
    strategy=st.sampled_from(["restless", "promotion"]),
    trials=st.integers(1, 10),
    budget_epochs=st.integers(1, 60),
    workers=st.integers(1, 6),
    seed=st.integers(0, 999),
)


@settings(max_examples=60)
@schedules
def test_a_budget_of_epochs_is_kept_to_the_epoch_where_the_best_trial_is_known(
    strategy: str, trials: int, budget_epochs: int, workers: int, seed: int
) -> None:
    seen = uneven(
        strategy, trials=trials, budget_epochs=budget_epochs, workers=workers, seed=seed, first_is_best=True
    )  # fmt: skip
    # At least an epoch each, and the best one to its end.
    most = min(max(budget_epochs, trials + R - 1), trials * R)
    assert len(seen.told) <= most
    # Who wants more is not stopped one short, however many work.
    assert len(seen.told) == most or strategy != "restless"


@settings(max_examples=60)
@schedules
def test_beyond_a_budget_of_epochs_only_the_best_trial_is_trained(
    strategy: str, trials: int, budget_epochs: int, workers: int, seed: int
) -> None:
    seen = uneven(strategy, trials=trials, budget_epochs=budget_epochs, workers=workers, seed=seed)
    best = incumbent(seen.trials, VALIDATION_ACCURACY)
    assert best is not None
    within = max(budget_epochs, trials)
    assert {trial for trial, _, _ in seen.told[within:]} <= {best.number}
    assert len(seen.told) >= min(within, trials * R) or strategy != "restless"


def test_of_two_workers_that_thaw_at_the_same_moment_only_one_gets_the_last_epoch() -> None:
    scheduler, claims, storage = one_scheduler("promotion", default_first=False)
    for number in range(4):
        claim = claimed(claims)
        storage.set_trial_intermediate_value(claim.trial_id, 1, 0.1 * number)
        claims.progressed(claim, 1)
        claims.put_back(claim, "frozen after epoch 1", "frozen")
    claims.set_budget(4)
    # Four are spent, and the best one's end is set aside.
    storage.set_study_user_attr(claims._study_id, attributes.BUDGET_EPOCHS, 4 + R - 1 + 1)
    other = Scheduler(
        scheduler._study, scheduler._spec, scheduler._strategy, Claims(storage, claims._study_id, "another")
    )
    choose = scheduler._choice
    others: list[Claim | None] = []

    def slowly(view: View) -> Choice | None:
        choice = choose(view)
        if not others:
            others.append(other.next())
            return Thaw(0)
        return choice

    scheduler._choice = slowly  # type: ignore[method-assign]
    other._choice = lambda view: Thaw(1)  # type: ignore[method-assign]
    assert scheduler.next() is None
    assert [claim.number for claim in others if claim is not None] == [1]
    assert [is_frozen(storage.get_trial(trial_id)) for trial_id in range(4)] == [True, False, True, True]


class Leapfrog(Hill):
    """Each trial is a little better than all before, and each epoch much better: whoever reported last is the best."""

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        self.params[trial] = params
        return Recording(0.1 * np.arange(1, R + 1) + 0.001 * trial)


@pytest.mark.parametrize("strategy", FREEZING)
def test_a_budget_of_epochs_is_kept_by_workers_whose_trials_are_the_best_in_turn(strategy: str) -> None:
    seen = Seen(strategy, trials=6, budget_epochs=20, workers=4, curves=Leapfrog())
    require_done(seen, 6)
    assert len(seen.told) <= 20 + 4 + R - 1


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("budget_epochs", [30, 60])
def test_the_default_strategy_keeps_its_budget_of_epochs(workers: int, budget_epochs: int) -> None:
    seen = Seen("freeze_thaw", budget_epochs=budget_epochs, workers=workers)
    require_done(seen, 12)
    assert len(seen.told) <= budget_epochs + workers + R - 1


@pytest.mark.parametrize("strategy", FREEZING)
def test_with_hardly_any_epochs_each_trial_trains_one_and_the_best_goes_on(strategy: str) -> None:
    seen = Seen(strategy, trials=6, budget_epochs=1)
    require_done(seen, 6)
    assert sorted(len(trial.intermediate_values) for trial in seen.trials) == [1] * 5 + [R]


@pytest.mark.parametrize("strategy", FREEZING)
def test_a_larger_budget_of_epochs_is_spent_on_the_same_trials(strategy: str) -> None:
    small, large = (Seen(strategy, budget_epochs=budget) for budget in (25, 60))
    require_done(small, 12)
    require_done(large, 12)
    assert len(small.told) < len(large.told)


@pytest.mark.parametrize("strategy", STOPPING)
def test_once_its_epochs_are_spent_a_strategy_that_stops_prunes(strategy: str) -> None:
    seen = Seen(strategy, trials=10, budget_epochs=30, sampler="random")
    require_done(seen, 10)
    assert seen.complete
    assert len(seen.told) <= 30 + R
    # Three were whole, or fewer longer; the rest trained the epoch that each has.
    assert sum(len(trial.intermediate_values) == 1 for trial in seen.trials) >= 4


def test_without_a_budget_of_epochs_nothing_is_cut_short() -> None:
    seen = Seen("none", trials=5, budget_epochs=None, workers=2)
    assert [len(trial.intermediate_values) for trial in seen.trials] == [R] * 5
    require_done(seen, 5)


@pytest.mark.parametrize("strategy", FREEZING)
def test_without_a_budget_of_epochs_a_strategy_that_freezes_ends_by_itself(strategy: str) -> None:
    seen = Seen(strategy, trials=6, budget_epochs=None, workers=2)
    require_done(seen, 6)
    best = incumbent(seen.trials, VALIDATION_ACCURACY)
    assert best is not None
    assert best.state == TrialState.COMPLETE


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize(("trials", "budget_epochs"), [(24, 64), (12, 40)])
def test_with_few_epochs_the_default_strategy_leaves_some_to_the_trials_that_start_last(
    trials: int, budget_epochs: int, workers: int
) -> None:
    last_ones = []
    for seed in range(4):
        seen = Seen("freeze_thaw", trials=trials, budget_epochs=budget_epochs, workers=workers, seed=seed)
        require_done(seen, trials)
        numbers = [trial for trial, _, _ in seen.told]
        # Two thirds of the budget; the end of the best one is set aside, and what runs at a time is known later.
        assert max(numbers.index(trial) for trial in range(trials)) <= 0.75 * budget_epochs + workers
        last_ones += [numbers.count(trial) for trial in range(trials - trials // 3, trials)]
    assert max(last_ones) > 2


@pytest.mark.parametrize("workers", [1, 4])
def test_a_budget_that_is_far_away_holds_nothing_back(workers: int) -> None:
    records = []
    for trials, budget_epochs in ((10_000, 30_000), (100_000, None)):
        rehearsal = Rehearsal(
            SPACE, R, 0, strategy=StrategyChoice(name="freeze_thaw"), sampler=Sampler(), trials=trials,
            budget_epochs=budget_epochs,
        )  # fmt: skip
        records.append(simulate(rehearsal, Hill(), workers=workers, budget=8 * R))
    near, never = records
    assert near.trial.tolist() == never.trial.tolist()
    assert near.epoch.tolist() == never.epoch.tolist()
    assert (near.epoch == R).sum() > 1


# --- The default strategy remembers its latest choice ---


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("cost", ["epochs", "seconds"])
def test_a_choice_is_made_once_where_nothing_happened_in_between(
    workers: int, cost: Literal["epochs", "seconds"], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = 0
    choose = policy.choose

    def counting(*args: Any, **given: Any) -> Proposal | None:
        nonlocal made
        made += 1
        return choose(*args, **given)

    monkeypatch.setattr(policy, "choose", counting)
    strategy = StrategyChoice(name="freeze_thaw", cost=cost)
    remembering = Rehearsal(SPACE, R, 0, strategy=strategy, trials=12, budget_epochs=40, sampler=Sampler())
    record = simulate(remembering, Hill(), workers=workers, budget=10_000)
    quick, made = made, 0
    forgetting = Rehearsal(SPACE, R, 0, strategy=strategy, trials=12, budget_epochs=40, sampler=Sampler())
    forgetting._scheduler._strategy = Forgetful(forgetting._scheduler._strategy)
    slow_record = simulate(forgetting, Hill(), workers=workers, budget=10_000)
    assert 0 < quick < 0.75 * made
    assert record.trial.tolist() == slow_record.trial.tolist()
    assert record.epoch.tolist() == slow_record.epoch.tolist()
    assert record.value.tolist() == slow_record.value.tolist()


class Forgetful(Strategy):
    """Another strategy, made anew for each question."""

    freezes = True
    proposes = True
    needs_budget = True

    def __init__(self, other: Strategy) -> None:
        super().__init__(other.spec)

    def ask(self, view: View) -> Choice | None:
        return make_strategy(self.spec, None).ask(view)

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        return make_strategy(self.spec, None).decide(view, trial)


# --- A study that is extended ---


@pytest.mark.parametrize("strategy", FREEZING)
def test_a_study_that_is_extended_starts_new_trials_and_touches_no_old_one(strategy: str) -> None:
    seen = Seen(strategy, trials=6, budget_epochs=20)
    before = [(trial.state, dict(trial.intermediate_values), trial.value) for trial in seen.trials]
    assert seen.rehearsal.next() is None
    seen.extend(10, 50)
    seen.go_on()
    assert seen.standing.done
    assert len(seen.trials) == 10
    after = [(trial.state, dict(trial.intermediate_values), trial.value) for trial in seen.trials[:6]]
    assert after == before
    assert {trial for trial, _, _ in seen.told} <= {6, 7, 8, 9}


@pytest.mark.parametrize("strategy", FREEZING)
def test_epochs_alone_do_not_wake_a_study_that_is_done(strategy: str) -> None:
    seen = Seen(strategy, trials=6, budget_epochs=20)
    seen.extend(6, 500)
    assert seen.rehearsal.next() is None
    assert seen.standing.done


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("strategy", FREEZING)
def test_a_budget_that_becomes_smaller_meanwhile_ends_the_study_with_its_best_trial_whole(
    strategy: str, workers: int
) -> None:
    def make_smaller(seen: Seen) -> None:
        assert sum(is_frozen(trial) for trial in seen.trials) >= 3
        seen.extend(3, 20)

    seen = Seen(strategy, workers=workers, meanwhile=(10, make_smaller))
    assert seen.rehearsal.next() is None
    assert seen.standing.done
    assert seen.standing.running == 0
    best = incumbent(seen.trials, VALIDATION_ACCURACY)
    assert best is not None
    assert best.state == TrialState.COMPLETE


@pytest.mark.parametrize("workers", [1, 3])
@pytest.mark.parametrize("strategy", FREEZING)
def test_a_budget_that_becomes_larger_meanwhile_is_spent(strategy: str, workers: int) -> None:
    seen = Seen(
        strategy, trials=6, budget_epochs=20, workers=workers, meanwhile=(10, lambda seen: seen.extend(12, 60))
    )  # fmt: skip
    require_done(seen, 12)
    assert len(seen.told) > 20 + workers + R


# --- It repeats ---


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_with_the_same_seed_and_one_worker_a_study_repeats(strategy: str) -> None:
    one, again, other = (Seen(strategy, seed=seed) for seed in (1, 1, 2))
    assert one.told == again.told
    assert one.told != other.told


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("strategy", FREEZING)
def test_a_study_decides_the_same_in_memory_and_in_a_database(strategy: str, workers: int, tmp_path: Path) -> None:
    with fresh_ledger("sqlite", tmp_path) as database:
        kept = Seen(strategy, workers=workers, storage=database)
        in_memory = Seen(strategy, workers=workers)
        assert kept.told == in_memory.told
        assert [trial.state for trial in kept.trials] == [trial.state for trial in in_memory.trials]
        assert [trial.values for trial in kept.trials] == [trial.values for trial in in_memory.trials]


class RecordsLate(Seen):
    """Its trials' ends are announced, and recorded when the next trial ends or nothing else is to be had."""

    def __init__(self, strategy: str, *, storage: Database, sampler: str) -> None:
        self._storage = storage
        self._unrecorded: list[Callable[[], object]] = []
        self.announced = 0
        super().__init__(strategy, storage=storage, sampler=sampler)

    def go_on(self) -> None:
        self.rehearsal._finish = self._finish_late  # type: ignore[method-assign]
        super().go_on()

    def _finish_late(self, claim: Claim, state: TrialState) -> bool:
        self._record()
        values = list(self._storage.get_trial(claim.trial_id).intermediate_values.values())
        result = Result(state, max(values) if state == TrialState.COMPLETE else values[-1])
        self._storage.announce(claim.trial_id, result)
        self._unrecorded.append(
            lambda: self._storage.set_trial_state_values(claim.trial_id, result.state, result.values)
        )
        self.announced += 1
        return False

    def _record(self) -> bool:
        waited = bool(self._unrecorded)
        while self._unrecorded:
            self._unrecorded.pop()()
        return waited

    def next(self) -> Run | None:
        taken = super().next()
        return super().next() if taken is None and self._record() else taken


@pytest.mark.parametrize(
    ("strategy", "sampler"),
    [("freeze_thaw", "model"), ("promotion", "tpe"), ("median", "tpe"), ("hyperband", "random"), ("none", "tpe")],
)
def test_a_study_decides_the_same_however_late_the_end_of_a_trial_is_recorded(
    strategy: str, sampler: str, tmp_path: Path
) -> None:
    with fresh_ledger("sqlite", tmp_path) as database:
        assert isinstance(database, Database)
        late = RecordsLate(strategy, storage=database, sampler=sampler)
        at_once = Seen(strategy, sampler=sampler)
        assert late.announced and late.told == at_once.told
        assert [trial.state for trial in late.trials] == [trial.state for trial in at_once.trials]


# --- Diverged and early-stopped trials ---


class Breaks(Hill):
    """Deep models diverge at once, and those of three layers stop early."""

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        values = super().curve_of(trial, params).values
        ends = {4: 0, 3: 4}.get(int(params["layers"]), R)
        return Recording(np.where(np.arange(R) < ends, values, np.nan))


@pytest.mark.parametrize("strategy", ["freeze_thaw", "promotion", "median"])
def test_trials_that_diverge_do_not_count_and_those_that_stop_early_are_complete(strategy: str) -> None:
    rehearsal = Rehearsal(
        SPACE, R, 0, strategy=StrategyChoice(name=strategy), sampler=Sampler(name="random"), trials=10, budget_epochs=40
    )
    curves = Breaks()
    simulate(rehearsal, curves, workers=2, budget=10_000)
    assert rehearsal._claims.standing().finished == 10
    for trial in rehearsal.study.trials:
        layers = curves.params[trial.number]["layers"]
        assert (trial.state == TrialState.FAIL) == (layers == 4)
        if trial.state == TrialState.COMPLETE:
            assert trial.value == max(value for value in trial.intermediate_values.values() if not math.isnan(value))
    assert rehearsal.study.best_trial.value is not None


# --- The first configurations ---


def one_scheduler(
    strategy: str = "promotion", *, default_first: bool = True, first: list[dict[str, Any]] | None = None, **more: Any
) -> tuple[Scheduler, Claims, Memory]:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = Memory()
    study_id = storage.create_new_study([StudyDirection.MAXIMIZE], "mnist")
    defaults: dict[str, Any] = {"learning_rate": 0.01, "layers": 2, "optimizer": "adam"}
    space = SearchSpace({name: Parameter(one, defaults[name]) for name, one in SPACE.items()})
    storage.set_study_user_attr(study_id, attributes.SPACE, space.document())
    storage.set_study_user_attr(study_id, attributes.FIRST, first or [])
    spec = StudySpec(
        dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=0, plan_name="cpu", epochs=R,
        train_images=None, validation_images=5000, patience=10, sampler=Sampler(default_first=default_first, **more),
        strategy=StrategyChoice(name=strategy),
    )  # fmt: skip
    claims = Claims(storage, study_id, "me")
    claims.set_budget(10)
    study = optuna.load_study(study_name="mnist", storage=storage)
    return Scheduler(study, spec, make_strategy(spec), claims), claims, storage


def taken(scheduler: Scheduler) -> dict[str, Any]:
    """Take up a trial and draw its parameters."""
    found = scheduler.next()
    assert found is not None
    assert not found.ends
    trial = scheduler.trial(found)
    return {name: trial._suggest(name, distribution) for name, distribution in SPACE.items()}


KNOWN_GOOD: list[dict[str, Any]] = [
    {"learning_rate": 0.1, "layers": 1, "optimizer": "sgd"},
    {"learning_rate": 100.0, "layers": 3, "dropout": 0.5, "optimizer": "adam"},
]


@pytest.mark.parametrize("strategy", ["freeze_thaw", "promotion", "none"])
def test_the_defaults_come_first_and_then_what_is_known_to_be_good(strategy: str) -> None:
    scheduler, _, _ = one_scheduler(strategy, first=KNOWN_GOOD)
    assert taken(scheduler) == {"learning_rate": 0.01, "layers": 2, "optimizer": "adam"}
    assert taken(scheduler) == pytest.approx(KNOWN_GOOD[0])
    assert taken(scheduler) == pytest.approx({"learning_rate": 1.0, "layers": 3, "optimizer": "adam"}), (
        "what fits of it"
    )
    assert taken(scheduler)["learning_rate"] not in (0.01, pytest.approx(0.1), pytest.approx(1.0))


def test_without_the_defaults_what_is_known_to_be_good_comes_first() -> None:
    scheduler, _, _ = one_scheduler(default_first=False, first=KNOWN_GOOD)
    assert taken(scheduler) == pytest.approx(KNOWN_GOOD[0])


def test_a_known_configuration_that_is_the_defaults_is_neither_tried_nor_counted_twice() -> None:
    known = [{"learning_rate": 0.01, "layers": 2, "optimizer": "adam"}, *KNOWN_GOOD, KNOWN_GOOD[0]]
    scheduler, *_ = one_scheduler(first=known)
    spec, space = scheduler._spec, StudyRecord.of(scheduler._study).space
    assert space is not None
    assert first_in_words(spec, space, known) == "the defaults, then 2 known configurations"
    assert first_in_words(spec, space, known[:2]) == "the defaults, then 1 known configuration"
    assert first_in_words(spec, space, known[:1]) is None
    tried = [taken(scheduler) for _ in range(3)]
    assert tried[0] == known[0]
    assert tried[1] == pytest.approx(KNOWN_GOOD[0])
    assert tried[2]["layers"] == 3
    without = spec.model_copy(update={"sampler": Sampler(default_first=False)})
    assert first_in_words(without, space, known) == "3 known configurations"


def test_a_known_configuration_that_leaves_something_out_has_it_drawn() -> None:
    scheduler, _, _ = one_scheduler(default_first=False, first=[{"layers": 4}])
    params = taken(scheduler)
    assert params["layers"] == 4
    assert set(params) == set(SPACE)


def test_first_parameters_that_do_not_fit_into_memory_are_drawn_again_as_others() -> None:
    scheduler, claims, storage = one_scheduler()
    found = scheduler.next()
    assert found is not None
    trial = scheduler.trial(found)
    assert trial.suggest_int("layers", 1, 4) == 2
    claims.forget_parameters(found)
    drawn = [scheduler.trial(found, attempt)._suggest("learning_rate", SPACE["learning_rate"]) for attempt in (1,)]
    assert drawn != [0.01]
    assert storage.get_trial(found.trial_id).system_attrs[attributes.FIXED_PARAMETERS] == {}


def test_without_a_recorded_space_nothing_is_known_to_be_first() -> None:
    scheduler, _, _ = one_scheduler(first=KNOWN_GOOD)
    spec = scheduler._spec
    assert first_configurations(spec, None, KNOWN_GOOD) == []


def test_of_known_configurations_nothing_of_which_is_in_the_space_nothing_comes_first() -> None:
    scheduler, _, _ = one_scheduler(default_first=False, first=[{"batch_size": 32}])
    space = StudyRecord.of(scheduler._study).space
    assert first_configurations(scheduler._spec, space, [{"batch_size": 32}]) == []


def test_a_grid_is_tried_whole_after_what_comes_first() -> None:
    scheduler, *_ = one_scheduler("none", name="grid", points=1, first=[{"layers": 4}])
    drawn = [taken(scheduler) for _ in range(4)]
    assert drawn[0] == {"learning_rate": 0.01, "layers": 2, "optimizer": "adam"}
    assert drawn[1]["layers"] == 4
    assert sorted(params["optimizer"] for params in drawn[2:]) == ["adam", "sgd"]
    assert all(params["layers"] == drawn[2]["layers"] for params in drawn[2:])


@pytest.mark.parametrize("name", ["tpe", "cmaes"])
@pytest.mark.parametrize("strategy", FREEZING)
def test_a_sampler_learns_from_trials_that_are_frozen(strategy: str, name: str) -> None:
    learning, random = (
        [trial.params for trial in Seen(strategy, sampler=name, startup=startup, trials=24, budget_epochs=60).trials]
        for startup in (4, 1000)
    )
    assert learning[:4] == random[:4]
    assert sum(one != other for one, other in zip(learning, random, strict=True)) >= 8


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_trial_that_another_program_runs_is_nobodys_business(strategy: str) -> None:
    def ask(seen: Seen) -> None:
        study = seen.rehearsal.study
        study._storage.create_new_trial(study._study_id)

    seen = Seen(strategy, trials=6, budget_epochs=20, meanwhile=(3, ask))
    assert seen.standing.done
    assert seen.standing.finished == 6
    assert [trial.state for trial in seen.trials].count(TrialState.RUNNING) == 1


class Stubborn(Strategy):
    """Asks for what cannot be done: another trial where none may be started, or one that is over."""

    freezes = True

    def ask(self, view: View) -> Choice | None:
        over = [trial.number for trial in view.trials if trial.state.is_finished()]
        return Thaw(over[0]) if over and not view.trials_left else Start()

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        return "freeze" if trial.number else "go on"


def test_a_study_whose_strategy_wants_what_cannot_be_done_ends() -> None:
    seen = Seen("mine.py:Stubborn", trials=4, budget_epochs=None, users=Stubborn)
    assert seen.standing.done
    assert [trial.state.name for trial in seen.trials] == ["COMPLETE", "PRUNED", "PRUNED", "PRUNED"]


class Wrong(Strategy):
    """Answers what means nothing."""

    freezes = True
    proposes = True
    params: ClassVar[dict[str, Any]] = {}
    verdict: Any = "go on"

    def ask(self, view: View) -> Choice | None:
        return Start(self.params) if view.trials_left else None

    def decide(self, view: View, trial: FrozenTrial) -> Verdict:
        verdict: Verdict = self.verdict
        return verdict


@pytest.mark.parametrize("verdict", ["pruned", "maybe", None, True])
def test_a_verdict_that_is_none_ends_the_study_with_a_word(verdict: Any) -> None:
    users = type("Users", (Wrong,), {"verdict": verdict})
    with pytest.raises(UnusableStrategy, match=f"decided {verdict!r} and may decide go on, freeze, prune. Mend it"):
        Seen("mine.py:Users", users=users)


def test_a_strategy_of_the_users_that_raises_ends_the_study_with_what_and_where_it_raised(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def decide(self: Strategy, view: View, trial: FrozenTrial) -> Verdict:
        raise ZeroDivisionError("by nothing")

    users = type("Users", (Wrong,), {"decide": decide})
    says = r"'mine.py:Users' raised ZeroDivisionError: by nothing \(test_scheduler.py, line \d+\). Mend it, and"
    with pytest.raises(UnusableStrategy, match=says):
        Seen("mine.py:Users", users=users)
    assert "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("params", "says"),
    [
        ({"learning_rate": 5.0}, "learning_rate = 5.0"),
        ({"optimizer": "lion"}, "optimizer = 'lion'"),
        ({"foo": 1}, "foo = 1"),
    ],
)
def test_parameters_that_are_not_in_the_space_are_no_trials(params: dict[str, Any], says: str) -> None:
    scheduler, claims, _ = one_scheduler()
    scheduler._strategy = type("Users", (Wrong,), {"params": params})(scheduler._spec)
    with pytest.raises(UnusableStrategy, match=f"starts a trial with {says}, which is not in the search space"):
        scheduler.next()
    assert claims.standing().started == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_study_whose_space_was_not_recorded_still_gives_trials(strategy: str) -> None:
    scheduler, claims, storage = one_scheduler(strategy)
    storage.set_study_user_attr(claims._study_id, attributes.SPACE, None)
    assert set(taken(scheduler)) == set(SPACE)


@pytest.mark.parametrize("name", ["tpe", "cmaes", "random", "qmc", "grid"])
@pytest.mark.parametrize("strategy", ["freeze_thaw", "promotion", "median"])
def test_every_strategy_goes_with_every_sampler(strategy: str, name: str) -> None:
    seen = Seen(strategy, sampler=name, trials=8, budget_epochs=30, workers=2)
    require_done(seen, 8)
    drawn = {tuple(sorted(trial.params.items())) for trial in seen.trials}
    assert len(drawn) == 8


# --- Decisions ---


def test_a_trial_that_was_put_back_is_continued_whatever_the_strategy_chose() -> None:
    scheduler, claims, _ = one_scheduler()
    first = scheduler.next()
    assert first is not None
    claims.put_back(first, "interrupted")
    again = scheduler.next()
    assert again is not None
    assert (again.number, again.count, again.ends) == (0, 2, False)


def test_a_trial_whose_end_was_not_recorded_is_not_trained_on() -> None:
    seen = Seen("promotion", trials=6, budget_epochs=20, ended_by_death=True)
    require_done(seen, 6)
    assert seen.died == 1
    whole = Seen("promotion", trials=6, budget_epochs=20)
    assert seen.told == whole.told


def test_an_epoch_that_ends_the_trial_anyway_is_not_asked_about() -> None:
    scheduler, _, storage = one_scheduler("promotion")
    found = scheduler.next()
    assert found is not None
    assert scheduler.epoch_ended(found, 1, 0.5, last=True) == "go on"
    assert scheduler.epoch_ended(found, R, 0.5) == "go on"
    assert storage.get_trial(found.trial_id).intermediate_values == {1: 0.5, R: 0.5}


def test_reports_of_a_former_claim_that_lie_ahead_decide_nothing() -> None:
    def verdict_after(ahead: int) -> str:
        scheduler, claims, storage = one_scheduler("promotion")
        for _ in range(3):
            found = scheduler.next()
            assert found is not None
            claims.put_back(found, "frozen", "frozen") if scheduler.epoch_ended(found, 1, 0.5) == "freeze" else None
        found = scheduler.next()
        assert found is not None
        for epoch in range(2, 2 + ahead):
            storage.set_trial_intermediate_value(found.trial_id, epoch, 0.1)
        return scheduler.epoch_ended(found, 2, 0.5)

    assert verdict_after(0) == verdict_after(2) == "go on"


# --- A strategy of the user's ---

MINE = '''
"""Trains every trial for two epochs, then the three best to their end, one after the other."""

from storage.claims import Start, Thaw
from studies.strategies.strategy import Strategy


class Auditions(Strategy):
    freezes = True
    chosen = 3

    def ask(self, view):
        if view.trials_left:
            return Start()
        if any(len(trial.intermediate_values) < 2 for trial in view.trials):
            return None
        waiting = sorted(view.frozen(), key=lambda trial: -trial.intermediate_values[2])
        passed = len(view.trials) - len(waiting)
        return Thaw(waiting[0].number) if passed < self.chosen and waiting else None

    def decide(self, view, trial):
        return "freeze" if trial.last_step == 2 else "go on"
'''


@pytest.mark.parametrize("workers", [1, 4])
def test_a_strategy_of_thirty_lines_in_a_users_file_runs_a_study(tmp_path: Path, workers: int) -> None:
    file = tmp_path / "auditions.py"
    file.write_text(MINE)
    name, user_file = parse_strategy(f"{file}:Auditions")
    users = load_strategy(name, user_file)
    assert users is not None
    seen = Seen(name, trials=9, budget_epochs=None, workers=workers, sampler="random", users=users)
    require_done(seen, 9)
    assert len(seen.complete) == 3
    second_epochs = sorted((trial.intermediate_values[2] for trial in seen.trials), reverse=True)
    assert sorted((trial.intermediate_values[2] for trial in seen.complete), reverse=True) == second_epochs[:3]


class Idle(Strategy):
    """Wants nothing, ever."""

    def ask(self, view: View) -> Choice | None:
        return None


@pytest.mark.parametrize("workers", [1, 3])
def test_even_a_strategy_that_wants_nothing_starts_what_was_asked_for(workers: int) -> None:
    seen = Seen("mine.py:Idle@0123456789abcdef", trials=3, workers=workers, users=Idle)
    require_done(seen, 3)
