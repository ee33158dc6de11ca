"""The requests that the dashboard's page repeats, answered from what is kept; all others go on to Optuna's dashboard.

A page that asks again while nothing has changed is told so in a few bytes: the browser sends along the tag of what it
has. Those that ask at once for the same study wait for one reading of it.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import parse_qs
from wsgiref.types import WSGIEnvironment

from sqlalchemy import Connection

from storage.database import Database
from storage.errors import in_one_line
from storage.rows.watched_rows import read_studies
from tuning.commands.dashboard.answers import Answer, Answering, reason
from tuning.commands.dashboard.reads.kept_study import KeptStudy, NoSuchStudy
from tuning.commands.dashboard.reads.packed import Piece, gzipped
from tuning.commands.dashboard.reads.shown_study import PREFERENTIAL, compact, listed
from tuning.commands.dashboard.sealing import READING

MOST_KEPT: Final = 16
"""So many studies are kept, those that were asked for last."""

_STUDIES: Final = "/api/studies"
_STUDY: Final = re.compile(r"/api/studies/([0-9]{1,18})(/param_importances)?")
_AFTER: Final = re.compile(r"[0-9]{1,18}")


class Reads:
    """Answers from a database.

    Args:
        database: where the studies are.
        storage: how a command names it, without a password; None for the one that commands mean by themselves.
        clock: seconds, which never go back.
    """

    def __init__(
        self, database: Database, storage: str | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._database = database
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._studies: OrderedDict[int, KeptStudy] = OrderedDict()

    def answer(self, environ: WSGIEnvironment) -> Answer | None:
        """Return the answer to a request that reads; None where it is not one of those that are answered here.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        path = environ["PATH_INFO"]
        if path == _STUDIES:
            return self._listed(environ)
        asked = _STUDY.fullmatch(path)
        if asked is None:
            return None
        study_id = int(asked[1])
        try:
            return self._importances(environ, study_id) if asked[2] else self._shown(environ, study_id)
        except NoSuchStudy:
            return reason("404 Not Found", f"study_id={study_id} is not found")

    def _listed(self, environ: WSGIEnvironment) -> Answer:
        rows = self._read(lambda connection: read_studies(connection, system=[PREFERENTIAL]))
        return _document(environ, {"study_summaries": [listed(row) for row in rows]})

    def _shown(self, environ: WSGIEnvironment, study_id: int) -> Answer | None:
        after = parse_qs(environ.get("QUERY_STRING", "")).get("after", ["0"])[-1]
        if not _AFTER.fullmatch(after):
            return None
        with self._up_to_date(study_id) as study:
            if study.row.system.get(PREFERENTIAL):
                return None
            # The page itself is told apart by its address.
            return _sent(environ, f'W/"{study.tag}"', lambda: study.pieces(int(after)))

    def _importances(self, environ: WSGIEnvironment, study_id: int) -> Answer:
        with self._up_to_date(study_id) as study:
            self._read(study.read_complete)
            try:
                return _document(environ, {"param_importances": study.importances(self._database)})
            except ValueError:
                return reason("400 Bad Request", "Failed to calculate parameter importances.")

    @contextmanager
    def _up_to_date(self, study_id: int) -> Iterator[KeptStudy]:
        """Yield a study as it is now, alone to this thread."""
        asked = self._clock()
        study = self._kept(study_id)
        with study.lock:
            if study.read_since < asked:  # nobody has begun to read it since this was asked
                began = self._clock()
                try:
                    self._read(study.update)
                except NoSuchStudy:
                    with self._lock:
                        self._studies.pop(study_id, None)
                    raise
                study.read_since = began
            yield study

    def _kept(self, study_id: int) -> KeptStudy:
        with self._lock:
            study = self._studies.setdefault(study_id, KeptStudy(study_id, self._storage))
            self._studies.move_to_end(study_id)
            while len(self._studies) > MOST_KEPT:
                self._studies.popitem(last=False)
            return study

    def _read(self, reading: Callable[[Connection], Any]) -> Any:
        def attempt() -> Any:
            with self._database.reading() as connection:
                return reading(connection)

        return self._database.repeated(attempt)


def answered_from(reads: Reads, answering: Answering) -> Answering:
    """Return what answers from what is kept, and else as is given."""

    def answer_reads(environ: WSGIEnvironment) -> Answer:
        found = None
        if environ["REQUEST_METHOD"] in READING:
            try:
                found = reads.answer(environ)
            except Exception as error:
                environ["wsgi.errors"].write(f"{in_one_line(error)}\n")
                return Answer("500 Internal Server Error", [], ())
        if found is None:
            return answering(environ)
        return Answer(found.status, found.headers, ()) if environ["REQUEST_METHOD"] == "HEAD" else found

    return answer_reads


def _document(environ: WSGIEnvironment, document: Any) -> Answer:
    content = compact(document).encode()
    return _sent(environ, f'W/"{hashlib.sha256(content).hexdigest()[:32]}"', lambda: [Piece(lambda: content)])


def _sent(environ: WSGIEnvironment, tag: str, pieces: Callable[[], Iterable[Piece]]) -> Answer:
    """Return an answer with content, or that the browser has it already.

    Args:
        environ: the request.
        tag: another one for each content of this address.
        pieces: returns the content.
    """
    # Kept by this reader's browser alone, which asks each time whether it still holds.
    headers = [("ETag", tag), ("Cache-Control", "private, no-cache"), ("Vary", "Accept-Encoding, Cookie")]
    if tag in map(str.strip, environ.get("HTTP_IF_NONE_MATCH", "").split(",")):
        return Answer("304 Not Modified", headers, ())
    found = list(pieces())
    headers.append(("Content-Type", "application/json"))
    body: list[bytes]
    if "gzip" in environ.get("HTTP_ACCEPT_ENCODING", ""):
        body = gzipped(found)
        headers.append(("Content-Encoding", "gzip"))
    else:
        body = [piece.plain() for piece in found]
    return Answer("200 OK", [*headers, ("Content-Length", str(sum(map(len, body))))], body)
