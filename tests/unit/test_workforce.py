"""The workers of a launcher, without a worker: what becomes of their processes and of what they held."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from storage.claims import Claims
from storage.errors import BadInput, StorageUnavailable, TuningError
from storage.rows.giving_up import MAX_RETRIES, GivenUp
from tests.databases import fresh_database, new_study
from tuning.launch.engines.engine import Start
from tuning.launch.engines.here import ProcessHere
from tuning.launch.packer import Packer, make_packer
from tuning.launch.packing import EPOCHS_IN_ALL
from tuning.launch.workforce import MAX_DEATHS, Slot, Workforce
from tuning.machine.devices import CPU, Device, Placement, place_workers
from tuning.messages import (
    RENEWED,
    Cost,
    Crashed,
    EpochEnded,
    FromWorker,
    Memory,
    Note,
    OutOfMemory,
    Preflight,
    Refused,
    Started,
    Throughput,
    WorkerOptions,
    encode,
)

PLACE = Placement(Device("cpu", "cpu", CPU), 1, {})
FOUND = Preflight({}, {}, 1, 1, Cost(1.0, 1.0), Cost(1.0, 1.0), seconds=1.0)
# Longer than any pause before a worker is replaced.
LONG_S = 3600.0


def options(place: Placement) -> WorkerOptions:
    return WorkerOptions.at(place, "mnist", None, None)


class Clock:
    """Time that goes on only where a test says so, or a little with each look."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Scripts:
    """An engine whose workers are scripts: each started worker runs the next one."""

    def __init__(self, scripts: Sequence[str]) -> None:
        self.scripts = list(scripts)
        self.started: list[Start] = []

    def start(self, start: Start) -> ProcessHere:
        self.started.append(start)
        command = [sys.executable, "-c", self.scripts.pop(0)]
        return ProcessHere(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))


class Acted(Workforce):
    """A workforce whose workers are scripts."""

    def __init__(self, claims: Claims, logs: Path, *scripts: str, places: Sequence[Placement] = (PLACE,)) -> None:
        self.reports: list[str] = []
        self.clock = Clock()
        self.kernel_kills = 0
        self.engine = Scripts(scripts)
        self.scripts = self.engine.scripts
        super().__init__(
            claims, list(places), options, {}, logs, self.reports.append, self.clock, lambda: self.kernel_kills,
            self.engine,
        )  # fmt: skip

    @property
    def preflights(self) -> list[bool]:
        return [start.options.preflight for start in self.engine.started]

    @property
    def placed(self) -> list[tuple[int, Placement]]:
        number = re.compile(r"worker-(\d+)\.log")
        found = [(number.fullmatch(start.log.name), start.placement) for start in self.engine.started]
        return [(int(match[1]), placement) for match, placement in found if match is not None]

    def have_said(self, slot: Slot, message: FromWorker) -> None:
        """Have the script of a place say something; see `OBEDIENT`."""
        assert slot.process is not None
        slot.process.say(f"tell {encode(message)}")

    def skip_pauses(self) -> bool:
        """Let time pass, and do not give up."""
        self.clock.now += LONG_S
        return False


KILLED = "import os; os.kill(os.getpid(), 9)"


def says(message: FromWorker, status: int = 0) -> str:
    """Return the script of a worker that says one thing and ends."""
    return f"import os; print({encode(message)!r}, end='', flush=True); os._exit({status})"


@pytest.fixture
def claims(tmp_path: Path) -> Iterator[Claims]:
    with fresh_database(tmp_path / "studies.db") as database:
        yield new_study(database)


Act = Callable[..., Acted]


@pytest.fixture
def act(claims: Claims, tmp_path: Path) -> Iterator[Act]:
    """Make a workforce of scripts, and end what is left of it."""
    made: list[Acted] = []

    def make(*scripts: str, places: Sequence[Placement] = (PLACE,)) -> Acted:
        made.append(Acted(claims, tmp_path, *scripts, places=places))
        return made[-1]

    yield make
    for workforce in made:
        workforce.end(hurry=lambda: True)


# --- The preflight ---


