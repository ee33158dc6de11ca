"""N means N: each trial is created once, taken up by one worker at a time, and never lost."""

from __future__ import annotations

import sqlite3
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claims, StudyDeleted, Thaw, owner_name
from storage.database import Database
from storage.errors import ClaimLost
from storage.rows.giving_up import MAX_RETRIES, GivenUp
from tests.databases import (
    Kept,
    claimed,
    finish,
    new_study,
    second_connection,
    trials,
)
from tests.processes import in_processes, run_trials

# --- The budget ---


@pytest.mark.slow
def test_four_processes_run_exactly_the_budget_and_each_trial_once(database: Database) -> None:
    study_id = new_study(database, budget=40)._study_id
    done = in_processes(4, run_trials, str(database.engine.url), study_id)
    assert sorted(trial for each in done for trial in each) == [(number, 1) for number in range(40)]
    found = trials(database)
    assert [trial.number for trial in found] == list(range(40))
    assert all(trial.state == TrialState.COMPLETE and trial.value == trial.number for trial in found)


def test_no_trial_is_created_beyond_the_budget(ledger: Kept) -> None:
    claims = new_study(ledger, budget=2)
    first, second = claimed(claims), claimed(claims)
    assert (first.number, second.number) == (0, 1)
    assert claims.next() is None
    assert not claims.standing().done
    finish(ledger, first)
    finish(ledger, second, TrialState.PRUNED)
    assert claims.next() is None
    assert claims.standing().done
    assert len(trials(ledger)) == 2


def test_a_failed_trial_does_not_count(ledger: Kept) -> None:
    claims = new_study(ledger, budget=1)
    finish(ledger, claimed(claims), TrialState.FAIL)
    assert claims.standing().failed == 1
    assert not claims.standing().done
    again = claimed(claims)
    assert again.number == 1
    finish(ledger, again)
    assert claims.standing().done


def test_a_larger_budget_extends_the_study(ledger: Kept) -> None:
    claims = new_study(ledger, budget=1)
    finish(ledger, claimed(claims))
    assert claims.next() is None
    claims.set_budget(2)
    assert claimed(claims).number == 1


def test_a_smaller_budget_stops_the_study(ledger: Kept) -> None:
    claims = new_study(ledger, budget=5)
    for _ in range(2):
        finish(ledger, claimed(claims))
    claims.set_budget(2)
    assert claims.next() is None
    assert claims.standing().done


def test_a_smaller_budget_bounds_the_trials_that_are_taken_up_too(ledger: Kept) -> None:
    claims = new_study(ledger, budget=5)
    held = [claimed(claims) for _ in range(4)]
    for claim in held:
        claims.put_back(claim, "interrupted")
    claims.set_budget(2)
    again = [claimed(claims), claimed(claims)]
    assert claims.next() is None
    finish(ledger, again[0])
    assert claims.next() is None
    assert (claims.standing().finished, claims.standing().running, claims.standing().waiting) == (1, 1, 2)


def test_a_study_without_a_budget_gives_no_trials(ledger: Kept) -> None:
    study_id = ledger.create_new_study([optuna.study.StudyDirection.MAXIMIZE], "stock")
    assert Claims(ledger, study_id, "me").next() is None


def test_studies_do_not_take_each_others_trials(ledger: Kept) -> None:
    first, second = new_study(ledger, budget=1), new_study(ledger, budget=1, name="cifar10")
    assert claimed(first).number == 0
    assert claimed(second).number == 0
    assert [trial.number for trial in trials(ledger, "cifar10")] == [0]


def test_a_deleted_study_is_told_from_one_that_has_nothing_to_do(ledger: Kept) -> None:
    claims = new_study(ledger)
    claim = claimed(claims)
    ledger.delete_study(claims._study_id)
    with pytest.raises(StudyDeleted, match="was deleted while it ran"):
        claims.next()
    with pytest.raises(ClaimLost):
        claims.beat(claim)
    assert not claims.put_back(claim, "interrupted")
    assert claims.running() == []


