"""Workers on the nodes of a Ray cluster. Ray places them, and says when a node is gone; the claims do the rest.

Nothing of Ray is imported before a cluster is asked for. What Ray shows to people are the names of classes and methods;
what holds passwords is handed over as an argument of a call, which it shows nowhere.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from storage.errors import BadInput, first_line, first_sentence
from tuning.launch.engines.engine import Start
from tuning.launch.engines.node import Data, Heard, Job, Node, Refusal
from tuning.launch.engines.shipped import Shipped
from tuning.machine.devices import MOST_WORKERS, Device, PerDevice, Placement, cores_as_device
from tuning.machine.installation import Installation, differences, installation
from tuning.messages import RENEWED, Crashed, Note, Refused, decode, encode

GROW_S = 5.0
"""How often it is looked whether the cluster has more room."""
HEAR_S = 5.0
"""How long a node waits for a word of its worker before it answers that there was none."""

# What another machine needs to reach the database and the files, and to compute alike; not its own to know.
_HANDED_ON = ("KERAS_BACKEND", "TF_ENABLE_ONEDNN_OPTS", "TUNING_PRECISION", "PGPASSWORD")
_HANDED_ON_PREFIX = "AWS_"
# What names something of this machine, a file, a profile in one, or who answers here: another has its own.
_OF_THIS_MACHINE = re.compile(r"AWS_(.*_FILE|.*PROFILE|CA_BUNDLE|CONTAINER_.*|EC2_METADATA_.*)")


def handed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that a node is given: what says a value, not what names something of this machine."""
    return {
        name: value
        for name, value in environ.items()
        if name in _HANDED_ON or (name.startswith(_HANDED_ON_PREFIX) and not _OF_THIS_MACHINE.fullmatch(name))
    }


class Grows(Protocol):
    """What `Growth` needs of a workforce."""

    slots: list[Any]

    def add(self, placement: Placement) -> None:
        """Make a place for one worker more."""


