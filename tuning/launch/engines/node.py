"""What a launcher has run on a node of a cluster: one worker, started, heard, told and ended there. No Ray in it.

It is an actor of Ray's, made by `tuning.launch.engines.cluster`; what it is given and returns is data, and an error of
its own is data, too: what Ray says of an exception is for Ray's pages, and no password may be in it.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import IO, Any

from storage.errors import BadInput, TuningError, first_sentence, in_one_line
from storage.processes.isolation import python_environment
from storage.settings import NODE_VARIABLE, Home
from studies.datasets.shared import obtain
from studies.spec import Images
from tuning.launch.engines.shipped import Shipped
from tuning.machine.devices import cores_as_device, find_gpus, place_worker
from tuning.machine.installation import installation
from tuning.messages import WorkerOptions


@dataclass(frozen=True)
class Data:
    """What the workers of a study train on.

    Attributes:
        reference: the data set's name, or the path of data of one's own.
        folder: the name of the folder that it is prepared in.
        checksum: of the data.
        images: the form of pictures, as a spec stores it; None for a published data set.
    """

    reference: str
    folder: str
    checksum: str
    images: dict[str, Any] | None


@dataclass(frozen=True)
class Job:
    """What a node is to run.

    Attributes:
        options: the worker's, as `WorkerOptions.to_json` says them; device and precision are the node's.
        on_gpu: whether it trains on a GPU, which is the node's to know by name.
        environment: variables that the worker has besides the node's. They hold passwords: nobody prints them.
        files: the URL of where the study's files are.
        data: what it trains on; None where it prepares that by itself.
        node: what the node is called.
        shipped: files of the user's that the node need not have; None where it has them at the same path.
    """

    options: str
    on_gpu: bool
    environment: Mapping[str, str] = field(repr=False)
    files: str
    data: Data | None
    node: str
    shipped: Shipped | None


@dataclass(frozen=True)
class Refusal:
    """Why a worker cannot be started on a node.

    Attributes:
        message: in one line.
        exit_status: what a command ends with that has no other node; None where it may pass.
    """

    message: str
    exit_status: int | None


@dataclass(frozen=True)
class Heard:
    """What a worker said since it was last asked.

    Attributes:
        lines: messages.
        log: what it wrote to its standard error.
        status: its exit status, once all that it said was handed over; None before.
    """

    lines: list[str]
    log: str
    status: int | None


class Node:
    """Runs one worker on the machine that it is made on."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._news = threading.Condition()
        self._lines: list[str] = []
        self._log: list[str] = []
        self._open = 0
        self._came_from: dict[str, str] = {}

    def who(self) -> tuple[str, dict[str, Any]]:
        """Return Ray's id of this node and its installation, as plain data: one that is unlike may lack a class."""
        import ray

        return str(ray.get_runtime_context().get_node_id()), asdict(installation())

    def begin(self, job: Job) -> Refusal | None:
        """Start the worker, with its data there; return why that cannot be."""
        try:
            self._start(job)
        except TuningError as error:
            return Refusal(str(error), error.exit_status)
        except Exception as error:
            return Refusal(in_one_line(error), None)
        return None

    def _start(self, job: Job) -> None:
        home = replace(Home.from_environment(), files=job.files)
        home.make(home.root)
        # The data may be in an object store. This process is one worker's alone, and goes with it.
        os.environ.update({name: value for name, value in job.environment.items() if name.startswith("AWS_")})
        options = self._options(job, home)
        if job.data is not None:
            data = job.data
            images = Images.model_validate(data.images) if data.images is not None else None
            obtain(data.reference, home, name=data.folder, checksum=data.checksum, images=images, report=self._log_line)
        device = cores_as_device()
        if job.on_gpu:
            gpus = find_gpus()
            if not gpus:
                raise BadInput("Ray gave it a GPU, and there is none. Say how many there are: ray start --num-gpus")
            device = gpus[0]
        place = place_worker(device, options.threads, os.environ)
        options = replace(options, device=device.name, precision=device.precision)
        self._process = subprocess.Popen(
            options.command(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            env={
                **python_environment(os.environ),
                **place.environment,
                **job.environment,
                **home.environment,
                NODE_VARIABLE: job.node,
            },
            start_new_session=True,
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        self._open = 2
        theirs = self._came_from
        for stream, said, named in (
            (self._process.stdout, self._lines, {_in_json(here): _in_json(there) for here, there in theirs.items()}),
            (self._process.stderr, self._log, theirs),
        ):
            threading.Thread(target=self._read, args=(stream, said, named), daemon=True).start()

    def _options(self, job: Job, home: Home) -> WorkerOptions:
        if job.shipped is not None:
            self._came_from = job.shipped.came_from(home)
            return WorkerOptions.from_json(job.options, job.shipped.unpacked(home))
        try:
            return WorkerOptions.from_json(job.options)
        except BadInput as error:
            lacks = first_sentence(str(error))
            raise BadInput(
                f"{lacks}. Give the command with SHIP=1 (--ship), which sends it, or put it there."
            ) from error

    def _read(self, stream: IO[str], said: list[str], named: Mapping[str, str]) -> None:
        with stream:
            for line in stream:
                for here, there in named.items():
                    line = line.replace(here, there)
                with self._news:
                    said.append(line)
                    self._news.notify_all()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def _log_line(self, line: str) -> None:
        with self._news:
            self._log.append(f"{line}\n")
            self._news.notify_all()

    def hear(self, wait_s: float) -> Heard:
        """Return what the worker said, or nothing after so many seconds without a word."""
        assert self._process is not None, "it was begun"
        with self._news:
            self._news.wait_for(lambda: self._lines or self._log or not self._open, wait_s)
            lines, log = self._lines.copy(), "".join(self._log)
            self._lines.clear()
            self._log.clear()
            over = not self._open
        return Heard(lines, log, self._process.wait() if over else None)

    def say(self, line: str) -> None:
        """Write to the worker's input."""
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(line)
                self._process.stdin.flush()

    def send(self, number: int) -> None:
        """Send the worker a signal."""
        if self._process is not None:
            self._process.send_signal(signal.Signals(number))


def _in_json(text: str) -> str:
    return json.dumps(text)[1:-1]
