"""How the command line of a benchmark ends."""

from __future__ import annotations

import sys
from collections.abc import Callable

from storage.errors import TuningError


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
