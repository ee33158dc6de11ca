"""The web server: waitress, with bounds to what one client may take, so that no other has to wait for it.

Waitress reads and writes all connections in one thread and answers whole requests in a few others, so that half a
request costs a connection and nothing else. Of those it takes a number and then no more, and a client that sends a byte
now and then keeps its own for ever: here a request has a time in which it must have arrived, and where there are too
many connections, the one that has waited longest goes.
"""

from __future__ import annotations

import functools
import ipaddress
import logging
import resource
import socket
import time
from types import TracebackType
from typing import Any, Self
from wsgiref.types import WSGIApplication

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser
from waitress.server import TcpWSGIServer
from waitress.task import ErrorTask, ThreadedTaskDispatcher

from tuning.commands.dashboard.answers import sentence
from tuning.commands.dashboard.hosts import Names
from tuning.commands.dashboard.login import Login
from tuning.commands.dashboard.sealing import seal

THREADS = 8
HEAD_S = 20.0
"""How long the head of a request may take to arrive."""
BODY_S = 120.0
"""How long all of it may take."""
IDLE_S = 60.0
"""How long a connection may lie still on which nothing is asked, or on which nobody takes the answer."""
MOST_CONNECTIONS = 400
HEAD_BYTES = 32 << 10
STRANGERS_BODY_BYTES = 64 << 10
BODY_BYTES = 32 << 20
"""What a browser that was let in may send: a file, in the letters of base64."""

_TICK_S = 0.5

_REFUSALS = {
    400: "This is no request that the dashboard understands.",
    413: "This request is too long.",
    431: "The head of this request is too long.",
    501: "The dashboard does not take a request in this form.",
}


class DashboardServer:
    """Listens from the beginning, and answers as long as `serve_forever` runs.

    Args:
        host: the address to listen on.
        port: 0 takes one that is free.
        app: what answers.

    Attributes:
        address: the numeric address on which it listens.
        server_port: the port.
        names: by which it may be asked; set before it serves.
        login: how it lets in a browser; likewise.

    Raises:
        OSError: the address cannot be listened on.
    """

    names: Names
    login: Login

    def __init__(self, host: str, port: int, app: WSGIApplication) -> None:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        try:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(address)
            self.address, self.server_port = listening.getsockname()[:2]
            self._http = _Http(self, listening, app)
        except BaseException:
            listening.close()
            raise
        self._serves = True

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        host = str(self.address)
        if ipaddress.ip_address(host).is_unspecified:  # listens on all addresses, this one among them
            host = "localhost"
        return f"http://{f'[{host}]' if ':' in host else host}:{self.server_port}/"

    def set_app(self, app: WSGIApplication) -> None:
        """Have another application answer from now on."""
        self._http.application = app

    def serve_forever(self) -> None:
        """Answer until `shutdown` is called from another thread, or an exception such as Ctrl-C ends it."""
        while self._serves:
            self._http.turn()

    def shutdown(self) -> None:
        """Let `serve_forever` return."""
        self._serves = False
        self._http.pull_trigger()

    def close(self) -> None:
        """Close all connections. Who is being answered is waited for a second at most."""
        self._http.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class _Request(HTTPRequestParser):
    """A request while it arrives. Only who was let in may send much."""

    def __init__(self, server: DashboardServer, adjustments: Adjustments) -> None:
        super().__init__(adjustments)
        self._server = server

    def parse_header(self, header_plus: bytes) -> None:
        super().parse_header(header_plus)
        login = getattr(self._server, "login", None)
        if login is not None and login.knows(self.headers.get("COOKIE", "")):
            self.adj = _adjustments(BODY_BYTES)


class _Refusal(ErrorTask):
    """The answer to a request that is none, in words of ours."""

    def execute(self) -> None:
        error = self.request.error
        words = _REFUSALS.get(error.code, "The dashboard failed at this request. Its terminal says what went wrong.")
        answer = seal(sentence(f"{error.code} {error.reason}", words))
        content = b"".join(answer.body)
        self.status = answer.status
        self.response_headers.extend(answer.headers)
        self.set_close_on_finish()
        self.content_length = len(content)
        self.write(content)


class _Channel(HTTPChannel):
    """One connection, which knows how long it has been waited for."""

    error_task_class = _Refusal

    def __init__(self, server: _Http, *arguments: Any, **named: Any) -> None:
        super().__init__(server, *arguments, **named)
        self.parser_class = functools.partial(_Request, server.dashboard)
        self.waits_since = self.creation_time

    def received(self, data: bytes) -> Any:
        if self.request is None:
            self.waits_since = time.time()
        return super().received(data)

    def service(self) -> None:
        super().service()
        self.waits_since = time.time()

    def is_late(self, now: float) -> bool:
        """Whether what this connection waits for has taken too long."""
        if self.requests:
            return False
        if self.total_outbufs_len:
            return bool(now - self.last_activity > IDLE_S)
        request = self.request
        allowed_s = IDLE_S if request is None else BODY_S if request.headers_finished else HEAD_S
        return bool(now - self.waits_since > allowed_s)


class _Http(TcpWSGIServer):
    """Waitress on a socket that is bound already."""

    channel_class = _Channel

    def __init__(self, dashboard: DashboardServer, listening: socket.socket, app: WSGIApplication) -> None:
        self.dashboard = dashboard
        self._connections: dict[int, Any] = {}
        most_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._most = MOST_CONNECTIONS if most_files < 0 else min(MOST_CONNECTIONS, most_files // 2)
        self._looked_at = time.time()
        logging.getLogger("waitress").setLevel(logging.ERROR)
        dispatcher = ThreadedTaskDispatcher()
        dispatcher.set_thread_count(THREADS)
        super().__init__(
            app,
            map=self._connections,
            _sock=listening,
            dispatcher=dispatcher,
            adj=_adjustments(STRANGERS_BODY_BYTES),
            sockinfo=(listening.family, listening.type, listening.proto, listening.getsockname()),
            bind_socket=False,
        )

    def turn(self) -> None:
        """Read and write what can be, and close the connections that are late."""
        wasyncore.loop(timeout=_TICK_S, use_poll=True, map=self._connections, count=1)
        now = time.time()
        if not 0 <= now - self._looked_at < _TICK_S:
            self._looked_at = now
            for channel in [channel for channel in self.active_channels.values() if channel.is_late(now)]:
                channel.handle_close()

    def maintenance(self, now: float) -> None:
        """Leave it to `turn`: waitress only marks what it would close, and who takes no answer stays."""

    def handle_accept(self) -> None:
        channels = self.active_channels.values()
        if len(channels) >= self._most:
            waiting = [channel for channel in channels if not channel.requests]
            if not waiting:
                accepted = self.accept()
                if accepted is not None:
                    accepted[0].close()
                return
            # Rather one that sends nothing than one that is being sent an answer.
            min(waiting, key=lambda channel: (channel.total_outbufs_len > 0, channel.waits_since)).handle_close()
        super().handle_accept()

    def end(self) -> None:
        """Close everything."""
        self.task_dispatcher.shutdown(timeout=1)
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        wasyncore.dispatcher.close(self)
        if not self.task_dispatcher.threads:  # one that still works would write to it
            self.trigger.close()


@functools.cache
def _adjustments(body_bytes: int) -> Adjustments:
    return Adjustments(
        threads=THREADS,
        max_request_body_size=body_bytes,
        max_request_header_size=HEAD_BYTES,
        connection_limit=1 << 30,  # it is kept to in `handle_accept`
        outbuf_high_watermark=1 << 30,  # above it, who is slow to take an answer would hold a thread
        log_socket_errors=False,
        ident=None,
    )
