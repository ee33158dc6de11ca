"""The errors that a user sees as one line.

    TuningError              the command failed (exit status 1)
    ├── BadInput             what was given cannot be used (exit status 2)
    │   ├── SpecMismatch     the study exists with another spec
    │   ├── ForeignStudy     the study is another program's
    │   ├── StudyExists      the name to which a backup is restored is taken
    │   ├── UnfitMachine     this machine cannot do it, and another may
    │   ├── UnreadablePicture    a file is no picture that can be used
    │   └── UnusableParameter    a hypermodel's parameter cannot be searched
    ├── StorageUnavailable   the database or the disk cannot be reached, or has no room
    ├── ClaimLost            the trial is no longer this worker's: drop it, write nothing
    ├── StudyDeleted         the study is gone: there is no trial to be had
    ├── TooManyFailures      the last trials all failed: the study ends
    ├── ArtifactDamaged      a trial's file is missing, or its bytes are others
    └── UnusableStrategy     a strategy raised, or answered what means nothing

Those that one module raises stand in it; the others are here. A message gives the fact, the value received, and the
next step, in one line.
"""

from __future__ import annotations

import difflib
import errno
import re
import unicodedata
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class TuningError(Exception):
    """A command failed for a reason that the user can act on."""

    exit_status = 1

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of it: the line that a command would."""
        return [f"error: {' '.join(str(self).split())}"]


class BadInput(TuningError):
    """What the user gave cannot be used; nothing was created or changed."""

    exit_status = 2


class SpecMismatch(BadInput):
    """The study exists with another spec."""


class UnfitMachine(BadInput):
    """This machine cannot do it, and another may."""


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
    """Return the line of an error's words that has the reason, or its type's name where it says nothing.

    It is the first one, but for what Keras and TensorFlow say before it.
    """
    return _said(error) or type(error).__name__


def in_one_line(error: BaseException) -> str:
    """Return an error's type and the line of its words that has the reason: of an error that nobody here has raised."""
    said = _said(error)
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def first_sentence(words: str) -> str:
    """Return what a library says is wrong, without the advice that it adds, and without a full stop."""
    return re.split(r"\.(?:\s|$)", words, maxsplit=1)[0]


def no_room(error: OSError, folder: Path, then: str, kind: type[TuningError] = BadInput) -> TuningError | None:
    """Return what a user is told where a disk is full; None where an error is another one.

    Args:
        error: what the operating system said.
        folder: where there is no room.
        then: the next step.
        kind: the class of the error, and with it the exit status.
    """
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return None
    return disk_error(error, f"no room left under {folder}", then, kind)


def disk_error(error: OSError, fact: str, then: str, kind: type[TuningError] = BadInput) -> TuningError:
    """Return what a user is told where a disk refuses, whatever the reason.

    Args:
        error: what the operating system said: the reason.
        fact: what could not be read or written, and where.
        then: the next step.
        kind: the class of the error, and with it the exit status.
    """
    return kind(f"{fact}: {error.strerror or error}. {then}")


def shown(name: str | Path) -> str:
    """Return a file's name as a message can have it in its one line: what cannot be printed is written out."""
    return "".join(
        letter
        if letter.isprintable() or unicodedata.category(letter) == "Zs"
        else letter.encode("unicode_escape").decode("ascii")
        for letter in str(name)
    )


# What Keras and TensorFlow say of themselves before, and after, the line that has the reason.
_PREAMBLE = re.compile(
    r"Exception encountered when calling |Graph execution error:|Detected at node |in user code:|Traceback \(|"
    r"\d+ root error\(s\) found|<class '[^']*'> could not be deserialized properly|config="
)
_FRAME = re.compile(r"File \"[^\"]*\", line \d+")
_EPILOGUE = re.compile(r"Arguments received by |Call arguments received|Original stack trace")
_AROUND = re.compile(r"^Exception encountered: | Full object config: .*$")
_TERMINAL = re.compile(r"\x1b\[[0-9;]*m")


def _said(error: BaseException) -> str:
    """The line of an error that has its reason."""
    every = [_Line.of(text) for text in _TERMINAL.sub("", str(error)).splitlines()]
    frame: int | None = None
    for number, line in enumerate(every):
        if _EPILOGUE.match(line.words):
            break
        if _FRAME.match(line.words):
            frame = line.indent
        elif frame is not None and line.indent > frame:
            pass  # the code of that place
        elif line.words and not _PREAMBLE.match(line.words):
            return _whole(every[number:])
    return next((line.words for line in every if line.words), "")


class _Line(NamedTuple):
    words: str
    indent: int

    @classmethod
    def of(cls, text: str) -> _Line:
        words = _AROUND.sub("", text.strip())
        return cls(words, len(text) - len(text.lstrip()))


def _whole(lines: list[_Line]) -> str:
    """The first line, with those after it that its sentence goes on in: some are broken to fit a page."""
    said, *rest = lines
    words = said.words
    for line in rest:
        if line.indent != said.indent or not line.words[:1].islower() or words.endswith((".", ":", "!", "?")):
            break
        words = f"{words} {line.words}"
    return words
