"""The environment variables that a user may set: what tuning/README.md says of each, wherever it is read."""

from __future__ import annotations

from typing import NamedTuple

from storage.settings import FILES_VARIABLE, STORAGE_VARIABLE


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


ENVIRONMENT = (
    Variable("TUNING_HOME", "`runs/` in the checkout", "the folder for all that the service makes"),
    Variable(
        FILES_VARIABLE,
        "`TUNING_HOME`",
        "where artifacts and checkpoints are kept: `s3://bucket/tuning`, `gs://bucket/tuning` or"
        " `file:///mnt/shared/tuning`; on make's command line, `FILES`",
    ),
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
        "KERAS_HOME",
        "`~/.keras`",
        "where Keras keeps what it downloads and looks for `keras.json`; one with which it cannot start is refused",
    ),
    Variable(
        "CUDA_VISIBLE_DEVICES",
        "all",
        "which GPUs are used: numbers or UUIDs, with commas; `-1` uses the cores only",
    ),
    Variable(
        "TUNING_PRECISION",
        "by the cores",
        "`float32` or `mixed_bfloat16`: what `auto` is taken for when a study is begun, whatever the cores are fast in",
    ),
    Variable("TF_ENABLE_ONEDNN_OPTS", "", "with `0` TensorFlow is slow in half precision: `auto` is `float32` then"),
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
