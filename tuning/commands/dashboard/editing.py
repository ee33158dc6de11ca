"""What may be changed through the dashboard: nothing, unless who started it said so."""

from __future__ import annotations

from wsgiref.types import WSGIEnvironment

from tuning.commands.dashboard.answers import Answer, Answering, reason
from tuning.commands.dashboard.sealing import READING

ONLY_SHOWN = "The database cannot be written by who started this dashboard: it is only shown."
NOT_ASKED_FOR = "This dashboard only shows. To change studies in it, start it with make dashboard EDIT=1 (--edit)."
NO_RENAME = (
    "A study is not renamed here: the dashboard would copy it into a new one, without all of its attributes, and delete"
    " this one under the workers that run it. To have it by another name: make backup, and make restore with STUDY=."
)


def changing_only(answering: Answering, refusal: str | None) -> Answering:
    """Return what answers the same to who only reads.

    Args:
        answering: answers at the addresses that the dashboard sees.
        refusal: why nothing may be changed; None where it may. A study is renamed in no case.
    """

    def answer_changing(environ: WSGIEnvironment) -> Answer:
        if environ["REQUEST_METHOD"] in READING:
            return answering(environ)
        if refusal is not None:
            return reason("403 Forbidden", refusal)
        if environ["PATH_INFO"].endswith("/rename"):
            return reason("403 Forbidden", NO_RENAME)
        return answering(environ)

    return answer_changing
