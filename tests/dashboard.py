"""Asking the dashboard over HTTP, as a browser does."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol
from wsgiref.simple_server import WSGIRequestHandler
from wsgiref.simple_server import make_server as simple_server

import optuna_dashboard

from storage.database import Database
from tuning.commands.dashboard.server import DashboardServer


@contextmanager
def running(server: DashboardServer) -> Iterator[DashboardServer]:
    """Let a server answer inside the block."""
    with server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


class Listening(Protocol):
    """A server that is asked over HTTP."""

    @property
    def server_port(self) -> int: ...


@contextmanager
def optunas_own(database: Database) -> Iterator[Listening]:
    """Let Optuna's own dashboard answer inside the block, as others start it: it takes every request."""

    class Quiet(WSGIRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with simple_server("127.0.0.1", 0, optuna_dashboard.wsgi(database), handler_class=Quiet) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@dataclass(frozen=True)
class Answered:
    """What came back for one request; headers by their names in lower case."""

    status: int
    headers: dict[str, str]
    content: bytes


def answer(server: Listening, method: str, path: str, body: Any = None, **headers: str) -> Answered:
    """Send one request; a body is sent as JSON, and with the cookie of our own dashboard."""
    if isinstance(server, DashboardServer):
        headers.setdefault("Cookie", f"{server.login.cookie}={server.login.tokens.token}")
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20)
    try:
        content = json.dumps(body) if body is not None else None
        typed = {"Content-Type": "application/json"} if body is not None else {}
        connection.request(method, path, body=content, headers={**typed, **headers})
        response = connection.getresponse()
        told = {name.lower(): value for name, value in response.getheaders()}
        return Answered(response.status, told, response.read())
    finally:
        connection.close()


def ask(server: Listening, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    """Return the status and the content of an answer."""
    answered = answer(server, method, path, body, **headers)
    return answered.status, answered.content


def ask_raw(server: DashboardServer, request: bytes) -> bytes:
    """Send these bytes and return all that comes back until the server closes, or a second passes without more."""
    received = b""
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=20) as connection:
        connection.sendall(request)
        connection.settimeout(1)
        with contextlib.suppress(TimeoutError):
            while piece := connection.recv(1 << 16):
                received += piece
    return received
