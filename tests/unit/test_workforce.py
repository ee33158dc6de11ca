"""The workers of a launcher, without a worker: what becomes of their processes and of what they held."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from storage.claims import Claims, GivenUp
from storage.errors import BadInput, StorageUnavailable, TuningError
from tests.databases import fresh_database, new_study
from tuning.devices import CPU, Device, Placement
from tuning.workforce import MAX_DEATHS, Slot, Workforce

PLACE = Placement(Device("cpu", "cpu", CPU), 1, {})
# Longer than any pause before a worker is replaced.
LONG_S = 3600.0


class Clock:
    """Time that goes on only where a test says so, or a little with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Acted(Workforce):
    """A workforce whose workers are scripts: each started worker runs the next one."""

    def __init__(self, claims: Claims, logs: Path, *scripts: str) -> None:
        self.reports: list[str] = []
        self.clock = Clock()
        super().__init__(claims, [PLACE], [], {}, logs, self.reports.append, self.clock)
        self.scripts = list(scripts)
        self.preflights: list[bool] = []

    def _start(self, slot: Slot, *, preflight: bool = False) -> None:
        self.preflights.append(preflight)
        slot.owner, slot.error, slot.crash = None, None, None
        slot.process = subprocess.Popen(
            [sys.executable, "-c", self.scripts.pop(0)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._listen_to(slot)

    def skip_pauses(self) -> bool:
        """Let time pass, and do not give up."""
        self.clock.now += LONG_S
        return False


KILLED = "import os; os.kill(os.getpid(), 9)"


def says(event: str, status: int = 0, **more: object) -> str:
    """Return the script of a worker that says one thing and ends."""
    return f"import os; print({json.dumps({'event': event, **more})!r}, flush=True); os._exit({status})"


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    with fresh_database(tmp_path / "studies.db") as database:
        yield new_study(database)


Act = Callable[..., Acted]


@pytest.fixture
def act(claims: Claims, tmp_path: Path) -> Iterator[Act]:
    """Make a workforce of scripts, and end what is left of it."""
    made: list[Acted] = []

    def make(*scripts: str) -> Acted:
        made.append(Acted(claims, tmp_path, *scripts))
        return made[-1]

    yield make
    for workforce in made:
        workforce.end(hurry=lambda: True)


# --- The preflight ---


def test_a_worker_that_is_killed_in_the_preflight_is_replaced(act: Act, tmp_path: Path) -> None:
    workforce = act(KILLED, says("preflight", seconds=1))
    workforce.start()
    found = workforce.preflight(give_up=workforce.skip_pauses)
    assert found is not None
    assert found["seconds"] == 1
    assert workforce.preflights == [True, True]
    assert workforce.reports == [
        f"worker 0 was killed by signal 9; the next starts in 1 s. Its log is {tmp_path}/worker-0.log"
    ]


def test_a_preflight_in_which_every_worker_is_killed_ends_the_study(act: Act) -> None:
    workforce = act(*[KILLED] * MAX_DEATHS)
    workforce.start()
    with pytest.raises(TuningError, match="failed before its first trial: was killed by signal 9"):
        workforce.preflight(give_up=workforce.skip_pauses)
    assert workforce.scripts == []


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        (says("error", 2, message="the model cannot be built", exit_status=2), BadInput, "cannot be built"),
        (says("crashed", 1, message="ImportError: no"), TuningError, "before its first trial: ImportError: no"),
        ("raise SystemExit(3)", TuningError, "before its first trial: ended with status 3"),
    ],
)
def test_a_worker_that_ends_by_itself_in_the_preflight_is_not_replaced(
    act: Act, script: str, error: type[Exception], words: str
) -> None:
    workforce = act(script)
    workforce.start()
    with pytest.raises(error, match=words):
        workforce.preflight(give_up=workforce.skip_pauses)


# --- Deaths ---


def deaths_after(workforce: Acted, count: int) -> int:
    """Let so many workers die; return how many deaths in a row the place counts."""
    (slot,) = workforce.slots
    for _ in range(count):
        workforce.clock.now += LONG_S
        if slot.process is None:
            workforce.scripts.append(KILLED)
            workforce._start(slot)
        assert slot.process is not None
        slot.process.wait()
        workforce.tend()
    return slot.deaths


def test_a_place_whose_workers_die_without_progress_is_given_up(act: Act) -> None:
    workforce = act()
    assert deaths_after(workforce, MAX_DEATHS - 1) == MAX_DEATHS - 1
    with pytest.raises(TuningError, match="no worker stays alive"):
        deaths_after(workforce, 1)


def test_a_worker_that_kept_a_checkpoint_before_it_died_starts_the_count_anew(act: Act, claims: Claims) -> None:
    workforce = act()
    (slot,) = workforce.slots
    assert deaths_after(workforce, MAX_DEATHS - 1) == MAX_DEATHS - 1
    claim = claims.next()
    assert claim is not None
    claims.progressed(claim, 3)
    workforce.scripts.append(says("started", 1, owner=claim.owner))
    workforce._start(slot)
    assert deaths_after(workforce, 1) == 1
    assert "ended with status 1; trial 0 is taken from it; the next starts in 1 s" in workforce.reports[-1]
    assert claims.standing().waiting == 1


def test_the_last_words_of_a_worker_are_heard_however_late_they_are_read(act: Act) -> None:
    for _ in range(5):
        workforce = act(says("error", 1, message="no room", exit_status=1))
        workforce.start()
        (slot,) = workforce.slots
        assert slot.process is not None
        slot.process.wait()
        with pytest.raises(TuningError, match="no room"):
            workforce.tend()


# --- The end ---


class Away(Claims):
    """Claims in a database that cannot be reached."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def put_back_of(self, owner: str, reason: str, why: GivenUp = "interrupted") -> list[int]:
        self.asked.append(owner)
        raise StorageUnavailable("away")


def test_no_process_is_left_even_if_the_database_is_away_at_the_end(tmp_path: Path) -> None:
    claims = Away()
    workforce = Workforce(claims, [PLACE] * 3, [], {}, tmp_path, report=lambda line: None)
    processes = []
    for slot in workforce.slots:
        slot.process = subprocess.Popen(
            [sys.executable, "-c", "import signal; signal.signal(15, lambda *_: None); signal.pause(); signal.pause()"],
            stdin=subprocess.PIPE,
            text=True,
        )
        slot.owner = f"worker {slot.number}"
        processes.append(slot.process)
    with pytest.raises(StorageUnavailable):
        workforce.end(hurry=lambda: True)
    assert claims.asked == ["worker 0"]
    assert all(process.poll() is not None for process in processes)
    assert not any(slot.alive for slot in workforce.slots)
