"""Who may see the dashboard: a browser that came by the link that was printed, or was told the token of it.

The link is visited once: the token goes into a cookie, which no script reads and no other site has sent, and out of the
address. The page that asks for it leads to the same link.
"""

from __future__ import annotations

import hashlib
import html
import socket
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode
from wsgiref.types import WSGIEnvironment

from tuning.commands.dashboard.answers import Answer, Answering, page, reason, sentence
from tuning.commands.dashboard.sealing import is_of_the_page
from tuning.commands.dashboard.tokens import KEPT_DAYS, Tokens

PARAMETER = "token"

_ASK = "Open the link that this dashboard printed when it was started, or enter the token at the end of it."
_STALE = "This token does not open this dashboard. Take the one that it printed when it was started last."


class Login:
    """How one dashboard lets a browser in.

    Args:
        tokens: what opens it.
        home: whose studies it shows. Browsers send a cookie to every port of a machine, and call all that is reached by
            a tunnel localhost, so the cookie's name says of which machine and folder it is.
    """

    def __init__(self, tokens: Tokens, home: Path) -> None:
        self.tokens = tokens
        whose = hashlib.sha256(f"{socket.gethostname()}\n{home}".encode()).hexdigest()
        self.cookie = f"tuning-{whose[:12]}"

    def link(self, url: str) -> str:
        """Return the address that lets a browser in."""
        return f"{url}?{PARAMETER}={self.tokens.token}"

    def knows(self, cookies: str) -> bool:
        """Whether these come from a browser that was let in.

        Args:
            cookies: the header `Cookie`.
        """
        pairs = [pair.strip().partition("=") for pair in cookies.split(";")]
        return any(self.tokens.count(value) for name, _, value in pairs if name == self.cookie)


def logged_in(answering: Answering, login: Login) -> Answering:
    """Return what answers only those that were let in, and lets in those that have the token."""

    def answer_logged_in(environ: WSGIEnvironment) -> Answer:
        for_the_page = is_of_the_page(environ)
        if for_the_page and environ["REQUEST_METHOD"] == "GET":
            told = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
            if (token := told.pop(PARAMETER, None)) is not None:
                return _let_in(environ, login, token.strip(), told)
        if login.knows(environ.get("HTTP_COOKIE", "")):
            return answering(environ)
        if not for_the_page:
            return _refused(environ)
        if environ.get("HTTP_SEC_FETCH_SITE", "") in ("cross-site", "same-site"):
            return _once_more()
        return _asked(_ASK)

    return answer_logged_in


def _let_in(environ: WSGIEnvironment, login: Login, token: str, others: dict[str, str]) -> Answer:
    if not login.tokens.count(token):
        return _asked(_STALE)
    # The dashboard's own page or one below it, so never another site's.
    target = quote(environ["PATH_INFO"] or "/") + (f"?{urlencode(others)}" if others else "")
    answer = sentence("303 See Other", "The dashboard is open.")
    answer.set("Location", target)
    kept_s = KEPT_DAYS * 24 * 3600
    answer.set("Set-Cookie", f"{login.cookie}={token}; Path=/; Max-Age={kept_s}; HttpOnly; SameSite=Strict")
    answer.set("Cache-Control", "no-store")
    return answer


def _refused(environ: WSGIEnvironment) -> Answer:
    if environ["PATH_INFO"].startswith("/api/"):
        return reason("403 Forbidden", _ASK)
    return sentence("403 Forbidden", _ASK)


def _once_more() -> Answer:
    """Have the browser ask again by itself: what a link on another site asks for, it asks for without the cookie."""
    return page("200 OK", "Optuna Dashboard", "<p>One moment.</p>", head='<meta http-equiv="refresh" content="0">')


def _asked(words: str) -> Answer:
    form = (
        f"<p>{html.escape(words)}</p>\n"
        '<form method="get" action="/dashboard">\n'
        f'<label>Token <input name="{PARAMETER}" type="password" size="50" required autofocus></label>\n'
        "<button>Open</button>\n</form>"
    )
    return page("403 Forbidden", "Optuna Dashboard", form)
