"""What is trained, and the lines in which it is kept. No Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from storage.errors import BadInput
from tests.benchmarks.lines import append_line, read_lines
from tests.benchmarks.throughput.configurations import Configuration, draw_in_rounds

# So that another draw is another study, but the same command the same one.
DRAWN_WITH: Final = 20_261_130


class Fidelity(NamedTuple):
    """How much of a training is seen.

    Attributes:
        images: of the training split, in each epoch.
        epochs: all of them; the schedule of the learning rate ends with the last.
    """

    images: int
    epochs: int

    @property
    def cost(self) -> int:
        """Images seen."""
        return self.images * self.epochs

    def __str__(self) -> str:
        return f"{self.images}x{self.epochs}"


SHORT: Final = tuple(Fidelity(*one) for one in ((2500, 4), (5000, 4), (10000, 2), (10000, 4), (10000, 8), (22500, 4)))
LONG: Final = Fidelity(22_500, 12)


def fidelity(text: str) -> Fidelity:
    """Return what `IMAGESxEPOCHS` means.

    Raises:
        BadInput: it is not that.
    """
    try:
        images, epochs = map(int, text.split("x"))
    except ValueError:
        raise BadInput(f"{text!r} is no fidelity. Give IMAGESxEPOCHS, as {LONG}.") from None
    if min(images, epochs) < 1:
        raise BadInput(f"{text!r} trains nothing. Give at least one image and one epoch, as {LONG}.")
    return Fidelity(images, epochs)


@dataclass(frozen=True)
class Job:
    """A training.

    Attributes:
        dataset: a name of the catalog.
        model: a short name of one of the project's hypermodels.
        number: of the configuration, in the order in which they are drawn.
        images, epochs: see `Fidelity`.
        validation_images: that judge it.
    """

    dataset: str
    model: str
    number: int
    images: int
    epochs: int
    validation_images: int

    @property
    def fidelity(self) -> Fidelity:
        """How much is seen."""
        return Fidelity(self.images, self.epochs)


def configuration(number: int) -> Configuration:
    """Return a configuration of the core space: a dozen has every optimizer with every batch size once."""
    return draw_in_rounds(number + 1, DRAWN_WITH)[number]


def jobs(
    dataset: str, model: str, configurations: int, fidelities: Sequence[Fidelity], validation_images: int
) -> list[Job]:
    """Return all trainings, one configuration after the other: what is stopped has whole rows to compare."""
    return [
        Job(dataset, model, number, one.images, one.epochs, validation_images)
        for number in range(configurations)
        for one in fidelities
    ]


@dataclass(frozen=True)
class Trained:
    """What came of a training.

    Attributes:
        job: what was trained.
        accuracy: on validation, after the last epoch; None where the loss was no number any more.
        seconds: how long it took.
    """

    job: Job
    accuracy: float | None
    seconds: float

    @property
    def value(self) -> float:
        """What it is ranked by."""
        return -math.inf if self.accuracy is None else self.accuracy


class Trainings:
    """The lines of a file. One process writes at a time.

    Args:
        file: made where it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, one: Trained) -> None:
        """Append a line."""
        append_line(self._file, asdict(one))

    def all(self) -> Mapping[Job, Trained]:
        """Return what was trained, the last time of each."""
        found: dict[Job, Trained] = {}
        for read in read_lines(self._file):
            try:
                job: Any = Job(**read.pop("job"))
                found[job] = Trained(job, **read)
            except (TypeError, KeyError):
                continue  # of an older form: trained again
        return found
