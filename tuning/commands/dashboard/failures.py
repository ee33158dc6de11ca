"""What goes wrong in the dashboard is one line in the terminal and one sentence in the browser."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable
from wsgiref.types import WSGIEnvironment

from tuning.commands.dashboard.answers import Answer, Answering, reason, sentence

FAILED = (
    "This could not be answered: the database did not answer, or the study or trial is gone. Load the page anew; the"
    " terminal in which the dashboard was started says what went wrong."
)

_WORDS = {"404": "There is nothing at this address. The dashboard is at /dashboard."}
_NOT_TAKEN = "The dashboard does not take this request."


def in_our_words(answering: Answering, say: Callable[[str], None]) -> Answering:
    """Return what answers the same where it can.

    Args:
        answering: asks the dashboard, which writes tracebacks and answers with pages of its own.
        say: takes a line for the terminal.
    """

    def answer_in_words(environ: WSGIEnvironment) -> Answer:
        errors = io.StringIO()
        answer = answering({**environ, "wsgi.errors": errors})
        if answer.status.startswith("5"):
            answer.drop()
            if errors.getvalue().strip():
                last = errors.getvalue().strip().rpartition("\n")[2].strip()
                say(f"warning: {environ['PATH_INFO']} could not be answered: {last}")
            return reason("500 Internal Server Error", FAILED)
        if answer.status.startswith("4") and answer.header("Content-Type").startswith("text/html"):
            answer.drop()
            return sentence(answer.status, _WORDS.get(answer.status[:3], _NOT_TAKEN))
        return answer

    return answer_in_words


def shorten_logs(say: Callable[[str], None]) -> None:
    """Have what the dashboard and its server log said in one line each, without where in the code it was."""

    class FirstLine(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            error = record.exc_info[1] if record.exc_info else None
            words = record.getMessage().strip().partition("\n")[0]
            say(f"warning: {words}" + (f": {type(error).__name__}: {error}".partition("\n")[0] if error else ""))

    for name in ("optuna_dashboard", "waitress"):
        logger = logging.getLogger(name)
        logger.handlers = [FirstLine(logging.ERROR)]
        logger.propagate = False
