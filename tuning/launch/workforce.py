"""The worker processes of one launcher: started, heard, replaced when they die, and ended. Never imports Keras."""

from __future__ import annotations

import queue
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from storage.claims import Claims
from storage.errors import BadInput, TuningError
from storage.rows.giving_up import GivenUp
from storage.settings import STORAGE_VARIABLE, Home, mark
from studies.stored import StudyRecord
from tuning.launch.engines.engine import Engine, Start, WorkerProcess
from tuning.launch.engines.here import Here
from tuning.machine.devices import Placement
from tuning.machine.memory import kernel_kills
from tuning.messages import (
    LAUNCHER_GRACE_S,
    RENEWED,
    Crashed,
    EpochEnded,
    Finished,
    FromLauncher,
    Go,
    Leave,
    Memory,
    Message,
    Note,
    OutOfMemory,
    Preflight,
    Refused,
    Started,
    Unreadable,
    WorkerOptions,
    decode,
    encode,
)

# A place whose worker died so often in a row, each time with another trial or with none, and without a trial finished
# or a checkpoint kept in between, is given up. To die again with the same trial is that trial's doing, which has a
# bound of its own.
MAX_DEATHS = 4
# What a process does not do to itself: a service manager, a user, or the kernel. Where the latter did it for want of
# memory, which it says, that is the trial's doing, most likely.
FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM)
# How long after the kernel killed a process for want of memory a killed worker is taken for that process.
STARVED_S = 10.0
# The pause before a dead worker is replaced, doubled with each death in a row.
RESTART_S = 1.0
# How long the last words of a dead worker may be on their way.
LAST_WORDS_S = 5.0


@dataclass(frozen=True)
class Ended:
    """A worker's process is gone."""


Event = Started | EpochEnded | Memory | OutOfMemory | Ended
"""What becomes of a worker that matters to how many of them share a device."""


@dataclass
class Slot:
    """A place for a worker. The process in it may be replaced; the place keeps count of that.

    Attributes:
        number: from 0, part of the log's name.
        placement: the device and the environment.
        log: where the worker's standard error goes.
        owner: the name under which the worker claims trials, once it has said so.
        deaths: how often in a row a worker died here, each time with another trial or with none.
        died_with: the trials with which it did.
        start_after: when the next worker may start, monotonic seconds.
        refusal: why the study cannot go on, if its worker said so.
        crash: what ended the worker, if that was an error of the program.
        why: why the last worker here died.
        listener: reads what the worker says, until its end.
        leaving: whether the worker was asked to leave after its trial.
        moves_to: where the one after it runs; None for the same placement, or where none follows.
        closing: whether the place goes with the worker that is leaving.
    """

    number: int
    placement: Placement
    log: Path
    process: WorkerProcess | None = None
    owner: str | None = None
    deaths: int = 0
    died_with: set[int] = field(default_factory=set)
    start_after: float = 0.0
    refusal: Refused | None = None
    crash: str | None = None
    why: str = ""
    listener: threading.Thread | None = None
    leaving: bool = False
    moves_to: Placement | None = None
    closing: bool = False

    @property
    def alive(self) -> bool:
        """Whether a worker runs here."""
        return self.process is not None and self.process.status() is None

    @property
    def given_up(self) -> bool:
        """Whether no worker is started here any more."""
        return self.deaths >= MAX_DEATHS


def log_folder(home: Home, name: str, uid: str) -> Path:
    """Make the folder of the logs of a study's workers."""
    folder = home.make(home.logs(name, uid))
    if uid:
        mark(folder, uid)
    return folder


