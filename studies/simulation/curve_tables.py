"""A table of recorded learning curves: what a study of it would have seen, without training anything.

The file is an ``.npz`` without pickled objects, with

    names             (k,)   names of the parameters
    X                 (n, k) the configurations, one row each: numbers, or strings where a column has categories
    curves            (n, R) the value after epochs 1..R; NaN after an early stop or a divergence
    higher_is_better         true for an accuracy, false for a loss
    seconds           (n, R) optional: what each epoch took

A configuration that a sampler draws is answered by the nearest row that its study has not used yet, see `Answers`.
"""

from __future__ import annotations

import tokenize
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from storage.errors import BadInput
from storage.files import replacing

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

    from studies.spec import Scalar

# The tables that ship with the project, each with the declaration of its study beside it.
RECORDED: Final = Path(__file__).resolve().parents[1] / "recorded"

# A positive column whose largest number is so many times its smallest one is measured, and sampled, by its logarithm.
LOG_FROM_RATIO: Final = 100.0

_REQUIRED = ("names", "X", "curves", "higher_is_better")
_MISSING = ("", "nan")
# What NumPy lets through of a file whose bytes were changed.
_DAMAGED: Final = (zipfile.BadZipFile, zlib.error, tokenize.TokenError)
_LAYOUT = "It needs names (k,), X (n, k), curves (n, R), higher_is_better and, if known, seconds (n, R)."


@dataclass(frozen=True)
class CurveTable:
    """Learning curves of n configurations with k parameters over R epochs.

    Attributes:
        names: of the k parameters.
        X: (n, k) numbers, or strings that hold numbers in every column but the categorical ones. NaN, or in a column
            of numbers the empty string, where a conditional parameter was inactive.
        curves: (n, R) float, as recorded. All that follows the first epoch without a finite value is NaN.
        higher_is_better: whether the largest value is the best one.
        seconds: (n, R) of each epoch, or None.

    Raises:
        BadInput: the arrays do not fit together or hold what a learning curve cannot.
    """

    names: tuple[str, ...]
    X: np.ndarray
    curves: np.ndarray
    higher_is_better: bool
    seconds: np.ndarray | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(str(name) for name in self.names))
        object.__setattr__(self, "X", _configurations(self.X, self.names))
        object.__setattr__(self, "curves", _curves(self.curves, len(self.X)))
        if self.seconds is not None:
            object.__setattr__(self, "seconds", _seconds(self.seconds, self.curves))
        _ = self.columns  # a column without a value is refused here

    @property
    def horizon(self) -> int:
        """R, the epochs of a full trial."""
        return int(self.curves.shape[1])

    @cached_property
    def columns(self) -> tuple[Numbers | Categories, ...]:
        """Each parameter's column."""
        return tuple(_column(name, self.X[:, index]) for index, name in enumerate(self.names))

    @cached_property
    def oriented(self) -> np.ndarray:
        """The curves (n, R) with their sign such that higher is better."""
        return self.curves if self.higher_is_better else -self.curves

    @cached_property
    def finals(self) -> np.ndarray:
        """The last finite value (n,) of each oriented curve; minus infinity for one that has none."""
        length = np.isfinite(self.oriented).sum(axis=1)
        last = self.oriented[np.arange(len(length)), np.maximum(length - 1, 0)]
        return np.where(length > 0, last, -np.inf)

    def params(self, row: int) -> dict[str, Scalar]:
        """Return a row's configuration, without the parameters that were inactive in it."""
        values = {name: column.value(row) for name, column in zip(self.names, self.columns, strict=True)}
        return {name: value for name, value in values.items() if value is not None}

    def distributions(self) -> dict[str, BaseDistribution]:
        """Return the ranges that the table covers, as a search space."""
        return {name: column.distribution() for name, column in zip(self.names, self.columns, strict=True)}

    def save(self, path: Path) -> None:
        """Write the table to an ``.npz``; a power cut leaves the old file or the new one."""
        arrays = {
            "names": np.array(self.names, dtype=np.str_),
            "X": self.X,
            "curves": self.curves,
            "higher_is_better": np.array(self.higher_is_better),
        }
        if self.seconds is not None:
            arrays["seconds"] = self.seconds
        with replacing(path, suffix=".npz") as beside:
            np.savez_compressed(beside, allow_pickle=False, **arrays)

    @classmethod
    def load(cls, path: Path) -> CurveTable:
        """Read a table.

        Raises:
            BadInput: there is no such file, or it is not such a table.
        """
        arrays = _read(path)
        higher = arrays["higher_is_better"]
        if higher.size != 1 or higher.dtype.kind not in "biu":
            raise BadInput(
                f"{path}: higher_is_better is {higher.dtype} of shape {higher.shape}. Write one true or false."
            )
        try:
            return cls(
                tuple(_text(arrays["names"]).ravel().tolist()),
                arrays["X"],
                arrays["curves"],
                bool(higher.item()),
                arrays.get("seconds"),
            )
        except BadInput as error:
            raise BadInput(f"{path}: {error}") from None


