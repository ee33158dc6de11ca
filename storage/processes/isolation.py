"""Processes that take Python's modules and the project's from where they are installed, wherever they are started.

Python itself searches the current folder and those on PYTHONPATH first, and a user's `random.py`, `keras.py` or
`models/` there would be taken for the real one. Every process that the project starts gets its command and its
environment here, and searches

    Python's own and what is installed | this checkout | the folders on PYTHONPATH

so that a user's own modules on PYTHONPATH are still found, and hide nothing. As a script, this file begins such a
process: `python -P storage/processes/isolation.py MODULE ARGUMENT...`. It imports none of ours, since it decides which
these are.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_CHECKOUT = str(Path(__file__).resolve().parents[2])

# PYTHONPATH under a name that Python does not know.
_SEARCHED_LAST = "TUNING_PYTHONPATH"


def python_module(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module of the project, as `python -m` does; it needs `python_environment`."""
    return [*python(), str(Path(__file__).resolve()), module, *arguments]


def python() -> list[str]:
    """Return the beginning of a command that runs Python without the current folder; it needs `python_environment`."""
    return [sys.executable, "-P"]


def python_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which a new process searches nothing before Python's own modules.

    Args:
        environ: what it has besides; that of this process.
    """
    rest = {name: value for name, value in environ.items() if name != "PYTHONPATH"}
    last = os.pathsep.join(_searched_last(environ))
    return {**rest, _SEARCHED_LAST: last} if last else rest


def put_path_in_order() -> None:
    """Search in this process, too, what is the user's last; call it before any other module of ours is imported."""
    sys.path[:] = ordered(sys.path, os.environ, starts_with_folder=not sys.flags.safe_path)


def ordered(path: Sequence[str], environ: Mapping[str, str], *, starts_with_folder: bool) -> list[str]:
    """Return what is searched for modules, in the order in which this project wants it.

    Args:
        path: as Python has it.
        environ: the environment of the process.
        starts_with_folder: whether Python has put the current folder or that of a script before all else.
    """
    last = _searched_last(environ)
    installed = [entry for entry in path[1 if starts_with_folder else 0 :] if entry not in last]
    return list(dict.fromkeys([*installed, _CHECKOUT, *last]))


def _searched_last(environ: Mapping[str, str]) -> list[str]:
    given = (environ.get(name, "").split(os.pathsep) for name in ("PYTHONPATH", _SEARCHED_LAST))
    return list(dict.fromkeys(os.path.abspath(folder) for folders in given for folder in folders if folder))


def _begin() -> None:
    put_path_in_order()
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _begin()
