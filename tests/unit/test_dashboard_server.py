"""No client keeps the dashboard from others, and what goes wrong is a sentence."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import optuna
import pytest

from storage.artifacts import Artifacts
from storage.opening import open_database
from storage.settings import Home
from storage.stores.local import LocalFiles
from tests.dashboard import answer, ask_raw, running
from tuning.commands.dashboard import server as web
from tuning.commands.dashboard.failures import FAILED, shorten_logs
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.serving import ServeOptions, make_server

HALVES = [
    b"",
    b"G",
    b"GET /api/studies HTTP/1.1\r\nHost: local",
    b"GET /api/studies HTTP/1.1\r\nHost: localhost\r\n",
    b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{",
    b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
    b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n",
]


@pytest.fixture
def place(home: Path) -> Home:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = Home(home)
    place.make(place.artifacts)
    optuna.create_study(study_name="mnist", storage=open_database(place.database_url, create=True))
    return place


@pytest.fixture
def server(place: Home) -> Iterator[DashboardServer]:
    options = ServeOptions(port=0, edit=True)
    with running(make_server(open_database(place.database_url), place, options)) as server:
        yield server


@contextlib.contextmanager
def sent(server: DashboardServer, requests: list[bytes]) -> Iterator[list[socket.socket]]:
    """Open a connection for each of these, send it, and keep them open."""
    with contextlib.ExitStack() as open_ones:
        found = []
        for request in requests:
            connection = socket.create_connection(("127.0.0.1", server.server_port), timeout=20)
            open_ones.enter_context(connection)
            connection.sendall(request)
            found.append(connection)
        yield found


def closed_within(connection: socket.socket, seconds: float, trickle: bytes = b"") -> bool:
    """Whether the server closes a connection in this time, while a byte is sent now and then."""
    until = time.monotonic() + seconds
    connection.settimeout(0.1)
    while time.monotonic() < until:
        try:
            if trickle:
                connection.sendall(trickle)
            if connection.recv(1 << 16) == b"":
                return True
        except TimeoutError:
            continue
        except OSError:
            return True
    return False


def test_two_hundred_clients_that_send_half_a_request_stop_nobody(server: DashboardServer) -> None:
    with sent(server, (HALVES * 30)[:200]):
        began = time.monotonic()
        for path in ("/dashboard", "/api/studies", "/static/bundle.js"):
            assert answer(server, "GET", path).status == 200
        assert time.monotonic() - began < 5


def test_more_clients_than_are_taken_stop_nobody(server: DashboardServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server._http, "_most", 20)
    with sent(server, HALVES * 10) as connections:
        for _ in range(10):
            assert answer(server, "GET", "/api/studies").status == 200
        assert len(server._http.active_channels) <= 20
        # Those that waited longest went.
        assert [closed_within(connection, 2) for connection in connections[:40]] == [True] * 40
        assert not closed_within(connections[-1], 0.3)


@pytest.mark.parametrize("constant", ["HEAD_S", "BODY_S", "IDLE_S"])
def test_a_request_that_does_not_arrive_in_time_is_ended_also_if_a_byte_comes_now_and_then(
    server: DashboardServer, monkeypatch: pytest.MonkeyPatch, constant: str
) -> None:
    half, trickle = {
        "HEAD_S": (HALVES[2], b"x"),
        "BODY_S": (HALVES[4], b"x"),
        "IDLE_S": (b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", b""),
    }[constant]
    with sent(server, [half]) as (connection,):
        assert not closed_within(connection, 0.3, trickle)
    monkeypatch.setattr(web, constant, 0.5)
    with sent(server, [half, *HALVES[:1]]) as connections:
        assert closed_within(connections[0], 10, trickle)


def test_clients_that_take_no_answer_stop_nobody(server: DashboardServer, place: Home) -> None:
    study = optuna.load_study(study_name="mnist", storage=open_database(place.database_url))
    trial = study.ask()

    def write(file: Path) -> None:
        with file.open("wb") as stream:
            stream.truncate(64 << 20)

    kept = Artifacts(LocalFiles(place.artifacts)).put(study._storage, trial._trial_id, "model", "model.keras", write)
    cookie = f"{server.login.cookie}={server.login.tokens.token}".encode()
    path = f"/artifacts/{study._study_id}/{trial._trial_id}/{kept.id}".encode()
    asked = b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nCookie: " + cookie + b"\r\n\r\n"
    with sent(server, [asked] * (web.THREADS + 4)) as connections:
        for connection in connections:
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
        assert answer(server, "GET", "/api/studies").status == 200


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (b"get /dashboard HTTP/1.1\r\nHost: localhost\r\n\r\n", b"400"),
        (b"GET /dashboard HTTP/1.1\r\nHost localhost\r\n\r\n", b"400"),
        (b"GET /dashboard HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"GET /dashboard HTTP/1.1\r\nX: ".ljust(web.HEAD_BYTES, b"x"), b"431"),
        (b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % web.STRANGERS_BODY_BYTES, b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", b"501"),
    ],
)
def test_what_is_no_request_is_refused_in_our_words(server: DashboardServer, request_: bytes, status: bytes) -> None:
    received = ask_raw(server, request_)
    head, _, words = received.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == status
    assert words.startswith((b"The ", b"This "))
    assert b"waitress" not in received.lower()
    for header in (b"X-Content-Type-Options: nosniff", b"X-Frame-Options: DENY"):
        assert header.lower() in head.lower()


def test_who_was_let_in_may_send_a_file_and_nobody_else(server: DashboardServer) -> None:
    trial = "/api/trials/1/user-attrs"
    long = {"user_attrs": {"note": "x" * (2 * web.STRANGERS_BODY_BYTES)}}
    assert answer(server, "POST", trial, long).status != 413
    with contextlib.suppress(ConnectionError):  # it is refused before it has arrived
        assert answer(server, "POST", trial, long, Cookie="").status == 413


def test_what_fails_is_one_sentence_here_and_one_line_there(
    server: DashboardServer, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no luck\nat all")

    lines: list[str] = []
    shorten_logs(lines.append)
    monkeypatch.setattr("tuning.commands.dashboard.reads.answering.read_studies", fail)
    monkeypatch.setattr("optuna_dashboard._app.optuna.load_study", fail)
    for path in ("/api/studies/1/plot/slice", "/csv/1", "/api/studies"):
        answered = answer(server, "GET", path)
        assert answered.status == 500
        assert json.loads(answered.content) == {"reason": FAILED}
    assert lines == ["warning: Exception: no luck"]
    said = "".join(capfd.readouterr())
    assert said == (
        "warning: /csv/1 could not be answered: at all\n"
        "warning: /api/studies could not be answered: RuntimeError: no luck at all\n"
    )


def test_an_error_of_our_own_is_one_sentence_as_well(capfd: pytest.CaptureFixture[str]) -> None:
    def broken(_environ: WSGIEnvironment, _start: StartResponse) -> list[bytes]:
        raise ZeroDivisionError("secret")

    lines: list[str] = []
    shorten_logs(lines.append)
    with running(DashboardServer("127.0.0.1", 0, broken)) as server:
        received = ask_raw(server, b"GET / HTTP/1.0\r\n\r\n")
    assert received.split(b" ")[1] == b"500"
    assert b"The dashboard failed" in received
    assert b"secret" not in received
    assert [("ZeroDivisionError" in line, "\n" in line) for line in lines] == [(True, False)]
    assert "Traceback" not in "".join(capfd.readouterr())


@pytest.mark.parametrize(("path", "words"), [("/api/nowhere", b"nothing at this address"), ("/dashboard", b"not take")])
def test_what_the_dashboard_refuses_is_a_sentence(server: DashboardServer, path: str, words: bytes) -> None:
    answered = answer(server, "GET" if b"nothing" in words else "POST", path)
    assert answered.status in (404, 405)
    assert answered.headers["content-type"].startswith("text/plain")
    assert words in answered.content
