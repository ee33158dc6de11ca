"""The end of a trial is recorded beside what comes next: nobody is told too early, and nothing of it is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims
from storage.database import Database, Result
from storage.errors import ClaimLost, StorageUnavailable
from storage.rows.giving_up import GivenUp
from tests.databases import claimed, fresh_database, new_study, second_connection, trials
from tuning.worker.recording.result_writer import ResultWriter

COMPLETE = Result(TrialState.COMPLETE, 0.7)


class Seen:
    """A study with a claimed trial, and what a worker's `ResultWriter` did with it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.study_claims: Claims = new_study(database)
        self.claim = claimed(self.study_claims)
        self.told: list[int] = []
        self.held = True
        self.may_write = threading.Event()
        self.writer = ResultWriter(database, self.study_claims, lambda claim: self.told.append(claim.number))

    @contextmanager
    def holding(self) -> Iterator[None]:
        try:
            yield
        finally:
            self.held = False

    def submit(self, record: Callable[[], object] | None = None, result: Result = COMPLETE) -> None:
        def slow() -> None:
            assert self.may_write.wait(10)
            if record is not None:
                record()
            self.database.set_trial_state_values(self.claim.trial_id, result.state, result.values)

        self.writer.submit(self.claim, result, slow, self.holding())

    def state(self, database: Database | None = None) -> TrialState:
        return trials(database or self.database)[self.claim.number].state

    def settle(self) -> None:
        self.may_write.set()
        self.writer.settle()


@pytest.fixture
def seen(tmp_path: Path) -> Iterator[Seen]:
    with fresh_database(tmp_path / "studies.db") as database:
        yield Seen(database)


def test_this_process_sees_the_trial_as_over_and_the_others_as_running_until_it_is_recorded(seen: Seen) -> None:
    with second_connection(seen.database) as other:
        seen.submit()
        study = optuna.load_study(study_name="mnist", storage=seen.database)
        assert [(trial.state, trial.value) for trial in study.trials] == [(TrialState.COMPLETE, 0.7)]
        assert seen.database.get_trial(seen.claim.trial_id).datetime_complete is not None
        assert (seen.told, seen.held, seen.writer.pending) == ([], True, True)
        assert seen.state(other) == TrialState.RUNNING
        assert [claim for claim, _ in seen.study_claims.running()] == [seen.claim]
        seen.settle()
        assert seen.state(other) == seen.state() == TrialState.COMPLETE
    assert (seen.told, seen.held, seen.writer.pending, seen.writer.mistaken.is_set()) == ([0], False, False, False)


def test_the_next_trial_is_had_meanwhile_and_the_budget_counts_the_one_before(seen: Seen) -> None:
    seen.submit()
    assert [claimed(seen.study_claims).number for _ in range(2)] == [1, 2]
    assert seen.study_claims.next() is None
    seen.settle()
    assert seen.study_claims.next() is None
    assert seen.study_claims.standing().complete == 1


def test_to_settle_again_or_nothing_is_nothing(seen: Seen) -> None:
    seen.writer.settle()
    seen.submit()
    seen.settle()
    seen.writer.settle()
    assert seen.told == [0]


def test_a_disk_without_room_puts_the_trial_back_and_says_so(seen: Seen) -> None:
    def full() -> None:
        raise StorageUnavailable("no room")

    seen.submit(full)
    with pytest.raises(StorageUnavailable, match="no room"):
        seen.settle()
    assert seen.state() == TrialState.WAITING
    assert not seen.held and not seen.told and seen.writer.mistaken.is_set()
    assert claimed(seen.study_claims).number == 0


def test_a_database_that_is_away_too_leaves_it_to_the_lease(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    def away(*_: object) -> None:
        raise StorageUnavailable("away")

    monkeypatch.setattr(seen.study_claims, "put_back", away)
    seen.submit(away)
    with pytest.raises(StorageUnavailable, match="away"):
        seen.settle()
    assert seen.state() == TrialState.RUNNING


def test_a_trial_that_another_worker_has_by_now_is_left_to_it(seen: Seen) -> None:
    other = Claims(seen.database, seen.study_claims._study_id, "other")

    def taken_away() -> None:
        other.put_back(seen.claim, "its worker was silent", "lost")

    seen.submit(taken_away)
    seen.settle()
    assert seen.writer.mistaken.is_set() and not seen.told
    assert seen.state() == TrialState.WAITING


@pytest.mark.parametrize("error", [StorageUnavailable("no room"), ValueError("no such font")])
def test_a_trial_is_put_back_when_nothing_of_its_claim_is_held_any_more(
    seen: Seen, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, put_back = [], seen.study_claims.put_back

    def note(claim: Claim, reason: str, why: GivenUp = "interrupted") -> bool:
        held.append((seen.held, seen.writer.mistaken.is_set(), seen.state()))
        return put_back(claim, reason, why)

    def failing() -> None:
        raise error

    monkeypatch.setattr(seen.study_claims, "put_back", note)
    seen.submit(failing)
    with suppress(StorageUnavailable):
        seen.settle()
    assert held == [(False, True, TrialState.RUNNING)]


def test_any_other_error_costs_the_trial_one_of_its_attempts(seen: Seen) -> None:
    def broken() -> None:
        raise ValueError("no such font")

    seen.submit(broken)
    seen.settle()
    trial = trials(seen.database)[0]
    assert trial.state == TrialState.WAITING and seen.writer.mistaken.is_set()
    (given_up,) = trial.user_attrs[attributes.GIVEN_UP]
    assert (given_up["class"], given_up["reason"]) == ("error", "ValueError: no such font")


@pytest.mark.parametrize("result", [Result(TrialState.PRUNED, 0.25), Result(TrialState.PRUNED, None)])
def test_a_pruned_trial_is_announced_with_the_value_that_it_has_if_any(seen: Seen, result: Result) -> None:
    seen.submit(result=result)
    announced = trials(seen.database)[0]
    assert (announced.state, announced.value) == (result.state, result.value)
    seen.settle()
    recorded = trials(seen.database)[0]
    assert (recorded.state, recorded.value) == (result.state, result.value)


def test_what_others_recorded_counts_more_than_what_was_announced(seen: Seen) -> None:
    with second_connection(seen.database) as other:
        other.set_trial_state_values(seen.claim.trial_id, TrialState.FAIL)
        seen.database.announce(seen.claim.trial_id, COMPLETE)
        assert seen.state() == TrialState.FAIL


def test_a_claim_that_was_lost_is_not_recorded(seen: Seen) -> None:
    def lost() -> None:
        raise ClaimLost("another's")

    seen.submit(lost)
    seen.settle()
    assert seen.state() == TrialState.RUNNING and seen.writer.mistaken.is_set()