def test_a_worker_that_is_killed_in_the_preflight_is_replaced(act: Act, tmp_path: Path) -> None:
    workforce = act(KILLED, says(FOUND))
    workforce.start()
    found = workforce.preflight(give_up=workforce.skip_pauses)
    assert found == FOUND
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
        (says(Refused("the model cannot be built", 2), 2), BadInput, "cannot be built"),
        (says(Crashed("ImportError: no"), 1), TuningError, "before its first trial: ImportError: no"),
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
    workforce.scripts.append(says(Started(claim.owner), 1))
    workforce._start(slot)
    assert deaths_after(workforce, 1) == 1
    assert "ended with status 1; trial 0 is taken from it; the next starts in 1 s" in workforce.reports[-1]
    assert claims.standing().waiting == 1


def die_with_a_trial(workforce: Acted, claims: Claims, end: str) -> int:
    """Let a worker die that holds the next trial; return that trial's number."""
    (slot,) = workforce.slots
    workforce.clock.now += LONG_S
    claim = claims.next()
    assert claim is not None
    workforce.scripts.append(f"import os, signal; print({encode(Started(claim.owner))!r}, end='', flush=True); {end}")
    workforce._start(slot)
    deaths_after(workforce, 1)
    return claim.number


ABORTS = "os.abort()"
IS_KILLED = "os.kill(os.getpid(), signal.SIGKILL)"


def test_a_trial_that_aborts_its_process_is_given_up_and_its_place_goes_on(act: Act, claims: Claims) -> None:
    workforce = act()
    (slot,) = workforce.slots
    claims.set_budget(9)
    assert [die_with_a_trial(workforce, claims, ABORTS) for _ in range(4)] == [0, 0, 1, 1]
    assert claims.standing().failed == 2
    assert slot.deaths == 2 < MAX_DEATHS


def test_a_place_whose_worker_dies_with_one_trial_after_the_other_is_given_up(act: Act, claims: Claims) -> None:
    workforce = act()
    claims.set_budget(9)
    for _ in range(MAX_DEATHS - 1):
        die_with_a_trial(workforce, claims, ABORTS)
        waiting = claims.next()
        assert waiting is not None
        with claims._ledger.rows(claims._study_id, write=True) as rows:
            rows.fail(waiting.trial_id)  # elsewhere
    with pytest.raises(TuningError, match="no worker stays alive"):
        die_with_a_trial(workforce, claims, ABORTS)


def test_a_trial_whose_worker_is_killed_from_outside_is_given_up_later(act: Act, claims: Claims) -> None:
    workforce = act()
    assert {die_with_a_trial(workforce, claims, IS_KILLED) for _ in range(MAX_RETRIES["lost"])} == {0}
    assert (claims.standing().waiting, workforce.slots[0].deaths) == (1, 1)


def test_a_trial_whose_worker_the_kernel_kills_for_want_of_memory_is_given_up_like_one_that_aborts(
    act: Act, claims: Claims
) -> None:
    workforce = act()
    for attempt in range(2):
        workforce.kernel_kills += 2  # another process went with it
        assert die_with_a_trial(workforce, claims, IS_KILLED) == 0
        assert claims.standing().failed == (attempt == 1)
    assert "worker 0 was killed by the kernel for want of memory; trial 0 is taken from it" in workforce.reports[-1]
    assert [event for _, event in workforce.drain_events() if isinstance(event, OutOfMemory)] == [OutOfMemory(0)] * 2


def test_workers_that_the_kernel_kills_together_are_told_from_one_that_a_user_kills_later(act: Act) -> None:
    workforce = act(KILLED, KILLED, KILLED, KILLED, places=[PLACE, PLACE])

    def deaths() -> list[str]:
        before = len(workforce.reports)
        workforce.clock.now += LONG_S
        for slot in workforce.slots:
            if slot.process is None:
                workforce._start(slot)
            assert slot.process is not None
            slot.process.wait()
        workforce.tend()
        return [line.split(";")[0] for line in workforce.reports[before:]]

    workforce.start()
    workforce.kernel_kills = 2
    assert deaths() == [f"worker {number} was killed by the kernel for want of memory" for number in (0, 1)]
    workforce.clock.now += LONG_S
    assert deaths() == [f"worker {number} was killed by signal 9" for number in (0, 1)]


