"""Importing Keras in two thirds of the time, in processes that only train or judge. Imported without Keras.

Keras imports `matplotlib.pyplot` and IPython wherever they are installed, for functions that show a picture or a
notebook: as long as a third of TensorFlow takes. Here both wait until somebody uses them.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import sys
from collections.abc import Iterator
from types import ModuleType
from typing import Any


@contextlib.contextmanager
def importing_keras() -> Iterator[None]:
    """Import Keras and what is built on it inside the block, in a process of ours; what is a user's own comes after it.

    A million objects are made that stay: they are not searched for garbage, then or later. What waits is what it is
    everywhere else: a module that is imported after the block is the real one, and Keras gets it when it uses it.
    """
    gc.disable()
    try:
        with _without_notebooks(), _pictures_later():
            yield
    finally:
        gc.freeze()
        gc.enable()


class _Later(ModuleType):
    """Stands in for a module until something of it is asked for, and passes on what it has."""

    def __getattr__(self, name: str) -> Any:
        self.leave()
        return getattr(importlib.import_module(self.__name__), name)

    def leave(self) -> None:
        """Make way for the module itself."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]


@contextlib.contextmanager
def _pictures_later() -> Iterator[None]:
    if "matplotlib" in sys.modules:
        yield
        return
    package, pyplot, patches = (_Later(f"matplotlib{end}") for end in ("", ".pyplot", ".patches"))
    vars(package).update(__path__=[], pyplot=pyplot, patches=patches)
    stand_ins = (package, pyplot, patches)
    sys.modules.update({module.__name__: module for module in stand_ins})
    try:
        yield
    finally:
        for module in stand_ins:
            module.leave()


@contextlib.contextmanager
def _without_notebooks() -> Iterator[None]:
    """Keras and KerasTuner ask IPython whether they are in a notebook; where it is not there, they know the answer."""
    if "IPython" in sys.modules:
        yield
        return
    sys.modules["IPython"] = None  # type: ignore[assignment] # Python's own way to say that there is none
    try:
        yield
    finally:
        del sys.modules["IPython"]
