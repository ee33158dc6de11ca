"""What is answered to one request, as a value: whoever stands before the dashboard can look at it and change it."""

from __future__ import annotations

import html
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


@dataclass
class Answer:
    """An answer that was not sent yet.

    Attributes:
        status: the number and its words, such as `200 OK`.
        headers: in the order in which they are sent.
        body: the content, piece by piece; closed after it was sent, or by `drop`.
    """

    status: str
    headers: list[tuple[str, str]]
    body: Iterable[bytes]

    def header(self, name: str) -> str:
        """Return a header's value; empty without one."""
        return next((value for known, value in self.headers if known.lower() == name.lower()), "")

    def set(self, name: str, value: str) -> None:
        """Give a header one value, whatever it had."""
        self.remove(name)
        self.headers.append((name, value))

    def remove(self, name: str) -> None:
        """Leave a header out."""
        self.headers = [(known, value) for known, value in self.headers if known.lower() != name.lower()]

    def drop(self) -> None:
        """Let go of the content, of which nothing is sent."""
        if hasattr(self.body, "close"):
            self.body.close()


Answering = Callable[[WSGIEnvironment], Answer]
"""Answers one request."""


def asking(app: WSGIApplication) -> Answering:
    """Return what asks an application, and has its answer before anything is sent."""

    def answering(environ: WSGIEnvironment) -> Answer:
        answer = Answer("", [], ())

        def start(status: str, headers: list[tuple[str, str]], _error: Any = None, /) -> Callable[[bytes], object]:
            answer.status, answer.headers = status, list(headers)
            return _unwritable

        answer.body = app(environ, start)
        return answer

    return answering


def _unwritable(_: bytes) -> object:
    raise NotImplementedError("the dashboard returns its content, and writes none")


def application(answering: Answering) -> WSGIApplication:
    """Return what a web server calls."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer = answering(environ)
        start_response(answer.status, answer.headers)
        return answer.body

    return app


def sentence(status: str, *lines: str) -> Answer:
    """Return an answer for people: lines of text."""
    return _answer(status, "text/plain; charset=utf-8", "".join(line + "\n" for line in lines))


def page(status: str, title: str, body: str, head: str = "") -> Answer:
    """Return a page without scripts.

    Args:
        status: the number and its words.
        title: in words.
        body: of the page, as HTML.
        head: what stands before it, as HTML.
    """
    text = (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        "<style>body { font: 1rem/1.5 sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem }</style>\n"
        f"{head}\n</head>\n<body>\n<h1>{html.escape(title)}</h1>\n{body}\n</body>\n</html>\n"
    )
    answer = _answer(status, "text/html; charset=utf-8", text)
    answer.set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'")
    answer.set("Cache-Control", "no-store")
    return answer


def reason(status: str, words: str) -> Answer:
    """Return a refusal as the dashboard's own: its page takes the words from it."""
    return _answer(status, "application/json", json.dumps({"reason": words}))


def _answer(status: str, kind: str, text: str) -> Answer:
    content = text.encode()
    return Answer(status, [("Content-Type", kind), ("Content-Length", str(len(content)))], [content])


def pieces(file: Any, size_bytes: int = 1 << 16) -> Iterator[bytes]:
    """Yield a file's content and close it."""
    with file:
        while piece := file.read(size_bytes):
            yield piece
