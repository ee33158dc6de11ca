"""Running trials: the command line, the launcher, the workers, and what is done with their results.

In Python, `from tuning import Study` has all that the commands do, and `tuning.optimize` runs an Optuna objective in
worker processes. Each is imported when it is asked for: a worker or a command that does without it begins at once.
"""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from storage.errors import TuningError as TuningError
    from tuning.launch.functions.optimize import optimize as optimize
    from tuning.notebook.study import Study as Study

_PLACES = {
    "Study": "tuning.notebook.study",
    "TuningError": "storage.errors",
    "optimize": "tuning.launch.functions.optimize",
}
"""What is offered in Python, and the module that has it."""

__all__ = ["Study", "TuningError", "optimize"]


def __getattr__(name: str) -> Any:
    """Import what is asked for."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Beside a notebook there may be a folder `storage` or `studies` of somebody's own.
    checkout = str(Path(__file__).resolve().parent.parent)
    sys.path.insert(0, checkout)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")  # of bars that Optuna does not show here
            return getattr(importlib.import_module(_PLACES[name]), name)
    finally:
        sys.path.remove(checkout)
