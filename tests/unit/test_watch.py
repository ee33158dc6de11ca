"""The live view of a study that somebody else runs: it shows what happens, changes nothing, and ends with the study."""

from __future__ import annotations

import io
from collections.abc import Callable

import optuna
import pytest
from optuna.trial import TrialState
from rich.console import Console

from storage import attributes
from storage.claims import Claims
from storage.database import Database
from storage.errors import BadInput
from storage.opening import open_to_read
from studies.stored import find_study
from tests.databases import claimed, finish, new_study, url_of
from tests.reported import SPEC
from tuning.views.watch import watch


@pytest.fixture
def claims(database: Database) -> Claims:
    """A study of two trials, as its launcher holds it."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = new_study(database, budget=2)
    database.set_study_user_attr(made._study_id, attributes.SPEC, SPEC.model_dump(mode="json"))
    return made


def watched(database: Database, nap: Callable[[float], None]) -> tuple[int, str]:
    text = io.StringIO()
    reading = open_to_read(url_of(database))
    try:
        study = find_study(reading, "mnist")
        status = watch(study, reading, Console(file=text, width=200, color_system=None), nap=nap)
    finally:
        reading.engine.dispose()
    return status, text.getvalue()


def test_each_trial_that_stops_is_a_line_until_the_study_is_done(database: Database, claims: Claims) -> None:
    def nap(_: float) -> None:
        claim = claimed(claims)
        database.set_trial_intermediate_value(claim.trial_id, 1, 0.25)
        finish(database, claim, value=0.25 + claim.number / 100)

    status, text = watched(database, nap)
    assert status == 0
    lines = text.splitlines()
    assert lines[0] == "nobody works on mnist at the moment; the same tune goes on with it"
    assert [line.split()[:4] for line in lines[1:-1]] == [
        ["trial", "0", "complete", "0.2500"],
        ["trial", "1", "complete", "0.2600"],
    ]
    assert lines[-1] == "done: 2 of 2 trials finished"


def test_ctrl_c_ends_the_looking_and_nothing_else(database: Database, claims: Claims) -> None:
    claim = claimed(claims)

    def nap(_: float) -> None:
        raise KeyboardInterrupt

    status, _ = watched(database, nap)
    assert status == 130
    assert database.get_trial(claim.trial_id).state == TrialState.RUNNING


def test_a_study_that_is_done_is_said_at_once(database: Database, claims: Claims) -> None:
    for _ in range(2):
        finish(database, claimed(claims))

    def nap(_: float) -> None:
        raise AssertionError("there is nothing to wait for")

    assert watched(database, nap) == (0, "done: 2 of 2 trials finished\n")


def test_another_programs_study_is_not_watched(database: Database) -> None:
    optuna.create_study(study_name="mnist", storage=database)
    with pytest.raises(BadInput, match="another program made it"):
        watched(database, lambda _: None)