def test_stock_optuna_sees_a_claimed_trial_as_running(ledger: Kept) -> None:
    claim = claimed(new_study(ledger))
    trial = ledger.get_trial(claim.trial_id)
    assert trial.state == TrialState.RUNNING
    assert trial.datetime_start is not None
    assert trial.user_attrs[attributes.WORKER] == "me"


def test_a_trial_of_stock_optuna_that_runs_without_a_claim_holds_up_no_study(ledger: Kept) -> None:
    claims = new_study(ledger, budget=1)
    optuna.load_study(study_name="mnist", storage=ledger).ask()
    assert claims.standing().running == 0
    finish(ledger, claimed(claims))
    assert claims.standing().done
    assert claims.next() is None


# --- Put back and taken up ---


def test_a_trial_put_back_is_taken_up_as_itself(ledger: Kept) -> None:
    claims = new_study(ledger)
    claim = claimed(claims)
    ledger.set_trial_param(claim.trial_id, "x", 0.25, FloatDistribution(0, 1))
    ledger.set_trial_intermediate_value(claim.trial_id, 1, 0.1)
    ledger.set_trial_user_attr(claim.trial_id, "epochs", 1)
    assert claims.put_back(claim, "interrupted")
    assert trials(ledger)[0].state == TrialState.WAITING

    again = claimed(claims)
    assert (again.trial_id, again.number, again.count) == (claim.trial_id, claim.number, 2)
    assert again.id != claim.id
    trial = ledger.get_trial(again.trial_id)
    assert trial.state == TrialState.RUNNING
    assert trial.params == {"x": 0.25}
    assert trial.intermediate_values == {1: 0.1}
    assert trial.user_attrs["epochs"] == 1


def test_the_lowest_waiting_trial_is_taken_up_before_a_new_one_is_made(ledger: Kept) -> None:
    claims = new_study(ledger, budget=5)
    held = [claimed(claims) for _ in range(4)]
    for number in (2, 1, 3):
        claims.put_back(held[number], "interrupted")
    assert [claimed(claims).number for _ in range(4)] == [1, 2, 3, 4]
    assert claims.next() is None


def test_a_trial_enqueued_by_stock_optuna_is_taken_up_and_counts(ledger: Kept) -> None:
    claims = new_study(ledger, budget=2)
    study = optuna.load_study(study_name="mnist", storage=ledger)
    study.enqueue_trial({"x": 0.75})
    claim = claimed(claims)
    assert (claim.number, claim.count) == (0, 1)
    assert optuna.trial.Trial(study, claim.trial_id).suggest_float("x", 0, 1) == 0.75
    assert claimed(claims).number == 1
    assert claims.next() is None


def test_the_count_grows_with_each_claim(ledger: Kept) -> None:
    claims = new_study(ledger)
    counts = []
    for _ in range(4):
        claim = claimed(claims)
        counts.append(claim.count)
        claims.put_back(claim, "interrupted")
    assert counts == [1, 2, 3, 4]


def test_who_gave_a_trial_up_and_why_is_recorded(ledger: Kept) -> None:
    first = new_study(ledger, owner="first")
    second = Claims(ledger, first._study_id, "second")
    first.put_back(claimed(first), "interrupted")
    second.put_back(claimed(second), "its worker was ended")
    assert trials(ledger)[0].user_attrs[attributes.GIVEN_UP] == [
        {"worker": "first", "class": "interrupted", "reason": "interrupted", "moved": False},
        {"worker": "second", "class": "interrupted", "reason": "its worker was ended", "moved": False},
    ]


@pytest.mark.parametrize("why", ["lost", "died", "out_of_memory", "timeout", "error"])
def test_a_trial_is_tried_again_as_often_as_the_class_of_the_reason_allows(ledger: Kept, why: GivenUp) -> None:
    claims = new_study(ledger, budget=1)
    for _ in range(MAX_RETRIES[why]):
        assert claims.put_back(claimed(claims), "it happened", why)
        claims.put_back(claimed(claims), "interrupted")  # does not count
        assert trials(ledger)[0].state == TrialState.WAITING
    claims.put_back(claimed(claims), "it happened again", why)
    trial = trials(ledger)[0]
    assert trial.state == TrialState.FAIL
    assert trial.datetime_complete is not None
    assert trial.user_attrs[attributes.FAILURE] == why
    assert trial.user_attrs[attributes.REASON].startswith("it happened again (given up for good after ")
    assert claimed(claims).number == 1


