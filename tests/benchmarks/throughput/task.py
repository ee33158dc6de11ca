"""What all contestants do: a folder with data and configurations, readable without this project."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.benchmarks.throughput.configurations import Configuration

_FILE = "task.json"


@dataclass(frozen=True)
class Task:
    """Some configurations to train on some data.

    Attributes:
        dataset: the name of the data set.
        classes: how many it has.
        mean, std: of each channel of the training images, in pixel units (0 to 255).
        epochs: how many each configuration is trained.
        configurations: what is trained, in this order.
    """

    dataset: str
    classes: int
    mean: Sequence[float]
    std: Sequence[float]
    epochs: int
    configurations: Sequence[Configuration]


@dataclass(frozen=True)
class Folder:
    """A task on the disk."""

    path: Path

    @cached_property
    def task(self) -> Task:
        return Task(**json.loads((self.path / _FILE).read_text(encoding="utf-8")))

    def write(self, task: Task) -> None:
        """Keep the task itself."""
        (self.path / _FILE).write_text(json.dumps(asdict(task)), encoding="utf-8")

    def write_part(self, part: str, images: npt.NDArray[np.uint8], labels: npt.NDArray[np.integer[Any]]) -> None:
        """Keep the images `(n, height, width, channels)` and labels `(n,)` of `training` or `validation`."""
        np.save(self.path / f"{part}_images.npy", images)
        np.save(self.path / f"{part}_labels.npy", labels.astype(np.int32))

    def part(self, part: str, *, mapped: bool = False) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int32]]:
        """Return the images `(n, height, width, channels)` and labels `(n,)` of `training` or `validation`.

        Args:
            part: which.
            mapped: whether the images stay on the disk until they are used.
        """
        images = np.load(self.path / f"{part}_images.npy", mmap_mode="r" if mapped else None)
        return images, np.load(self.path / f"{part}_labels.npy")
