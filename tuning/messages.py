"""What launcher and worker say to each other, and what a worker is started with. Both sides are of one version.

A worker that a launcher started writes messages to its standard output and reads others from its standard input, each
one line of JSON: `{"Started": {"owner": "..."}}`. The end of a worker's input means that its launcher is gone, however
it went.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, get_args

from storage.attributes import SEARCH, Phase
from storage.claims import Claim
from storage.errors import BadInput
from storage.processes.isolation import python_module
from tuning.machine.devices import CPU, Placement
from tuning.user_classes import UserFile

RENEWED = 75
"""The exit status of a worker that asks to be replaced by a fresh process; BSD's EX_TEMPFAIL."""

# The three times of a stop. Each is longer than the one before, because it waits for what that one allows: an epoch is
# finished, then its trial is put back, and only then may a process be ended from outside.
EPOCH_GRACE_S = 20.0
"""How long a worker that was asked to stop may go on to the end of its epoch, where nothing is lost."""
ORPHAN_GRACE_S = 25.0
"""How long a worker whose launcher is gone may take to put its trial back, before it ends itself."""
LAUNCHER_GRACE_S = 30.0
"""How long a launcher that ends waits for its workers, before it kills those that are left."""


# --- What a worker says ---


@dataclass(frozen=True)
class Started:
    """The process is up; said again by the program that takes its place.

    Attributes:
        owner: the name under which it claims trials.
    """

    owner: str


@dataclass(frozen=True)
class Cost:
    """What a model costs in time.

    Attributes:
        start_s: seconds to build it and to trace its first step, once in a trial.
        epoch_s: seconds of an epoch, validation included.
    """

    start_s: float
    epoch_s: float


@dataclass(frozen=True)
class Preflight:
    """What the preflight found, besides the search space, which is recorded in the study.

    Attributes:
        parameters: the range of each searched parameter, in words, by name.
        defaults: its value in the first trial.
        default_weights, largest_weights: how many weights the default and the largest model have.
        default_cost, largest_cost: the seconds that each takes in one worker.
        seconds: what the preflight itself took.
        warnings: what cannot be meant as it is, one line each.
        notes: what its author should know of how a model of the user's is taken, likewise.
        exports_with_file: whether only the user's file can build the model that a trial saved.
    """

    parameters: dict[str, str]
    defaults: dict[str, Any]
    default_weights: int
    largest_weights: int
    default_cost: Cost
    largest_cost: Cost
    seconds: float
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    exports_with_file: bool = False


@dataclass(frozen=True)
class Memory:
    """The most memory that the process has taken so far.

    Attributes:
        peak_bytes: of its device.
        resident_bytes: of the machine.
    """

    peak_bytes: int
    resident_bytes: int


@dataclass(frozen=True)
class Throughput:
    """How fast an epoch was trained.

    Attributes:
        workload: what trials of equal cost have in common.
        images_per_s: training images of the epoch for each second that it took, validation included.
        began: when the epoch began, monotonic seconds, which are the same in all processes of a machine.
        seconds: what it took.
        warm: whether nothing was traced or compiled in it.
    """

    workload: str
    images_per_s: float
    began: float
    seconds: float
    warm: bool

    @property
    def ended(self) -> float:
        """When the epoch ended."""
        return self.began + self.seconds


@dataclass(frozen=True)
class EpochEnded:
    """A trial trained an epoch."""

    throughput: Throughput
    memory: Memory


@dataclass(frozen=True)
class Finished:
    """A trial is over, or frozen, and recorded as such.

    Attributes:
        number: the trial's.
    """

    number: int


@dataclass(frozen=True)
class OutOfMemory:
    """A trial found no memory.

    Attributes:
        number: the trial's.
    """

    number: int


@dataclass(frozen=True)
class Note:
    """Something that the user should know, in one line."""

    message: str


@dataclass(frozen=True)
class Refused:
    """The study cannot go on, and the worker ends.

    Attributes:
        message: what is wrong and what to do, in one line.
        exit_status: of the command.
        elsewhere: whether it may go on on another machine, if there is one.
    """

    message: str
    exit_status: int
    elsewhere: bool = False


@dataclass(frozen=True)
class Crashed:
    """The worker ends by an error of the program."""

    message: str


# --- What a launcher says ---


@dataclass(frozen=True)
class Go:
    """The preflight is over: ask for trials."""


@dataclass(frozen=True)
class Leave:
    """End after the present trial."""


@dataclass(frozen=True)
class Crowded:
    """Others share the device from now on."""


@dataclass(frozen=True)
class Alone:
    """The device is this worker's alone from now on."""


FromWorker = Started | Preflight | Memory | EpochEnded | Finished | OutOfMemory | Note | Refused | Crashed
FromLauncher = Go | Leave | Crowded | Alone
Message = FromWorker | FromLauncher

