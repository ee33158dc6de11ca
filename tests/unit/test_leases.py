"""A lease is kept by its owner's heartbeat, and runs out for whoever watches it stand still."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims
from storage.database import Database
from storage.errors import ClaimLost, StorageUnavailable
from storage.leases import (
    BEAT_S,
    COMPILING_S,
    LEASE_S,
    LEAST_S,
    TIMES,
    UNKNOWN_S,
    FirstCalls,
    Heartbeat,
    LeaseWatch,
    StepWatch,
)
from tests.databases import Kept, claimed, new_study, second_connection, trials
from tests.processes import write_lock

# --- The watch ---


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


def looking(watch: LeaseWatch, clock: Clock, seconds: float) -> list[int]:
    """Look as often as a launcher does for so many seconds; return the numbers of the trials put back."""
    end, found = clock.now + seconds, watch.put_back_expired()
    while clock.now < end:
        clock.now = min(clock.now + BEAT_S, end)
        found += watch.put_back_expired()
    return [claim.number for claim in found]


def test_a_beating_lease_is_kept_for_ever(ledger: Kept) -> None:
    claims, clock = new_study(ledger), Clock()
    claim = claimed(claims)
    watch = LeaseWatch(claims, clock)
    for _ in range(10):
        assert looking(watch, clock, LEASE_S - 1) == []
        claims.beat(claim)
    assert [beat for _, beat in claims.running()] == [10]


def test_a_lease_whose_beat_stands_still_runs_out_once(ledger: Kept) -> None:
    claims, clock = new_study(ledger), Clock()
    claimed(claims)
    watch = LeaseWatch(claims, clock)
    assert looking(watch, clock, LEASE_S) == []
    assert looking(watch, clock, 0.1) == [0]
    assert looking(watch, clock, LEASE_S) == []
    assert trials(ledger)[0].state == TrialState.WAITING
    assert "silent for 45 s" in trials(ledger)[0].user_attrs[attributes.GIVEN_UP][0]["reason"]


def test_a_watcher_that_just_began_gives_a_full_lease(ledger: Kept) -> None:
    claims, clock = new_study(ledger), Clock()
    claimed(claims)
    clock.now += 100 * LEASE_S
    assert looking(LeaseWatch(claims, clock), clock, LEASE_S / 2) == []


def test_a_watcher_that_was_stopped_with_the_others_blames_nobody(ledger: Kept) -> None:
    claims, clock = new_study(ledger), Clock()
    claim = claimed(claims)
    watch = LeaseWatch(claims, clock)
    for _ in range(3):  # a laptop that is closed and opened
        assert looking(watch, clock, LEASE_S / 3) == []
        clock.now += 100 * LEASE_S
        assert watch.put_back_expired() == []
        claims.beat(claim)


def test_a_database_that_takes_no_writes_costs_nobody_a_trial(database: Database, tmp_path: Path) -> None:
    claims, clock = new_study(database), Clock()
    claim = claimed(claims)
    watch = LeaseWatch(claims, clock)
    assert looking(watch, clock, LEASE_S / 2) == []
    with write_lock(tmp_path / "studies.db") as release:
        # The lock goes while the watcher waits, an hour later by its clock; the worker waited as long with its beat.
        def end() -> None:
            clock.now += 3600
            release()

        timer = threading.Timer(0.3, end)
        timer.start()
        assert [lost.number for lost in watch.put_back_expired()] == []
        timer.join()
    claims.beat(claim)
    assert looking(watch, clock, LEASE_S) == []


def test_a_trial_claimed_again_begins_a_new_lease(ledger: Kept) -> None:
    claims, clock = new_study(ledger), Clock()
    claim = claimed(claims)
    watch = LeaseWatch(claims, clock)
    assert looking(watch, clock, LEASE_S - 1) == []
    claims.put_back(claim, "interrupted")
    claimed(claims)
    assert looking(watch, clock, LEASE_S - 1) == []


def test_a_worker_that_wakes_up_after_its_lease_learns_that_it_lost_it(database: Database) -> None:
    asleep = new_study(database)
    claim = claimed(asleep)
    with second_connection(database) as other:
        clock = Clock()
        assert looking(LeaseWatch(Claims(other, asleep._study_id, "another"), clock), clock, LEASE_S + 1) == [0]
    with pytest.raises(ClaimLost, match="trial 0 is no longer this worker's"):
        asleep.beat(claim)
    with pytest.raises(ClaimLost):
        database.set_trial_intermediate_value(claim.trial_id, 2, 0.5)


def test_a_trial_of_stock_optuna_that_runs_without_a_claim_is_left_alone(ledger: Kept) -> None:
    claims, clock = new_study(ledger), Clock()
    optuna.load_study(study_name="mnist", storage=ledger).ask()
    assert looking(LeaseWatch(claims, clock), clock, 3 * LEASE_S) == []
    assert trials(ledger)[0].state == TrialState.RUNNING


def test_a_lease_outlives_several_missed_beats() -> None:
    assert LEASE_S >= 5 * BEAT_S


# --- The heartbeat ---


class Beats:
    """Claims of which only the beats matter: each is noted, and fails as the test says."""

    def __init__(self, *failing: Exception) -> None:
        self._failing = list(failing)
        self.beaten: list[Claim] = []
        self.enough = threading.Event()

    def beat(self, claim: Claim) -> None:
        self.beaten.append(claim)
        if len(self.beaten) > len(self._failing):
            self.enough.set()
            return
        raise self._failing[len(self.beaten) - 1]


CLAIM = Claim(1, 0, "me", 1, "an id")


def heartbeat(
    claims: object,
    *,
    timeout_s: float | None = None,
    hangs: Callable[[], str | None] = lambda: None,
    give_up: Callable[[Claim, str], None] = lambda _, __: None,
) -> Heartbeat:
    return Heartbeat(claims, timeout_s=timeout_s, hangs=hangs, give_up=give_up, interval_s=0.001)  # type: ignore[arg-type]


def wait_for_other_threads(before: set[threading.Thread]) -> None:
    for thread in set(threading.enumerate()) - before:
        thread.join(timeout=10)
        assert not thread.is_alive()


def test_a_claim_beats_inside_the_block_and_not_after_it() -> None:
    before, beats = set(threading.enumerate()), Beats()
    with heartbeat(beats).of(CLAIM):
        assert beats.enough.wait(timeout=10)
    wait_for_other_threads(before)
    assert set(beats.beaten) == {CLAIM}


def test_a_database_that_is_away_ends_no_heartbeat() -> None:
    beats = Beats(StorageUnavailable("away"), StorageUnavailable("still away"))
    with heartbeat(beats).of(CLAIM):
        assert beats.enough.wait(timeout=10)
    assert len(beats.beaten) >= 3


def test_a_lost_claim_beats_no_more() -> None:
    before, beats = set(threading.enumerate()), Beats(ClaimLost("another's"))
    with heartbeat(beats).of(CLAIM):
        wait_for_other_threads(before)
    assert beats.beaten == [CLAIM]


def test_a_claim_that_lasts_too_long_is_told_once_and_beats_no_more() -> None:
    before, beats, told = set(threading.enumerate()), Beats(), list[tuple[Claim, str]]()
    with heartbeat(beats, timeout_s=0.0, give_up=lambda *why: told.append(why)).of(CLAIM):
        wait_for_other_threads(before)
    assert (told, beats.beaten) == ([(CLAIM, "took longer than its time limit of 0 s")], [])


def test_a_claim_whose_trial_hangs_is_told_once_and_beats_no_more() -> None:
    before, beats, told = set(threading.enumerate()), Beats(), list[tuple[Claim, str]]()
    with heartbeat(beats, hangs=lambda: "hangs", give_up=lambda *why: told.append(why)).of(CLAIM):
        wait_for_other_threads(before)
    assert (told, beats.beaten) == ([(CLAIM, "hangs")], [])


# --- The steps ---


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def steps(clock: Clock) -> StepWatch:
    return StepWatch(clock)


def hangs_after(steps: StepWatch, clock: Clock) -> float:
    """Look with each beat; return after how many seconds the training is taken for hung, infinity for never."""
    began = clock.now
    steps.hangs()
    while clock.now < began + 2 * UNKNOWN_S:
        clock.now += BEAT_S
        if steps.hangs():
            return clock.now - began
    return math.inf


def call(steps: StepWatch, clock: Clock, seconds: float, kind: str = "train") -> None:
    steps.call_begins(kind)
    clock.now += seconds
    steps.call_ends()


@pytest.mark.parametrize(("took_s", "limit_s"), [(0.25, LEAST_S), (2.0, LEAST_S), (10.0, TIMES * 10.0)])
def test_a_call_hangs_by_what_the_last_one_took(steps: StepWatch, clock: Clock, took_s: float, limit_s: float) -> None:
    steps.training_begins()
    call(steps, clock, 300.0)  # traced and compiled
    call(steps, clock, took_s)
    steps.call_begins("train")
    assert hangs_after(steps, clock) == limit_s + BEAT_S


def test_a_first_call_may_compile_for_half_an_hour_where_no_preflight_told_of_any(
    steps: StepWatch, clock: Clock
) -> None:
    steps.training_begins()
    call(steps, clock, 0.25)
    steps.call_begins("test")
    assert hangs_after(steps, clock) == UNKNOWN_S + BEAT_S
    call(steps, clock, 0.25, "test")
    steps.training_begins()  # another trial, whose step is another perhaps
    steps.call_begins("test")
    assert hangs_after(steps, clock) == UNKNOWN_S + BEAT_S


FIRST = FirstCalls(before_s=4.0, train_s=50.0, test_s=1.0)


@pytest.mark.parametrize(
    ("compiling", "before_s", "train_s", "test_s"),
    [(False, TIMES * 4.0, TIMES * 50.0, LEAST_S), (True, COMPILING_S, TIMES * 50.0, COMPILING_S)],
)
def test_until_its_first_calls_have_ended_a_training_hangs_by_what_the_preflight_took(
    steps: StepWatch, clock: Clock, compiling: bool, before_s: float, train_s: float, test_s: float
) -> None:
    steps.expect(FIRST, compiling=compiling)
    for _ in range(2):  # each trial's
        steps.training_begins()
        assert hangs_after(steps, clock) == before_s + BEAT_S
        steps.call_begins("train")
        assert hangs_after(steps, clock) == train_s + BEAT_S
        steps.call_ends()
        steps.call_begins("test")
        assert hangs_after(steps, clock) == test_s + BEAT_S
        steps.call_ends()
        assert hangs_after(steps, clock) == UNKNOWN_S + BEAT_S
    steps.rests()
    assert hangs_after(steps, clock) == math.inf


def test_of_two_preflights_the_longer_first_calls_count() -> None:
    assert FIRST.longest(FirstCalls(5.0, 2.0, 1.0)) == FirstCalls(5.0, 50.0, 1.0)


def test_what_lies_between_calls_is_not_known_to_be_short(steps: StepWatch, clock: Clock) -> None:
    steps.training_begins()
    call(steps, clock, 0.25)
    assert hangs_after(steps, clock) == UNKNOWN_S + BEAT_S


def test_calls_that_end_never_hang_and_outside_of_training_nothing_does(steps: StepWatch, clock: Clock) -> None:
    assert hangs_after(steps, clock) == math.inf
    steps.training_begins()
    for _ in range(1000):
        call(steps, clock, LEAST_S - BEAT_S)
        assert steps.hangs() is None
    steps.rests()
    assert hangs_after(steps, clock) == math.inf


def test_a_process_that_was_stopped_in_a_call_hangs_no_sooner(steps: StepWatch, clock: Clock) -> None:
    steps.training_begins()
    call(steps, clock, 0.25)
    steps.call_begins("train")
    steps.hangs()
    for _ in range(3):
        clock.now += 3600.0
        assert steps.hangs() is None