def test_a_preflight_that_the_kernel_kills_for_want_of_memory_ends_with_these_words(act: Act) -> None:
    workforce = act(*[KILLED] * MAX_DEATHS)
    workforce.start()

    def kills() -> bool:
        workforce.kernel_kills += 1
        return workforce.skip_pauses()

    with pytest.raises(TuningError, match="failed before its first trial: was killed by the kernel for want of memory"):
        workforce.preflight(give_up=kills)


def test_the_last_words_of_a_worker_are_heard_however_late_they_are_read(act: Act) -> None:
    for _ in range(5):
        workforce = act(says(Refused("no room", 1), 1))
        workforce.start()
        (slot,) = workforce.slots
        assert slot.process is not None
        slot.process.wait()
        with pytest.raises(TuningError, match="no room"):
            workforce.tend()


# --- Coming and leaving ---

# Repeats the name of each message as a note, and leaves when it is asked to, after its trial. What a test has it say
# comes after `tell`. It imports nothing of ours: a dozen of them start in a test.
OBEDIENT = """
import json, os, sys
def say(line): print(line, end="", flush=True)
say(json.dumps({"Started": {"owner": str(os.getpid())}}) + "\\n")
for line in sys.stdin:
    if line.startswith("tell "):
        say(line.removeprefix("tell "))
        continue
    (name,) = json.loads(line)
    if name != "Go":
        say(json.dumps({"Note": {"message": name}}) + "\\n")
    if name == "Leave":
        os._exit(0)
"""
# One whose trial lasts longer than the test.
BUSY = """
import json, sys
print(json.dumps({"Started": {"owner": "busy"}}), flush=True)
for line in sys.stdin: print(json.dumps({"Note": {"message": next(iter(json.loads(line)))}}), flush=True)
"""


def tend_until(workforce: Acted, reached: Callable[[], bool], packer: Packer | None = None) -> None:
    until = time.monotonic() + 20
    while not reached():
        assert time.monotonic() < until, (workforce.reports, workforce.slots)
        workforce.tend()
        if packer is not None:
            packer.adjust(trials_left=100)
        time.sleep(0.005)


def alive(workforce: Acted) -> list[int]:
    return [slot.number for slot in workforce.slots if slot.alive]


def test_a_worker_that_is_added_starts_and_one_that_is_dismissed_leaves_and_is_not_replaced(act: Act) -> None:
    workforce = act(OBEDIENT, OBEDIENT, OBEDIENT)
    workforce.start()
    workforce.add(PLACE)
    tend_until(workforce, lambda: alive(workforce) == [0, 1])
    first, second = workforce.slots
    workforce.dismiss(first)
    tend_until(workforce, lambda: workforce.slots == [second])
    assert workforce.reports == ["Leave"]
    # Its number, and with it its log, is free again.
    workforce.add(PLACE)
    tend_until(workforce, lambda: alive(workforce) == [1, 0])
    assert workforce.scripts == []


def test_a_dismissed_worker_goes_on_with_its_trial(act: Act) -> None:
    workforce = act(BUSY, OBEDIENT)
    workforce.start()
    workforce.add(PLACE)
    tend_until(workforce, lambda: alive(workforce) == [0, 1])
    workforce.dismiss(workforce.slots[0])
    tend_until(workforce, lambda: "Leave" in workforce.reports)
    assert alive(workforce) == [0, 1]


def test_a_place_without_a_process_is_given_up_at_once(act: Act) -> None:
    workforce = act(OBEDIENT)
    workforce.start()
    workforce.add(PLACE)
    workforce.dismiss(workforce.slots[1])
    assert [slot.number for slot in workforce.slots] == [0]


