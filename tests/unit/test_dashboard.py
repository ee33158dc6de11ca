"""The dashboard, asked over HTTP as a browser asks it."""

from __future__ import annotations

import io
import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
from PIL import Image

from storage.artifacts import Artifacts
from storage.errors import BadInput
from storage.opening import open_database, open_to_read
from storage.settings import Home
from storage.stores.local import LocalFiles
from tests.dashboard import ask, running
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.serving import ServeOptions, make_server, serve


@pytest.fixture
def place(home: Path) -> Home:
    place = Home(home)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place.make(place.artifacts)
    database = open_database(place.database_url, create=True)
    optuna.create_study(study_name="mnist", storage=database, direction="maximize")
    # In one process, SQLite lets nobody write beside one who reads a file that is open already.
    database.engine.dispose()
    return place


@pytest.fixture
def server(place: Home) -> Iterator[DashboardServer]:
    with running(make_server(open_to_read(place.database_url), place, ServeOptions(port=0))) as server:
        yield server


def test_the_page_and_the_studies_are_served(server: DashboardServer) -> None:
    status, page = ask(server, "GET", "/dashboard")
    assert status == 200
    assert b"<html" in page
    status, said = ask(server, "GET", "/api/studies")
    assert status == 200
    assert [study["study_name"] for study in json.loads(said)["study_summaries"]] == ["mnist"]
    assert server.url == f"http://127.0.0.1:{server.server_port}/"


def test_a_trial_and_its_learning_curve_are_shown_while_the_database_is_being_written(
    server: DashboardServer, place: Home
) -> None:
    writer = open_database(place.database_url)
    study = optuna.load_study(study_name="mnist", storage=writer)
    trial = study.ask()
    trial.report(0.5, 1)
    picture = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(picture, format="PNG")
    kept = Artifacts(LocalFiles(place.artifacts)).put(
        writer, trial._trial_id, "learning_curve", "learning_curve.png", lambda f: _write(f, picture.getvalue())
    )
    with writer.transaction():  # a writer in the middle of its work holds up no reader
        status, said = ask(server, "GET", f"/api/studies/{study._study_id}?after=0")
        assert status == 200
        (shown,) = json.loads(said)["trials"]
        assert shown["intermediate_values"] == [{"step": 1, "value": 0.5}]
        assert shown["artifacts"][0]["filename"] == "learning_curve.png"
        status, content = ask(server, "GET", f"/artifacts/{study._study_id}/{trial._trial_id}/{kept.id}")
        assert (status, content) == (200, picture.getvalue())


def test_what_is_written_after_it_was_started_is_shown_also_when_nobody_has_the_database_open(
    server: DashboardServer, place: Home
) -> None:
    names = ["mnist"]
    for name in ("second", "third"):
        writer = open_database(place.database_url)
        optuna.create_study(study_name=name, storage=writer)
        writer.engine.dispose()
        names.append(name)
        status, said = ask(server, "GET", "/api/studies")  # trials it keeps for two seconds
        assert status == 200
        assert [study["study_name"] for study in json.loads(said)["study_summaries"]] == names


def _write(file: Path, content: bytes) -> None:
    file.write_bytes(content)


def test_who_may_not_write_sees_all_and_is_told_that_nothing_can_be_changed(
    server: DashboardServer, place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with running(make_server(open_to_read(place.database_url), place, ServeOptions(port=0, edit=True))) as to_read:
        assert ask(to_read, "GET", "/api/studies") == ask(server, "GET", "/api/studies")
        status, said = ask(to_read, "POST", "/api/studies", {"study_name": "new", "directions": ["minimize"]})
        assert (status, b"only shown" in said) == (403, True)
    monkeypatch.setattr(DashboardServer, "serve_forever", lambda _: None)
    monkeypatch.setattr("storage.opening.os.access", lambda _, mode: not mode & os.W_OK)
    serve(place.database_url, place, ServeOptions(port=0))
    assert "Read only" in capsys.readouterr().err


def test_a_port_in_use_is_refused_by_number_with_the_next_step(server: DashboardServer, place: Home) -> None:
    port = server.server_port
    with pytest.raises(BadInput, match=rf"port {port} on 127.0.0.1 is in use.*PORT="):
        serve(place.database_url, place, ServeOptions(port=port))


@pytest.mark.parametrize("port", [-1, 65_536])
def test_a_port_that_is_none_is_refused(place: Home, port: int) -> None:
    with pytest.raises(BadInput, match=f"port {port}"):
        serve(place.database_url, place, ServeOptions(port=port))


def test_a_host_that_is_none_is_refused(place: Home) -> None:
    with pytest.raises(BadInput, match=r"cannot listen on 192\.0\.2\.1"):
        serve(place.database_url, place, ServeOptions("192.0.2.1", 0))


@pytest.mark.parametrize(("host", "warned"), [("127.0.0.1", False), ("0.0.0.0", True)])
def test_ctrl_c_ends_it_quietly_and_a_host_for_all_is_warned_about(
    place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], host: str, warned: bool
) -> None:
    def interrupted(_: DashboardServer) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(DashboardServer, "serve_forever", interrupted)
    serve(place.database_url, place, ServeOptions(host, 0))
    said = capsys.readouterr()
    assert said.out.startswith("http://localhost:" if warned else "http://127.0.0.1:")
    assert ("not encrypted" in said.err) is warned


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_an_ipv6_address_is_listened_on(place: Home) -> None:
    try:
        server = make_server(open_database(place.database_url), place, ServeOptions("::1", 0))
    except BadInput:
        pytest.skip("this machine has no IPv6 loopback")
    with server:
        assert server.url == f"http://[::1]:{server.server_port}/"
