"""What the parameters bring about is told from what they do not."""

from __future__ import annotations

import pytest

from storage import attributes
from tuning.worker.failures import ERROR, failure_of


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (MemoryError(), attributes.OUT_OF_MEMORY),
        (ResourceExhaustedError("OOM when allocating tensor with shape[64]"), attributes.OUT_OF_MEMORY),
        (RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 7 bytes."), attributes.OUT_OF_MEMORY),
        (ResourceExhaustedError("/runs/compiled/x.pb.tmp; No space left on device [Op:train]"), ERROR),
        (ValueError("no"), ERROR),
    ],
)
def test_running_out_of_memory_is_told_from_a_full_disk(error: Exception, failure: str) -> None:
    assert failure_of(error)[0] == failure
