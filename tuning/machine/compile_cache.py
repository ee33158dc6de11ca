"""Programs that XLA compiled, kept under the home so that the next process need not compile them again.

JAX tells the programs of other versions and devices apart by itself, and compiles again what it cannot read.
TensorFlow does neither: a program that cannot be kept, that does not fit, or of which a power cut left a part, is an
error in every trial that comes to it. So TensorFlow's are kept only where a probe has shown that it works
(`tuning.machine.compile_probe`), in a folder for each version and kind of GPU; and a file counts only once it was
synced, which its mode tells: it is read-only then. On a CPU nothing is kept for TensorFlow: there it uses no XLA unless
a user's model asks for it, and what is compiled for one CPU can kill a process on another.
"""

from __future__ import annotations

import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from storage.files import sync_file, sync_folder
from storage.settings import Home

# With less room on the disk nothing is kept: TensorFlow's trials fail where a program cannot be written.
MIN_FREE_BYTES = 1_000_000_000
# Programs that compile faster are not kept.
MIN_COMPILE_S = 0.5
# What is younger may be just being written, or sealed, by another worker.
SETTLED_S = 10.0

# In a folder of TensorFlow's: the probe has shown that programs can be kept there, or that they cannot.
WORKS, FAILS = "works", "fails"

_TENSORFLOW_FOLDER = "--tf_xla_persistent_cache_directory"


def cache_environment(home: Home, gpu: str | None, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that have a framework keep what it compiles; what the user set stays as it is.

    Args:
        home: where it is kept.
        gpu: the name of the GPU that the process trains on; None for the cores.
        environ: the environment that the process inherits.
    """
    if shutil.disk_usage(home.root).free < MIN_FREE_BYTES:
        return {}
    variables = {}
    if environ.get("JAX_COMPILATION_CACHE_DIR") is None:
        least_s = environ.get("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(MIN_COMPILE_S))
        variables["JAX_COMPILATION_CACHE_DIR"] = str(home.compiled("jax"))
        variables["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = least_s
    folder = tensorflow_folder(home, gpu, environ)
    if folder is not None and (folder / WORKS).exists():
        variables["TF_XLA_FLAGS"] = tensorflow_flags(folder, environ)
    return variables


def tensorflow_folder(home: Home, gpu: str | None, environ: Mapping[str, str]) -> Path | None:
    """Return where TensorFlow may keep what it compiles; None if it is not to keep anything, or the user says where.

    Args:
        home: where it is kept.
        gpu: the name of the GPU; None for the cores.
        environ: the environment of the process.
    """
    try:
        version = metadata.version("tensorflow")
    except metadata.PackageNotFoundError:
        return None
    folder = home.compiled(f"tensorflow-{version}-{gpu}")
    # Its parser of flags knows quotes, but no escapes.
    said = _TENSORFLOW_FOLDER in environ.get("TF_XLA_FLAGS", "")
    return None if gpu is None or said or '"' in str(folder) else folder


def tensorflow_flags(folder: Path, environ: Mapping[str, str], kind: str = "GPU") -> str:
    """Return `TF_XLA_FLAGS` that add a folder to what the user set.

    Args:
        folder: where compiled programs are kept.
        environ: the environment of the process.
        kind: the kind of device that they are kept for.
    """
    ours = f'{_TENSORFLOW_FOLDER}="{folder}" --tf_xla_persistent_cache_device_types={kind}'
    return f"{environ.get('TF_XLA_FLAGS', '')} {ours}".strip()


def seal_compiled(home: Home) -> None:
    """Sync what was compiled since, and mark it as whole."""
    for file in _unsealed(home):
        with suppress(OSError):  # another worker's, gone since
            sync_file(file)
            sync_folder(file.parent)
            file.chmod(0o444)


def drop_unsealed(home: Home) -> None:
    """Remove what no worker came to seal: a power cut may have left a part of it."""
    for file in _unsealed(home):
        with suppress(OSError):
            if time.time() - file.stat().st_mtime > SETTLED_S:
                file.unlink()


def _unsealed(home: Home) -> Iterator[Path]:
    for file in home.compiled("").parent.rglob("*"):
        # What TensorFlow is still writing has another ending.
        if (file.name.endswith((".pb", "-cache"))) and file.is_file() and file.stat().st_mode & stat.S_IWUSR:
            yield file
