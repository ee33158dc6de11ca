"""Whoever watches trials that are not over sees each change of them: in SQLite and in PostgreSQL alike."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
from optuna.distributions import FloatDistribution

from storage.database import Database
from storage.rows.sql_trials import SqlTrials
from storage.rows.watched_rows import Stamp, unfinished_stamps
from tests.databases import claimed, new_study

ONE_BIT_MORE = math.nextafter(0.25, 1.0)


def draw(database: Database, trial_id: int, x: float, high: float = 1.0) -> None:
    """Let a trial have the parameter `x`, and no other any more."""
    with database.transaction() as connection:
        trials = SqlTrials(connection)
        trials.forget_parameters(trial_id)
        trials.set_param(trial_id, "x", x, FloatDistribution(0.0, high), FloatDistribution(0.0, high))


def report(database: Database, trial_id: int, *values: float) -> None:
    for step, value in enumerate(values):
        database.set_trial_intermediate_value(trial_id, step, value)


CHANGES: dict[str, Callable[[Database, int], None]] = {
    "a report": lambda d, t: report(d, t, 0.25, 0.75, 0.5, 0.125),
    "a report's last bit": lambda d, t: report(d, t, ONE_BIT_MORE),
    "two reports changed about": lambda d, t: report(d, t, 0.75, 0.25),
    "a report that becomes NaN": lambda d, t: report(d, t, math.nan),
    "a report that was NaN": lambda d, t: report(d, t, 0.25, 0.75, math.inf),
    "parameters drawn anew": lambda d, t: draw(d, t, ONE_BIT_MORE),
    "another range": lambda d, t: draw(d, t, 0.25, high=2.0),
    "an attribute": lambda d, t: d.set_trial_user_attr(t, "epochs", 2),
    "an attribute of the system's": lambda d, t: d.set_trial_system_attr(t, "own", 2),
}


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_of_a_trial_that_is_not_over_is_seen(database: Database, what: str) -> None:
    claims = new_study(database)
    trial_id = claimed(claims).trial_id
    draw(database, trial_id, 0.25)
    report(database, trial_id, 0.25, 0.75, math.nan)
    database.set_trial_user_attr(trial_id, "epochs", 1)

    def stamp() -> Stamp:
        with database.reading() as connection:
            return unfinished_stamps(connection, claims._study_id, since=trial_id)[trial_id]

    before = stamp()
    assert stamp() == before
    CHANGES[what](database, trial_id)
    assert stamp() != before


def test_reports_whose_sum_is_no_number_of_the_database_are_watched(database: Database) -> None:
    claims = new_study(database)
    trial_id = claimed(claims).trial_id
    report(database, trial_id, *[1.7e308] * 3)
    with database.reading() as connection:
        assert set(unfinished_stamps(connection, claims._study_id, since=0)) == {trial_id}
