"""Where the workers of a study run: on this machine, or on the cluster that was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy.engine import make_url

from storage.errors import BadInput
from storage.processes.cores import usable_cores
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.shared import share
from studies.spec import StudySpec
from tuning.launch.engines.cluster import Cluster
from tuning.launch.engines.node import Data
from tuning.launch.engines.shipped import Shipped
from tuning.machine.devices import Device, PerDevice, Placement, find_gpus, place_workers
from tuning.user_classes import UserFile


@dataclass(frozen=True)
class Places:
    """Where workers run.

    Attributes:
        gpus: the devices; none for cores.
        placements: of each worker.
        cluster: what they are on; None for this machine.
        shipped: the files of the user's that are sent to its nodes; None where each node has them.
    """

    gpus: list[Device]
    placements: list[Placement]
    cluster: Cluster | None = None
    shipped: Shipped | None = None


def places_of(address: str | None, url: str, home: Home, *, workers: int | None, per_device: PerDevice) -> Places:
    """Return where workers run.

    Args:
        address: of a cluster; None for this machine.
        url: where the study is, or will be.
        home: where files are.
        workers: how many in all; None leaves it to what there is.
        per_device: how many share a GPU.

    Raises:
        BadInput: something given cannot be used.
    """
    if address is None:
        gpus = find_gpus()
        placed = place_workers(gpus, usable_cores(), workers=workers, per_device=per_device, environ=os.environ)
        return Places(gpus, placed)
    require_reachable(address, url, home)
    cluster = Cluster.connected(address)
    return Places(cluster.gpus(), cluster.place(workers, per_device), cluster)


def require_reachable(address: str, url: str, home: Home) -> None:
    """Refuse a database or a place for files that the nodes of a cluster do not reach.

    Raises:
        BadInput: it is one, or the address is none.
    """
    if address != "auto" and not address.startswith("ray://"):
        raise BadInput(f"--cluster {address}: must be auto, on a node of a Ray cluster, or such as ray://head:10001.")
    if make_url(url).get_backend_name() == "sqlite":
        raise BadInput(
            f"--cluster {address}: needs PostgreSQL, since SQLite is for one machine. Give"
            " --storage postgresql+psycopg://USER@HOST/DATABASE (make: STORAGE=)."
        )
    if not home.files:
        raise BadInput(
            f"--cluster {address}: needs a place for files that all nodes reach. Give FILES=s3://bucket/tuning or"
            " FILES=file:///mnt/shared/tuning (in the environment: TUNING_FILES)."
        )


def require_to_ship(ship: bool, address: str | None) -> None:
    """Refuse to send files where no node is that lacks them.

    Raises:
        BadInput: it was asked for without a cluster.
    """
    if ship and address is None:
        raise BadInput(
            "--ship: sends your files to the nodes of a cluster, and this machine has them. Leave it out (make: SHIP=),"
            " or give --cluster (make: CLUSTER=)."
        )


def to_send(ship: bool, user_files: Iterable[UserFile | None]) -> Shipped | None:
    """Return what is sent to the nodes, as it is now; None for nothing.

    Raises:
        BadInput: it is too much.
    """
    return Shipped.of(filter(None, user_files)) if ship else None


def no_more_than(most: int, workers: int | None, cluster: Cluster | None) -> list[Placement]:
    """Return where each worker of a later phase runs, of which no more than so many are of use.

    Args:
        most: how many trials there are.
        workers: how many workers were asked for; None for as many as there is room for.
        cluster: what they are on; None for this machine.

    Raises:
        BadInput: a number cannot be.
    """
    if cluster is not None:
        return cluster.place(min(workers or cluster.devices(), most), None)
    gpus, cores = find_gpus(), usable_cores()
    count = min(workers or (len(gpus) or cores), most)
    return place_workers(gpus, cores, workers=count, per_device=None, environ=os.environ)


def serve(cluster: Cluster, home: Home, spec: StudySpec, dataset: PreparedDataset, shipped: Shipped | None) -> None:
    """Have what the workers of a study need where its nodes find it.

    Args:
        cluster: what they are on.
        home: where everything is kept.
        spec: the study's.
        dataset: what it trains on, as it is prepared here.
        shipped: the files of the user's that are sent to the nodes; None for none.

    Raises:
        OSError: the data cannot be put there.
    """
    share(dataset, home)
    images = spec.images.model_dump(mode="json") if spec.images is not None else None
    data = Data(spec.dataset, dataset.folder.name, dataset.info.checksum, images)
    cluster.serve(files=home.files, data=data, shipped=shipped)
