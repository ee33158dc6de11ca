"""Breaks a process that starts with this folder on its `PYTHONPATH`, and those after it, as `TUNING_FAULTS` says.

Python imports `sitecustomize` before anything else. The program itself has no hooks: a module that is named in the
variable is changed while it is imported, and functions of modules that are there already are replaced at once. What
the variable may say is `tests.faults.breaking.Fault`.
"""

from __future__ import annotations

import ast
import errno
import functools
import importlib.machinery
import importlib.util
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any


def break_down(kind: str) -> None:
    """Do to this process, or to the call that it is in, what a fault says."""
    match kind.partition(":"):
        case "kill", _, _:
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop", _, _:
            os.kill(os.getpid(), signal.SIGSTOP)
        case "sleep", _, seconds:
            time.sleep(float(seconds))
        case "no space", _, _:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        case "locked", _, _:
            import sqlite3

            from sqlalchemy.exc import OperationalError

            raise OperationalError("BEGIN IMMEDIATE", {}, sqlite3.OperationalError("database is locked"))
        case _:
            raise ValueError(f"there is no fault {kind!r}")


class Breaker:
    """One fault in this process."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self._fault = fault
        self._calls = 0

    def wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        fault = self._fault

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            if fault["when"] == "before":
                self._consider([*args, *kwargs.values()])
                return function(*args, **kwargs)
            result = function(*args, **kwargs)
            self._consider([*args, *kwargs.values(), result])
            return result

        return call

    def _consider(self, seen: list[Any]) -> None:
        fault = self._fault
        if fault["process"] not in " ".join(sys.argv) or fault["match"] not in " ".join(map(str, seen)):
            return
        if fault["log"] and not os.readlink("/proc/self/fd/2").endswith(fault["log"]):
            return
        self._calls += 1
        if self._calls >= fault["call"] and self._is_due():
            break_down(fault["do"])

    def _is_due(self) -> bool:
        """Take one of the times that the fault may happen in all processes together, by making a file."""
        for number in range(self._fault["times"]):
            try:
                os.close(os.open(f"{self._fault['mark']}.{number}", os.O_CREAT | os.O_EXCL))
            except FileExistsError:
                continue
            return True
        return False


def install(module: ModuleType, path: str, breaker: Breaker) -> None:
    """Replace the function at a dotted path in a module."""
    *owners, name = path.split(".")
    owner: Any = functools.reduce(getattr, owners, module)
    setattr(owner, name, breaker.wrap(getattr(owner, name)))


def pass_on(isolation: Any) -> None:
    """Have the project start its processes with this folder on their `PYTHONPATH`, which it takes from them."""
    environment = isolation.python_environment

    def with_this_folder(environ: Mapping[str, str]) -> dict[str, str]:
        return {**environment(environ), "PYTHONPATH": str(Path(__file__).parent)}

    isolation.python_environment = with_this_folder


class Loader(importlib.machinery.SourceFileLoader):
    """Imports a module with other constants, then breaks functions in it."""

    def get_code(self, fullname: str) -> Any:
        path = self.get_filename(fullname)
        tree = ast.parse(self.get_data(path))
        for statement in tree.body:
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
                given = CONSTANTS.get(f"{fullname}:{statement.targets[0].id}")
                if given is not None:
                    statement.value = ast.copy_location(ast.parse(repr(given), mode="eval").body, statement.value)
        return compile(ast.fix_missing_locations(tree), path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        if module.__name__ == "storage.processes.isolation":
            pass_on(module)
        for name, path, breaker in BREAKERS:
            if name == module.__name__:
                install(module, path, breaker)


class Finder(MetaPathFinder):
    """Finds the modules that are to be changed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in CHANGED:
            return None
        found = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if found is None or found.origin is None:
            return None
        return importlib.util.spec_from_file_location(
            fullname, found.origin, loader=Loader(fullname, found.origin),
            submodule_search_locations=found.submodule_search_locations,
        )  # fmt: skip


TOLD: dict[str, Any] = json.loads(os.environ.get("TUNING_FAULTS") or '{"constants": {}, "faults": []}')
CONSTANTS: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in TOLD["constants"].items()}
BREAKERS = [(*fault["at"].split(":"), Breaker(fault)) for fault in TOLD["faults"]]
CHANGED = (
    {"storage.processes.isolation"} | {name for name, _, _ in BREAKERS} | {name.partition(":")[0] for name in CONSTANTS}
)

for _name, _path, _breaker in BREAKERS:
    if _name in sys.modules:
        install(sys.modules[_name], _path, _breaker)
sys.meta_path.insert(0, Finder())
