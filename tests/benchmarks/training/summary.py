"""The figures as plain tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tests.benchmarks.report import Report, Table
from tests.benchmarks.throughput.measures import shown
from tests.benchmarks.training.contestants import OURS
from tests.benchmarks.training.outcomes import Outcome, race
from tests.benchmarks.training.plan import Plan
from tests.benchmarks.training.results import Result


def report(results: Sequence[Result]) -> Report:
    """Return the tables of every data set: what each contestant found, and how long ours took to each peer's best."""
    plans = dict.fromkeys(result.plan for result in results)
    found = [_of_plan(plan, {one.contestant: one for one in results if one.plan == plan}) for plan in plans]
    return Report([table for tables in found for table in tables])


def _of_plan(plan: Plan, results: Mapping[str, Result]) -> list[Table]:
    head = (
        f"{plan.dataset}: {plan.model}, {plan.train_images:,} + {plan.validation_images:,} images, at most"
        f" {plan.epochs} epochs a trial, {plan.budget} in all, {plan.workers} workers, seed {plan.seed}"
    )
    tables = [Table(head, _found(results))]
    if OURS in results and len(results) > 1:
        outcomes = {name: result.outcome for name, result in results.items()}
        title = (
            f"{plan.dataset}: {OURS}, until it had each one's final best accuracy; of what that one took in all, and"
            " to there"
        )
        tables.append(Table(title, _races(outcomes)))
    return tables


def _found(results: Mapping[str, Result]) -> list[list[str]]:
    rows = [["contestant", "best accuracy", "seconds", "epochs", "first at s", "epoch", "run on"]]
    for name, result in results.items():
        outcome = result.outcome
        first = outcome.reached(outcome.best)
        rows.append(
            [
                name,
                f"{outcome.best:.4f}" if math.isfinite(outcome.best) else "none",
                f"{outcome.total_s:.1f}",
                str(outcome.epochs),
                f"{first.seconds:.1f}" if first else "-",
                str(first.epochs) if first else "-",
                result.date,
            ]
        )
    return rows


def _races(outcomes: Mapping[str, Outcome]) -> list[list[str]]:
    rows = [["peer", "accuracy", "seconds", "of all", "of to there", "epochs", "of all", "of to there"]]
    for name, outcome in outcomes.items():
        found = race(outcomes[OURS], outcome) if name != OURS else None
        if found is None:
            continue
        row = [name, f"{found.target:.4f}"]
        if found.ours is None:
            rows.append([*row, "not reached", "", "", "", "", ""])
            continue
        (all_s, all_epochs), (there_s, there_epochs) = found.share_of_total, found.share_of_first
        row += [f"{found.ours.seconds:.1f}", shown(all_s), shown(there_s)]
        rows.append([*row, str(found.ours.epochs), shown(all_epochs), shown(there_epochs)])
    return rows
