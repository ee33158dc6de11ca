"""The dashboard as a process: opened by its printed link, under clients that send half a request, and ended."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import optuna
import pytest

from storage.opening import open_database
from tests.integration.command_line import CommandLine

HALF = b"POST /api/studies HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{"


@pytest.fixture
def process(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = CommandLine(tmp_path)
    database = open_database(command.url, create=True)
    optuna.create_study(study_name="mnist", storage=database)
    database.engine.dispose()
    process = command.start("dashboard", "--port", "0")
    yield process
    process.kill()
    process.communicate()


def ask(port: int, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request("GET", path, headers=headers)
    response = connection.getresponse()
    response.read()
    connection.close()
    return response


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_its_link_opens_it_two_hundred_half_requests_stop_nobody_and_a_signal_ends_it_at_once(
    process: subprocess.Popen[str], number: signal.Signals, status: int
) -> None:
    assert process.stdout is not None
    link = urlsplit(process.stdout.readline().strip())
    assert link.port is not None
    with ExitStack() as half:
        for _ in range(200):
            connection = half.enter_context(socket.create_connection(("127.0.0.1", link.port), timeout=20))
            connection.sendall(HALF)
        began = time.monotonic()
        let_in = ask(link.port, f"{link.path}?{link.query}")
        assert let_in.status == 303
        cookie = str(let_in.headers["Set-Cookie"]).partition(";")[0]
        for path in ("/dashboard", "/api/studies", "/static/bundle.js"):
            assert ask(link.port, path).status == 403
            assert ask(link.port, path, Cookie=cookie).status == 200
        assert time.monotonic() - began < 10
        began = time.monotonic()
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=20)
        assert time.monotonic() - began < 5
    assert process.returncode == status
    assert stdout == ""
    assert [line for line in stderr.splitlines() if line] == [
        "Open it in a browser: the link lets in whoever has it. Ctrl-C ends it; studies go on."
    ]
