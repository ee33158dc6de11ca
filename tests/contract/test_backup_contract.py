"""A study passes from SQLite to PostgreSQL and back, by backups, and stays what it is."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.trial import TrialState
from sqlalchemy import Connection

from storage.backups.backup import back_up
from storage.backups.restore import StudyExists, restore
from storage.claims import Claims
from storage.database import Database
from storage.opening import open_database
from storage.rows.study_rows import study_id_of
from storage.settings import Home
from tests.databases import new_study, second_connection, url_of
from tests.studies_made import all_facts, as_put_back, varied_home, varied_study


def home_at(folder: Path) -> Home:
    folder.mkdir()
    return Home(folder)


def test_a_study_comes_back_into_its_own_kind_of_database(database: Database, tmp_path: Path) -> None:
    home = home_at(tmp_path / "home")
    new_study(database, name="another")
    varied_study(database, home)
    backup = back_up(database, "mnist", tmp_path / "copy", home)
    with pytest.raises(StudyExists):
        restore(backup, url_of(database), home)
    restore(backup, url_of(database), home, name="again")
    before, after = all_facts(database, "mnist"), all_facts(database, "again")
    assert after[:4] == before[:4]
    assert [as_put_back(trial) for trial in after] == [as_put_back(trial) for trial in before]
    claims = Claims(database, database.get_study_id_from_name("again"), "me")
    taken = [claims.next() for _ in range(4)]
    assert [claim.number for claim in taken if claim is not None] == [3, 4, 5, 6]


@pytest.mark.postgres
def test_a_study_passes_from_sqlite_to_postgresql_and_back(postgres: Database, tmp_path: Path) -> None:
    first, second = home_at(tmp_path / "first"), home_at(tmp_path / "second")
    with varied_home(first) as here:
        before = all_facts(here, "mnist")
        there = back_up(here, "mnist", tmp_path / "there", first)
    restore(there, url_of(postgres), second)
    on_server = all_facts(postgres, "mnist")
    back = back_up(postgres, "mnist", tmp_path / "back", second)
    home = home_at(tmp_path / "third")
    restore(back, home.database_url, home)
    again = open_database(home.database_url)
    after = all_facts(again, "mnist")
    again.engine.dispose()
    assert on_server[:4] == before[:4]
    assert after == on_server
    assert back.trials == {"complete": 1, "pruned": 1, "fail": 1, "waiting": 3}
    assert back.under("artifacts") == there.under("artifacts")


@pytest.mark.postgres
def test_rows_on_a_server_are_those_of_one_moment(
    postgres: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    home = home_at(tmp_path / "home")
    claims = varied_study(postgres, home)

    def and_then_a_trial_ends(connection: Connection, name: str) -> int | None:
        found = study_id_of(connection, name)
        with second_connection(postgres) as other:
            trial = other.get_all_trials(claims._study_id)[4]
            other.set_trial_user_attr(trial._trial_id, "later", True)
            other.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.9])
        return found

    monkeypatch.setattr("storage.backups.backup.study_id_of", and_then_a_trial_ends)
    backup = back_up(postgres, "mnist", tmp_path / "copy", home)
    assert backup.trials["running"] == 2
    monkeypatch.undo()
    restore(backup, url_of(postgres), home, name="again")
    trial = postgres.get_all_trials(postgres.get_study_id_from_name("again"))[4]
    assert "later" not in trial.user_attrs