def test_a_lost_worker_is_forgiven_more_often_than_an_exception() -> None:
    assert MAX_RETRIES["lost"] > MAX_RETRIES["error"]


def test_a_claim_that_moved_the_checkpoint_forward_starts_the_count_anew(ledger: Kept) -> None:
    claims = new_study(ledger, budget=1)
    for epochs in range(1, 20):
        claim = claimed(claims)
        claims.progressed(claim, epochs)
        claims.put_back(claim, "it happened", "error")
        assert trials(ledger)[0].state == TrialState.WAITING
    # The same number of epochs again is no progress.
    for _ in range(MAX_RETRIES["error"]):
        claim = claimed(claims)
        claims.progressed(claim, 19)
        claims.put_back(claim, "it happened", "error")
    assert trials(ledger)[0].state == TrialState.FAIL


def test_parameters_are_forgotten_only_by_who_holds_the_trial(ledger: Kept) -> None:
    claims = new_study(ledger, budget=1)
    claim = claimed(claims)
    ledger.set_trial_param(claim.trial_id, "x", 0.5, FloatDistribution(0, 1))
    claims.forget_parameters(claim)
    assert trials(ledger)[0].params == {}
    ledger.set_trial_param(claim.trial_id, "x", 0.75, FloatDistribution(0, 1))
    claims.put_back(claim, "interrupted")
    with pytest.raises(ClaimLost):
        claims.forget_parameters(claim)
    assert trials(ledger)[0].params == {"x": 0.75}


def test_a_trial_is_put_back_once(ledger: Kept) -> None:
    claims = new_study(ledger)
    claim = claimed(claims)
    assert claims.put_back(claim, "interrupted")
    assert not claims.put_back(claim, "interrupted")
    again = claimed(claims)
    assert not claims.put_back(claim, "interrupted")
    assert [held.id for held, _ in claims.running()] == [again.id]
    assert len(trials(ledger)[0].user_attrs[attributes.GIVEN_UP]) == 1


def test_a_worker_that_put_its_trial_back_writes_nothing_more_to_it(database: Database) -> None:
    claims = new_study(database)
    claim = claimed(claims)
    assert claims.put_back(claim, "it hangs", "timeout")
    with pytest.raises(ClaimLost):  # another thread of it, which hung
        finish(database, claim)
    assert trials(database)[0].state == TrialState.WAITING


def test_a_finished_trial_is_not_put_back(ledger: Kept) -> None:
    claims = new_study(ledger)
    claim = claimed(claims)
    finish(ledger, claim)
    assert not claims.put_back(claim, "interrupted")
    assert trials(ledger)[0].state == TrialState.COMPLETE


def test_a_worker_of_a_deleted_study_takes_nothing_from_the_one_that_has_its_id_now(database: Database) -> None:
    first = new_study(database, budget=9)
    database.set_study_user_attr(first._study_id, attributes.UID, "first")
    known = Claims(database, first._study_id, "of the first", uid="first")
    held = claimed(known)
    assert known.standing().running == 1
    database.delete_study(first._study_id)
    with pytest.raises(StudyDeleted, match="was deleted while it ran"):
        known.standing()
    second = new_study(database, budget=9)
    database.set_study_user_attr(second._study_id, attributes.UID, "second")
    assert second._study_id == first._study_id  # SQLite gives it again
    mine = claimed(second)
    assert mine.trial_id == held.trial_id
    for call in (known.next, known.standing, lambda: known.next(Thaw(0))):
        with pytest.raises(StudyDeleted, match="Start it anew with the same command"):
            call()
    with pytest.raises(ClaimLost):
        known.beat(held)
    assert [claim.owner for claim, _ in second.running()] == ["me"]


