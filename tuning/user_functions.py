"""What a worker is handed to run a function of the user's: the function, how to find its module, sampler and pruner.

As with Python's own `multiprocessing`, a function goes by the name of its module and its own, never by its code; where
that module is the script that was started, each worker imports the script, under the name `__mp_main__`. What stands
under `if __name__ == "__main__":` is not run then; without it, the import ends where the script would tune.
"""

from __future__ import annotations

import functools
import importlib
import importlib.machinery
import importlib.util
import io
import json
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna

from storage.errors import BadInput, first_line

_MAIN = "__main__"
_IMPORTED = "__mp_main__"  # what Python's own child processes call it: some scripts know that name


@dataclass(frozen=True)
class Handed:
    """What a worker is to run.

    Attributes:
        objective: takes an Optuna trial, and returns its values.
        sampler: says what each trial tries.
        pruner: says whether it goes on.
    """

    objective: Callable[[optuna.Trial], Any]
    sampler: optuna.samplers.BaseSampler
    pruner: optuna.pruners.BasePruner


@dataclass(frozen=True)
class _Script:
    """What a worker takes over of the process that the user started: its script, arguments, folders of modules."""

    file: str | None
    module: str | None
    argv: list[str]
    path: list[str]

    @classmethod
    def of_this_process(cls) -> _Script:
        main = sys.modules[_MAIN]
        file, specification = getattr(main, "__file__", None), getattr(main, "__spec__", None)
        module = specification.name if specification is not None else None
        there = str(Path(file).resolve()) if file is not None and Path(file).is_file() else None
        return cls(there, module, list(sys.argv), [str(Path(folder).resolve()) for folder in sys.path])


def in_words(objective: Callable[..., Any]) -> str:
    """Return what an objective is called, with the file that it stands in."""
    called: Any = objective.func if isinstance(objective, functools.partial) else objective
    called = called if hasattr(called, "__qualname__") else type(called)
    module = sys.modules.get(called.__module__)
    file = getattr(module, "__file__", None)
    return f"{Path(file).name if file is not None else called.__module__}:{called.__qualname__}"


def hand_over(file: Path, handed: Handed) -> None:
    """Write what workers are to run, for processes of this user on this machine alone.

    Args:
        file: in a folder that nobody else can write.
        handed: what it is.

    Raises:
        BadInput: a worker could not find it.
    """
    script = _Script.of_this_process()
    named = {"objective": handed.objective, "sampler": handed.sampler, "pruner": handed.pruner}
    for what, one in named.items():
        content = _pickled(what, one)
        if script.file is None and _MAIN.encode() in content:
            raise BadInput(
                f"the {what} stands in a notebook or at a prompt, where no worker can read it. Write it to a file (in a"
                " notebook: %%writefile my_objective.py in its cell), and import it from there."
            )
    content = json.dumps(asdict(script)).encode() + b"\n" + _pickled("objective", handed)
    file.touch(mode=0o600)
    file.write_bytes(content)


def _pickled(what: str, one: object) -> bytes:
    try:
        return pickle.dumps(one)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise BadInput(
            f"the {what} cannot be handed to workers: {first_line(error)}. Define it with def or class at the top of a"
            " file; what it needs is given by functools.partial, or kept by an object with __call__."
        ) from error


def take(file: Path, note: Callable[[str], None]) -> Handed:
    """Return what a launcher wrote for its workers; imports the user's modules.

    Args:
        file: as it was written.
        note: takes a line for the user.

    Raises:
        BadInput: a module of the user's cannot be imported here.
    """
    head, _, content = file.read_bytes().partition(b"\n")
    script = _Script(**json.loads(head))
    sys.argv[:] = script.argv
    # In the order of the user's process: a `models.py` of theirs is found before this project's folder of that name.
    sys.path[:] = dict.fromkeys([*script.path, *sys.path])
    try:
        handed: Handed = _Unpickler(io.BytesIO(content), script, note).load()
    except (Exception, SystemExit) as error:
        raise BadInput(
            f"the objective cannot be imported in a worker: {type(error).__name__}: {first_line(error)}. A worker"
            ' imports the script that tunes: what it is not to run again belongs under `if __name__ == "__main__":`.'
        ) from error
    return handed


class _Unpickler(pickle.Unpickler):
    """Imports the user's script where something stands in it."""

    def __init__(self, file: io.BytesIO, script: _Script, note: Callable[[str], None]) -> None:
        super().__init__(file)
        self._script = script
        self._note = note
        self._imported = False

    def find_class(self, module: str, name: str) -> Any:
        if module == _MAIN and not self._imported:
            self._imported = True
            _import_script(self._script, self._note)
        return super().find_class(_IMPORTED if module == _MAIN else module, name)


def _import_script(script: _Script, note: Callable[[str], None]) -> None:
    assert script.file is not None, "seen to when it was handed over"
    with _tuned_nowhere(script.file, note):
        if script.module is not None:  # started with python -m
            sys.modules[_IMPORTED] = sys.modules[_MAIN] = importlib.import_module(script.module)
            return
        loader = importlib.machinery.SourceFileLoader(_IMPORTED, script.file)
        specification = importlib.util.spec_from_loader(_IMPORTED, loader)
        assert specification is not None
        module = importlib.util.module_from_spec(specification)
        sys.modules[_IMPORTED] = sys.modules[_MAIN] = module
        loader.exec_module(module)


class _TuningReached(BaseException):
    """Ends the import of a script: not an `Exception`, which it may catch."""


@contextmanager
def _tuned_nowhere(file: str, note: Callable[[str], None]) -> Iterator[None]:
    """While this lasts, what is imported neither tunes nor makes a study anywhere but in this process's memory."""

    def reached(*args: object, **kwargs: object) -> None:
        raise _TuningReached

    def made(**kwargs: Any) -> optuna.Study:
        said = {key: value for key, value in kwargs.items() if key in ("direction", "directions")}
        return create(**said)

    offered = vars(sys.modules[__name__.partition(".")[0]])  # what `import tuning` gives
    create, there = optuna.create_study, offered.get("optimize")
    optuna.create_study, offered["optimize"] = made, reached
    try:
        yield
    except _TuningReached:
        note(
            f'{Path(file).name} has no `if __name__ == "__main__":` around tuning.optimize: what stands before it is'
            " run once more in each worker, and ends there"
        )
    finally:
        optuna.create_study = create
        if there is None:
            del offered["optimize"]
        else:
            offered["optimize"] = there
