"""Which hypermodel a spec means: one of the project's own, or one of the file that this process was started with.

A spec read from a database is data. It may choose between what is already here; nothing that it says is imported.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from storage.errors import BadInput, unknown_name
from studies.declaration import hypermodel_name
from studies.spec import HYPERMODELS

if TYPE_CHECKING:
    from models.classifier import ImageClassifier


@dataclass(frozen=True)
class UserFile:
    """A Python file of the user's with a hypermodel in it.

    Attributes:
        path: the file.
        class_name: a subclass of `models.classifier.ImageClassifier` in it.
    """

    path: Path
    class_name: str

    @classmethod
    def parse(cls, text: str) -> UserFile:
        """Return what `file.py:Class` means.

        Raises:
            BadInput: it is of another form, or the file cannot be read.
        """
        path, _, class_name = text.rpartition(":")
        if not path.endswith(".py") or not class_name.isidentifier():
            raise BadInput(f"model {text!r}: a hypermodel of your own is given as file.py:Class.")
        file = Path(path).expanduser().resolve()
        if not file.is_file():
            raise BadInput(f"model {text!r}: there is no file {file}. Give the path of the file that has the class.")
        return cls(file, class_name)

    @property
    def name(self) -> str:
        """The name in a spec: it changes with the file's content, and says nothing of where the file lies."""
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return f"{self.path.name}:{self.class_name}@{digest[:16]}"

    def __str__(self) -> str:
        return f"{self.path}:{self.class_name}"


def parse_model(text: str) -> tuple[str, UserFile | None]:
    """Return the spec's name for a model given on the command line, and the user's file if it is one.

    Raises:
        BadInput: there is no such model.
    """
    if ".py:" in text:
        user_file = UserFile.parse(text)
        return user_file.name, user_file
    return hypermodel_name(text), None


def load_hypermodel(name: str, user_file: UserFile | None) -> type[ImageClassifier]:
    """Return the hypermodel that a spec names. Imports Keras.

    Raises:
        BadInput: it is neither one of the project's own nor that of the file this process was started with.
    """
    if name in HYPERMODELS.values():
        module, _, class_name = name.partition(":")
        loaded: type[ImageClassifier] = getattr(importlib.import_module(module), class_name)
        return loaded
    if user_file is None:
        if ".py:" not in name:
            raise unknown_name("model", name, HYPERMODELS)
        raise BadInput(
            f"the study's model is {name!r}, of a user's file. Start the worker with that file: --model file.py:Class"
        )
    if user_file.name != name:
        raise BadInput(
            f"the study's model is {name!r}, but this worker was started with {user_file.name!r}."
            " Start it with the same file, unchanged."
        )
    return _load_file(user_file)


def _load_file(user_file: UserFile) -> type[ImageClassifier]:
    from models.classifier import ImageClassifier

    module_name = f"user_model_{user_file.path.stem}"
    specification = importlib.util.spec_from_file_location(module_name, user_file.path)
    if specification is None or specification.loader is None:
        raise BadInput(f"{user_file.path} cannot be imported. Give a Python file.")
    module = importlib.util.module_from_spec(specification)
    sys.modules[module_name] = module
    try:
        specification.loader.exec_module(module)
    except Exception as error:
        raise BadInput(
            f"{user_file.path} cannot be imported: {type(error).__name__}: {error}. Mend the file."
        ) from error
    found = getattr(module, user_file.class_name, None)
    if not isinstance(found, type) or not issubclass(found, ImageClassifier):
        raise BadInput(f"{user_file}: must be a class derived from models.classifier.ImageClassifier, found {found!r}.")
    return found