def test_a_worker_that_dies_before_it_could_leave_loses_nothing_and_is_not_replaced(act: Act, claims: Claims) -> None:
    workforce = act(BUSY, OBEDIENT)
    workforce.start()
    workforce.add(PLACE)
    tend_until(workforce, lambda: workforce.slots[0].owner == "busy" and alive(workforce) == [0, 1])
    mine = Claims(claims._ledger, claims._study_id, "busy")
    assert mine.next() is not None
    first, second = workforce.slots
    workforce.dismiss(first)
    assert first.process is not None
    first.process.kill()
    tend_until(workforce, lambda: workforce.slots == [second])
    assert "was killed by signal 9; trial 0 is taken from it; it was about to leave" in workforce.reports[-1]
    assert claims.standing().waiting == 1


@pytest.mark.parametrize("script", [OBEDIENT, KILLED, f"raise SystemExit({RENEWED})"])
def test_a_worker_that_is_to_move_is_followed_by_one_in_the_new_placement(act: Act, script: str) -> None:
    workforce = act(script, OBEDIENT)
    workforce.start()
    (slot,) = workforce.slots
    other = Placement(PLACE.device, 2, {})
    workforce.move(slot, other)
    tend_until(workforce, lambda: len(workforce.placed) == 2 or workforce.skip_pauses())
    assert workforce.placed == [(0, PLACE), (0, other)]
    assert not slot.leaving


def test_a_worker_that_became_another_program_is_asked_to_leave_again(act: Act) -> None:
    workforce = act(BUSY, OBEDIENT)
    workforce.start()
    (slot,) = workforce.slots
    tend_until(workforce, lambda: slot.owner == "busy")
    workforce.dismiss(slot)
    workforce._said.put((slot, Started("busy")))
    tend_until(workforce, lambda: workforce.reports == ["Leave", "Leave"])


# --- Packing ---


class Packed:
    """A workforce on simulated GPUs, whose workers say what the test has them say."""

    def __init__(self, act: Act, *, gpus: int = 1, cores: int = 16, workers: int | None = None) -> None:
        self.devices = [Device("gpu", f"GPU-{number}", "H200", 100 * 10**9, (9, 0)) for number in range(gpus)]
        places = place_workers(self.devices, cores, workers=workers, per_device="auto", environ={})
        self.workforce = act(*[OBEDIENT] * 12, places=places)
        self.packer = make_packer(
            self.workforce,
            self.devices,
            cores=cores,
            workers=workers,
            memory_bytes=10**12,
            environ={},
            report=self.workforce.reports.append,
        )
        self.workforce.start()
        self.now = 0.0

    def until(self, reached: Callable[[], bool]) -> None:
        tend_until(self.workforce, reached, self.packer)

    def all_there(self, count: int) -> None:
        self.until(lambda: len(alive(self.workforce)) == count == len(self.workforce.slots))

    def train(self, images_per_s: float, peak_bytes: int = 10**9) -> None:
        """Let each worker tell of enough epochs, until there are others."""
        slots = list(self.workforce.slots)
        for _ in range(EPOCHS_IN_ALL + 2):
            for slot in slots:
                throughput = Throughput("a", images_per_s, began=self.now, seconds=1.0, warm=True)
                self.workforce.have_said(slot, EpochEnded(throughput, Memory(peak_bytes, resident_bytes=1)))
                self.workforce.have_said(slot, Note(f"at {self.now}"))
            # One worker's epochs are not heard before the other's.
            self.until(lambda: self.workforce.reports.count(f"at {self.now}") == len(slots))
            self.now += 1.0
            self.packer.adjust(trials_left=100)
            if self.workforce.slots != slots or any(slot.leaving for slot in slots):
                return

    @property
    def lines(self) -> list[str]:
        return [line for line in self.workforce.reports if line.startswith(("GPU", "CPU"))]


def test_a_gpu_gets_workers_while_that_is_faster_and_then_one_fewer(act: Act) -> None:
    packed = Packed(act)
    packed.all_there(1)
    packed.train(100.0)
    packed.all_there(2)
    packed.train(90.0)
    packed.all_there(3)
    packed.train(60.0)
    packed.all_there(2)
    assert packed.lines == [
        "GPU 0: 2 workers train 1.8 times as fast as 1 (peak memory 2.0 of 100 GB)",
        "GPU 0: 3 workers train 1.00 times as fast as 2: back to 2",
    ]
    # The one that left was the last that came.
    assert packed.workforce.reports.count("Leave") == 1
    assert [slot.number for slot in packed.workforce.slots] == [0, 1]


