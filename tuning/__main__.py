"""Where the command `tuning` begins, and `python -m tuning`."""

from __future__ import annotations

import sys

from tuning.isolation import put_path_in_order


def main() -> None:
    """Run the command line and exit; Ctrl-C while its modules are imported ends it in one line, too."""
    try:
        put_path_in_order()
        from tuning.cli import main as command_line

        command_line()
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
