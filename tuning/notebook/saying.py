"""Where a command in Python says what it does, and how it is interrupted. No Keras."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr

import optuna
from rich.console import Console

from tuning.cell import Cell, in_kernel


class Interrupted(KeyboardInterrupt):
    """A study was interrupted, and stopped as it does on Ctrl-C; the same call goes on with it."""

    def __init__(self) -> None:
        super().__init__("interrupted; the same call goes on")

    def _render_traceback_(self) -> list[str]:
        """Return what a notebook shows of it."""
        return [str(self)]


@contextmanager
def saying() -> Iterator[Console]:
    """Yield what a command prints to: in a notebook one output of the cell, else standard error.

    Afterwards the process logs as before.

    Raises:
        Interrupted: Ctrl-C was pressed inside.
    """
    before = optuna.logging.get_verbosity()
    with ExitStack() as stack:
        # Optuna's notices would stand between the lines of the progress.
        stack.callback(optuna.logging.set_verbosity, before)
        optuna.logging.set_verbosity(max(before, optuna.logging.WARNING))
        console = Console(stderr=True, force_jupyter=False)
        if in_kernel():
            cell = Cell()
            stack.enter_context(redirect_stderr(cell))
            console = cell.console()
        try:
            yield console
        except Interrupted:
            raise
        except KeyboardInterrupt:
            raise Interrupted from None


def heed(status: int) -> None:
    """Tell by an error what a command tells by its exit status.

    Raises:
        Interrupted: it was interrupted.
    """
    if status == 130:
        raise Interrupted