def test_a_trial_that_finds_no_memory_sends_neighbours_away_and_who_stays_is_told(act: Act) -> None:
    packed = Packed(act)
    packed.all_there(1)
    packed.train(100.0)
    packed.all_there(2)
    packed.until(lambda: packed.workforce.reports.count("Crowded") >= 2)
    packed.workforce.have_said(packed.workforce.slots[0], OutOfMemory(7))
    packed.all_there(1)
    packed.until(lambda: "Alone" in packed.workforce.reports)
    assert packed.lines == ["GPU 0: a trial of 2 workers found no memory: back to 1"]


def test_each_gpu_is_packed_by_itself_within_the_number_of_workers(act: Act) -> None:
    packed = Packed(act, gpus=2, workers=3)
    packed.all_there(2)
    packed.train(100.0)
    packed.all_there(3)
    packed.train(100.0)
    assert [slot.placement.device.id for slot in packed.workforce.slots] == ["GPU-0", "GPU-1", "GPU-0"]
    assert packed.lines == ["GPU 0: 2 workers train 2.0 times as fast as 1 (peak memory 2.0 of 100 GB)"]


def test_no_worker_is_started_for_whom_no_trial_is_left(act: Act) -> None:
    packed = Packed(act)
    packed.all_there(1)
    packed.packer._packings["GPU-0"].workers = 4
    packed.packer.adjust(trials_left=2)
    assert len(packed.workforce.slots) == 2


def test_the_cores_get_their_workers_once_the_preflight_has_told_of_their_memory(act: Act) -> None:
    places = place_workers([], 8, workers=None, per_device="auto", environ={})
    workforce = act(*[OBEDIENT] * 5, places=places)
    packer = make_packer(
        workforce, [], cores=8, workers=None, memory_bytes=600, environ={}, report=workforce.reports.append
    )
    workforce.start()
    workforce.have_said(workforce.slots[0], Memory(100, 100))
    workforce.have_said(workforce.slots[0], FOUND)
    assert workforce.preflight(give_up=lambda: False) is not None
    packer.adjust(trials_left=100)
    workforce.go()
    tend_until(workforce, lambda: alive(workforce) == [0, 1, 2, 3] and len(workforce.placed) == 5, packer)
    # The one that made the preflight had a single thread.
    assert [place.threads for _, place in workforce.placed] == [1, 2, 2, 2, 2]
    assert workforce.reports.count("Leave") == 1
    workforce.have_said(workforce.slots[3], Memory(150, 150))
    tend_until(workforce, lambda: alive(workforce) == [0, 1, 2] == [slot.number for slot in workforce.slots], packer)
    assert len(workforce.placed) == 5


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
    deaf = Scripts(["import signal; signal.signal(15, lambda *_: None); signal.pause(); signal.pause()"] * 3)
    workforce = Workforce(claims, [PLACE] * 3, options, {}, tmp_path, report=lambda line: None, engine=deaf)
    workforce.start(preflight=False)
    processes = [slot.process for slot in workforce.slots if slot.process is not None]
    for slot in workforce.slots:
        slot.owner = f"worker {slot.number}"
    with pytest.raises(StorageUnavailable):
        workforce.end(hurry=lambda: True)
    assert claims.asked == ["worker 0"]
    assert all(process.status() is not None for process in processes)
    assert not any(slot.alive for slot in workforce.slots)


def test_a_worker_starts_although_its_namesakes_deletion_took_the_logs_along(claims: Claims, tmp_path: Path) -> None:
    reports: list[str] = []
    workforce = Workforce(claims, [PLACE], options, {}, tmp_path / "logs" / "mnist", reports.append)
    workforce.start()
    workforce.end(hurry=lambda: True)
    assert (tmp_path / "logs" / "mnist" / "worker-0.log").is_file()
