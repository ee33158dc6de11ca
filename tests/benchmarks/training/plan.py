"""What all contestants train, and how it is said to the service."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from studies.declaration import from_catalog, read_declaration
from studies.simulation.curve_tables import RECORDED
from studies.spec import VALIDATION_IMAGES

TRAIN_IMAGES: Final = 10_000  # where no recorded table says it

# The file that says what the contestants are to train, for those that read it.
_TEMPLATE: Final = """\
dataset = {dataset}
model = {model}
space = "core"
seed = {seed}

[plan.cpu]
trials = 1
epochs = {epochs}
train_images = {train_images}
validation_images = {validation_images}
patience = {epochs}

[sampler]
name = {sampler}
default_first = false

[strategy]
name = {strategy}
"""


@dataclass(frozen=True)
class Plan:
    """What is trained, by each contestant alike. No trial ends by itself before its last epoch.

    Attributes:
        dataset: a name of the catalog.
        model: a short name of one of the project's hypermodels; its core space is searched.
        train_images, validation_images: how many, of the training split.
        epochs: the most that a trial trains.
        budget: epochs that all trials train together.
        workers: how many processes train at once.
        seed: of the study; the images follow from it, too.
        pinned: whether a peer's process has as many threads as the service gives to its own, or what TensorFlow takes.
    """

    dataset: str
    model: str
    train_images: int
    validation_images: int
    epochs: int
    budget: int
    workers: int
    seed: int
    pinned: bool = True

    def spec(self, sampler: str, strategy: str) -> str:
        """Return the study's file: nothing is known before, and the defaults do not come first."""
        values = {name: json.dumps(value) for name, value in vars(self).items()}
        return _TEMPLATE.format(**values, sampler=json.dumps(sampler), strategy=json.dumps(strategy))

    def write_spec(self, folder: Path, sampler: str, strategy: str) -> Path:
        """Write the study's file and return its path."""
        file = folder / "spec.toml"
        file.write_text(self.spec(sampler, strategy), encoding="utf-8")
        return file


def plan_of(dataset: str, **more: Any) -> Plan:
    """Return the plan of a data set at the size of its recorded table, or of the catalog's study where it has none.

    Args:
        dataset: a name of the catalog.
        more: the other attributes of `Plan`; a size that is not given, or None, is the recorded table's.

    Raises:
        BadInput: there is no such data set.
    """
    recorded = RECORDED / f"{dataset}.toml"
    declared = read_declaration(recorded) if recorded.is_file() else from_catalog(dataset)
    size = declared.plan_for("cpu")
    sizes = {
        "train_images": size.train_images or TRAIN_IMAGES,
        "validation_images": size.validation_images or VALIDATION_IMAGES,
        "epochs": size.epochs,
    }
    given = {name: value for name, value in more.items() if value is not None}
    return Plan(dataset=dataset, model=declared.model, **{**sizes, **given})
