"""The errors that a user sees as one line.

    TuningError            the command failed (exit status 1)
    ├── BadInput           what was given cannot be used (exit status 2)
    │   └── SpecMismatch   the study exists with another spec
    ├── StorageUnavailable the database cannot be reached, or has no room
    └── ClaimLost          the trial is no longer this worker's: drop it, write nothing

A message gives the fact, the value received, and the next step, in one line.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class TuningError(Exception):
    """A command failed for a reason that the user can act on."""

    exit_status = 1


class BadInput(TuningError):
    """What the user gave cannot be used; nothing was created or changed."""

    exit_status = 2


class SpecMismatch(BadInput):
    """The study exists with another spec."""


class StorageUnavailable(TuningError):
    """The database cannot be reached, is locked for good, or has no room."""


class ClaimLost(TuningError):
    """The trial was given to another worker; what this one knows of it must not be written."""


def unknown_name(kind: str, given: str, allowed: Iterable[str], then: str = "") -> BadInput:
    """Return the error for a name that does not exist, with the nearest one that does.

    Args:
        kind: what is named, in words: ``"data set"``, ``"study"``.
        given: the name received.
        allowed: the names that exist.
        then: a last sentence, the next step where a nearer name is not all there is to say.
    """
    names = sorted(allowed)
    near = difflib.get_close_matches(given, names, n=1, cutoff=0.4)
    guess = f" Did you mean {near[0]!r}?" if near else ""
    known = ", ".join(names) if names else "none"
    return BadInput(f"unknown {kind} {given!r}.{guess} Known: {known}." + (f" {then}" if then else ""))


def first_line(error: BaseException) -> str:
    """Return the first line of an error's words, or its type's name where it says nothing."""
    return _said(error) or type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Return an error's type and the first line of its words: of an error that nobody here has raised."""
    said = _said(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def _said(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