class Workforce:
    """The workers of one study.

    Args:
        claims: through which the trials of dead workers are put back.
        placements: where each worker runs.
        options: returns what a worker in a placement is started with.
        environment: variables for all, besides those of the placement.
        logs: the folder of the workers' logs.
        report: takes one line about each death.
        clock: monotonic seconds.
        kernel_kills: how many processes the kernel has killed for want of memory.
        engine: starts their processes; this machine by default.
    """

    def __init__(
        self,
        claims: Claims,
        placements: list[Placement],
        options: Callable[[Placement], WorkerOptions],
        environment: dict[str, str],
        logs: Path,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        kernel_kills: Callable[[], int] = kernel_kills,
        engine: Engine | None = None,
    ) -> None:
        self._engine = engine or Here()
        self._claims = claims
        self._options = options
        self._environment = environment
        self._report = report
        self._clock = clock
        self._kernel_kills = kernel_kills
        # How many there were when this was last looked at, and when there was one more.
        self._kills, self._starved_at = kernel_kills(), -STARVED_S
        self._said: queue.Queue[tuple[Slot, Message | Unreadable]] = queue.Queue()
        self._gone = False
        self._logs = logs
        # Bounded, for where nobody asks.
        self._events: deque[tuple[Slot, Event]] = deque(maxlen=1000)
        self.slots: list[Slot] = []
        for placement in placements:
            self.add(placement)

    @classmethod
    def of_study(
        cls,
        claims: Claims,
        placements: list[Placement],
        options: Callable[[Placement], WorkerOptions],
        *,
        home: Home,
        url: str,
        record: StudyRecord,
        report: Callable[[str], None],
        engine: Engine | None = None,
    ) -> Workforce:
        """Return the workers of a study, with its folder of logs.

        Args:
            claims: of the phase that they work on.
            placements: where each runs.
            options: returns what a worker in a placement is started with.
            home: where files are.
            url: where the study is.
            record: what it records.
            report: takes one line about each death.
            engine: starts their processes; this machine by default.
        """
        # The URL may hold a password, and command lines are public.
        environment = {**home.environment, STORAGE_VARIABLE: url}
        kills = kernel_kills if engine is None else lambda: 0  # it is on other machines, too
        logs = log_folder(home, record.name, record.uid)
        return cls(claims, placements, options, environment, logs, report, kernel_kills=kills, engine=engine)

    def start(self, *, preflight: bool = True) -> None:
        """Start all workers; the first one makes the preflight, if any does, and none asks for a trial before `Go`."""
        for slot in self.slots:
            self._start(slot, preflight=preflight and slot.number == 0)

    def add(self, placement: Placement) -> None:
        """Make a place for one worker more, which `tend` starts."""
        number = min(set(range(len(self.slots) + 1)) - {slot.number for slot in self.slots})
        self.slots.append(Slot(number, placement, self._logs / f"worker-{number}.log"))

    def dismiss(self, slot: Slot) -> None:
        """Give up a place: its worker leaves after its present trial."""
        if slot.process is None:
            self.slots.remove(slot)
            return
        slot.closing = True
        self._ask_to_leave(slot)

    def move(self, slot: Slot, placement: Placement) -> None:
        """Have the worker of a place make way, after its present trial, for one that runs elsewhere."""
        if slot.process is None:
            slot.placement = placement
            return
        slot.moves_to = placement
        self._ask_to_leave(slot)

    def _ask_to_leave(self, slot: Slot) -> None:
        slot.leaving = True
        self.say(slot, Leave())

    def drain_events(self) -> list[tuple[Slot, Event]]:
        """Return what became of the workers since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    def _start(self, slot: Slot, *, preflight: bool = False) -> None:
        options = replace(self._options(slot.placement), supervised=True, preflight=preflight)
        slot.owner, slot.refusal, slot.crash = None, None, None
        slot.process = self._engine.start(Start(options, slot.placement, self._environment, slot.log))
        slot.listener = threading.Thread(target=self._listen, args=(slot, slot.process), daemon=True)
        slot.listener.start()

    def _listen(self, slot: Slot, process: WorkerProcess) -> None:
        for line in process.lines():
            self._said.put((slot, decode(line)))

    def _hear(self) -> Preflight | None:
        """Take in what the workers said; return the preflight's findings if they are among it."""
        found = None
        while True:
            try:
                slot, said = self._said.get_nowait()
            except queue.Empty:
                return found
            match said:
                case Started(owner):
                    slot.owner = owner
                    if slot.leaving:  # it became another program in the meantime, which may not have heard it
                        self.say(slot, Leave())
                    self._events.append((slot, said))
                case Finished():
                    slot.deaths = 0
                    slot.died_with.clear()
                case EpochEnded() | Memory() | OutOfMemory():
                    self._events.append((slot, said))
                case Refused():
                    slot.refusal = said
                case Crashed(message):
                    slot.crash = message
                case Note(message):
                    self._report(message)
                case Preflight():
                    found = said

    def preflight(self, give_up: Callable[[], bool]) -> Preflight | None:
        """Wait for the first worker's findings; None when `give_up` says so before.

        A worker that was killed is replaced, as later. One that ended by itself would do so again.

        Raises:
            BadInput: the preflight refused the study.
            TuningError: the worker died.
        """
        first = self.slots[0]
        while not give_up():
            if first.process is None and self._clock() >= first.start_after:
                self._start(first, preflight=True)
            died = first.process is not None and not first.alive
            found = self._last_words(first) if died else self._hear()
            if found is not None:
                return found
            if died and first.process is not None:
                status = first.process.wait()
                replaced = (status < 0 or status == RENEWED) and first.refusal is None
                if not replaced or first.deaths + 1 >= MAX_DEATHS:
                    self._raise_refusal(first)
                self._handle_exit(first)
            time.sleep(0.05)
        return None

    def _last_words(self, slot: Slot) -> Preflight | None:
        """Take in all that a dead worker said."""
        if slot.listener is not None:
            slot.listener.join(LAST_WORDS_S)
        return self._hear()

    def go(self) -> None:
        """Let all workers ask for trials; those started later need not wait."""
        self._gone = True
        for slot in self.slots:
            self._say_go(slot)

    def _say_go(self, slot: Slot) -> None:
        self.say(slot, Go())

    def say(self, slot: Slot, message: FromLauncher) -> None:
        """Tell the worker of a place something, if there is one."""
        if slot.process is not None:
            slot.process.say(encode(message))

    def tend(self) -> None:
        """Replace the dead, after a pause that grows with their number; call it often.

        Raises:
            TuningError: a worker said that the study cannot go on, or no place is left.
        """
        self._hear()
        self._look_at_kills()
        for slot in list(self.slots):
            if slot.process is None:
                if not slot.given_up and self._clock() >= slot.start_after:
                    self._start(slot)
                    self._say_go(slot)
            elif not slot.alive:
                self._handle_exit(slot)
        if all(slot.given_up for slot in self.slots):
            last = self.slots[-1]
            raise TuningError(f"no worker stays alive. The last one {last.why}. Its log is {last.log}")

    def _handle_exit(self, slot: Slot) -> None:
        assert slot.process is not None
        status = slot.process.wait()
        self._last_words(slot)
        if slot.refusal is not None:
            # What ended it is the study's, and would end the next one, too.
            self._raise_refusal(slot)
        self._close(slot)
        self._events.append((slot, Ended()))
        asked = slot.leaving
        self._make_way(slot)
        if status in (0, RENEWED):
            # 0, unasked: it saw the budget spent; should a trial come back, somebody must be there for it.
            slot.start_after = self._clock() + (RESTART_S if status == 0 and not asked else 0.0)
            return
        starved = self._starved(status)
        slot.why = _death(status, starved=starved) + (f": {slot.crash}" if slot.crash else "")
        moved = slot.owner is not None and self._claims.moved(slot.owner)
        why: GivenUp = "out_of_memory" if starved else "lost" if status in FROM_OUTSIDE else "died"
        back = self._claims.put_back_of(slot.owner, f"its worker {slot.why}", why) if slot.owner else []
        self._count_death(slot, back, moved=moved)
        if starved and back:
            self._events.append((slot, OutOfMemory(back[0])))
        pause_s = RESTART_S * 2.0 ** (slot.deaths - 1)
        slot.start_after = self._clock() + pause_s
        trial = f"; trial {', '.join(map(str, back))} is taken from it" if back else ""
        then = f"the next starts in {pause_s:g} s"
        if slot.given_up:
            then = f"after {slot.deaths} in a row none is started on this {slot.placement.device.name} any more"
        if slot.closing:
            then = "it was about to leave"
        self._report(f"worker {slot.number} {slot.why}{trial}; {then}. Its log is {slot.log}")

    def _count_death(self, slot: Slot, trials: list[int], *, moved: bool) -> None:
        if moved:
            slot.deaths = 0
            slot.died_with.clear()
        if not trials or not slot.died_with.issuperset(trials):
            slot.deaths += 1
        slot.died_with.update(trials)

    def _look_at_kills(self) -> None:
        kills, before = self._kernel_kills(), self._kills
        self._kills = kills
        if kills > before:
            self._starved_at = self._clock()

    def _starved(self, status: int) -> bool:
        """Return whether a worker that ended so was killed by the kernel for want of memory."""
        self._look_at_kills()
        return status == -signal.SIGKILL and self._clock() - self._starved_at < STARVED_S

    def _make_way(self, slot: Slot) -> None:
        if slot.closing:
            self.slots.remove(slot)
        slot.placement = slot.moves_to or slot.placement
        slot.leaving, slot.moves_to = False, None

    def _raise_refusal(self, slot: Slot) -> None:
        if slot.refusal is None:
            status = slot.process.status() if slot.process is not None else None
            why = slot.crash or (_death(status, starved=self._starved(status)) if status is not None else "it ended")
            raise TuningError(f"the first worker failed before its first trial: {why}. Its log is {slot.log}")
        refused = slot.refusal.exit_status == BadInput.exit_status
        raise BadInput(slot.refusal.message) if refused else TuningError(slot.refusal.message)

    def kill_owner(self, owner: str) -> None:
        """End the worker that claims trials under a name, if it is one of these: it hangs."""
        for slot in self.slots:
            if slot.owner == owner and slot.alive and slot.process is not None:
                slot.process.kill()

    def end(self, hurry: Callable[[], bool]) -> None:
        """Ask all workers to stop, wait for `LAUNCHER_GRACE_S` or until `hurry` says so, then end those that are left.

        What they held is put back; afterwards no process is left.
        """
        for slot in self.slots:
            if slot.alive and slot.process is not None:
                slot.process.stop()
        until = self._clock() + LAUNCHER_GRACE_S
        while any(slot.alive for slot in self.slots) and self._clock() < until and not hurry():
            time.sleep(0.05)
        for slot in self.slots:
            if slot.process is None:
                continue
            if slot.alive:
                slot.process.kill()
            slot.process.wait()
            self._last_words(slot)
            self._close(slot)
        # Only now the database, which may be away: its leases then give the trials back in time.
        for owner in [slot.owner for slot in self.slots if slot.owner is not None]:
            self._claims.put_back_of(owner, "its worker was ended")

    def _close(self, slot: Slot) -> None:
        assert slot.process is not None
        slot.process.close()
        slot.process = None


def _death(status: int, *, starved: bool) -> str:
    if starved:
        return "was killed by the kernel for want of memory"
    return f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
