"""A frozen trial waits as itself until it is chosen, and costs nobody anything meanwhile."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Choice, Claim, Claims, End, Start, Thaw, TooManyFailures
from storage.rows.giving_up import MAX_RETRIES, GivenUp
from studies.forecast import moment, spans
from studies.trials import fixed_parameters, is_frozen, is_running
from tests.databases import Kept, claimed, finish, fresh_database, fresh_ledger, new_study, second_connection, trials


def freeze(claims: Claims, claim: Claim, epochs: int = 1) -> None:
    claims.progressed(claim, epochs)
    assert claims.put_back(claim, f"frozen after epoch {epochs}", "frozen")


def frozen(claims: Claims, count: int = 1) -> list[Claim]:
    """Start so many trials, and freeze them."""
    started = [claimed(claims) for _ in range(count)]
    for claim in started:
        freeze(claims, claim)
    return started


def test_a_frozen_trial_is_thawed_as_itself(ledger: Kept) -> None:
    claims = new_study(ledger)
    claim = claimed(claims)
    ledger.set_trial_param(claim.trial_id, "x", 0.25, FloatDistribution(0, 1))
    ledger.set_trial_intermediate_value(claim.trial_id, 1, 0.1)
    ledger.set_trial_intermediate_value(claim.trial_id, 2, 0.2)
    freeze(claims, claim, epochs=2)
    assert is_frozen(trials(ledger)[0])
    assert not is_running(trials(ledger)[0])

    again = claimed(claims, Thaw(0))
    assert (again.trial_id, again.number, again.count) == (claim.trial_id, 0, 2)
    (trial,) = trials(ledger)
    assert trial.state == TrialState.RUNNING
    assert (trial.params, trial.intermediate_values) == ({"x": 0.25}, {1: 0.1, 2: 0.2})


def test_a_frozen_trial_is_taken_up_by_nobody_who_did_not_choose_it(ledger: Kept) -> None:
    claims = new_study(ledger, budget=3)
    frozen(claims, 2)
    assert claims.next(None) is None
    assert claims.next(Thaw(7)) is None
    assert claimed(claims, Start()).number == 2
    assert claims.next(Start()) is None, "all were started"
    assert claimed(claims, Thaw(1)).number == 1
    assert claimed(claims, Thaw(0)).number == 0


def test_a_trial_that_was_put_back_goes_before_any_choice(ledger: Kept) -> None:
    claims = new_study(ledger, budget=5)
    cold, interrupted = claimed(claims), claimed(claims)
    freeze(claims, cold)
    for choice in (Thaw(cold.number), Start({"x": 0.5}), None):
        claims.put_back(interrupted, "interrupted")
        interrupted = claimed(claims, choice)
        assert interrupted.number == 1
    assert is_frozen(trials(ledger)[0])
    assert len(trials(ledger)) == 2


def test_two_workers_that_chose_the_same_trial_do_not_both_get_it(ledger: Kept) -> None:
    one = new_study(ledger, budget=3)
    frozen(one)
    other = Claims(ledger, one._study_id, "another")
    assert claimed(one, Thaw(0)).number == 0
    assert other.next(Thaw(0)) is None
    assert len(trials(ledger)) == 1, "what was overtaken starts nothing instead"


def test_a_running_and_a_finished_trial_cannot_be_thawed(ledger: Kept) -> None:
    claims = new_study(ledger, budget=3)
    running, over = claimed(claims), claimed(claims)
    finish(ledger, over)
    assert claims.next(Thaw(running.number)) is None
    assert claims.next(Thaw(over.number)) is None


def test_frozen_trials_are_counted_apart_and_count_as_started(ledger: Kept) -> None:
    claims = new_study(ledger, budget=4)
    frozen(claims, 2)
    claims.put_back(claimed(claims), "interrupted")
    standing = claims.standing()
    assert (standing.frozen, standing.waiting, standing.running, standing.finished) == (2, 1, 0, 0)
    assert standing.started == 3
    claimed(claims)
    claimed(claims)
    assert claims.next() is None
    assert not claims.standing().done


def test_a_frozen_trial_that_is_not_wanted_ends_as_pruned(ledger: Kept) -> None:
    claims = new_study(ledger, budget=1)
    frozen(claims)
    finish(ledger, claimed(claims, Thaw(0)), TrialState.PRUNED)
    standing = claims.standing()
    assert (standing.pruned, standing.frozen, standing.done) == (1, 0, True)
    assert not is_frozen(trials(ledger)[0])
    assert claims.next(Thaw(0)) is None


def test_who_ends_a_frozen_trial_did_not_train_it(ledger: Kept) -> None:
    trained = new_study(ledger, owner="trained it")
    frozen(trained, 2)
    other = Claims(ledger, trained._study_id, "ends it")
    ending = claimed(other, End(0))
    thawed = claimed(other, Thaw(1))
    assert [trial.user_attrs[attributes.WORKER] for trial in trials(ledger)] == ["trained it", "ends it"]
    assert [is_running(trial) for trial in trials(ledger)] == [False, True]
    assert [claim.number for claim, _ in other.running()] == [ending.number, thawed.number], "both have a lease"


@pytest.mark.parametrize("why", ["lost", "interrupted"])
def test_a_trial_that_was_to_be_ended_by_a_worker_that_died_is_frozen_again(ledger: Kept, why: GivenUp) -> None:
    claims = new_study(ledger, budget=2)
    frozen(claims, 2)
    claims.put_back(claimed(claims, End(0)), "its worker died", why)
    assert is_frozen(trials(ledger)[0])
    assert claims.next(None) is None, "it is not trained by the next one that comes"
    finish(ledger, claimed(claims, End(0)), TrialState.PRUNED)
    assert (claims.standing().pruned, claims.standing().frozen) == (1, 1)


def test_the_mark_of_a_frozen_trial_says_after_which_epoch_and_goes_when_it_is_thawed(ledger: Kept) -> None:
    claims = new_study(ledger)
    freeze(claims, claimed(claims), epochs=3)
    assert trials(ledger)[0].system_attrs[attributes.FROZEN] == 3
    again = claimed(claims, Thaw(0))
    assert trials(ledger)[0].system_attrs[attributes.FROZEN] is None
    # Interrupted now, it waits like any other.
    claims.put_back(again, "interrupted")
    assert not is_frozen(trials(ledger)[0])
    assert (claims.standing().frozen, claims.standing().waiting) == (0, 1)
    assert claimed(claims, None).number == 0


def test_a_frozen_trial_is_nobodys(ledger: Kept) -> None:
    claims = new_study(ledger)
    frozen(claims)
    assert claims.running() == []
    assert claims.put_back_of("me", "its worker died") == []
    assert trials(ledger)[0].system_attrs[attributes.CLAIM]["id"] is None


def test_to_freeze_is_not_to_give_up(ledger: Kept) -> None:
    claims = new_study(ledger)
    freeze(claims, claimed(claims))
    for epochs in range(2, 20):
        freeze(claims, claimed(claims, Thaw(0)), epochs)
    assert attributes.GIVEN_UP not in trials(ledger)[0].user_attrs


def test_a_trial_that_is_taken_up_again_or_ended_began_when_it_first_began(ledger: Kept) -> None:
    claims = new_study(ledger)
    first = claimed(claims)
    began = trials(ledger)[0].datetime_start
    assert began is not None
    freeze(claims, first)
    claims.put_back(claimed(claims, Thaw(0)), "asked to stop")
    freeze(claims, claimed(claims), epochs=2)
    finish(ledger, claimed(claims, End(0)), TrialState.PRUNED)
    (trial,) = trials(ledger)
    assert trial.datetime_start == began
    assert trial.datetime_complete is not None


def test_it_is_known_when_a_trial_was_worked_on(ledger: Kept) -> None:
    now = [1_000.0]
    claims = new_study(ledger, clock=lambda: now[0])

    def pass_s(seconds: float) -> None:
        now[0] += seconds

    first = claimed(claims)
    pass_s(30)
    freeze(claims, first)
    pass_s(100)
    lost = claimed(claims, Thaw(0))
    pass_s(7)
    claims.beat(lost)
    pass_s(8 * 3600)  # a power cut, and a night
    claims.put_back(lost, "silent", "lost")
    frozen_again = claimed(claims)
    pass_s(5)
    freeze(claims, frozen_again, epochs=2)
    pass_s(50)
    ending = claimed(claims, End(0))
    worked = [[1000, 1030], [1130, 1137], [1137 + 8 * 3600, 1142 + 8 * 3600]]
    assert trials(ledger)[0].system_attrs[attributes.WORKED] == worked
    finish(ledger, ending, TrialState.PRUNED)
    (trial,) = trials(ledger)
    assert trial.datetime_complete is not None
    assert spans(trial) == [*map(tuple, worked), (now[0], moment(trial.datetime_complete))]


@pytest.mark.parametrize("why", ["lost", "timeout", "error"])
def test_what_was_trained_until_a_trial_was_frozen_starts_its_count_of_failures_anew(
    ledger: Kept, why: GivenUp
) -> None:
    claims = new_study(ledger, budget=1)
    for _ in range(MAX_RETRIES[why]):
        claims.put_back(claimed(claims), "it happened", why)
    freeze(claims, claimed(claims))
    for _ in range(MAX_RETRIES[why]):
        claims.put_back(claimed(claims, Thaw(0)), "it happened again", why)
        assert trials(ledger)[0].state == TrialState.WAITING
    claims.put_back(claimed(claims), "once too often", why)
    assert trials(ledger)[0].state == TrialState.FAIL


def test_a_trial_that_was_frozen_where_it_had_been_keeps_its_count_of_failures(ledger: Kept) -> None:
    claims = new_study(ledger, budget=1)
    for _ in range(MAX_RETRIES["error"]):
        claims.put_back(claimed(claims), "it happened", "error")
    claims.put_back(claimed(claims), "frozen, nothing trained", "frozen")
    claims.put_back(claimed(claims, Thaw(0)), "it happened", "error")
    assert trials(ledger)[0].state == TrialState.FAIL


def test_a_smaller_budget_bounds_the_trials_that_are_thawed_too(ledger: Kept) -> None:
    claims = new_study(ledger, budget=3)
    finish(ledger, claimed(claims))
    frozen(claims, 2)
    claims.set_budget(1)
    assert claims.standing().done
    assert claims.next(Thaw(1)) is None


def test_the_parameters_of_a_choice_are_those_that_optuna_suggests(ledger: Kept) -> None:
    claims = new_study(ledger)
    claim = claimed(claims, Start({"x": 0.75}))
    assert fixed_parameters(trials(ledger)[0]) == {"x": 0.75}
    claims.put_back(claim, "interrupted")
    claimed(claims, Start({"x": 0.1}))
    assert fixed_parameters(trials(ledger)[0]) == {"x": 0.75}, "they are the trial's, not the choice's"
    claimed(claims, Start())
    assert fixed_parameters(trials(ledger)[1]) == {}


def test_parameters_that_are_forgotten_are_not_fixed_any_more(ledger: Kept) -> None:
    claims = new_study(ledger)
    claim = claimed(claims, Start({"x": 0.75}))
    claims.forget_parameters(claim)
    assert fixed_parameters(trials(ledger)[0]) == {}


def test_a_trial_that_is_frozen_by_one_process_is_thawed_by_another(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "studies.db") as database, second_connection(database) as other:
        claims = new_study(database)
        frozen(claims)
        assert claimed(Claims(other, claims._study_id, "another"), Thaw(0)).owner == "another"
        assert claims.next(Thaw(0)) is None


# --- The two ledgers ---

Step = tuple[str, Any]

choices = st.one_of(
    st.just(Start()), st.none(), st.builds(Thaw, st.integers(0, 4)), st.builds(End, st.integers(0, 4)),
    st.just(Start({"x": 0.5})),
)  # fmt: skip
steps = st.one_of(
    st.tuples(st.just("next"), choices),
    st.tuples(st.just("progressed"), st.tuples(st.integers(0, 3), st.integers(1, 9))),
    st.tuples(
        st.just("put back"),
        st.tuples(st.integers(0, 3), st.sampled_from(["interrupted", "frozen", "frozen", "lost", "error"])),
    ),
    st.tuples(
        st.just("finish"),
        st.tuples(st.integers(0, 3), st.sampled_from([TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL])),
    ),
    st.tuples(st.just("report"), st.tuples(st.integers(0, 3), st.integers(1, 3))),
    st.tuples(st.just("budget"), st.integers(0, 6)),
)


class Told:
    """A study to which one thing after the other happens, and what is seen of it."""

    def __init__(self, ledger: Kept) -> None:
        self._ledger = ledger
        ticks = itertools.count(1_000)
        self._claims = new_study(ledger, budget=3, clock=lambda: float(next(ticks)))
        self._held: list[Claim] = []

    def next(self, choice: Choice | None) -> Any:
        try:
            claim = self._claims.next(choice)
        except TooManyFailures as error:
            return str(error)
        if claim is None:
            return None
        self._held.append(claim)
        return claim.number, claim.count

    def take(self, step: Step) -> Any:
        kind, given_to_it = step
        if kind == "next":
            return self.next(given_to_it)
        if kind == "budget":
            return self._claims.set_budget(given_to_it)
        if not self._held:
            return None
        place, what = given_to_it
        claim = self._held[place % len(self._held)]
        if kind == "progressed":
            return self._claims.progressed(claim, what)
        if kind == "report":
            return self._ledger.set_trial_intermediate_value(claim.trial_id, what, 0.5)
        self._held.remove(claim)
        if kind == "put back":
            return self._claims.put_back(claim, "it happened", what)
        return finish(self._ledger, claim, what)

    def seen(self) -> Any:
        running = [(claim.number, claim.count, beat) for claim, beat in self._claims.running()]
        return asdict(self._claims.standing()), running, [shown(trial) for trial in trials(self._ledger)]


def shown(trial: Any) -> Any:
    held = dict(trial.system_attrs.get(attributes.CLAIM) or {})
    held["id"] = held.get("id") is not None
    system = {key: value for key, value in trial.system_attrs.items() if key != attributes.CLAIM}
    times = trial.datetime_start is not None, trial.datetime_complete is not None
    return trial.number, trial.state, trial.values, trial.user_attrs, system, held, times


@settings(max_examples=25)
@given(st.lists(steps, max_size=25))
def test_a_study_in_memory_and_one_in_a_database_cannot_be_told_apart(happening: list[Step]) -> None:
    with contextlib.ExitStack() as stack:
        stack.enter_context(pytest.MonkeyPatch.context()).setattr("storage.claims.MAX_CONSECUTIVE_FAILURES", 2)
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        one, other = (Told(stack.enter_context(fresh_ledger(kind, folder))) for kind in ("sqlite", "memory"))
        for step in happening:
            assert one.take(step) == other.take(step), step
        assert one.seen() == other.seen()
