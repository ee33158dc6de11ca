"""Classes and functions of the user's own, each from the file that this process was started with.

A spec read from a database is data. It may choose between what is already here; nothing that it says is imported.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from storage.errors import BadInput, in_one_line, shown
from storage.prepared.bases import is_base
from studies.declaration import hypermodel_name
from studies.objectives.directions import objective_of
from studies.objectives.objective import MEASURED, Objective
from studies.spec import STRATEGIES
from studies.strategies.strategy import Strategy
from tuning.own_modules import content_digest, hidden, make_importable

Class = TypeVar("Class")


@dataclass(frozen=True)
class UserFile:
    """A Python file of the user's with a class, or a function, in it.

    Attributes:
        path: the file.
        class_name: the class, or the function.
    """

    path: Path
    class_name: str

    @classmethod
    def parse(cls, kind: str, text: str) -> UserFile:
        """Return what `file.py:Class` means.

        Args:
            kind: what the class is, `model` or `strategy`; `objective` is a function.
            text: as given.

        Raises:
            BadInput: it is of another form, or the file cannot be read.
        """
        path, _, class_name = text.rpartition(":")
        if not path.endswith(".py") or not class_name.isidentifier():
            raise BadInput(f"{kind} {text!r}: one of your own is given as file.py:{_what(kind)}.")
        file = Path(path).expanduser().resolve()
        if not file.is_file():
            raise BadInput(
                f"{kind} {text!r}: there is no file {file}. Give the path of the file that has the"
                f" {_what(kind).lower()}."
            )
        return cls(file, class_name)

    @classmethod
    def named(cls, name: str, folder: Path) -> UserFile:
        """Return the file in a folder that a spec's `file.py:Class@checksum` speaks of, whether it is that or not."""
        file, _, rest = name.rpartition(":")
        return cls(folder / Path(file).name, rest.partition("@")[0])

    @property
    def name(self) -> str:
        """The name in a spec: it changes with the content, of what the file imports from its folder, too.

        It says nothing of where the file lies.
        """
        return f"{self.path.name}:{self.class_name}@{content_digest(self.path)[:16]}"

    def __str__(self) -> str:
        return f"{self.path}:{self.class_name}"


def _what(kind: str) -> str:
    """What the user's file has of a kind, as a place in `file.py:Class`."""
    return "function" if kind == "objective" else "Class"


def parse_model(text: str) -> tuple[str, UserFile | None]:
    """Return the spec's name for a model given on the command line, and the user's file if it is one.

    What a base is called in a spec, its file says: `tuning.machine.bases`.

    Raises:
        BadInput: there is no such model, or the file cannot be read.
    """
    if is_base(text):
        return text, None
    if ".py:" not in text:
        return hypermodel_name(text), None
    user_file = UserFile.parse("model", text)
    return user_file.name, user_file


def parse_strategy(text: str) -> tuple[str, UserFile | None]:
    """Return the spec's name for a strategy given on the command line, and the user's file if it is one.

    Raises:
        BadInput: the file cannot be read.
    """
    if ".py:" not in text:
        return text, None
    user_file = UserFile.parse("strategy", text)
    return user_file.name, user_file


def parse_objectives(
    text: str, direction: str | None, declared: tuple[str, str | None] = ("", None)
) -> tuple[tuple[Objective, ...], UserFile | None]:
    """Return the objectives given on the command line, and the user's file if one is a function of theirs.

    Args:
        text: the name of a curve, or `file.py:function`, and perhaps one of `MEASURED` after it.
        direction: of the curve, `max` or `min`; None where it is to be told.
        declared: the names and the direction of the study's own, which says it of that; of another, the name does.

    Raises:
        BadInput: see `parse_objective`; or what a model costs is all that was given.
    """
    first, second = _curve_and_cost(text)
    known, _ = _curve_and_cost(declared[0])
    if second and not first:
        raise BadInput(
            f"objective {text!r}: what a model costs is the second one. Give first what an epoch is judged by, such as"
            f" 'val_accuracy {second}'."
        )
    objective, user_file = parse_objective(first, direction, (known, declared[1]))
    return (objective, *([objective_of(second)] if second else [])), user_file


def _curve_and_cost(text: str) -> tuple[str, str]:
    """Return the two objectives that are given; of one alone, the second is empty."""
    first, _, second = text.rpartition(" ")
    return (first.strip(), second) if second in MEASURED else (text.strip(), "")


