"""A real Ray cluster of several nodes on this machine, for as long as it is used."""

from __future__ import annotations

import contextlib
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

# Ray asks whether it may tell its makers what it is used for, and gives way to all else on the machine.
SURROUNDINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_worker_niceness": "0"}


@dataclass
class RayCluster:
    """Nodes that are processes of this machine, each with a `TUNING_HOME` of its own.

    Attributes:
        cluster: Ray's own.
        homes: where the nodes keep what is theirs.
        environment: what a process needs to find it.
    """

    cluster: Any
    homes: Path
    environment: dict[str, str]
    _added: list[Any] = field(default_factory=list)

    def add(self, *, cpus: int = 1, gpus: int = 0, **variables: str) -> Any:
        """Have a node join; Ray does not look whether it has the GPUs."""
        home = self.homes / f"node-{len(self._added)}"
        home.mkdir(parents=True)
        every = {**self.environment, "TUNING_HOME": str(home), **variables}
        with mock.patch.dict(os.environ, variables):  # Ray reads some here
            node = self.cluster.add_node(
                num_cpus=cpus, num_gpus=gpus, include_dashboard=False, object_store_memory=80_000_000, env_vars=every
            )
        self._added.append(node)
        return node

    def home_of(self, node: Any) -> Path:
        """Return the `TUNING_HOME` of a node."""
        return self.homes / f"node-{self._added.index(node)}"

    def remove(self, node: Any) -> None:
        """Have a node leave."""
        self.cluster.remove_node(node)

    def pull_the_plug(self, node: Any) -> None:
        """End a node with all that runs on it, at once, as if the machine were gone."""
        end_all_of(self.home_of(node))
        self.cluster.remove_node(node, allow_graceful=False)


def end_all_of(home: Path) -> None:
    """End all processes that have a `TUNING_HOME`: a node's, with what runs on it."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get("TUNING_HOME") == str(home) and process.pid != os.getpid():
                process.send_signal(signal.SIGKILL)


@contextmanager
def started_by_hand(lines: list[str], homes: Path, **environment: str) -> Iterator[dict[str, str]]:
    """Yield what a process needs to find the nodes that lines of a page start, each of one core; they end in the end.

    Args:
        lines: each is given on a machine of its own, which is this one, so that it says which ports are free.
        homes: a folder for the nodes.
        environment: variables that they have.
    """
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp") as folder:  # sockets want a short path
        surroundings = {**SURROUNDINGS, "RAY_TMPDIR": folder}
        started: list[Path] = []
        port = _free_port()
        try:
            for line in lines:
                program, *words = shlex.split(line.removeprefix("$ "))
                assert program == ".venv/bin/ray"
                words = [word.replace("head:6379", f"127.0.0.1:{port}").replace("6379", str(port)) for word in words]
                if "--head" in words:
                    words += ["--ray-client-server-port", str(_free_port()), "--include-dashboard", "false"]
                ports = ("--min-worker-port", "0", "--max-worker-port", "0")
                little = ("--num-cpus", "1", "--object-store-memory", "80000000")
                started.append(homes / f"machine-{len(started)}")
                subprocess.run(
                    [sys.executable, "-m", "ray.scripts.scripts", *words, *ports, *little],
                    env={**os.environ, **surroundings, **environment, "TUNING_HOME": str(started[-1])},
                    check=True,
                    capture_output=True,
                    timeout=120,
                )
            yield surroundings
        finally:
            for home in started:
                end_all_of(home)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@contextmanager
def ray_cluster(homes: Path, **environment: str) -> Iterator[RayCluster]:
    """Yield a cluster whose head runs nothing; nodes are added to it.

    Args:
        homes: a folder for the nodes.
        environment: variables that its nodes have.
    """
    before = dict(os.environ)
    os.environ.update(SURROUNDINGS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray's own
        from ray.cluster_utils import Cluster

        logging.getLogger("ray").setLevel(logging.CRITICAL)
        head = {"num_cpus": 0, "num_gpus": 0, "include_dashboard": False, "object_store_memory": 80_000_000}
        cluster = Cluster(initialize_head=True, head_node_args=head)
        made = RayCluster(cluster, homes, {**SURROUNDINGS, **environment})
        try:
            yield made
        finally:
            cluster.shutdown()
            os.environ.clear()
            os.environ.update(before)
