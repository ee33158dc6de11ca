"""Nothing is changed through the dashboard unless who started it said so, and a study is renamed in no case."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import optuna
import optuna_dashboard
import pytest

from storage.database import Database
from storage.opening import open_database
from storage.settings import Home
from tests.dashboard import answer, ask, running
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.serving import ServeOptions, make_server, serve

NEW = {"study_name": "new", "directions": ["minimize"]}


@pytest.fixture
def place(home: Path) -> Home:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = Home(home)
    database = open_database(place.database_url, create=True)
    optuna.create_study(study_name="mnist", storage=database, direction="maximize").ask()
    return place


@pytest.fixture
def server(place: Home, request: pytest.FixtureRequest) -> Iterator[DashboardServer]:
    options = ServeOptions(port=0, edit=getattr(request, "param", False))
    with running(make_server(open_database(place.database_url), place, options)) as server:
        yield server


to_edit = pytest.mark.parametrize("server", [True], indirect=True)
either = pytest.mark.parametrize("server", [True, False], indirect=True)


def rows(place: Home) -> dict[str, dict[str, object]]:
    database = open_database(place.database_url)
    return {
        study.study_name: {
            **database.get_study_user_attrs(study._study_id),
            **database.get_study_system_attrs(study._study_id),
            "trials": [(trial.state, trial.user_attrs, trial.system_attrs) for trial in study.get_trials()],
        }
        for name in optuna.get_all_study_names(database)
        for study in [optuna.load_study(study_name=name, storage=database)]
    }


def test_nothing_that_the_dashboard_can_change_is_changed(server: DashboardServer, place: Home) -> None:
    before = rows(place)
    app = optuna_dashboard.wsgi(open_database(place.database_url))
    changing = [route for route in app.routes if route.method != "GET" and route.rule.startswith("/api/")]
    assert {route.method for route in changing} >= {"POST", "PUT", "DELETE"}
    body = {**NEW, "version": 1, "body": "x", "state": "Complete", "values": [1.0], "user_attrs": {"a": "b"}}
    for route in changing:
        path = re.sub(r"<\w+(:[^>]*)?>", "1", route.rule)
        for method in (route.method, "PATCH"):
            answered = answer(server, method, path, body)
            assert answered.status == 403, (method, path)
            assert answered.headers["content-type"] == "application/json"
            assert "EDIT=1" in json.loads(answered.content)["reason"]
    assert rows(place) == before


@to_edit
def test_who_said_so_changes_and_deletes(server: DashboardServer, place: Home) -> None:
    assert ask(server, "POST", "/api/studies", NEW)[0] == 201
    assert ask(server, "PUT", "/api/studies/1/note", {"version": 1, "body": "look"})[0] == 204
    assert ask(server, "POST", "/api/trials/1/user-attrs", {"user_attrs": {"by": "me"}})[0] == 204
    assert rows(place)["mnist"]["dashboard:note_ver"] == 1
    assert ask(server, "DELETE", "/api/studies/1", {})[0] == 204
    assert list(rows(place)) == ["new"]


@to_edit
def test_a_study_is_renamed_in_no_case(server: DashboardServer, place: Home) -> None:
    before = rows(place)
    for path in ("rename", "rename/", "%72ename", "rename//", "rename?x=1"):
        answered = answer(server, "POST", f"/api/studies/1/{path}", {"study_name": "other"})
        assert answered.status == 403, path
        said = json.loads(answered.content)["reason"]
        assert "copy it into a new one" in said
        assert "make restore" in said
    for path in ("ren%ffame", "rename%ff", "rename%00", "rename%20"):
        assert ask(server, "POST", f"/api/studies/1/{path}", {"study_name": "other"})[0] in (403, 404)
    assert rows(place) == before


@either
def test_all_is_shown_either_way(server: DashboardServer) -> None:
    for path in ("/api/studies", "/api/studies/1", "/api/meta", "/csv/1", "/dashboard"):
        assert ask(server, "GET", path)[0] == 200


def test_without_it_the_database_itself_is_opened_to_read(place: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []

    def opening(url: str) -> Database:
        opened.append(url)
        return open_database(url)

    monkeypatch.setattr(DashboardServer, "serve_forever", lambda _: None)
    monkeypatch.setattr("tuning.commands.dashboard.serving.open_database", opening)
    serve(place.database_url, place, ServeOptions(port=0))
    assert opened == []
    serve(place.database_url, place, ServeOptions(port=0, edit=True))
    assert opened == [place.database_url]
