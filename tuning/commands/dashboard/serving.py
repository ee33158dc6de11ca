"""Optuna's dashboard of all studies in a database, with the pictures that trials made. No Keras."""

from __future__ import annotations

import errno
import ipaddress
import sys
import threading
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from wsgiref.types import WSGIApplication, WSGIEnvironment

from sqlalchemy.engine import make_url

from storage.artifacts import Artifacts
from storage.connections import place_of
from storage.database import Database
from storage.errors import BadInput
from storage.opening import may_write, open_database, open_to_read
from storage.settings import Home
from storage.stores.chosen import artifact_files
from tuning.commands.dashboard.answers import Answer, application, asking, sentence
from tuning.commands.dashboard.editing import NOT_ASKED_FOR, ONLY_SHOWN, changing_only
from tuning.commands.dashboard.failures import in_our_words, shorten_logs
from tuning.commands.dashboard.hosts import Names, own_hosts
from tuning.commands.dashboard.login import Login, logged_in
from tuning.commands.dashboard.reads.answering import Reads, answered_from
from tuning.commands.dashboard.sealing import known_addresses, sealed
from tuning.commands.dashboard.server import DashboardServer
from tuning.commands.dashboard.tokens import Tokens

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 8080
MOST_PORTS = 50


@dataclass(frozen=True)
class ServeOptions:
    """How a dashboard is served.

    Attributes:
        host: the address to listen on.
        port: the port to listen on; 0 takes one that is free.
        allowed: names besides this machine's own by which it may be asked.
        edit: whether studies may be changed in it.
        beside: whether it is served beside another process, which holds its standard input: it ends when that does, and
            takes another port where its own is in use.
    """

    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    allowed: Sequence[str] = ()
    edit: bool = False
    beside: bool = False


def serve(url: str, home: Home, options: ServeOptions) -> None:
    """Serve the dashboard until Ctrl-C. Prints the link that opens it to stdout, alone on a line.

    Args:
        url: the storage's.
        home: where the artifacts are.
        options: how.

    Raises:
        BadInput: the storage cannot be opened, the address not be listened on, or an allowed name is none.
    """
    # Refused before anything is opened to write.
    looked_at = open_to_read(url)
    server = make_server(looked_at, home, options)
    if not may_write(url):
        _say("Read only: the database cannot be written by you. It is shown, and nothing can be changed.")
    elif options.edit:
        looked_at.engine.dispose()
        server.set_app(_guarded(open_database(url), home, server, edit=True))
    if not ipaddress.ip_address(str(server.address)).is_loopback:
        _say(
            f"Warning: {options.host} can be reached from other machines, and what is sent is not encrypted:"
            " whoever reads along on the way sees the token."
        )
    if not server.login.tokens.kept:
        _say(
            f"The token is not kept, since {home.dashboard_tokens} cannot be written: the next start asks for its own."
        )
    shorten_logs(_say)
    with server:
        sys.stdout.write(server.login.link(server.url) + "\n")
        sys.stdout.flush()
        _say("Open it in a browser: the link lets in whoever has it. Ctrl-C ends it; studies go on.")
        if options.beside:
            threading.Thread(target=_end_with_input, args=(server,), daemon=True).start()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            _say("")  # the terminal has shown ^C


def _end_with_input(server: DashboardServer) -> None:
    """Let a server end when nobody holds standard input any more."""
    while sys.stdin.read(1 << 10):
        pass
    server.shutdown()


def make_server(database: Database, home: Home, options: ServeOptions) -> DashboardServer:
    """Return a server that listens already and answers once `serve_forever` is called.

    Raises:
        BadInput: the address cannot be listened on, or an allowed name is none.
    """
    host, port = options.host, options.port
    if not 0 <= port <= 65535:
        raise BadInput(f"port {port} is none. Give PORT= a number from 0 to 65535; 0 takes one that is free.")
    server = _listening(host, range(port, min(port + MOST_PORTS, 65536)) if options.beside else [port])
    try:
        server.names = Names(str(server.address), host, options.allowed)
        server.login = Login(Tokens(home.dashboard_tokens), home.root)
        server.set_app(_guarded(database, home, server, edit=options.edit))
    except BaseException:
        server.close()
        raise
    return server


def _listening(host: str, ports: Sequence[int]) -> DashboardServer:
    """Return a server on the first of some ports that is not in use.

    Raises:
        BadInput: none can be listened on.
    """
    for port in ports:
        try:
            return DashboardServer(host, port, application(_not_yet))
        except OSError as error:
            if error.errno != errno.EADDRINUSE or port == ports[-1]:
                raise _listen_error(error, host, port) from error
    raise AssertionError("there is no port")


def _guarded(database: Database, home: Home, server: DashboardServer, *, edit: bool) -> WSGIApplication:
    refusal = None
    if not edit:
        refusal = NOT_ASKED_FOR
    elif database.read_only:
        refusal = ONLY_SHOWN
    answering = answered_from(Reads(database, _named(database, home)), asking(_application(database, home)))
    dashboard = known_addresses(changing_only(in_our_words(answering, _say), refusal))
    return application(sealed(own_hosts(logged_in(dashboard, server.login), server.names)))


def _application(database: Database, home: Home) -> WSGIApplication:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about features of Optuna that it calls experimental
        import optuna_dashboard

        artifacts = Artifacts(artifact_files(home, make=not database.read_only))
        app: WSGIApplication = optuna_dashboard.wsgi(database, artifact_store=artifacts.store)
    return app


def _named(database: Database, home: Home) -> str | None:
    """How a command names a database; None for the home's own."""
    own = place_of(make_url(home.database_url))
    return None if database.place == own else database.shown_url


def _not_yet(_: WSGIEnvironment) -> Answer:
    return sentence("503 Service Unavailable", "The dashboard starts. Load this again in a moment.")


def _listen_error(error: OSError, host: str, port: int) -> BadInput:
    if error.errno == errno.EADDRINUSE:
        return BadInput(
            f"port {port} on {host} is in use. Give another with PORT={_next(port)}, or PORT=0 for any that is free."
        )
    if error.errno in (errno.EACCES, errno.EPERM):
        return BadInput(f"port {port} on {host} is not allowed to you. Give PORT= a number from 1024 up.")
    return BadInput(f"cannot listen on {host}, port {port}: {error.strerror or error}. Give HOST={DEFAULT_HOST}.")


def _next(port: int) -> int:
    return port + 1 if port < 65535 else DEFAULT_PORT


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
