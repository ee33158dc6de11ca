"""What a file does while it is imported: a script that searches is not run twice, and what it prints is shown."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import keras_tuner
from keras_tuner.engine.base_tuner import BaseTuner


class _SearchReached(BaseException):
    """Ends the import of a script: not an `Exception`, which it may catch."""


@contextlib.contextmanager
def searches_left_out(notes: list[str]) -> Iterator[None]:
    """While this lasts, a search of KerasTuner's ends what is run, and no tuner makes a folder.

    What is printed goes to stdout still.

    Args:
        notes: takes a line for a search that was left out, and each line that was printed.
    """
    printed = io.StringIO()

    def reached(tuner: Any, *args: Any, **kwargs: Any) -> None:
        raise _SearchReached(f"{type(tuner).__name__}.search", _line_of_caller())

    def nothing(*args: Any, **kwargs: Any) -> None:
        """What a tuner does before it searches."""

    try:
        with (
            _replaced(keras_tuner.Tuner, "__init__", nothing),
            _replaced(BaseTuner, "__init__", nothing),
            _replaced(BaseTuner, "search", reached),
            _replaced(BaseTuner, "search_space_summary", nothing),
            contextlib.redirect_stdout(_Tee(printed)),
        ):
            yield
    except _SearchReached as found:
        what, line = found.args
        notes.append(
            f"its {what} in line {line} was not run, nor what comes after it: what MODEL names is searched here. Put it"
            ' under `if __name__ == "__main__":` to keep it out'
        )
    finally:
        notes.extend(f"printed by it: {line}" for line in printed.getvalue().splitlines() if line.strip())


@contextlib.contextmanager
def _replaced(owner: type, name: str, function: Any) -> Iterator[None]:
    before = vars(owner)[name]
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _line_of_caller() -> int:
    frame: FrameType | None = sys._getframe(2)
    return frame.f_lineno if frame is not None else 0


class _Tee(io.TextIOBase):
    """Writes to stdout, and besides into a buffer."""

    def __init__(self, buffer: io.StringIO) -> None:
        self._stdout = sys.stdout
        self._buffer = buffer

    def write(self, text: str) -> int:
        self._buffer.write(text)
        return self._stdout.write(text)

    def flush(self) -> None:
        self._stdout.flush()
