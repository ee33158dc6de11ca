"""Homes with a prepared data set, and tasks, both made before any clock starts."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from studies.datasets.splits import channel_statistics, stratified_split
from tests.benchmarks.throughput.configurations import Configuration
from tests.benchmarks.throughput.task import Folder, Task

ROOT: Final = Path(__file__).resolve().parents[3]
KEPT: Final = ROOT / ".bench" / "throughput"  # prepared data sets, for the next time
SEED: Final = 0


@dataclass(frozen=True)
class Plan:
    """What is trained.

    Attributes:
        dataset: a name of the catalog.
        train_images, validation_images: how many, of the training split.
        epochs: of each trial; none stops earlier.
        configurations: one for each trial.
    """

    dataset: str
    train_images: int
    validation_images: int
    epochs: int
    configurations: Sequence[Configuration]

    def spec(self) -> str:
        """Return the study's file: nothing is chosen, nothing is pruned."""
        first = ",\n".join(
            "    { " + ", ".join(f"{name} = {json.dumps(value)}" for name, value in one.items()) + " }"
            for one in self.configurations
        )
        return f"""\
dataset = "{self.dataset}"
model = "cnn"
seed = {SEED}
first = [
{first},
]

[plan.cpu]
trials = {len(self.configurations)}
epochs = {self.epochs}
train_images = {self.train_images}
validation_images = {self.validation_images}
patience = {self.epochs}

[sampler]
name = "random"
default_first = false

[strategy]
name = "none"
"""


def prepared(dataset: str) -> PreparedDataset:
    """Return a data set in the folder that is kept, fetched the first time."""
    return prepare(dataset, Home(KEPT))


@contextmanager
def scratch() -> Iterator[Path]:
    """Make a folder for one run, in a place of the checkout's own disk, and remove it afterwards."""
    KEPT.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="run-", dir=KEPT, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def make_home(folder: Path, dataset: str) -> Home:
    """Return a new `TUNING_HOME` that holds a prepared data set and nothing else."""
    home = Home(folder / "home")
    shutil.copytree(prepared(dataset).folder, home.dataset(dataset), copy_function=os.link)
    return home


def write_spec(folder: Path, plan: Plan) -> Path:
    """Write a plan as a study's file and return its path."""
    file = folder / "spec.toml"
    file.write_text(plan.spec(), encoding="utf-8")
    return file


def make_task(folder: Path, plan: Plan) -> Folder:
    """Write a plan's task, with the very images that the service takes, and return its folder."""
    dataset = prepared(plan.dataset)
    images, labels = dataset.train_images, dataset.train_labels
    split = stratified_split(
        labels, validation_images=plan.validation_images, train_images=plan.train_images, seed=SEED
    )
    mean, std = channel_statistics(images, split.train)
    made = Folder(folder)
    classes = len(dataset.info.class_names)
    made.write(Task(plan.dataset, classes, list(mean), list(std), plan.epochs, list(plan.configurations)))
    for part, rows in (("training", split.train), ("validation", split.validation)):
        made.write_part(part, images[rows], labels[rows])
    return made