def test_what_runs_and_what_waits_is_unfinished(ledger: Kept) -> None:
    claims = new_study(ledger, budget=9)
    over, runs, waits, frozen = (claimed(claims) for _ in range(4))
    finish(ledger, over)
    claims.put_back(waits, "interrupted")
    claims.put_back(frozen, "frozen", "frozen")
    assert claims.unfinished() == {runs.number, waits.number, frozen.number}
    with ledger.rows(claims._study_id, write=False) as rows:
        assert [row.number for row in rows.active()] == [runs.number, waits.number]
        assert [row.number for row in map(rows.frozen, range(-1, 9)) if row is not None] == [frozen.number]


def test_what_a_dead_worker_held_is_put_back_and_nothing_else(ledger: Kept) -> None:
    dead = new_study(ledger, budget=4, owner="dead")
    alive = Claims(ledger, dead._study_id, "alive")
    numbers = [claimed(dead).number, claimed(alive).number, claimed(dead).number]
    assert alive.put_back_of("dead", "its worker died") == [numbers[0], numbers[2]]
    assert [claim.owner for claim, _ in alive.running()] == ["alive"]
    assert claimed(alive).number == numbers[0]


def test_a_trial_claimed_by_a_dead_worker_is_continued_by_another(database: Database) -> None:
    dead = new_study(database, budget=1, owner="dead")
    lost = claimed(dead)
    with second_connection(database) as other:
        claims = Claims(other, dead._study_id, "alive")
        assert claims.next() is None
        claims.put_back_of("dead", "its worker died")
        claim = claimed(claims)
        assert (claim.number, claim.owner, claim.count) == (lost.number, "alive", 2)
        finish(other, claim, value=0.9)
    with pytest.raises(ClaimLost):
        finish(database, lost, value=0.1)
    assert trials(database)[0].value == 0.9


def test_owners_are_told_apart() -> None:
    assert len({owner_name() for _ in range(100)}) == 100


# --- Lost answers ---


def lose_an_answer(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let the next commit happen and its answer be lost; what is returned is empty until then."""
    monkeypatch.setattr(database, "sleep", lambda _: None)
    commit = database.engine.dialect.do_commit
    lost: list[Any] = []

    def commit_and_lose_the_answer(connection: Any) -> None:
        commit(connection)
        if not lost:
            lost.append(connection)
            raise sqlite3.OperationalError("server closed the connection unexpectedly")

    monkeypatch.setattr(database.engine.dialect, "do_commit", commit_and_lose_the_answer)
    return lost


@pytest.mark.parametrize("waiting", [False, True], ids=["created", "taken up"])
def test_a_claim_whose_answer_was_lost_is_returned_and_not_made_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, waiting: bool
) -> None:
    claims = new_study(database, budget=3)
    if waiting:
        claims.put_back(claimed(claims), "interrupted")
    lost = lose_an_answer(database, monkeypatch)
    claim = claimed(claims)
    assert lost
    assert (claim.number, claim.count) == (0, 2 if waiting else 1)
    assert len(trials(database)) == 1
    database.set_trial_user_attr(claim.trial_id, "epochs", 1)  # the fence lets it through
    assert [held.id for held, _ in claims.running()] == [claim.id]


@pytest.mark.parametrize("retries_left", [True, False], ids=["waiting", "failed"])
def test_a_trial_put_back_whose_answer_was_lost_counts_as_put_back(
    database: Database, monkeypatch: pytest.MonkeyPatch, retries_left: bool
) -> None:
    claims = new_study(database)
    monkeypatch.setitem(MAX_RETRIES, "lost", 1 if retries_left else 0)
    claim = claimed(claims)
    lost = lose_an_answer(database, monkeypatch)
    assert claims.put_back(claim, "its worker died", "lost")
    assert lost
    (trial,) = trials(database)
    assert trial.state == (TrialState.WAITING if retries_left else TrialState.FAIL)
    assert len(trial.user_attrs[attributes.GIVEN_UP]) == 1
