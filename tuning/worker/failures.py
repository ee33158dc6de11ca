"""How a trial fails: the classes, and how an exception is told to be of one. No Keras."""

from __future__ import annotations

from storage.attributes import OUT_OF_MEMORY
from storage.errors import in_one_line

# Anything that is raised and not one of the classes that parameters bring about.
ERROR = "error"


def failure_of(error: Exception) -> tuple[str, str]:
    """Return the class of a failure and its reason in one line.

    Out of memory is told by the frameworks' names for it: TensorFlow's `ResourceExhaustedError`, JAX's
    `RESOURCE_EXHAUSTED`, Python's `MemoryError`. TensorFlow calls a full disk by the same name, which no parameters
    bring about.
    """
    reason = in_one_line(error)[:500]
    text = f"{type(error).__name__} {error}".lower()
    marks = ("resourceexhausted", "resource_exhausted", "out of memory", "memoryerror")
    full_disk = "no space left on device" in text
    if isinstance(error, MemoryError) or (not full_disk and any(mark in text for mark in marks)):
        return OUT_OF_MEMORY, reason
    return ERROR, reason
