"""The figures of all studies as plain tables."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from tests.benchmarks.report import Report
from tests.benchmarks.report import Table as Columns
from tests.benchmarks.search.measures import (
    REGRET_AT,
    SHARES,
    Estimate,
    censored,
    costs,
    geometric_mean,
    mean_ratio,
    median_with_interval,
    ratio_with_interval,
    ratios,
    regrets,
)
from tests.benchmarks.search.results import Result
from tests.benchmarks.search.tables import GROUPS, Table

ALL = "all"


class Figures:
    """The studies with one number of workers.

    Args:
        results: of all numbers of workers.
        tables: by name.
        workers: W.
        budget: of a study, in R.
    """

    def __init__(self, results: Sequence[Result], tables: Mapping[str, Table], workers: int, budget: float) -> None:
        self.budget = budget
        self._tables = tables
        self._studies: dict[str, dict[str, list[Result]]] = defaultdict(lambda: defaultdict(list))
        for result in results:
            if result.key.workers == workers:
                self._studies[result.key.contestant][result.key.table].append(result)

    def groups(self) -> list[str]:
        """Return the groups that have tables, and all of them together."""
        return [*(group for group in GROUPS if any(table.group == group for table in self._tables.values())), ALL]

    def costs(self, contestant: str, group: str, share: float) -> dict[str, np.ndarray]:
        """Return a contestant's costs (s,), in R, by table."""
        return {
            name: costs(studies, self._tables[name], share) for name, studies in self._of(contestant, group).items()
        }

    def regret(self, contestant: str, group: str) -> np.ndarray:
        """Return the mean over tables of the median regret after 10, 20, 40 and 80 R; NaN where that is not known."""
        medians = [
            np.median(regrets(studies, self._tables[name], REGRET_AT), axis=0)
            for name, studies in self._of(contestant, group).items()
        ]
        return np.asarray(np.mean(medians, axis=0))

    def _of(self, contestant: str, group: str) -> dict[str, list[Result]]:
        studies = self._studies[contestant]
        return {name: studies[name] for name in studies if group in (ALL, self._tables[name].group)}


def report(
    results: Sequence[Result],
    tables: Mapping[str, Table],
    contestants: Sequence[str],
    workers: Sequence[int],
    budget: float,
    against: str | None = None,
) -> Report:
    """Return the tables: what each contestant needs, and how many times that of one of them the others need.

    Args:
        results: every study.
        tables: by name.
        contestants: in the order of the rows.
        workers: each number of workers has its part.
        budget: of a study, in R.
        against: the contestant that the ratios are of; the first one by default.
    """
    found: list[Columns] = []
    single: dict[str, float] = {}
    ours = against or contestants[0]
    for count in workers:
        figures, where = Figures(results, tables, count, budget), f"W = {count}"
        found += [_needs(figures, contestants, where)]
        found += [_table_ratios(figures, contestants, ours, where)] if len(contestants) > 1 else []
        found += [_per_table(figures, contestants, where)]
        single |= {f"{words}, {where}": ratio for words, ratio in _mean_ratios(figures, contestants, ours).items()}
    return Report(found, figures=single)


def _mean_ratios(figures: Figures, contestants: Sequence[str], ours: str) -> dict[str, float]:
    """Return how many times what ours needs each other one needs, by the names of both and the group."""
    others = [name for name in contestants if name != ours]
    return {
        f"{name} / {ours}, {group}": mean_ratio(
            figures.costs(ours, group, SHARES[0]), figures.costs(name, group, SHARES[0]), figures.budget
        )
        for name in others
        for group in figures.groups()
    }


def _needs(figures: Figures, contestants: Sequence[str], where: str) -> Columns:
    groups = figures.groups()
    head = ["contestant", *(f"1% {group}" for group in groups), "5% all", "unseen", "worst"]
    head += [f"regret@{full}" for full in REGRET_AT]
    rows = []
    for name in contestants:
        top = figures.costs(name, ALL, SHARES[0])
        row = [name]
        row += [f"{geometric_mean(figures.costs(name, group, SHARES[0]), figures.budget):.2f}" for group in groups]
        row += [f"{geometric_mean(figures.costs(name, ALL, SHARES[1]), figures.budget):.2f}"]
        row += [f"{100 * np.mean(np.isinf(np.concatenate(list(top.values())))):.1f}%"]
        row += [f"{max(np.median(censored(cost, figures.budget)) for cost in top.values()):.1f}"]
        row += ["-" if math.isnan(regret) else f"{regret:.3f}" for regret in figures.regret(name, ALL)]
        rows.append(row)
    title = (
        f"{where}: R until a value in the top 1% (5%) was seen: geometric mean over tables of the median over seeds;"
        " studies that saw none; the worst table; regret after so many R (0: the best random configuration, 1: the"
        " median)"
    )
    return Columns(title, [head, *rows])


def _table_ratios(figures: Figures, contestants: Sequence[str], ours: str, where: str) -> Columns:
    random = np.random.default_rng(0)
    groups = figures.groups()
    rows = [["others", *(f"1% {group}" for group in groups), "5% all", "worst", "on"]]
    for name in contestants:
        if name == ours:
            continue
        row = [name]
        for group, share in [*((group, SHARES[0]) for group in groups), (ALL, SHARES[1])]:
            mine, theirs = figures.costs(ours, group, share), figures.costs(name, group, share)
            row.append(_interval(ratio_with_interval(mine, theirs, figures.budget, random)))
        single = ratios(figures.costs(ours, ALL, SHARES[0]), figures.costs(name, ALL, SHARES[0]), figures.budget)
        worst = min(single, key=single.__getitem__)
        rows.append([*row, f"{single[worst]:.2f}", worst])
    title = f"{where}: times what {ours} needs, with 90% intervals over tables and seeds; the worst table for {ours}"
    return Columns(title, rows)


def _per_table(figures: Figures, contestants: Sequence[str], where: str) -> Columns:
    random = np.random.default_rng(0)
    by_contestant = {name: figures.costs(name, ALL, SHARES[0]) for name in contestants}
    names = sorted({name for found in by_contestant.values() for name in found})
    rows = [["table", *contestants]]
    for name in names:
        cells = [_interval(median_with_interval(by_contestant[one][name], random)) for one in contestants]
        rows.append([name, *cells])
    title = f"{where}: R until a value in the top 1% was seen, table by table: median over seeds with its 90% interval"
    return Columns(title, rows, detail=True)


def _interval(estimate: Estimate) -> str:
    return f"{_short(estimate.value)} [{_short(estimate.low)}, {_short(estimate.high)}]"


def _short(value: float) -> str:
    return "none" if math.isinf(value) else f"{value:.2f}" if value < 10 else f"{value:.1f}"