def table_of(
    configurations: Sequence[Mapping[str, Scalar]],
    curves: np.ndarray,
    *,
    higher_is_better: bool,
    seconds: np.ndarray | None = None,
) -> CurveTable:
    """Make a table from configurations as a study holds them; a parameter that one lacks was inactive in it.

    Args:
        configurations: n of them.
        curves: (n, R).
        higher_is_better: whether the largest value is the best one.
        seconds: (n, R) of each epoch, if known.
    """
    names = tuple(dict.fromkeys(name for configuration in configurations for name in configuration))
    rows = [[configuration.get(name, "") for name in names] for configuration in configurations]
    return CurveTable(
        names, np.array([[str(value) for value in row] for row in rows]), curves, higher_is_better, seconds
    )


@dataclass(frozen=True)
class Numbers:
    """A column of numbers.

    Attributes:
        values: (n,), NaN where the parameter was inactive.
        log: whether it is measured by its logarithm.
        integer: whether all of them are whole.
    """

    values: np.ndarray
    log: bool
    integer: bool

    @cached_property
    def _scaled(self) -> np.ndarray:
        return np.log(self.values) if self.log else self.values

    def value(self, row: int) -> int | float | None:
        """Return the row's number; None where the parameter was inactive."""
        value = float(self.values[row])
        if np.isnan(value):
            return None
        return int(value) if self.integer else value

    def distance(self, given: Scalar | None) -> np.ndarray:
        """Return how far (n,) each row is from a value, in parts of the column's range; inactive or not counts 1."""
        inactive = np.isnan(self.values)
        if given is None:
            return np.where(inactive, 0.0, 1.0)
        number = float(given)
        if self.log and number <= 0:
            return np.ones(len(self.values))
        span = float(np.nanmax(self._scaled) - np.nanmin(self._scaled)) or 1.0
        apart = np.abs(self._scaled - (np.log(number) if self.log else number)) / span
        return np.where(inactive, 1.0, apart)

    def distribution(self) -> BaseDistribution:
        """Return the range that the column covers."""
        from optuna.distributions import FloatDistribution, IntDistribution

        low, high = float(np.nanmin(self.values)), float(np.nanmax(self.values))
        if self.integer:
            return IntDistribution(int(low), int(high), log=self.log)
        return FloatDistribution(low, high, log=self.log)


