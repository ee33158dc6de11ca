"""Failures in a row end a study, on every ledger: in the order in which trials reported or failed, by no clock."""

from __future__ import annotations

from datetime import datetime, tzinfo

import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims, TooManyFailures
from storage.database import Database
from storage.rows.giving_up import MAX_RETRIES
from storage.rows.memory_rows import Memory
from tests.databases import Kept, claimed, finish, new_study, trials

# Fewer than what is told of reliability, for the sake of time.
FAILURES, BAD_PARAMETERS = 4, 9


@pytest.fixture(autouse=True)
def bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.claims.MAX_CONSECUTIVE_FAILURES", FAILURES)
    monkeypatch.setattr("storage.claims.MAX_CONSECUTIVE_BAD_PARAMETERS", BAD_PARAMETERS)


@pytest.fixture(params=["memory", "sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def ledger(request: pytest.FixtureRequest) -> Kept:
    if request.param == "memory":
        return Memory()
    opened: Database = request.getfixturevalue(request.param)
    return opened


def fail(ledger: Kept, claim: Claim, kind: str = "error", reason: str = "ValueError: wrong") -> None:
    ledger.set_trial_user_attr(claim.trial_id, attributes.FAILURE, kind)
    ledger.set_trial_user_attr(claim.trial_id, attributes.REASON, reason)
    finish(ledger, claim, TrialState.FAIL)


def fail_times(ledger: Kept, claims: Claims, times: int, kind: str = "error") -> None:
    for _ in range(times):
        fail(ledger, claimed(claims), kind)


def report(ledger: Kept, claim: Claim, epoch: int = 1) -> None:
    ledger.set_trial_intermediate_value(claim.trial_id, epoch, 0.5)


def freeze(ledger: Kept, claims: Claims) -> None:
    """Start a trial, let it report, and freeze it: it is well, and is not over for long."""
    claim = claimed(claims)
    report(ledger, claim)
    claims.put_back(claim, "frozen after epoch 1", "frozen")


def require_ended(claims: Claims, count: int) -> None:
    with pytest.raises(TooManyFailures, match=f"the last {count} trials failed"):
        claims.next()


def test_a_study_whose_last_trials_all_failed_ends_with_the_cause_named(ledger: Kept) -> None:
    claims = new_study(ledger, budget=20)
    fail_times(ledger, claims, FAILURES - 1)
    fail(ledger, claimed(claims), reason="ValueError: the last reason")
    with pytest.raises(TooManyFailures, match=r"the last 4 trials failed.*trial 3: ValueError: the last reason"):
        claims.next()
    assert len(trials(ledger)) == FAILURES


@pytest.mark.parametrize(("kind", "bound"), [("diverged", BAD_PARAMETERS), ("error", FAILURES)])
def test_failures_scattered_among_trials_that_are_frozen_end_no_study(ledger: Kept, kind: str, bound: int) -> None:
    claims = new_study(ledger, budget=200)
    for _ in range(bound + 1):
        freeze(ledger, claims)
        fail(ledger, claimed(claims), kind)
    assert claims.standing().finished == 0
    fail_times(ledger, claims, bound - 1, kind)
    require_ended(claims, bound)


@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING])
def test_a_report_between_failures_begins_the_count_anew(ledger: Kept, state: TrialState) -> None:
    claims = new_study(ledger, budget=40)
    other = claimed(claims)
    fail_times(ledger, claims, FAILURES - 1)
    report(ledger, other)
    if state != TrialState.RUNNING:
        finish(ledger, other, state)
    fail_times(ledger, claims, FAILURES - 1)
    fail(ledger, claimed(claims))
    require_ended(claims, FAILURES)


def test_what_a_trial_reported_before_it_failed_begins_no_count_anew(ledger: Kept) -> None:
    claims = new_study(ledger, budget=40)
    for _ in range(FAILURES):
        claim = claimed(claims)
        report(ledger, claim)
        fail(ledger, claim)
    require_ended(claims, FAILURES)


def test_reports_of_another_study_begin_no_count_anew(ledger: Kept) -> None:
    claims, others = new_study(ledger, budget=40), new_study(ledger, budget=40, name="other")
    for _ in range(FAILURES):
        freeze(ledger, others)
        fail(ledger, claimed(claims))
    require_ended(claims, FAILURES)
    assert others.next() is not None


def test_a_report_counts_although_a_study_with_later_ones_was_deleted_meanwhile(ledger: Kept) -> None:
    claims, others = new_study(ledger, budget=40), new_study(ledger, budget=40, name="other")
    freeze(ledger, claims)
    for _ in range(3):
        freeze(ledger, others)
    fail_times(ledger, claims, FAILURES - 1)
    ledger.delete_study(others._study_id)
    freeze(ledger, claims)  # SQLite gives its report the id of one that was removed
    fail_times(ledger, claims, FAILURES - 1)
    assert claims.next() is not None


def test_trials_that_were_given_up_for_good_count_like_those_that_their_worker_failed(ledger: Kept) -> None:
    claims = new_study(ledger, budget=40)
    freeze(ledger, claims)
    for _ in range(FAILURES - 1):
        for _ in range(MAX_RETRIES["error"] + 1):
            claims.put_back(claimed(claims), "ValueError: wrong", "error")
    fail(ledger, claimed(claims))
    require_ended(claims, FAILURES)
    claims.set_budget(40)
    for _ in range(FAILURES):
        for _ in range(MAX_RETRIES["error"] + 1):
            claims.put_back(claimed(claims), "ValueError: wrong", "error")
        freeze(ledger, claims)
    assert claims.next() is not None


def test_failures_are_forgiven_when_the_study_is_started_anew(ledger: Kept) -> None:
    claims = new_study(ledger, budget=20)
    fail_times(ledger, claims, FAILURES)
    claims.set_budget(20)
    fail_times(ledger, claims, FAILURES)
    require_ended(claims, FAILURES)


def fail_as_before(ledger: Kept, claim: Claim) -> None:
    """Fail a trial as an earlier version did, which did not say after which report."""
    fail(ledger, claim)
    if isinstance(ledger, Memory):
        del ledger._get_trial(claim.trial_id).system_attrs[attributes.FAILED_AFTER]
        return
    with ledger.transaction() as connection:
        table = "trial_system_attributes"
        connection.exec_driver_sql(
            f"DELETE FROM {table} WHERE trial_id = {claim.trial_id} AND key = '{attributes.FAILED_AFTER}'"
        )


def test_failures_of_an_earlier_version_count_while_no_trial_finished_since(ledger: Kept) -> None:
    claims = new_study(ledger, budget=40)
    finish(ledger, claimed(claims))
    for _ in range(FAILURES - 1):
        fail_as_before(ledger, claimed(claims))
    other = claimed(claims)
    fail(ledger, claimed(claims))
    require_ended(claims, FAILURES)
    finish(ledger, other)
    assert claims.next() is not None


class Ahead(datetime):
    """The clock of a host that is wrong by decades."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
        return datetime(2100, 1, 1).astimezone(tz) if tz is not None else datetime(2100, 1, 1)


def test_a_host_whose_clock_is_ahead_hides_no_failures(ledger: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    claims = new_study(ledger, budget=40)
    claim = claimed(claims)
    report(ledger, claim)
    with monkeypatch.context() as there:
        for module in ("storage.rows.sql_trials", "optuna.storages._in_memory"):
            there.setattr(f"{module}.datetime", Ahead)
        finish(ledger, claim)
    assert trials(ledger)[0].datetime_complete == datetime(2100, 1, 1)
    fail_times(ledger, claims, FAILURES)
    require_ended(claims, FAILURES)