_KINDS: dict[str, type[Message]] = {kind.__name__: kind for kind in (*get_args(FromWorker), *get_args(FromLauncher))}
# The fields that hold something with fields of its own.
_PARTS = {"default_cost": Cost, "largest_cost": Cost, "throughput": Throughput, "memory": Memory}


@dataclass(frozen=True)
class Unreadable:
    """A line that is no message: cut off by a kill, most likely.

    Attributes:
        line: as it came.
    """

    line: str


def encode(message: Message) -> str:
    """Return a message as one line, its end included."""
    return json.dumps({type(message).__name__: asdict(message)}) + "\n"


def decode(line: str) -> Message | Unreadable:
    """Return the message of a line. It never raises."""
    try:
        ((name, values),) = json.loads(line).items()
        fields = {field: _PARTS[field](**value) if field in _PARTS else value for field, value in values.items()}
        return _KINDS[name](**fields)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Unreadable(line)


# --- What a worker is started with ---


@dataclass(frozen=True)
class WorkerOptions:
    """What a worker is started with, besides what its environment says: where the study is, and the home.

    Attributes:
        study: the study's name.
        user_file: the file with the study's hypermodel, if it is a user's.
        strategy_file: the file with its strategy, likewise.
        objective_file: the file with the function that it optimises, likewise.
        device: the name of what it trains on, recorded with each trial.
        precision: the Keras dtype policy, likewise.
        threads: CPU threads of the framework, likewise.
        supervised: whether a launcher reads the output and writes the input.
        go: whether the launcher has said `Go` already.
        preflight: whether this worker makes the preflight before it asks for trials.
        claim: a trial that this process holds already, for which it took on another number of threads.
        own_threads: the number to go back to after that trial.
        phase: whose trials it takes up.
        function: the file with the user's objective that runs them, see `tuning.user_functions`; None for a spec.
    """

    study: str
    user_file: UserFile | None
    strategy_file: UserFile | None
    device: str
    precision: str
    threads: int
    supervised: bool = False
    go: bool = False
    preflight: bool = False
    claim: Claim | None = None
    own_threads: int | None = None
    phase: Phase = SEARCH
    function: str | None = None
    objective_file: UserFile | None = None

    @classmethod
    def at(
        cls,
        place: Placement,
        study: str,
        user_file: UserFile | None,
        strategy_file: UserFile | None,
        phase: Phase = SEARCH,
        function: str | None = None,
        objective_file: UserFile | None = None,
    ) -> WorkerOptions:
        """Return the options of a worker of a study on a device."""
        device = place.device
        return cls(
            study, user_file, strategy_file, device.name, device.precision, place.threads,
            phase=phase, function=function, objective_file=objective_file,
        )  # fmt: skip

    def computing_in(self, precision: str) -> WorkerOptions:
        """Return these options for a study whose cores compute in a precision; a GPU computes in its own.

        Its trials are alike then, whichever cores they go on on.
        """
        return replace(self, precision=precision) if self.device == CPU else self

    def successor(self, *, claim: Claim | None = None, threads: int | None = None) -> WorkerOptions:
        """Return the options of the program that takes a worker's place.

        Args:
            claim: a trial that it is to run first, and that the process holds.
            threads: for that trial; without a claim, the worker's own.
        """
        own = self.own_threads or self.threads
        if claim is None:
            return replace(self, threads=own, claim=None, own_threads=None, go=True, preflight=False)
        return replace(self, threads=threads or own, claim=claim, own_threads=own, go=True, preflight=False)

    def command(self) -> list[str]:
        """Return the command line of such a worker."""
        # The study is said for whoever looks at the list of processes. No URL: it may hold a password.
        return python_module("tuning", "worker", "--study", self.study, "--as", self.to_json())

    def to_json(self) -> str:
        """Return what `from_json` reads."""
        files = {name: str(file) for name in _FILES if (file := getattr(self, name)) is not None}
        return json.dumps({**asdict(self), **files})

    @classmethod
    def from_json(cls, text: str, elsewhere: Mapping[str, UserFile] | None = None) -> WorkerOptions:
        """Return the options that a launcher, or the worker before, wrote.

        Args:
            text: what `to_json` returned.
            elsewhere: the user's files that lie elsewhere on this machine, by what they are called in the options.

        Raises:
            BadInput: a file of the user's is not there any more, or the text is of another origin.
        """
        moved = elsewhere or {}
        try:
            given = json.loads(text)
            files = {
                name: moved.get(given[name]) or UserFile.parse(kind, given[name])
                for name, kind in _FILES.items()
                if given[name]
            }
            claim = given["claim"] and Claim(**given["claim"])
            return cls(**{**given, **files, "claim": claim})
        except (ValueError, TypeError, KeyError) as error:
            raise BadInput(f"--as {text}: launchers start their workers with it. Leave it out.") from error


# What the class, or the function, in each file is.
_FILES = {"user_file": "model", "strategy_file": "strategy", "objective_file": "objective"}