@dataclass(frozen=True)
class Categories:
    """A column (n,) of strings."""

    values: np.ndarray

    def value(self, row: int) -> str | None:
        """Return the row's category; None where the parameter was inactive."""
        return str(self.values[row]) or None

    def distance(self, given: Scalar | None) -> np.ndarray:
        """Return 0 where a row (n,) has the category, else 1."""
        return np.where(self.values == ("" if given is None else str(given)), 0.0, 1.0)

    def distribution(self) -> BaseDistribution:
        """Return the categories that occur, in alphabetical order."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(sorted({str(value) for value in self.values} - {""}))


class Answers:
    """What one study is answered: to a configuration, the nearest row that the study has not used yet.

    The distance is Euclidean over the columns' own (see `Numbers` and `Categories`); of rows equally near the first
    is taken. When every row was used, all are free again: a study may come back to a configuration that it gave up.
    """

    def __init__(self, table: CurveTable) -> None:
        self._table = table
        self._used = np.zeros(len(table.X), dtype=bool)

    def row_of(self, params: Mapping[str, Scalar]) -> int:
        """Return the row that answers a configuration, and remember that it is used.

        Raises:
            BadInput: the configuration names a parameter that the table does not have.
        """
        table = self._table
        if unknown := sorted(set(params) - set(table.names)):
            raise BadInput(f"the table has no parameter {unknown[0]!r}. Known: {', '.join(table.names)}.")
        if self._used.all():
            self._used[:] = False
        apart = [column.distance(params.get(name)) for name, column in zip(table.names, table.columns, strict=True)]
        squared = np.square(np.array(apart)).sum(axis=0)
        row = int(np.argmin(np.where(self._used, np.inf, squared)))
        self._used[row] = True
        return row


def _read(path: Path) -> dict[str, np.ndarray]:
    if not path.is_file():
        raise BadInput(f"no file {path}. Give the path of an .npz table.")
    try:
        with np.load(path, allow_pickle=False) as archive:
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise BadInput(f"{path} holds one array, not a table. {_LAYOUT}")
            arrays = {name: archive[name] for name in (*_REQUIRED, "seconds") if name in archive.files}
    except (ValueError, OSError, EOFError, NotImplementedError, *_DAMAGED) as error:
        raise BadInput(f"{path} cannot be read as an .npz without pickled objects: {error}. {_LAYOUT}") from error
    if missing := [name for name in _REQUIRED if name not in arrays]:
        raise BadInput(f"{path} has no {', '.join(missing)}. {_LAYOUT}")
    return arrays


def _text(array: np.ndarray) -> np.ndarray:
    return array if array.dtype.kind == "U" else array.astype(np.str_)


def _configurations(given: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
    if not names or len(set(names)) < len(names):
        raise BadInput(f"names are {', '.join(names) or 'none'}. Give each parameter a name of its own.")
    if given.ndim != 2 or given.shape[1] != len(names) or not len(given):
        raise BadInput(f"X has the shape {given.shape}, which is not (n, {len(names)}), one column for each name.")
    if given.dtype.kind in "US":
        return _text(given)
    if given.dtype.kind not in "biuf":
        raise BadInput(f"X is {given.dtype}. Write numbers or strings; objects would have to be unpickled.")
    return given.astype(np.float64)


def _curves(given: np.ndarray, rows: int) -> np.ndarray:
    if given.ndim != 2 or given.shape[0] != rows or not given.shape[1]:
        raise BadInput(f"curves have the shape {given.shape}, which is not ({rows}, R), one row for each of X.")
    if given.dtype.kind not in "iuf":
        raise BadInput(f"curves are {given.dtype}. Write numbers, NaN after the end of a curve.")
    curves = np.where(np.isfinite(given), given, np.nan).astype(np.float64)
    resumed = np.isnan(curves[:, :-1]) & np.isfinite(curves[:, 1:])
    if resumed.any():
        row, epoch = (int(index) for index in np.argwhere(resumed)[0])
        raise BadInput(
            f"the curve of row {row} has a value after epoch {epoch + 2} but none after epoch {epoch + 1}."
            " Write NaN only from the end of a curve on."
        )
    if not np.isfinite(curves).any():
        raise BadInput("no curve has a finite value. Record at least one epoch.")
    return curves


def _seconds(given: np.ndarray, curves: np.ndarray) -> np.ndarray:
    if given.shape != curves.shape or given.dtype.kind not in "iuf":
        raise BadInput(f"seconds are {given.dtype} of shape {given.shape}. Write numbers of shape {curves.shape}.")
    seconds = given.astype(np.float64)
    wrong = np.isfinite(curves) & ~(np.isfinite(seconds) & (seconds > 0))
    if wrong.any():
        row, epoch = (int(index) for index in np.argwhere(wrong)[0])
        raise BadInput(
            f"epoch {epoch + 1} of row {row} took {seconds[row, epoch]} seconds. Write what each epoch took, above 0."
        )
    return seconds


def _column(name: str, values: np.ndarray) -> Numbers | Categories:
    numbers = _as_numbers(values)
    if numbers is None:
        return Categories(values)
    active = numbers[~np.isnan(numbers)]
    if not len(active) or np.isinf(active).any():
        raise BadInput(f"the parameter {name!r} has {'no' if not len(active) else 'an infinite'} value. Leave it out.")
    log = bool(active.min() > 0 and active.max() / active.min() >= LOG_FROM_RATIO)
    return Numbers(numbers, log=log, integer=bool((active == np.floor(active)).all()))


def _as_numbers(values: np.ndarray) -> np.ndarray | None:
    """Return a column as numbers, NaN where one is missing; None if it holds anything else."""
    if values.dtype.kind == "f":
        return values
    try:
        return np.array([np.nan if text.lower() in _MISSING else float(text) for text in values.tolist()])
    except ValueError:
        return None
