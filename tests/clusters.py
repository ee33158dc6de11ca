"""A real Ray cluster of several nodes on this machine, for as long as it is used."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

# Ray asks whether it may tell its makers what it is used for.
SURROUNDINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0"}


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
        home = str(self.home_of(node))
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get("TUNING_HOME") == home and process.pid != os.getpid():
                    process.send_signal(signal.SIGKILL)
        self.cluster.remove_node(node, allow_graceful=False)


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
