"""What is sent cannot do harm: nothing but the dashboard's own page is a page, and nobody else may frame or read it.

Anybody who may write the database may have added a file to a trial: a page or a drawing with a script in it, which in
the dashboard's name could do all that its reader may.
"""

from __future__ import annotations

import os
from typing import Any
from wsgiref.types import WSGIEnvironment

from tuning.commands.dashboard.answers import Answer, Answering, pieces, sentence

_IMAGES = (
    ("image/png", (b"\x89PNG\r\n\x1a\n",)),
    ("image/jpeg", (b"\xff\xd8\xff",)),
    ("image/gif", (b"GIF87a", b"GIF89a")),
)
"""The images that are shown, by their first bytes. None can hold a script, as SVG can."""

_HEAD_BYTES = 12

_NOT_FRAMED = "frame-ancestors 'none'"
_NO_CODE = f"default-src 'none'; {_NOT_FRAMED}; base-uri 'none'; form-action 'none'"

_EVERYWHERE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

_PAGE = "/dashboard"
_FILES = "/artifacts"
_STATIC = "/static"
_OTHERS = ("/api", "/csv", _STATIC)

READING = ("GET", "HEAD")
"""The methods that change nothing. No other is one of these in other letters."""


def seal(answer: Answer) -> Answer:
    """Return the same answer with headers that forbid what no answer needs."""
    for name in [name for name, _ in answer.headers if name.lower().startswith("access-control-")]:
        answer.remove(name)
    for name, value in _EVERYWHERE.items():
        answer.set(name, value)
    policy = answer.header("Content-Security-Policy")
    answer.set("Content-Security-Policy", f"{policy}; {_NOT_FRAMED}; base-uri 'none'" if policy else _NO_CODE)
    return answer


def sealed(answering: Answering) -> Answering:
    """Return what answers the same, sealed."""
    return lambda environ: seal(answering(environ))


def is_of_the_page(environ: WSGIEnvironment) -> bool:
    """Whether a request is for the page that a browser shows, with nothing in it yet."""
    path = environ.get("PATH_INFO", "")
    return environ["REQUEST_METHOD"] in READING and (path in ("", "/") or _lies_in(path, _PAGE))


def is_private(environ: WSGIEnvironment) -> bool:
    """Whether a request reads or changes what the database and the files hold: any but those for the empty page."""
    path = environ.get("PATH_INFO", "")
    drawn = environ["REQUEST_METHOD"] in READING and (path == "/favicon.ico" or _lies_in(path, _STATIC))
    return not (drawn or is_of_the_page(environ))


def known_addresses(answering: Answering) -> Answering:
    """Return what answers at the dashboard's addresses alone, and sends the files of trials as what they are.

    Whoever looks at an address must see the one that the dashboard sees: it leaves out the bytes that are no UTF-8.
    """
    files = _files_as_they_are(answering)

    def answer_known(environ: WSGIEnvironment) -> Answer:
        path = environ["PATH_INFO"] = environ.get("PATH_INFO", "").rstrip("/")
        if all(" " < letter <= "~" for letter in path):
            if _lies_in(path, _FILES):
                return files(environ)
            if path in ("", "/favicon.ico") or any(_lies_in(path, place) for place in (_PAGE, *_OTHERS)):
                environ.setdefault("HTTP_ACCEPT_ENCODING", "")  # it reads this one unasked
                return answering(environ)
        return sentence("404 Not Found", "There is nothing at this address. The dashboard is at /dashboard.")

    return answer_known


def _lies_in(path: str, place: str) -> bool:
    return path == place or path.startswith(place + "/")


def _files_as_they_are(answering: Answering) -> Answering:
    """Return what answers with images by their content, and with everything else as a download."""

    def answer_file(environ: WSGIEnvironment) -> Answer:
        wrap = environ.get("wsgi.file_wrapper", pieces)
        opened: list[Any] = []

        def look(file: Any, *_: object) -> Any:
            opened.append(file)
            return file

        method = environ["REQUEST_METHOD"]
        # Asked for the head alone, it closes the file unread.
        asked = {**environ, "REQUEST_METHOD": "GET" if method == "HEAD" else method, "wsgi.file_wrapper": look}
        answer = answering(asked)
        if not opened:
            answer.drop()
            return sentence("404 Not Found", "There is no such file: its trial or study is gone, or it was removed.")
        (file,) = opened
        headers = _headers_of(file)
        if method == "HEAD":
            file.close()
            return Answer(answer.status, headers, ())
        return Answer(answer.status, headers, wrap(file, 1 << 16))

    return answer_file


def _headers_of(file: Any) -> list[tuple[str, str]]:
    kind = _image_type(file.read(_HEAD_BYTES))
    file.seek(0)
    headers = [("Content-Length", str(os.fstat(file.fileno()).st_size))]
    # The policy counts where the file is opened by itself: not even an image is then a page of this address.
    headers.append(("Content-Security-Policy", "default-src 'none'; sandbox; form-action 'none'"))
    if kind is not None:
        return [("Content-Type", kind), *headers]
    return [("Content-Type", "application/octet-stream"), ("Content-Disposition", "attachment"), *headers]


def _image_type(head: bytes) -> str | None:
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image/webp"
    return next((kind for kind, starts in _IMAGES if head.startswith(starts)), None)
