"""The lines in which trainings are kept. No Keras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.benchmarks.lines import append_line, read_lines


@dataclass(frozen=True)
class Cell:
    """A training.

    Attributes:
        variant: a name of `VARIANTS`.
        dataset: a name of the catalog.
        train_images, validation_images: how many, of the training split.
        epochs: all of them are trained.
        seed: of everything drawn.
    """

    variant: str
    dataset: str
    train_images: int
    validation_images: int
    epochs: int
    seed: int


@dataclass(frozen=True)
class Trained:
    """What came of a cell.

    Attributes:
        cell: what was trained.
        accuracy: on validation, after the last epoch: the best epoch's would have chosen with what it is judged by.
        date: when, `YYYY-MM-DD`.
    """

    cell: Cell
    accuracy: float
    date: str


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

    def find(self, cell: Cell) -> Trained | None:
        """Return the last training of a cell, None if there is none."""
        found = [one for one in self._lines() if one.cell == cell]
        return found[-1] if found else None

    def _lines(self) -> Iterator[Trained]:
        for read in read_lines(self._file):
            try:
                yield Trained(Cell(**read.pop("cell")), **read)
            except (TypeError, KeyError):
                continue  # of an older form: trained again