def parse_objective(
    text: str, direction: str | None, declared: tuple[str, str | None] = ("", None)
) -> tuple[Objective, UserFile | None]:
    """Return the objective that a curve is, and the user's file if it is a function of theirs.

    Args:
        text: the name of a curve, or `file.py:function`.
        direction: `max` or `min`; None where it is to be told.
        declared: the name and the direction of the study's own, which says it of that; of another, the name does.

    Raises:
        BadInput: its name is none, its direction cannot be told, or the file cannot be read.
    """
    user_file = UserFile.parse("objective", text) if ".py:" in text else None
    name = text if user_file is None else user_file.name
    if not name or not name.isprintable() or any(letter.isspace() for letter in name):
        raise BadInput(
            f"objective {shown(text)!r}: must be one name without spaces, such as val_loss, and may have one of"
            f" {', '.join(MEASURED)} after it."
        )
    said = declared[1] if declared[0] in (text, name) else None
    return objective_of(name, direction or said), user_file


def load_metric(objective: Objective, user_file: UserFile | None) -> Callable[..., Any] | None:
    """Return the function of a user's that an objective names, or None for a curve that the history has.

    Raises:
        BadInput: it is not that of the file this process was started with.
    """
    if objective.function is None:
        return None
    found = load_from("objective", objective.name, user_file)
    if not callable(found):
        raise BadInput(f"{user_file}: must be a function of labels and probabilities, found {found!r}.")
    metric: Callable[..., Any] = found
    return metric


def load_strategy(name: str, user_file: UserFile | None) -> type[Strategy] | None:
    """Return the class of a user's strategy that a spec names, or None for one of the project's own.

    Raises:
        BadInput: it is not that of the file this process was started with.
    """
    return None if name in STRATEGIES else load_class("strategy", name, user_file, lambda: Strategy)


def load_class(kind: str, name: str, user_file: UserFile | None, parent: Callable[[], type[Class]]) -> type[Class]:
    """Return the class that a spec names.

    Args:
        kind: what it is, `model` or `strategy`.
        name: the spec's, see `UserFile.name`.
        user_file: the file that this process was started with.
        parent: returns what the class must derive from; called once the file is known to be the right one.

    Raises:
        BadInput: it is not that of the file, or the file cannot be imported.
    """
    found = load_from(kind, name, user_file)
    wanted_class = parent()
    if not isinstance(found, type) or not issubclass(found, wanted_class):
        wanted = f"{wanted_class.__module__}.{wanted_class.__name__}"
        raise BadInput(f"{user_file}: must be a class derived from {wanted}, found {found!r}.")
    return found


def load_from(
    kind: str,
    name: str,
    user_file: UserFile | None,
    importing: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Any:
    """Return what a user's file has under the name that a spec says; None where it has nothing of that name.

    Args:
        kind: what it is, `model`, `strategy` or `objective`.
        name: the spec's, see `UserFile.name`.
        user_file: the file that this process was started with.
        importing: what holds while the file is imported; entered once the file is known to be the right one.

    Raises:
        BadInput: it is not that of the file, or the file cannot be imported.
    """
    if user_file is None:
        raise BadInput(
            f"the study's {kind} is {name!r}, of a user's file. Start the worker with that file: --{kind}"
            f" file.py:{_what(kind)}"
        )
    if user_file.name != name:
        # What is hidden here may have been imported where the study was begun.
        cure = ". ".join(["Start it with the same file, unchanged", *hidden(user_file.path)])
        raise BadInput(f"the study's {kind} is {name!r}, but this worker was started with {user_file.name!r}. {cure}.")
    module_name = f"user_{kind}_{user_file.path.stem}"
    specification = importlib.util.spec_from_file_location(module_name, user_file.path)
    if specification is None or specification.loader is None:
        raise BadInput(f"{user_file.path} cannot be imported. Give a Python file.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module_name] = module
    make_importable(user_file.path)
    try:
        with importing():
            specification.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        cure = ". ".join(hidden(user_file.path)) or "Mend the file"
        reason = in_one_line(error).rstrip(".")
        raise BadInput(f"{user_file.path} cannot be imported: {reason}. {cure}.") from error
    return getattr(module, user_file.class_name, None)
