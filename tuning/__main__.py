"""Where the command `tuning` begins, and `python -m tuning`."""

from __future__ import annotations

import errno
import io
import os
import runpy
import sys
from pathlib import Path

# Not imported: until it has put the path in order, a user's `storage` on it is taken for ours.
_ISOLATION = Path(__file__).resolve().parents[1] / "storage" / "processes" / "isolation.py"


def main() -> None:
    """Run the command line and exit; Ctrl-C while its modules are imported ends it in one line, too."""
    try:
        runpy.run_path(str(_ISOLATION))["put_path_in_order"]()
        _hold_standard_streams()
        _write_what_cannot_be_encoded()
        from tuning.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)


class _Closed(io.TextIOBase):
    def write(self, _text: str) -> int:
        raise OSError(errno.EBADF, "it is closed", "standard output")


def _hold_standard_streams() -> None:
    """Let nothing that is opened later, a database perhaps, take the number of a stream that is closed."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free
    # Python has None for them.
    sys.stdout = sys.stdout or _Closed()
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115


def _write_what_cannot_be_encoded() -> None:
    """Show a study's name as far as the terminal's encoding has its letters, and the others by their numbers."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    main()
