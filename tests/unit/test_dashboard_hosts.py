"""The dashboard answers by its own names alone, and its own page."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest

from storage.errors import BadInput
from storage.opening import open_database
from storage.settings import Home
from tests.dashboard import ask, ask_raw, running
from tuning.commands.dashboard.hosts import Host, Names, parse_host, parse_origin
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.serving import ServeOptions, make_server

NEW = {"study_name": "evil", "directions": ["minimize"]}


@pytest.fixture
def server(home: Path) -> Iterator[DashboardServer]:
    place = Home(home)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    database = open_database(place.database_url, create=True)
    with running(
        make_server(database, place, ServeOptions(port=0, allowed=["tuning.example.org"], edit=True))
    ) as server:
        yield server


def studies(server: DashboardServer) -> list[str]:
    status, said = ask(server, "GET", "/api/studies")
    assert status == 200
    return [study["study_name"] for study in json.loads(said)["study_summaries"]]


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("localhost", Host("localhost")),
        ("LocalHost:8080", Host("localhost", 8080)),
        ("127.0.0.1:1", Host("127.0.0.1", 1)),
        ("[::1]", Host("::1")),
        ("[0:0::1]:65535", Host("::1", 65535)),
        ("gpu-1.example.org:80", Host("gpu-1.example.org", 80)),
        ("my_machine", Host("my_machine")),
    ],
)
def test_a_name_or_an_address_and_perhaps_a_port_is_a_host(text: str, host: Host) -> None:
    assert parse_host(text) == host


STRANGE = [
    "",
    "evil:80@127.0.0.1",
    "evil@localhost",
    "localhost@evil",
    "localhost:80:80",
    "localhost:",
    ":8080",
    "localhost:0",
    "localhost:65536",
    "localhost:123456",
    "localhost:8o",
    "localhost:٨٠",
    "localhost:+80",
    "localhost.",
    ".localhost",
    "evil..localhost",
    "-localhost",
    "localhost/",
    "localhost/..@evil",
    "localhost\\evil",
    "localhost?evil",
    "localhost#evil",
    "localhost evil",
    " localhost",
    "localhost\t",
    "localhost\n",
    "local\x00host",
    "local\x7fhost",
    "localhost, evil",
    "lo\u0441alhost",
    "127.0.0.1.",
    "127.1",
    "0177.0.0.1",
    "2130706433.1",
    "1.2.3.4.5",
    "::1",
    "::1:80",
    "[::1",
    "::1]",
    "[::1]80",
    "[::1%lo]",
    "[localhost]",
    "[127.0.0.1]",
    "[[::1]]",
    "%6cocalhost",
    "a" * 254,
]


@pytest.mark.parametrize("text", STRANGE)
def test_what_is_not_exactly_that_is_none(text: str) -> None:
    assert parse_host(text) is None
    assert parse_origin("http://" + text) is None


@pytest.mark.parametrize("origin", ["null", "", "localhost", "file://localhost", "http:localhost", "HTTP://localhost"])
def test_an_origin_that_names_no_site_is_none(origin: str) -> None:
    assert parse_origin(origin) is None


def test_its_own_names_and_those_that_are_allowed_are_answered(server: DashboardServer) -> None:
    own = ["127.0.0.1", "127.9.9.9:80", "[::1]:3", "[::ffff:127.0.0.1]", "localhost:1", "a.localhost"]
    for host in [*own, "tuning.example.org", "TUNING.example.org:443"]:
        assert ask(server, "GET", "/api/studies", Host=host)[0] == 200, host


def test_no_other_name_is_answered_and_the_answer_says_what_to_do(server: DashboardServer) -> None:
    named = ["evil.example", "localhost.evil.example", "notlocalhost", "example.org"]
    for host in [*named, "192.0.2.1", "0.0.0.0", "[2001:db8::1]"]:
        for path in ("/", "/dashboard", "/api/studies", "/static/bundle.js", "/artifacts/1/1/a"):
            status, words = ask(server, "GET", path, Host=host)
            assert status == 403, host
            for hint in (b"names of this machine", b"ssh -L", b"--host", b"--allow-host"):
                assert hint in words


READ_IN_TWO_WAYS = [
    b"",
    b"Host: evil:80@127.0.0.1\r\n",
    b"Host: localhost:80:80\r\n",
    b"Host: local\x01host\r\n",
    b"Host: localhost\r\nHost: evil.example\r\n",
    b"Host: evil.example\r\nHost: localhost\r\n",
]


def test_a_host_that_is_read_in_two_ways_is_refused(server: DashboardServer) -> None:
    for lines in READ_IN_TWO_WAYS:
        received = ask_raw(server, b"GET /api/studies HTTP/1.0\r\n" + lines + b"\r\n")
        assert received.split(b" ")[1] == b"400", lines
        assert b"study_summaries" not in received


ANOTHER_SITE = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://localhost:1"},
    {"Origin": "http://evil@{host}"},
    {"Origin": "http://{host}/"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://{host}"},
]


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GET"])
def test_another_site_in_the_same_browser_neither_reads_nor_changes(server: DashboardServer, method: str) -> None:
    own = f"127.0.0.1:{server.server_port}"
    for headers in ANOTHER_SITE:
        told = {name: value.format(host=own) for name, value in headers.items()}
        answered = ask(server, method, "/api/studies", None if method == "GET" else NEW, **told)
        assert answered == (403, b"This request comes from another site.\n"), told
    assert studies(server) == []


def test_another_site_reads_nothing_but_may_lead_to_the_page(server: DashboardServer) -> None:
    told = {"Sec-Fetch-Site": "cross-site"}
    for path in ("/api/meta", "/csv/1", "/artifacts/1/1/a", "/api", "/nowhere"):
        assert ask(server, "GET", path, **told)[0] == 403
    for page in ("/", "/dashboard", "/dashboard/studies/1", "/static/bundle.js", "/favicon.ico"):
        assert ask(server, "GET", page, **told)[0] in (200, 302)


def test_its_own_page_is_answered(server: DashboardServer) -> None:
    own = {"Origin": server.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert ask(server, "POST", "/api/studies", {**NEW, "study_name": "mine"}, **own)[0] == 201
    assert ask(server, "GET", "/api/studies", **{"Sec-Fetch-Site": "none"})[0] == 200
    assert studies(server) == ["mine"]


def test_where_other_machines_may_ask_they_do_so_by_its_addresses_and_names() -> None:
    names = Names("0.0.0.0", "0.0.0.0", ["Proxy.example"])
    known = ["192.0.2.1:8080", "[2001:db8::1]", "localhost", socket.gethostname(), "proxy.example:443"]
    for text in known:
        host = parse_host(text)
        assert host is not None
        assert names.include(host)
    assert not names.include(Host("evil.example"))
    assert Names("192.0.2.1", "gpu.example").include(Host("gpu.example"))


@pytest.mark.parametrize("name", ["", "*", "http://a", "a:80", "a b", "a/b"])
def test_a_name_to_allow_that_is_none_is_refused(home: Path, name: str) -> None:
    database = open_database(Home(home).database_url, create=True)
    with pytest.raises(BadInput, match="ALLOW_HOST="):
        make_server(database, Home(home), ServeOptions(port=0, allowed=[name]))
