"""Who may see the dashboard: a browser that came by the printed link, once."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import optuna
import pytest

from storage.opening import open_database
from storage.settings import Home
from tests.dashboard import Answered, answer, running
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.serving import ServeOptions, make_server, serve
from tuning.commands.dashboard.tokens import KEPT_DAYS, MOST_KEPT, Tokens

DAY_S = 24 * 3600.0


@pytest.fixture
def place(home: Path) -> Home:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = Home(home)
    optuna.create_study(study_name="mnist", storage=open_database(place.database_url, create=True))
    return place


@pytest.fixture
def server(place: Home) -> Iterator[DashboardServer]:
    options = ServeOptions(port=0, edit=True)
    with running(make_server(open_database(place.database_url), place, options)) as server:
        yield server


def stranger(server: DashboardServer, path: str, method: str = "GET", cookie: str = "", **headers: str) -> Answered:
    return answer(server, method, path, **{"Cookie": cookie, **headers})


def cookie_of(answered: Answered) -> str:
    return answered.headers["set-cookie"].partition(";")[0]


@pytest.mark.parametrize(
    "cookie", ["", "{name}=", "{name}=guess", "{name}={token}x", "other={token}", "{name}:{token}"]
)
def test_nobody_sees_anything_without_the_token_not_even_on_this_machine(server: DashboardServer, cookie: str) -> None:
    given = cookie.format(name=server.login.cookie, token=server.login.tokens.token)
    for path in ("/", "/dashboard", "/dashboard/studies/1", "/dashboard?x=1"):
        answered = stranger(server, path, cookie=given)
        assert answered.status == 403
        assert b'name="token"' in answered.content
        assert b"bundle.js" not in answered.content
    for path in (
        "/api/studies",
        "/api/studies/1",
        "/csv/1",
        "/static/bundle.js",
        "/favicon.ico",
        "/artifacts/1/1/a",
        "/x",
    ):
        for method in ("GET", "HEAD", "POST", "DELETE", "PUT", "OPTIONS"):
            answered = stranger(server, path, method, given)
            assert answered.status == 403
            assert "set-cookie" not in answered.headers
            assert b"mnist" not in answered.content
    assert "printed" in json.loads(stranger(server, "/api/studies").content)["reason"]


def test_the_link_lets_a_browser_in_once_and_the_token_leaves_the_address(server: DashboardServer) -> None:
    link = urlsplit(server.login.link(server.url))
    answered = stranger(server, f"{link.path}?{link.query}")
    assert (answered.status, answered.headers["location"]) == (303, "/")
    assert answered.headers["cache-control"] == "no-store"
    kept = [part.strip() for part in answered.headers["set-cookie"].split(";")[1:]]
    assert {"HttpOnly", "SameSite=Strict", "Path=/"} < set(kept)
    assert stranger(server, "/api/studies", cookie=cookie_of(answered)).status == 200
    assert stranger(server, "/dashboard", cookie=f"a=b; {cookie_of(answered)}; c=d").status == 200


def test_the_link_leads_to_where_it_says_on_this_dashboard_alone(server: DashboardServer) -> None:
    token = server.login.tokens.token
    for asked, then in [
        ("/dashboard", "/dashboard"),
        ("/dashboard/studies/1", "/dashboard/studies/1"),
        ("/dashboard/compare-studies?ids=1,2", "/dashboard/compare-studies?ids=1%2C2"),
        ("/dashboard//evil.example", "/dashboard//evil.example"),
        ("/dashboard/%0d%0aSet-Cookie:%20a=b", "/dashboard/%0D%0ASet-Cookie%3A%20a%3Db"),
    ]:
        answered = stranger(server, f"{asked}{'&' if '?' in asked else '?'}token={token}")
        assert (answered.status, answered.headers["location"]) == (303, then)
    for path in ("//evil.example/", "/%2fevil.example", "/evil", "/api/studies", "/static/bundle.js"):
        answered = stranger(server, f"{path}?token={token}")
        assert answered.status != 303 or answered.headers["location"] == "/"


def test_a_token_that_is_none_is_asked_for_again(server: DashboardServer) -> None:
    for token in ("", "guess", "%00", "%ff", server.login.tokens.token[:-1]):
        answered = stranger(server, f"/?token={token}")
        assert answered.status == 403
        assert b"does not open this dashboard" in answered.content
        assert "set-cookie" not in answered.headers
        # It is said to who is in already as well.
        assert answer(server, "GET", f"/?token={token}").status == 403


def test_the_page_that_asks_has_no_script_and_leads_to_the_link(server: DashboardServer) -> None:
    answered = stranger(server, "/dashboard")
    text = answered.content.decode()
    assert re.findall(r'<form method="(.*?)" action="(.*?)"', text) == [("get", "/dashboard")]
    assert "<script" not in text
    policy = answered.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "form-action 'self'" in policy
    assert "frame-ancestors 'none'" in policy


def test_who_comes_by_a_link_on_another_site_is_asked_only_if_the_cookie_is_missing(server: DashboardServer) -> None:
    """A browser sends a strict cookie only with what this site asks for, so the first answer asks."""
    answered = stranger(server, "/dashboard/studies/1", **{"Sec-Fetch-Site": "cross-site"})
    assert answered.status == 200
    assert b'http-equiv="refresh"' in answered.content
    assert b"bundle.js" not in answered.content
    assert stranger(server, "/dashboard/studies/1", **{"Sec-Fetch-Site": "same-origin"}).status == 403


def test_only_hashes_are_kept_and_only_for_this_user(server: DashboardServer, place: Home) -> None:
    kept = place.dashboard_tokens
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert re.fullmatch(r"[0-9a-f]{64} [0-9]+\n", kept.read_text())
    everything = b"".join(file.read_bytes() for file in place.root.rglob("*") if file.is_file())
    assert server.login.tokens.token.encode() not in everything


def test_a_browser_that_was_let_in_stays_in_after_the_next_start(server: DashboardServer, place: Home) -> None:
    first = server.login.tokens.token
    with running(make_server(open_database(place.database_url), place, ServeOptions(port=0))) as later:
        assert later.login.tokens.token != first
        assert later.login.cookie == server.login.cookie
        cookie = f"{later.login.cookie}={first}"
        assert stranger(later, "/api/studies", cookie=cookie).status == 200
        # The other way round as well: one browser has one cookie for both.
        assert (
            stranger(server, "/api/studies", cookie=f"{server.login.cookie}={later.login.tokens.token}").status == 200
        )
        place.dashboard_tokens.unlink()
        assert stranger(later, "/api/studies", cookie=cookie).status == 403
        assert answer(later, "GET", "/api/studies").status == 200


def test_a_token_counts_for_a_time_and_a_number_of_starts(tmp_path: Path) -> None:
    file, now = tmp_path / "tokens", [1e9]
    first = Tokens(file, lambda: now[0])
    now[0] += (KEPT_DAYS - 1) * DAY_S
    second = Tokens(file, lambda: now[0])
    assert second.count(first.token)
    now[0] += 2 * DAY_S
    assert not second.count(first.token)
    assert first.count(first.token), "its dashboard runs still"
    for _ in range(MOST_KEPT):
        last = Tokens(file, lambda: now[0])
    assert not last.count(second.token)
    assert len(file.read_text().splitlines()) == MOST_KEPT


@pytest.mark.parametrize("damage", [b"", b"\xff\xfe", b"a b c\n\n", b"x\n", "é 12\n".encode(), b"0" * 100_000])
def test_a_file_of_tokens_that_is_damaged_lets_nobody_in_and_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(damage)
    tokens = Tokens(file)
    assert tokens.kept
    assert tokens.count(tokens.token)
    assert not tokens.count("")
    assert Tokens(file).count(tokens.token)


def test_hashes_that_others_could_write_let_nobody_in(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    first = Tokens(file)
    file.chmod(0o666)
    second = Tokens(file)
    assert not second.count(first.token)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_where_nothing_can_be_written_the_token_counts_for_this_start(
    place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("storage.files.tempfile.mkstemp", full)
    monkeypatch.setattr(DashboardServer, "serve_forever", lambda _: None)
    serve(place.database_url, place, ServeOptions(port=0))
    assert "not kept" in capsys.readouterr().err
    tokens = Tokens(place.dashboard_tokens)
    assert tokens.count(tokens.token)
    assert not os.path.lexists(place.dashboard_tokens)


def test_the_printed_link_lets_in(
    place: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[DashboardServer] = []
    monkeypatch.setattr(DashboardServer, "serve_forever", lambda server: asked.append(server))
    serve(place.database_url, place, ServeOptions(port=0))
    said = capsys.readouterr()
    (server,) = asked
    assert said.out == f"http://127.0.0.1:{server.server_port}/?token={server.login.tokens.token}\n"
    assert server.login.tokens.token not in said.err
