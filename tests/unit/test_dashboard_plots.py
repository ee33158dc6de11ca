"""The plots of ours in the dashboard: what they show of a study, and that they stay small."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims, Thaw
from storage.database import Database
from tests.databases import claimed, finish, fresh_database, new_study
from tuning.commands.dashboard.reads.answering import Reads
from tuning.commands.dashboard.reads.plots import Plots
from tuning.commands.dashboard.reads.shown_trial import Content, ShownTrial, Worked

SPEC = {"dataset": "mnist", "model": "cnn", "epochs": 4}


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "studies.db") as opened:
        yield opened


def shown(database: Database) -> dict[str, Any]:
    """The plots of the first study, by their ids."""
    found = Reads(database).answer({"PATH_INFO": "/api/studies/1"})
    assert found is not None
    document = json.loads(b"".join(found.body))
    return {one["id"]: json.loads(one["graph_object"]) for one in document["plotly_graph_objects"]}


def named(plot: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for one in plot["data"] if "name" in one}


def report(database: Database, claim: Claim, *values: float) -> None:
    for epoch, value in enumerate(values, start=1):
        database.set_trial_intermediate_value(claim.trial_id, epoch, value)
    database.set_trial_user_attr(claim.trial_id, attributes.SECONDS, 2.0 * len(values))


def test_a_trial_that_was_frozen_and_thawed_has_several_stretches_in_which_it_trained(database: Database) -> None:
    time = [1_000.0]
    claims: Claims = new_study(database, clock=lambda: time[0])
    database.set_study_user_attr(1, attributes.SPEC, SPEC)
    trial = claimed(claims)
    report(database, trial, 0.5)
    time[0] = 1_060.0
    claims.beat(trial)
    claims.put_back(trial, "frozen", "frozen")
    assert list(named(shown(database)["tuning-times"])) == ["frozen or waiting"]
    time[0] = 2_000.0
    trial = claimed(claims, Thaw(trial.number))
    report(database, trial, 0.5, 0.75)
    times = named(shown(database)["tuning-times"])["running"]
    assert times["y"] == [0, 0]
    assert [datetime.fromisoformat(begun).timestamp() for begun in times["base"]] == [1_000.0, 2_000.0]
    assert times["x"][0] == 60_000
    assert times["x"][1] > 1_000_000_000  # it trains until now


def test_curves_are_of_the_search_and_best_values_stand_over_the_seconds_of_training(database: Database) -> None:
    claims = new_study(database)
    database.set_study_user_attr(1, attributes.SPEC, SPEC)
    kept, pruned, refit = (claimed(claims) for _ in range(3))
    report(database, kept, 0.5, math.nan, 0.75, 0.7)
    report(database, pruned, 0.25)
    report(database, refit, 0.875)
    database.set_trial_system_attr(refit.trial_id, attributes.PHASE, "refit")
    finish(database, kept, value=0.75)
    finish(database, pruned, TrialState.PRUNED)
    plots = shown(database)
    assert set(plots) == {"tuning-curves", "tuning-seconds", "tuning-times"}
    curves, points = named(plots["tuning-curves"]), named(plots["tuning-seconds"])
    assert set(curves) == {"trained to its end", "pruned"}
    assert (curves["trained to its end"]["x"], curves["trained to its end"]["y"]) == (
        [1, 2, 3, 4, None],
        [0.5, None, 0.75, 0.7, None],
    )
    assert {name: (one["x"], one["y"]) for name, one in points.items()} == {
        "trained to its end": ([8.0], [0.75]),
        "pruned": ([2.0], [0.25]),
        "the winner, refitted": ([2.0], [0.875]),
    }


def test_another_programs_study_and_one_without_reports_have_none(database: Database) -> None:
    claims = new_study(database)
    trial = claimed(claims)
    database.set_study_user_attr(1, attributes.SPEC, SPEC)
    assert shown(database) == {}
    report(database, trial, 0.5)
    assert shown(database)
    database.set_study_user_attr(1, attributes.SPEC, None)
    assert shown(database) == {}


def trial(number: int, *reported: float, state: TrialState = TrialState.COMPLETE) -> ShownTrial:
    return ShownTrial(
        trial_id=number, number=number, state=state, curve=False, frozen=False, reported=reported, seconds=3.0,
        worked=Worked(f"[[{number}, {number + 1}]]", "{}", None, None), phase="search", values=reported[-1:],
        feasible=True, content=Content((), (), has_curve=True), before=b"", after=b"",
    )  # fmt: skip


@pytest.mark.parametrize("maximize", [True, False])
def test_the_first_rank_is_that_of_the_best_whatever_is_better(maximize: bool) -> None:
    trials = [trial(0, 0.5, 0.6), trial(1, 0.4, 0.9), trial(2, 0.3, 0.2), trial(3, 0.1)]
    (ranks,) = (one for one in Plots(trials, "loss", maximize=maximize, now=9.0).all().values() if "Rank" in str(one))
    found = named(ranks)["trained to its end"]
    assert (found["text"], found["x"]) == (["0", "1", "2"], [1, 2, 3] if maximize else [3, 2, 1])
    assert found["y"] == ([2, 1, 3] if maximize else [3, 2, 1])


def test_of_many_trials_the_best_and_others_are_drawn_and_little_is_sent() -> None:
    trials = [trial(number, *[0.5 + number % 97 / 1000] * 100) for number in range(10_000)]
    trials[7_777] = trial(7_777, 0.1, 0.99)
    plots = Plots(trials, "validation accuracy", maximize=True, now=9.0).all()
    assert len(json.dumps(plots)) < 100_000
    for name in ("tuning-curves", "tuning-seconds", "tuning-ranks"):
        assert "7777" in named(plots[name])["trained to its end"]["text"]
