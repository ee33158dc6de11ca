"""A database made by stock Optuna 4 opens here, and what is written to it is read by stock Optuna."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import optuna
from optuna.trial import TrialState

from storage.claims import Claims
from storage.opening import open_database

# Written by Optuna 4.9 (`sqlite3.Connection.iterdump`): five trials of a study and an enqueued one.
DUMP = Path(__file__).with_name("optuna_4.sql")


def test_a_database_of_optuna_4_opens_and_its_study_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    connection = sqlite3.connect(file)
    connection.executescript(DUMP.read_text())
    connection.close()
    database = open_database(f"sqlite:///{file}")
    study = optuna.load_study(study_name="made-by-4", storage=database)
    states = [trial.state.name for trial in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "COMPLETE", "WAITING"]
    assert study.user_attrs == {"who": "optuna 4"}
    assert study.best_trial.intermediate_values[3] == study.best_value
    claims = Claims(database, study._study_id, "worker")
    claims.set_budget(6)
    waiting, new = claims.next(), claims.next()
    assert waiting is not None
    assert new is not None
    assert (waiting.number, new.number) == (5, 6)
    for claim in (waiting, new):
        database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.5])
    assert claims.next() is None
    database.engine.dispose()
    stock = optuna.load_study(study_name="made-by-4", storage=f"sqlite:///{file}")
    assert [trial.state.name for trial in stock.trials] == [*states[:5], "COMPLETE", "COMPLETE"]
