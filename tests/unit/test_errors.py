"""Errors end a command with one line, and name the nearest name that exists."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from storage.claims import StudyDeleted, TooManyFailures
from storage.errors import (
    BadInput,
    ClaimLost,
    SpecMismatch,
    StorageUnavailable,
    TuningError,
    disk_error,
    first_line,
    first_sentence,
    in_one_line,
    no_room,
    unknown_name,
)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (TuningError, 1),
        (BadInput, 2),
        (SpecMismatch, 2),
        (StorageUnavailable, 1),
        (ClaimLost, 1),
        (TooManyFailures, 1),
        (StudyDeleted, 1),
    ],
)
def test_every_error_is_a_tuning_error_with_its_exit_status(error: type[TuningError], status: int) -> None:
    assert issubclass(error, TuningError)
    assert error.exit_status == status


def test_an_unknown_name_is_answered_with_the_nearest_and_with_all_that_exist() -> None:
    error = unknown_name("data set", "cifar1O", ["mnist", "cifar10"])
    assert str(error) == "unknown data set 'cifar1O'. Did you mean 'cifar10'? Known: cifar10, mnist."
    assert error.exit_status == 2


def test_a_name_that_is_near_to_none_gets_no_guess() -> None:
    assert "Did you mean" not in str(unknown_name("study", "zzz", ["mnist"]))


def test_where_nothing_exists_the_answer_says_so_and_what_to_do() -> None:
    assert str(unknown_name("study", "a", [], then="Start one.")) == "unknown study 'a'. Known: none. Start one."


KERAS = """Exception encountered when calling Sequential.call().

\x1b[1mInput 0 of layer 'functional' is incompatible: found (None, 32)\x1b[0m

Arguments received by Sequential.call():
  • kwargs={'mask': 'None'}"""
TENSORFLOW = """Graph execution error:

Detected at node while/Equal_1 defined at (most recent call last):
  File "models/classifier.py", line 211, in fit

  File "keras/src/ops/numpy.py", line 3392, in equal

Incompatible shapes: [64] vs. [64,13,13]
\t [[{{node while/Equal_1}}]] [Op:__inference_run_1011]"""
AUTOGRAPH = """in user code:

    File "mine.py", line 3, in call  *
        return x @ y

    ValueError: Dimensions must be equal, but are 3 and 4.
"""


DESERIALIZED = """<class 'keras.src.models.functional.Functional'> could not be deserialized properly. Please ensure it.

config={'module': 'keras.src.models.functional'}.

Exception encountered: Could not locate class 'Scale'. Make sure it is registered. Full object config: {}"""
BROKEN = """
            Object Body was created by passing
            such values and
            must override it. So do.

            Example:
"""


@pytest.mark.parametrize(
    ("error", "line", "with_type"),
    [
        (ValueError("\n  Input 0 is incompatible. \n\nArguments received: ..."), *["Input 0 is incompatible."] * 2),
        (KeyError("x"), "'x'", "'x'"),
        (RuntimeError(), "RuntimeError", ""),
        (RuntimeError(" \n"), "RuntimeError", ""),
        (
            ValueError(KERAS),
            *["Input 0 of layer 'functional' is incompatible: found (None, 32)"] * 2,
        ),
        (ValueError(TENSORFLOW), *["Incompatible shapes: [64] vs. [64,13,13]"] * 2),
        (ValueError(AUTOGRAPH), *["ValueError: Dimensions must be equal, but are 3 and 4."] * 2),
        (TypeError(DESERIALIZED), *["Could not locate class 'Scale'. Make sure it is registered."] * 2),
        (ValueError(BROKEN), *["Object Body was created by passing such values and must override it. So do."] * 2),
        (ValueError("Graph execution error:"), *["Graph execution error:"] * 2),
    ],
    ids=[
        "many lines",
        "one",
        "none",
        "blank",
        "keras",
        "tensorflow",
        "autograph",
        "deserialized",
        "broken",
        "nothing else",
    ],
)
def test_of_an_error_with_many_lines_the_one_with_the_reason_is_shown(
    error: Exception, line: str, with_type: str
) -> None:
    assert first_line(error) == line
    kind = type(error).__name__
    assert in_one_line(error) == (f"{kind}: {with_type}" if with_type else kind)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_with_the_folder_and_what_to_do(code: int) -> None:
    error = no_room(OSError(code, os.strerror(code)), Path("/data"), "Free some.", TuningError)
    assert type(error) is TuningError
    assert str(error) == f"no room left under /data: {os.strerror(code)}. Free some."


def test_a_disk_that_refuses_for_another_reason_is_not_called_full() -> None:
    read_only = OSError(errno.EROFS, "Read-only file system")
    assert no_room(read_only, Path("/data"), "Free some.") is None
    told = disk_error(read_only, "cannot write to /data", "Give a folder that can be.")
    assert (type(told), str(told)) == (
        BadInput,
        "cannot write to /data: Read-only file system. Give a folder that can be.",
    )
    assert str(disk_error(OSError("pulled out"), "cannot read x", "Mend it.")) == "cannot read x: pulled out. Mend it."


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("Could not locate class 'Scale'. Make sure that it is imported.", "Could not locate class 'Scale'"),
        ("module 'keras.layers' has no attribute 'X'", "module 'keras.layers' has no attribute 'X'"),
        ("got 0.5. Give 1.", "got 0.5"),
        ("", ""),
    ],
)
def test_what_a_library_advises_is_left_out(words: str, kept: str) -> None:
    assert first_sentence(words) == kept
