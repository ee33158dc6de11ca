"""How a trial ends, with a result or without, and how an exception is told to be of a class of failures. No Keras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from storage.attributes import OUT_OF_MEMORY
from storage.database import Result
from storage.errors import in_one_line

# Anything that is raised and not one of the classes that parameters bring about.
ERROR = "error"

# What frameworks and CUDA's libraries say where there is no room, in lower case. TensorFlow: `ResourceExhaustedError`,
# and for want of room for a copy, a workspace or a library's handle the two after it and "dnn library". JAX:
# `RESOURCE_EXHAUSTED`. The driver: `CUDA_ERROR_OUT_OF_MEMORY`, `cudaErrorMemoryAllocation`. Its libraries:
# `CUBLAS_STATUS_ALLOC_FAILED`, `CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED`. C++ and the kernel: the last.
_NO_MEMORY = (
    "resourceexhausted",
    "resource_exhausted",
    "out of memory",
    "out_of_memory",
    "memoryerror",
    "dst tensor is not initialized",
    "no algorithm worked",
    "dnn library initialization failed",
    "alloc_failed",
    "allocation_failed",
    "cudaerrormemoryallocation",
    "bad_alloc",
    "cannot allocate memory",
)
# What TensorFlow calls by the same name, and no parameters bring about: a disk or a table of the kernel is full.
_SOMETHING_ELSE = (
    "no space left on device",
    "disk quota exceeded",
    "too many open files",
    "too many links",
    "no buffer space available",
    "received message larger than max",
)


class Interrupted(Exception):
    """The worker was asked to stop: the trial goes back into the queue."""


class Frozen(Exception):
    """The strategy paused the trial: it waits, with its checkpoint, until it is thawed."""


class TrialError(Exception):
    """A trial raised something that another attempt may not meet.

    Attributes:
        reason: what it was, in one line.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True)
class Outcome:
    """How a trial ended, which is to be recorded still.

    Attributes:
        result: its last state and value.
        failure: the class of its failure, or None if it did not fail.
        keep: puts its files in place and adds what is said of them. It needs neither the model nor this thread.
    """

    result: Result
    failure: str | None = None
    keep: Callable[[], None] = lambda: None


def failure_of(error: Exception) -> tuple[str, str]:
    """Return the class of a failure and its reason in one line.

    Out of memory is told by what frameworks, CUDA's libraries and Python say of it.
    """
    reason = in_one_line(error)[:500]
    text = f"{type(error).__name__} {error}".lower()
    is_else = any(words in text for words in _SOMETHING_ELSE)
    if isinstance(error, MemoryError) or (not is_else and any(words in text for words in _NO_MEMORY)):
        return OUT_OF_MEMORY, reason
    return ERROR, reason
