"""Every path under ``TUNING_HOME``. Nobody else joins one."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from storage.errors import BadInput, disk_error

# How a launcher tells its workers where the study is.
STORAGE_VARIABLE = "TUNING_STORAGE"


class Variable(NamedTuple):
    """An environment variable that a user may set.

    Attributes:
        name: as it is called.
        default: in words; empty where there is none.
        meaning: in words.
    """

    name: str
    default: str
    meaning: str


# All that is read from the environment, wherever it is read: what tuning/README.md says of it.
ENVIRONMENT = (
    Variable("TUNING_HOME", "`runs/` in the checkout", "the folder for all that the service makes"),
    Variable("DATA_DIR", "", "a folder of yours with official data files, looked at first"),
    Variable(
        STORAGE_VARIABLE,
        "",
        "the database that `tuning worker` joins, instead of `--storage`: a URL with a password does not belong on a"
        " command line",
    ),
    Variable(
        "PYTHONPATH",
        "",
        "folders with modules that a file of yours imports. They are searched last: one that is called as a module of"
        " Python, of the project or of what is installed hides nothing",
    ),
    Variable(
        "KERAS_BACKEND",
        "`tensorflow`",
        "`jax` trains on JAX; install it first with `.venv/bin/python -m pip install jax` (on a GPU with the CUDA extra"
        " that fits your driver). Keep it the same for a whole study. Nothing else of a user's Keras settings counts:"
        " of `keras.json` and `KERAS_MAX_EPOCHS`, nothing changes what a study gives",
    ),
    Variable(
        "CUDA_VISIBLE_DEVICES",
        "all",
        "which GPUs are used: numbers or UUIDs, with commas; `-1` uses the cores only",
    ),
    Variable("XLA_FLAGS", "", "kept; the service adds flags of its own (threads on a CPU, determinism on a GPU)"),
    Variable(
        "TF_XLA_FLAGS",
        "",
        "kept; on a GPU the service adds where compiled programs are kept, unless that is said here already or a trial"
        " of it at the first study fails",
    ),
    Variable(
        "TF_DETERMINISTIC_OPS",
        "",
        "leave it unset: with it Keras compiles nothing on a GPU, and a study says so. What a GPU repeats exactly is"
        " what XLA and cuDNN compute; the service asks both for it",
    ),
    Variable("JAX_COMPILATION_CACHE_DIR", "under `TUNING_HOME`", "where JAX keeps compiled programs"),
    Variable(
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        "0.5",
        "programs that compile in less are not kept",
    ),
)

CHECKOUT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Home:
    """The folder that holds all that the service makes.

    Attributes:
        root: absolute path of ``TUNING_HOME``.
    """

    root: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Home:
        """Return the home that ``TUNING_HOME`` names; ``runs/`` in the checkout by default."""
        given = environ.get("TUNING_HOME")
        return cls(Path(given).expanduser().resolve() if given else CHECKOUT / "runs")

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the default database."""
        # SQLAlchemy takes %20 for a space and what follows a question mark for options.
        path = str(self.root / "studies.db").replace("%", "%25").replace("?", "%3F")
        return f"sqlite:///{path}"

    def dataset(self, name: str) -> Path:
        """The folder of a prepared data set."""
        return self.root / "datasets" / name

    @property
    def downloads(self) -> Path:
        """The folder of files as they were downloaded."""
        return self.root / "datasets" / "downloads"

    @property
    def artifacts(self) -> Path:
        """The root of all trials' artifacts."""
        return self.root / "artifacts"

    def checkpoints(self, study: str, uid: str) -> Path:
        """The folder of a study's checkpoints; `uid` tells studies of one name in different databases apart."""
        return self.root / "checkpoints" / _folder_name(f"{study}-{uid[:8]}")

    def export(self, study: str) -> Path:
        """The folder of a study's exported bundle."""
        return self.root / "exports" / _folder_name(study)

    def exploration(self, dataset: str) -> Path:
        """The folder of the pictures that `explore` draws of a data set."""
        return self.root / "explore" / dataset

    def compiled(self, reader: str) -> Path:
        """The folder of programs that XLA compiled; `reader` says who can use them."""
        return self.root / "compiled" / _folder_name(reader)

    def logs(self, study: str) -> Path:
        """The folder of a study's worker logs."""
        return self.root / "logs" / _folder_name(study)

    def make(self, folder: Path) -> Path:
        """Create a folder under the home and return it.

        Raises:
            BadInput: it cannot be created or written.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            then = "Set TUNING_HOME to a folder that can be written."
            raise disk_error(error, f"cannot create the folder {folder}", then) from error
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadInput(f"the folder {folder} cannot be written. Set TUNING_HOME to a folder that can be.")
        return folder


def _folder_name(study: str) -> str:
    """Return a study's name as one path component: deleting the study `..` must not delete what lies around it."""
    name = study.replace("%", "%25").replace("/", "%2F")
    return {"": "%", ".": "%2E", "..": "%2E%2E"}.get(name, name)
