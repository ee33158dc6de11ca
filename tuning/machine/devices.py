"""Which accelerators exist, and the environment that pins a worker to one.

Frameworks read these variables when they are imported, so a worker's environment is complete before its process starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from storage.errors import BadInput
from tuning.machine.memory import free_bytes

DeviceKind = Literal["cpu", "gpu"]
# How many workers share a device; `auto` starts with one, and `tuning.launch.packer` has more where that is faster.
PerDevice = int | Literal["auto"] | None

# The name of the cores as a device.
CPU = "CPU"
CORES = "cpu"
# The CPU threads of a worker that may get others beside it on its GPU, which does the work.
THREADS_ON_GPU = 4
# Of one launcher; more are a slip.
MOST_WORKERS = 1024


@dataclass(frozen=True)
class Device:
    """Something to train on.

    Attributes:
        kind: `cpu` for the cores of the machine as a whole, `gpu` for one NVIDIA device.
        id: what `CUDA_VISIBLE_DEVICES` takes, or `cpu`.
        name: the product's name.
        memory_bytes: its memory; 0 for the CPU.
        compute_capability: NVIDIA's `(major, minor)`.
    """

    kind: DeviceKind
    id: str
    name: str
    memory_bytes: int = 0
    compute_capability: tuple[int, int] = (0, 0)

    @property
    def precision(self) -> str:
        """The Keras dtype policy that the device computes fastest in without losing accuracy."""
        if self.compute_capability >= (8, 0):
            return "mixed_bfloat16"
        return "mixed_float16" if self.compute_capability >= (7, 0) else "float32"


@dataclass(frozen=True)
class Place:
    """Where this process trains, recorded with each trial.

    Attributes:
        device: the product's name.
        backend: Keras's.
        precision: the Keras dtype policy.
        threads: CPU threads of the framework. Another number gives other weights, in the last digits.
    """

    device: str
    backend: str
    precision: str
    threads: int


@dataclass(frozen=True)
class Placement:
    """Where one worker runs.

    Attributes:
        device: what it trains on.
        threads: CPU threads of its framework.
        environment: the variables that its process is started with, besides the inherited ones.
    """

    device: Device
    threads: int
    environment: Mapping[str, str]


def find_gpus(environ: Mapping[str, str] = os.environ) -> list[Device]:
    """Return the NVIDIA devices that `CUDA_VISIBLE_DEVICES` leaves visible; none without a driver.

    A GPU that is divided (MIG) counts as its parts: a process can use one of them, and not the whole.

    Raises:
        BadInput: the driver does not answer, or not for one of these devices: a study would silently do without.
    """
    import pynvml

    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and visible.split(",")[0].strip() in ("", "-1"):
        return []
    try:
        pynvml.nvmlInit()
        try:
            found = [_found(index) for index in range(pynvml.nvmlDeviceGetCount())]
        finally:
            pynvml.nvmlShutdown()
    except pynvml.NVMLError as error:
        if error.value in (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED):
            return []
        mismatch = error.value == pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH
        cure = "Restart the machine to load the driver that was installed" if mismatch else "See what nvidia-smi says"
        raise BadInput(f"NVIDIA's driver does not answer: {_said(error)}. {cure}, or {_ON_THE_CORES}.") from error
    return _visible(found, visible)


_ON_THE_CORES = "set CUDA_VISIBLE_DEVICES=-1 to use the cores"


def _said(error: Exception) -> str:
    return str(error).rstrip(".")


@dataclass(frozen=True)
class _Found:
    """A GPU as the driver tells of it; `why` says why it cannot be used, in which case it has no devices."""

    index: int
    uuid: str
    devices: list[Device]
    why: str = ""


def _found(index: int) -> _Found:
    import pynvml

    uuid = ""
    try:
        gpu = pynvml.nvmlDeviceGetHandleByIndex(index)
        uuid = str(pynvml.nvmlDeviceGetUUID(gpu))
        return _Found(index, uuid, _devices_of(gpu))
    except pynvml.NVMLError as error:  # lost, another user's, or of a kind that this driver knows too little of
        return _Found(index, uuid, [], why=_said(error))


def _visible(found: list[_Found], visible: str | None) -> list[Device]:
    if visible is None:
        return [device for gpu in found for device in _usable(gpu, found)]
    # CUDA ignores the first unknown entry and all after it.
    chosen: list[Device] = []
    for entry in (part.strip() for part in visible.split(",")):
        gpu = next((gpu for gpu in found if _names(entry, gpu.index, gpu.uuid)), None)
        match = _usable(gpu, found) if gpu is not None else []
        if gpu is None and entry.startswith("MIG-"):
            match = [device for gpu in found for device in gpu.devices if device.id.startswith(entry)][:1]
        nameless = next((gpu for gpu in found if gpu.why and not gpu.uuid), None)
        if not match and nameless is not None and entry.startswith(("GPU-", "MIG-")):
            _usable(nameless, found)  # perhaps the one that is meant
        if not match:
            break
        chosen += [device for device in match if device not in chosen]
    return chosen


def _usable(gpu: _Found, found: list[_Found]) -> list[Device]:
    if not gpu.why:
        return gpu.devices
    others = ",".join(device.id for other in found for device in other.devices)
    cure = f"Set CUDA_VISIBLE_DEVICES={others} to use the others" if others else f"S{_ON_THE_CORES[1:]}"
    raise BadInput(f"GPU {gpu.index} cannot be used: {gpu.why}. See what nvidia-smi says. {cure}.")


def _names(entry: str, index: int, uuid: str) -> bool:
    return entry == str(index) or (entry != "" and uuid.startswith(entry))


def _devices_of(gpu: Any) -> list[Device]:
    """Return a GPU's MIG devices, or the GPU itself where it is not divided."""
    import pynvml

    capability = pynvml.nvmlDeviceGetCudaComputeCapability(gpu)
    try:
        divided = pynvml.nvmlDeviceGetMigMode(gpu)[0] == 1
    except pynvml.NVMLError:  # a GPU that cannot be divided
        divided = False
    if not divided:
        return [_device(gpu, capability)]
    devices = []
    for index in range(pynvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        try:
            part = pynvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
        except pynvml.NVMLError:  # this place is empty
            continue
        devices.append(_device(part, capability))
    return devices


def _device(handle: Any, capability: tuple[int, int]) -> Device:
    import pynvml

    try:
        memory_bytes = int(pynvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError as error:
        if error.value != pynvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        memory_bytes = free_bytes()  # it has none of its own, but shares the machine's
    return Device(
        kind="gpu",
        id=str(pynvml.nvmlDeviceGetUUID(handle)),
        name=str(pynvml.nvmlDeviceGetName(handle)),
        memory_bytes=memory_bytes,
        compute_capability=(int(capability[0]), int(capability[1])),
    )


def place_workers(
    gpus: list[Device], cores: int, *, workers: int | None, per_device: PerDevice, environ: Mapping[str, str]
) -> list[Placement]:
    """Return where each worker of this machine runs, or with `auto` each of those that are started first.

    Args:
        gpus: the devices; without any, workers share the cores.
        cores: usable CPU cores.
        workers: how many in all; None for one on each GPU, or one on each core.
        per_device: how many on each GPU; 1 by default. With `auto`, one on each GPU or one in all on the cores.
        environ: the environment that the workers inherit.

    Raises:
        BadInput: a number is below 1 or beyond any machine, or the two contradict each other.
    """
    for flag, number in (("--workers", workers), ("--workers-per-device", per_device)):
        if isinstance(number, int) and number < 1:
            raise BadInput(f"{flag} {number}: must be at least 1. Leave it out for one worker on each device.")
        if isinstance(number, int) and number > MOST_WORKERS:
            raise BadInput(f"{flag} {number}: must be at most {MOST_WORKERS}. Leave it out for one on each device.")
    if per_device == "auto":
        if not gpus:
            return [place_worker(cores_as_device(), max(1, cores // (workers or cores)), environ)]
        threads = max(1, min(THREADS_ON_GPU, cores // len(gpus)))
        return [place_worker(gpu, threads, environ) for gpu in gpus[:workers]]
    if not gpus:
        if per_device is not None:
            raise BadInput(f"--workers-per-device {per_device}: there is no GPU here. Use --workers instead.")
        count = workers or cores
        threads = max(1, cores // count)
        return [place_worker(cores_as_device(), threads, environ) for _ in range(count)]
    count = workers or len(gpus) * (per_device or 1)
    if per_device is not None and count > len(gpus) * per_device:
        raise BadInput(
            f"--workers {count}: {len(gpus)} GPUs with --workers-per-device {per_device} hold {len(gpus) * per_device}."
            " Give fewer workers, or more on each device."
        )
    threads = max(1, cores // count)
    chosen = [gpus[number % len(gpus)] for number in range(count)]
    return [place_worker(device, threads, environ) for device in chosen]


def cores_as_device() -> Device:
    """Return the cores of the machine as a device."""
    return Device("cpu", CORES, CPU)


def place_worker(device: Device, threads: int, environ: Mapping[str, str]) -> Placement:
    """Return the placement of one worker on a device."""
    if device.kind == "cpu":
        return Placement(device, threads, cpu_environment(threads, environ))
    return Placement(device, threads, _gpu_environment(device, threads, environ))


def cpu_environment(threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep a process to the cores, with so many threads for its framework."""
    flags = f"--xla_cpu_multi_thread_eigen={'true' if threads > 1 else 'false'} intra_op_parallelism_threads={threads}"
    return {
        "CUDA_VISIBLE_DEVICES": "-1",
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": _with_flags(environ, flags),
        **_threads(threads),
    }


def _gpu_environment(device: Device, threads: int, environ: Mapping[str, str]) -> dict[str, str]:
    return {
        "CUDA_VISIBLE_DEVICES": device.id,
        # Several workers share a device: neither framework may take all of its memory at the start.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        # The same trial gives the same curve again, as far as XLA and cuDNN go. Not TF_DETERMINISTIC_OPS: with it Keras
        # compiles nothing, since not every op of TensorFlow's has a deterministic kernel there.
        "TF_CUDNN_DETERMINISTIC": "1",
        "XLA_FLAGS": _with_flags(environ, "--xla_gpu_deterministic_ops=true"),
        **_threads(threads),
    }


def _threads(threads: int) -> dict[str, str]:
    return {
        "TF_NUM_INTRAOP_THREADS": str(threads),
        "TF_NUM_INTEROP_THREADS": str(threads),
        "OMP_NUM_THREADS": str(threads),
        "OPENBLAS_NUM_THREADS": str(threads),
        # TensorFlow's start-up notices would fill the workers' logs.
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }


def _with_flags(environ: Mapping[str, str], flags: str) -> str:
    return f"{environ.get('XLA_FLAGS', '')} {flags}".strip()
