"""Tables made of others: fewer epochs, and a recorded table that is not used up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from storage.errors import BadInput
from studies.simulation.curve_tables import CurveTable
from studies.simulation.virtual_clock import Curves, Recording
from studies.spec import Scalar
from tests.benchmarks.search.tables import Table

WIDTH = 0.2  # of the kernel, in parts of a column's range: of 60 rows three or four count, at the edge one
SCATTER = 0.5  # of a row's deviation from its neighbours: the other half is what the kernel smooths away


class ThinnedCurves:
    """Curves of so many epochs, evenly spread over those of another source.

    Args:
        source: it has at least as many.
        horizon: how many.
    """

    def __init__(self, source: Curves, horizon: int) -> None:
        self._source = source
        self.horizon = horizon

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        values = self._source.curve_of(trial, params).values
        ends = np.linspace(len(values) / self.horizon, len(values), self.horizon)
        return Recording(values[np.rint(ends).astype(int) - 1])


class SmoothedCurves:
    """Of any configuration: what the recorded rows near it show on average, and how one of them deviates.

    A study of a recorded table is answered with rows that it has not used (`curve_tables.Answers`): it cannot come back
    to where it was good. Here it can, as in real training.

    Args:
        table: the rows.
        seed: of the deviations.
    """

    def __init__(self, table: CurveTable, seed: int) -> None:
        self._table = table
        self._rng = np.random.default_rng([seed, 5])
        rows = [
            {name: column.value(row) for name, column in zip(table.names, table.columns, strict=True)}
            for row in range(len(table.X))
        ]
        weights = np.array([self._weights(row) for row in rows])
        np.fill_diagonal(weights, 0.0)
        self._deviations = table.oriented - weights @ table.oriented / weights.sum(1, keepdims=True)

    @property
    def horizon(self) -> int:
        return self._table.horizon

    def curve_of(self, trial: int, params: Mapping[str, Scalar]) -> Recording:
        weights = self._weights(params)
        deviation = self._deviations[self._rng.choice(len(weights), p=weights)]
        return Recording(weights @ self._table.oriented + SCATTER * deviation)

    def _weights(self, params: Mapping[str, Scalar | None]) -> np.ndarray:
        columns = zip(self._table.names, self._table.columns, strict=True)
        squared = np.square([column.distance(params.get(name)) for name, column in columns]).sum(axis=0)
        weights = np.exp(-(squared - squared.min()) / (2 * WIDTH**2))
        return np.asarray(weights / weights.sum())


def thinned(table: Table, horizon: int) -> Table:
    """Return a table with fewer epochs, or the same where it has no more."""
    if table.horizon <= horizon:
        return table
    return replace(table, horizon=horizon, curves=lambda seed: ThinnedCurves(table.curves(seed), horizon))


def smoothed(table: Table, rows: CurveTable) -> Table:
    """Return a recorded table with an answer to every configuration.

    Raises:
        BadInput: a curve ended early, and has no average with others.
    """
    if not np.isfinite(rows.oriented).all():
        raise BadInput(f"{table.name} has curves that end early, which cannot be smoothed. Record it without patience.")
    return replace(table, curves=lambda seed: SmoothedCurves(rows, seed), rows=None)
