"""What is run, and the lines in which it is kept. No Keras."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from storage.errors import BadInput
from tests.benchmarks.lines import append_line, read_lines

OURS: Final = "ours"
DEFAULTS: Final = "defaults"
CONTESTANTS: Final = (OURS, "keras_tuner", "optuna", DEFAULTS)

# The peers' network on each data set: the one that the service takes for that time.
NETWORKS: Final[Mapping[str, str]] = {
    "cifar10": "fast_cnn",
    "cifar100": "fast_cnn",
    "fashion_mnist": "fast_cnn",
    "mnist": "fast_cnn",
    "cifar10_sample": "fast_cnn",
    "mnist_sample": "cnn",
}


@dataclass(frozen=True)
class Cell:
    """One contestant's run.

    Attributes:
        dataset: a name of the catalog.
        minutes: of wall-clock time, from the start of the first process to the end of the last.
        contestant: one of `CONTESTANTS`.
        seed: of the split of the images and of everything drawn.
    """

    dataset: str
    minutes: float
    contestant: str
    seed: int

    @property
    def name(self) -> str:
        """Its name on the command line."""
        return f"{self.dataset}/{self.minutes:g}/{self.contestant}/{self.seed}"

    @property
    def seconds(self) -> float:
        """Its time."""
        return 60.0 * self.minutes


def _all_of(dataset: str, minutes: float, seeds: int, contestants: Sequence[str] = CONTESTANTS) -> list[Cell]:
    return [Cell(dataset, minutes, name, seed) for seed in range(seeds) for name in contestants]


BOUNDED: Final = (OURS, DEFAULTS)
CELLS: Final[tuple[Cell, ...]] = tuple(
    dict.fromkeys(
        [
            *_all_of("cifar10", 30, 1, BOUNDED),
            *_all_of("cifar10", 15, 2),
            *_all_of("mnist", 5, 3),
            *_all_of("mnist", 10, 1, BOUNDED),
            *_all_of("cifar100", 30, 1, BOUNDED),
            *_all_of("fashion_mnist", 15, 1, BOUNDED),
        ]
    )
)


def chosen(names: Sequence[str] | None) -> list[Cell]:
    """Return the cells that a command line asks for, each once.

    Args:
        names: `DATASET/MINUTES/CONTESTANT/SEED`, any cell, or the beginning of one, which means all of `CELLS` that
            begin so; None for all of `CELLS`.

    Raises:
        BadInput: a name is none.
    """
    if names is None:
        return list(CELLS)
    return list(dict.fromkeys(cell for name in names for cell in _named(name)))


def _named(name: str) -> list[Cell]:
    parts = name.strip("/").split("/")
    found = [cell for cell in CELLS if cell.name.split("/")[: len(parts)] == parts]
    return found or [_own(name, parts)]


def _own(name: str, parts: Sequence[str]) -> Cell:
    try:
        dataset, minutes, contestant, seed = parts
        cell = Cell(dataset, float(minutes), contestant, int(seed))
    except ValueError:
        raise BadInput(_wrong(name)) from None
    finite = math.isfinite(cell.minutes) and cell.minutes > 0
    if dataset not in NETWORKS or contestant not in CONTESTANTS or not finite or not 0 <= cell.seed < 2**32:
        raise BadInput(_wrong(name))
    return cell


def _wrong(name: str) -> str:
    return (
        f"no cell is called {name!r}. Give DATASET/MINUTES/CONTESTANT/SEED, as {CELLS[0].name}, with a data set of"
        f" {', '.join(NETWORKS)} and a contestant of {', '.join(CONTESTANTS)}; or the beginning of one that is listed,"
        f" as {CELLS[0].dataset}/{CELLS[0].minutes:g}."
    )


@dataclass(frozen=True)
class Outcome:
    """What came of a cell.

    Attributes:
        cell: what was run.
        accuracy: on the test split, of the model that is handed over.
        wall_s: how long it took.
        others: the share of all cores that other work had meanwhile.
        network: what was trained.
        epochs: of the training that is handed over.
        told: what was done, for people.
        date: when, `YYYY-MM-DD`.
        machine: on what, in words.
    """

    cell: Cell
    accuracy: float
    wall_s: float
    others: float
    network: str
    epochs: int
    told: str
    date: str
    machine: str


class Outcomes:
    """The lines of a file. One process writes at a time.

    Args:
        file: made where it is not there.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def add(self, one: Outcome) -> None:
        """Append a line."""
        append_line(self._file, asdict(one))

    def find(self, cell: Cell) -> Outcome | None:
        """Return the last outcome of a cell, None if there is none."""
        found = None
        for read in read_lines(self._file):
            try:
                one = Outcome(Cell(**read.pop("cell")), **read)
            except (TypeError, KeyError):
                continue  # of an older form: run again
            found = one if one.cell == cell else found
        return found
