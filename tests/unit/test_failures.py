"""What the parameters bring about is told from what they do not."""

from __future__ import annotations

import pytest

from storage import attributes
from tuning.worker.endings import ERROR, failure_of


class ResourceExhaustedError(Exception):
    """Called as TensorFlow's."""


class InternalError(Exception):
    """Likewise."""


class XlaRuntimeError(RuntimeError):
    """Called as JAX's."""


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


@pytest.mark.parametrize(
    "error",
    [
        InternalError(
            "Failed copying input tensor from /job:localhost/replica:0/task:0/device:CPU:0 to /job:localhost/replica:0/"
            "task:0/device:GPU:0 in order to run _EagerConst: Dst tensor is not initialized."
        ),
        InternalError("No algorithm worked!  Error messages:\n  Profiling failure on CUDNN engine eng4{}"),
        InternalError("Failed to create cuBLAS handle: CUBLAS_STATUS_ALLOC_FAILED"),
        InternalError("Could not create cudnn handle: CUDNN_STATUS_ALLOC_FAILED"),
        InternalError("CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED"),
        XlaRuntimeError("FAILED_PRECONDITION: DNN library initialization failed. Look at the errors above"),
        XlaRuntimeError("INTERNAL: failed to load module: CUDA_ERROR_OUT_OF_MEMORY"),
        RuntimeError("cudaErrorMemoryAllocation"),
        RuntimeError("std::bad_alloc"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_every_word_for_a_lack_of_memory_is_known(error: Exception) -> None:
    assert failure_of(error)[0] == attributes.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "error",
    [
        InternalError("CUDA error: Failed to synchronize the stream: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal access"),
        InternalError("CUDNN_STATUS_EXECUTION_FAILED"),
        InternalError("CUBLAS_STATUS_INVALID_VALUE"),
        InternalError("DNN library is not found."),
        ResourceExhaustedError("/runs/datasets/x.npy; Too many open files"),
        ResourceExhaustedError("/runs/compiled/x; Disk quota exceeded"),
        ValueError("Variable 'dense/kernel' is not initialized"),
        ValueError("the optimizer's memory is not a number"),
    ],
)
def test_what_only_sounds_like_a_lack_of_memory_is_none(error: Exception) -> None:
    assert failure_of(error)[0] == ERROR
