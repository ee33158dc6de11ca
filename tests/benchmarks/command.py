"""The command lines of the benchmarks: which numbers they refuse, and how they end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Final

from storage.errors import BadInput, TuningError

DATABASES: Final = ("sqlite", "postgresql")


def add_databases_option(parser: argparse.ArgumentParser) -> None:
    """Let a benchmark of the storage be run on some databases only."""
    parser.add_argument(
        "--databases", nargs="+", choices=DATABASES, default=list(DATABASES), help=f"default: {' '.join(DATABASES)}"
    )


def require_positive(*options: tuple[str, int]) -> None:
    """Refuse a number below 1.

    Args:
        options: each with its name, as on the command line, and its number.

    Raises:
        BadInput: one is.
    """
    for name, number in options:
        if number < 1:
            raise BadInput(f"{name} is {number}. Give at least 1.")


def exit_status(run: Callable[[], int], *, stopped: str) -> int:
    """Return what a benchmark returns, or the status of what ended it, with one line on standard error.

    Args:
        run: the benchmark.
        stopped: what is said after Ctrl-C of what is kept.
    """
    try:
        return run()
    except TuningError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print(f"Stopped. {stopped}", file=sys.stderr)
        return 130
