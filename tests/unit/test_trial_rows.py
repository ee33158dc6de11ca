"""Trials that are read by few statements are equal to those that Optuna's own reading builds, whatever is in them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import event

from storage.database import Database
from storage.opening import open_database
from storage.rows import trial_rows

DISTRIBUTIONS = {
    "rate": FloatDistribution(1e-4, 1.0, log=True),
    "units": IntDistribution(1, 64),
    "name": CategoricalDistribution(["a", None, True, 2.5]),
}
NUMBERS = st.floats(allow_nan=False) | st.sampled_from([math.inf, -math.inf])
ATTRIBUTES = st.dictionaries(
    st.text(max_size=5), st.none() | st.integers() | st.text(max_size=5) | st.just([1, {}]), max_size=3
)


@st.composite
def trials(draw: st.DrawFn, objectives: int) -> FrozenTrial:
    state = draw(st.sampled_from(list(TrialState)))
    values = {
        "rate": draw(st.floats(1e-4, 1.0)),
        "units": draw(st.integers(1, 64)),
        "name": draw(st.sampled_from(["a", None, True, 2.5])),
    }
    names = draw(st.lists(st.sampled_from(sorted(values)), unique=True))
    complete = state == TrialState.COMPLETE
    return create_trial(
        state=state,
        values=draw(st.lists(NUMBERS, min_size=objectives, max_size=objectives)) if complete else None,
        params={name: values[name] for name in names},
        distributions={name: DISTRIBUTIONS[name] for name in names},
        user_attrs=draw(ATTRIBUTES),
        system_attrs=draw(ATTRIBUTES),
        intermediate_values=draw(st.dictionaries(st.integers(0, 99), NUMBERS | st.just(math.nan), max_size=4)),
    )


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    opened = open_database(f"sqlite:///{tmp_path_factory.mktemp('rows') / 'studies.db'}", create=True)
    yield opened
    opened.engine.dispose()


def written(database: Database, given: list[FrozenTrial], objectives: int) -> int:
    study = database.create_new_study([StudyDirection.MAXIMIZE] * objectives)
    for trial in given:
        database.create_new_trial(study, template_trial=trial)
    return study


def said(trials: list[FrozenTrial]) -> list[str]:
    """All that is in trials: NaN is equal to none, and the order of parameters and reports counts, too."""
    shown = []
    for trial in trials:
        # Stock reads attributes in any order.
        parts = {
            **vars(trial),
            **{name: sorted(vars(trial)[name].items()) for name in ("_user_attrs", "_system_attrs")},
        }
        shown.append(repr(sorted(parts.items())) + repr(list(trial.params)))
    return shown


@settings(max_examples=30, deadline=None)
@given(data=st.data(), objectives=st.integers(1, 2))
def test_they_are_equal(database: Database, data: st.DataObject, objectives: int) -> None:
    study = written(database, data.draw(st.lists(trials(objectives), max_size=5)), objectives)
    ids = [trial._trial_id for trial in database.get_all_trials(study)]
    after = data.draw(st.sampled_from([-1, *ids]))
    also = set(data.draw(st.lists(st.sampled_from(ids), unique=True))) if ids else set()
    states = data.draw(st.none() | st.lists(st.sampled_from(list(TrialState)), max_size=3).map(tuple))
    ours = database._get_trials(study, states, also, after)
    stock: list[Any] = RDBStorage._get_trials(database, study, states, also, after)
    assert said(ours) == said(stock)
    assert all(list(trial.intermediate_values) == sorted(trial.intermediate_values) for trial in ours)


def test_many_that_are_asked_for_by_id_are_asked_for_in_parts(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trial_rows, "MOST_IDS", 3)
    study = written(database, [create_trial(value=1.0) for _ in range(11)], 1)
    ids = [trial._trial_id for trial in database.get_all_trials(study)]
    found = database._get_trials(study, None, set(ids[:8]), ids[9])
    assert [trial._trial_id for trial in found] == [*ids[:8], ids[10]]


def test_a_study_that_is_not_there_is_told(database: Database) -> None:
    with pytest.raises(KeyError):
        database.get_all_trials(987_654)


def test_reading_takes_as_many_statements_for_many_trials_as_for_few(tmp_path: Path) -> None:
    database = open_database(f"sqlite:///{tmp_path / 'studies.db'}", create=True)
    counts = []
    for number in (1, 40):
        study = written(database, [create_trial(value=0.5, intermediate_values={1: 0.5}) for _ in range(number)], 1)
        statements: list[str] = []
        event.listen(database.engine, "before_cursor_execute", lambda *of, into=statements: into.append(of[2]))
        assert (
            len(optuna.load_study(study_name=database.get_study_name_from_id(study), storage=database).trials) == number
        )
        counts.append(sum(statement.startswith("SELECT") for statement in statements))
    assert counts[0] == counts[1]
    database.engine.dispose()
