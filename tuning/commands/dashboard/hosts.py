"""Whom the dashboard answers: requests by its own names, and from its own page.

A browser sends along whoever is logged in, whichever site asks it to. Another site can send a request here, and then
`Origin` and `Sec-Fetch-Site` say so; or point its own name at this machine, and then `Host` is that name.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from wsgiref.types import WSGIEnvironment

from storage.errors import BadInput
from tuning.commands.dashboard.answers import Answer, Answering, sentence
from tuning.commands.dashboard.sealing import is_private

_LABEL = "[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?P<name>{_LABEL}(\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{{1,5}}))?", re.ASCII)

_FROM_HERE = ("", "same-origin", "none")
"""What `Sec-Fetch-Site` says of a request of the page itself or of the reader, or of a program that is no browser."""


@dataclass(frozen=True)
class Host:
    """Where a request goes.

    Attributes:
        name: in lower case, or a numeric address without brackets.
        port: None where it is the scheme's own.
    """

    name: str
    port: int | None = None

    @property
    def address(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """The numeric address, if it is one."""
        try:
            return ipaddress.ip_address(self.name)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        """Whether nobody but this machine can be meant."""
        if self.address is not None:
            mapped = getattr(self.address, "ipv4_mapped", None)
            return (mapped or self.address).is_loopback
        return self.name == "localhost" or self.name.endswith(".localhost")


def parse_host(text: str) -> Host | None:
    """Return what a `Host` header says; None of anything that is not exactly a name or an address, and perhaps a port.

    What readers of addresses take in different ways (a user's name, several colons, a path, characters that are not
    seen) is nothing at all.
    """
    found = _HOST.fullmatch(text)
    if found is None or len(found["name"]) > 253:
        return None
    name, port = found["name"].lower(), int(found["port"]) if found["port"] else None
    if port is not None and not 0 < port <= 65535:
        return None
    numeric = re.fullmatch(r"[0-9.]+|\[.*\]", name) is not None
    host = Host(name.strip("[]"), port)
    if not numeric:
        return host
    # Brackets say that it has colons.
    return Host(str(host.address), port) if host.address and (name[0] == "[") == (":" in name) else None


def parse_origin(text: str) -> Host | None:
    """Return the host that an `Origin` header names; None of one that names none."""
    scheme, found, host = text.partition("://")
    return parse_host(host) if found and scheme in ("http", "https") else None


class Names:
    """The names to which a dashboard answers.

    Args:
        listens: the numeric address that it listens on.
        given: how that was called.
        allowed: more names.

    Raises:
        BadInput: an allowed one is none.
    """

    def __init__(self, listens: str, given: str, allowed: Iterable[str] = ()) -> None:
        address = ipaddress.ip_address(listens.partition("%")[0])
        self._open = not address.is_loopback
        names = [given, str(address), *([socket.gethostname()] if address.is_unspecified else [])]
        self._names = {host.name for name in names if (host := parse_host(_bracketed(name))) is not None}
        self._names |= {_allowed(name) for name in allowed}

    def include(self, host: Host) -> bool:
        """Whether a request to this one is for this dashboard.

        No site can make a numeric address its own; where other machines may ask, they know this one by several.
        """
        return host.is_loopback or host.name in self._names or (self._open and host.address is not None)


def _bracketed(name: str) -> str:
    return f"[{name}]" if ":" in name and not name.startswith("[") else name


def _allowed(name: str) -> str:
    host = parse_host(_bracketed(name))
    if host is None or host.port is not None:
        raise BadInput(
            f"{name!r} is no name of a machine. Give ALLOW_HOST= a name as it stands in a browser's address, without"
            " http:// and port, such as tuning.example.org; separate several by commas."
        )
    return host.name


def own_hosts(answering: Answering, names: Names) -> Answering:
    """Return what answers only requests by the dashboard's own names, and from no other site."""

    def answer_own(environ: WSGIEnvironment) -> Answer:
        host = parse_host(environ.get("HTTP_HOST", ""))
        if host is None:
            return sentence("400 Bad Request", "Host must be the name of this machine, and perhaps a port.")
        if _of_another_site(environ, host):
            return sentence("403 Forbidden", "This request comes from another site.")
        if not names.include(host):
            return _misnamed(environ)
        return answering(environ)

    return answer_own


def _of_another_site(environ: WSGIEnvironment, host: Host) -> bool:
    """Whether another site sends this, and it is more than a link to the page, which anybody may follow."""
    origin = environ.get("HTTP_ORIGIN")
    if not is_private(environ):
        return False
    if environ.get("HTTP_SEC_FETCH_SITE", "") not in _FROM_HERE:
        return True
    return origin is not None and parse_origin(origin) != host


def _misnamed(environ: WSGIEnvironment) -> Answer:
    port = environ["SERVER_PORT"]
    return sentence(
        "403 Forbidden",
        "This dashboard answers to the names of this machine alone, so that no other site reaches it by its own.",
        f"From another machine: forward the port, for example with ssh -L {port}:localhost:{port}, and open"
        f" http://localhost:{port}/.",
        "Or start it with --host (make: HOST=) and an address that others reach, or with --allow-host (make:"
        " ALLOW_HOST=) and the name by which this was asked, if that is one of yours.",
    )