class Cluster:
    """An `Engine`: the nodes of a Ray cluster.

    Args:
        ray: the module, connected.
        address: as given.
    """

    def __init__(self, ray: Any, address: str) -> None:
        self._ray = ray
        self.address = address
        self._actor = ray.remote(max_restarts=0, max_concurrency=4)(Node)
        self._refused: set[str] = set()
        self._cpus, self._per_gpu = 1, 0
        self._files = ""
        self._data: Data | None = None
        self._shipped: Shipped | None = None

    @classmethod
    def connected(cls, address: str) -> Cluster:
        """Connect to a cluster.

        Raises:
            BadInput: Ray is not installed, or there is none.
        """
        try:
            import ray
        except ImportError as error:
            raise BadInput(
                f"CLUSTER={address}: Ray is not installed. Install it with: .venv/bin/python -m pip install '.[ray]'"
            ) from error
        logging.getLogger("ray").setLevel(logging.CRITICAL)
        try:
            ray.init(address=address, namespace="tuning", log_to_driver=False, configure_logging=False)
        except Exception as error:  # Ray raises what its libraries do
            raise BadInput(
                f"CLUSTER={address}: there is no Ray cluster that answers: {first_sentence(first_line(error))}. Start"
                " one with `.venv/bin/ray start --head`, or leave it out."
            ) from error
        _mute()
        return cls(ray, address)

    def serve(self, *, files: str, data: Data | None, shipped: Shipped | None = None) -> None:
        """Say what the workers need.

        Args:
            files: the URL of where the study's files are.
            data: what they train on; None where each prepares that by itself.
            shipped: files of the user's that are sent to them; None where each node has them at the same path.
        """
        self._files, self._data, self._shipped = files, data, shipped

    def close(self) -> None:
        """Disconnect; what was started ends."""
        self._ray.shutdown()

    # --- What there is ---

    def nodes(self) -> list[Mapping[str, Any]]:
        """Return the nodes that are alive and can be used, as Ray describes them."""
        return [node for node in self._ray.nodes() if node["Alive"] and node["NodeID"] not in self._refused]

    def gpus(self) -> list[Device]:
        """Return a device for each GPU of the cluster. Which one a worker gets is Ray's to say."""
        count = int(sum(node["Resources"].get("GPU", 0.0) for node in self.nodes()))
        return [Device("gpu", f"cluster-{number}", "GPU") for number in range(count)]

    def devices(self) -> int:
        """Return how many workers have a device of their own: a GPU, or a core where there is none."""
        return len(self.gpus()) or sum(self._cores()) or 1

    def _cores(self) -> list[int]:
        return [int(node["Resources"].get("CPU", 0.0)) for node in self.nodes()]

    def place(self, workers: int | None, per_device: PerDevice) -> list[Placement]:
        """Return where each worker runs, as far as that is this side's to say: on cores or a GPU, with so many threads.

        Args:
            workers: how many in all; None for one on each GPU, or one on each core.
            per_device: how many share a GPU; 1 by default.

        Raises:
            BadInput: a number cannot be.
        """
        if per_device == "auto":
            raise BadInput(
                "--workers-per-device auto: is for one machine. Give a number with CLUSTER, or leave it out."
            )
        for flag, number in (("--workers", workers), ("--workers-per-device", per_device)):
            if number is not None and not 1 <= number <= MOST_WORKERS:
                raise BadInput(
                    f"{flag} {number}: must be from 1 to {MOST_WORKERS}. Leave it out for one on each device."
                )
        gpus, cores = len(self.gpus()), self._cores()
        if per_device is not None and not gpus:
            raise BadInput(
                f"--workers-per-device {per_device}: the cluster has no GPU, or Ray was not told of it (ray start"
                " --num-gpus). Use --workers instead."
            )
        count = workers or gpus * (per_device or 1) or sum(cores) or 1
        self._per_gpu = (per_device or -(-count // gpus)) if gpus else 0
        # As many threads as leave room for all: a node's GPUs are of no use to a worker that its cores are too few for.
        most = max(cores, default=1)
        self._cpus = next((threads for threads in range(most, 0, -1) if self._room(threads) >= count), 1)
        device = Device("gpu", "cluster", "GPU") if gpus else cores_as_device()
        return [Placement(device, self._cpus, {}) for _ in range(count)]

    def room(self) -> int:
        """Return how many workers the cluster has room for now."""
        return self._room(self._cpus)

    def _room(self, threads: int) -> int:
        """Return how many workers of so many threads there is room for."""
        return sum(self._fits(node["Resources"], threads) for node in self.nodes())

    def _fits(self, resources: Mapping[str, float], threads: int) -> int:
        on_cores = int(resources.get("CPU", 0.0)) // threads
        return min(on_cores, int(resources.get("GPU", 0.0)) * self._per_gpu) if self._per_gpu else on_cores

    @property
    def _share(self) -> float:
        """How much of a GPU a worker has: Ray counts in ten-thousandths, and rounded up the last one had no room."""
        return 10_000 // self._per_gpu / 10_000 if self._per_gpu else 0.0

    # --- Workers ---

    def start(self, start: Start) -> OnNode:
        """Ask Ray for a place, and have the worker started there."""
        selector = {"ray.io/node-id": f"!in({','.join(sorted(self._refused))})"} if self._refused else None
        chosen = self._actor.options(num_cpus=self._cpus, num_gpus=self._share, label_selector=selector)
        environment = {**handed_on(os.environ), **start.environment}

        def job(node: str) -> Job:
            options, on_gpu = start.options.to_json(), self._per_gpu > 0
            return Job(options, on_gpu, environment, self._files, self._data, node, self._shipped)

        return OnNode(self, self._ray, chosen.remote(), job, start)

    def name_of(self, node_id: str) -> str:
        """Return what a node is called: its host's name, and a part of Ray's id where a host has several."""
        hosts = {node["NodeID"]: str(node["NodeManagerHostname"]) for node in self._ray.nodes() if node["Alive"]}
        host = hosts.get(node_id, "a node")
        return host if list(hosts.values()).count(host) < 2 else f"{host}/{node_id[:6]}"

    def refuse(self, node_id: str, why: str, status: int = BadInput.exit_status) -> Iterator[Note | Refused]:
        """Have no more workers on a node; yield what is to be said of that: once, or that there is no other node.

        Args:
            node_id: Ray's.
            why: what is wrong with it, and what to do.
            status: what the command ends with where no other is left.
        """
        known, line = node_id in self._refused, f"node {self.name_of(node_id)} is not used: {why}"
        self._refused.add(node_id)
        if not self.room():
            yield Refused(line, status)
        elif not known:
            yield Note(line)


class OnNode:
    """A `WorkerProcess` on a node of a cluster.

    Args:
        cluster: the engine.
        ray: the module.
        actor: the handle of a `Node`, which may still wait for its place.
        job: returns what it is to run, by the name of its node.
        start: what the worker was started with.
    """

    def __init__(self, cluster: Cluster, ray: Any, actor: Any, job: Callable[[str], Job], start: Start) -> None:
        self._cluster = cluster
        self._ray = ray
        self._actor = actor
        self._job = job
        self._log = start.log
        self._status: int | None = None
        self._over = threading.Event()
        self._begun = False
        # Whoever says something does not wait for a node to take it.
        self._told: queue.Queue[tuple[str, str | int] | None] = queue.Queue()

    def lines(self) -> Iterator[str]:
        """Have it begin, and yield what it says."""
        try:
            yield from self._heard()
        except Exception as error:  # Ray's own, of many kinds
            if self._status is None:
                why = first_sentence(first_line(error))
                self._note(f"{why}\n")
                yield encode(Note(f"a node is gone, or the process of a worker on it: {why}"))
        finally:
            self._end(-signal.SIGKILL)

    def _heard(self) -> Iterator[str]:
        node_id, installed = self._ray.get(self._actor.who.remote())
        differs = differences(installation(), Installation(**installed))
        if differs:
            why = f"{'; '.join(differs)}. Make them alike, and start Ray there anew"
            yield from map(encode, self._cluster.refuse(node_id, why))
            self._end(RENEWED)
            return
        name = self._cluster.name_of(node_id)
        refusal: Refusal | None = self._ray.get(self._actor.begin.remote(self._job(name)))
        if refusal is not None:
            status = refusal.exit_status
            if status is None:
                yield encode(Crashed(f"on {name}: {refusal.message}"))
            else:  # what the study itself lacks, the command's machine has found before
                yield from self._refused(node_id, refusal.message, status)
            self._end(1 if status is None else RENEWED)
            return
        self._begun = True
        threading.Thread(target=self._tell, daemon=True).start()
        unfit = False
        while True:
            heard: Heard = self._ray.get(self._actor.hear.remote(HEAR_S))
            self._note(heard.log)
            for line in heard.lines:
                said = decode(line)
                if isinstance(said, Refused) and said.elsewhere:
                    unfit = True
                    yield from self._refused(node_id, said.message, said.exit_status)
                else:
                    yield line
            if heard.status is not None:
                self._end(RENEWED if unfit else heard.status)
                return

    def _refused(self, node_id: str, why: str, status: int) -> Iterator[str]:
        """Have no more workers on its node; yield what is to be said of that."""
        return map(encode, self._cluster.refuse(node_id, f"{why.rstrip('.')}. Then start Ray there anew", status))

    def _note(self, text: str) -> None:
        if text:
            self._log.parent.mkdir(parents=True, exist_ok=True)
            with self._log.open("a", encoding="utf-8") as log:
                log.write(text)

    def _end(self, status: int) -> None:
        if self._status is None:
            self._status = status
            self._over.set()
            self._told.put(None)

    def _tell(self) -> None:
        while (told := self._told.get()) is not None:
            method, value = told
            with contextlib.suppress(Exception):  # gone: `lines` says so
                self._ray.get(getattr(self._actor, method).remote(value))

    def say(self, line: str) -> None:
        """Have it read a line, once it has begun."""
        self._told.put(("say", line))

    def status(self) -> int | None:
        """Return its exit status."""
        return self._status

    def stop(self) -> None:
        """Send SIGTERM; one that waits for its place, or for its data, has nothing to put back."""
        if self._begun:
            self._told.put(("send", int(signal.SIGTERM)))
        else:
            self.kill()

    def kill(self) -> None:
        """Take its place away from it, and it with that."""
        self._end(-signal.SIGKILL)
        self.close()

    def wait(self) -> int:
        """Wait for it."""
        self._over.wait()
        assert self._status is not None
        return self._status

    def close(self) -> None:
        """Give its place back."""
        with contextlib.suppress(Exception):  # it is gone already
            self._ray.kill(self._actor)


def _mute() -> None:
    """Have Ray print nothing on this terminal: what it says of its own processes is in its logs."""
    with contextlib.suppress(ImportError, AttributeError):
        from ray._private.ray_logging import global_worker_stdstream_dispatcher

        global_worker_stdstream_dispatcher.remove_handler("ray_print_logs")


class Growth:
    """Has as many workers as the cluster has room for, as nodes join it. Those of a node that left wait for another.

    Args:
        workforce: the workers.
        cluster: their engine.
        placement: of one more.
        clock: monotonic seconds.
    """

    def __init__(
        self, workforce: Grows, cluster: Cluster, placement: Placement, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workforce = workforce
        self._cluster = cluster
        self._placement = placement
        self._clock = clock
        self._looked = clock()

    def adjust(self, trials_left: int) -> None:
        """Have more workers where there is room for them; call it often.

        Args:
            trials_left: how many trials are not over. There is no use for more workers.
        """
        if self._clock() - self._looked < GROW_S:
            return
        self._looked = self._clock()
        for _ in range(min(self._cluster.room(), trials_left) - len(self._workforce.slots)):
            self._workforce.add(self._placement)
