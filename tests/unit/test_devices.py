"""Each worker is pinned to one device, with its share of the cores, before its process starts."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from storage.errors import BadInput
from storage.processes.cores import usable_cores
from tuning.machine.devices import Device, PerDevice, find_gpus, place_workers


@dataclass
class Gpu:
    """A device as NVML shows it; `parts` are its MIG devices, None where it cannot be divided."""

    uuid: str
    name: str = "H200"
    memory: int = 100
    capability: tuple[int, int] = (9, 0)
    parts: list[Gpu | None] | None = None
    divided: bool = field(default=False)
    # By the name of a call, the code with which it fails.
    fails: dict[str, int] = field(default_factory=dict)


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> list[Gpu]:
    """The machine's GPUs, as a list to fill."""
    gpus: list[Gpu] = []

    def mode(gpu: Gpu) -> list[int]:
        if gpu.parts is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return [int(gpu.divided), int(gpu.divided)]

    def part(gpu: Gpu, index: int) -> Gpu:
        assert gpu.parts is not None
        found = gpu.parts[index]
        if found is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)
        return found

    fakes: dict[str, Any] = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: len(gpus),
        "nvmlDeviceGetHandleByIndex": lambda index: gpus[index],
        "nvmlDeviceGetUUID": lambda gpu: gpu.uuid,
        "nvmlDeviceGetName": lambda gpu: gpu.name,
        "nvmlDeviceGetMemoryInfo": lambda gpu: SimpleNamespace(total=gpu.memory),
        "nvmlDeviceGetCudaComputeCapability": lambda gpu: gpu.capability,
        "nvmlDeviceGetMigMode": mode,
        "nvmlDeviceGetMaxMigDeviceCount": lambda gpu: len(gpu.parts),
        "nvmlDeviceGetMigDeviceHandleByIndex": part,
    }

    def failing(name: str, fake: Any) -> Any:
        def call(*given: Any) -> Any:
            gpu = gpus[given[0]] if given and isinstance(given[0], int) else given[0] if given else None
            if isinstance(gpu, Gpu) and name in gpu.fails:
                raise pynvml.NVMLError(gpu.fails[name])
            return fake(*given)

        return call

    for name, fake in fakes.items():
        monkeypatch.setattr(pynvml, name, failing(name, fake))
    return gpus


def refuse(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def init() -> None:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlInit", init)


@pytest.mark.parametrize("code", [pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, pynvml.NVML_ERROR_DRIVER_NOT_LOADED])
def test_without_a_driver_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse(monkeypatch, code)
    assert find_gpus({}) == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "version mismatch. Restart the machine to load the driver"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions. See what nvidia-smi says, or set CUDA_VISIBLE_"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error. See what nvidia-smi says"),
    ],
)
def test_a_driver_that_does_not_answer_is_no_machine_without_gpus(
    monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    refuse(monkeypatch, code)
    with pytest.raises(BadInput, match=says):
        find_gpus({})
    assert find_gpus({"CUDA_VISIBLE_DEVICES": "-1"}) == [], "on the cores nobody asks it"


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("nvmlDeviceGetHandleByIndex", pynvml.NVML_ERROR_GPU_IS_LOST, "GPU is lost"),
        ("nvmlDeviceGetUUID", pynvml.NVML_ERROR_NO_PERMISSION, "Insufficient Permissions"),
        ("nvmlDeviceGetCudaComputeCapability", pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
        ("nvmlDeviceGetMemoryInfo", pynvml.NVML_ERROR_GPU_IS_LOST, "GPU is lost"),
    ],
)
def test_a_gpu_that_does_not_answer_is_refused_with_the_others_named(
    machine: list[Gpu], call: str, code: int, says: str
) -> None:
    machine.extend([Gpu("GPU-aa"), Gpu("GPU-bb", fails={call: code})])
    cure = f"GPU 1 cannot be used: {says}. See what nvidia-smi says. Set CUDA_VISIBLE_DEVICES=GPU-aa to use the others."
    for environ in ({}, {"CUDA_VISIBLE_DEVICES": "1"}, {"CUDA_VISIBLE_DEVICES": "0,GPU-bb"}):
        with pytest.raises(BadInput, match=re.escape(cure)):
            find_gpus(environ)
    for visible in ("0", "GPU-aa"):
        assert [gpu.id for gpu in find_gpus({"CUDA_VISIBLE_DEVICES": visible})] == ["GPU-aa"]


def test_where_no_gpu_answers_the_cores_are_the_cure(machine: list[Gpu]) -> None:
    machine.append(Gpu("GPU-aa", fails={"nvmlDeviceGetHandleByIndex": pynvml.NVML_ERROR_GPU_IS_LOST}))
    with pytest.raises(BadInput, match="Set CUDA_VISIBLE_DEVICES=-1 to use the cores"):
        find_gpus({})


def test_a_gpu_without_memory_of_its_own_shares_the_machines(machine: list[Gpu]) -> None:
    machine.append(Gpu("GPU-aa", fails={"nvmlDeviceGetMemoryInfo": pynvml.NVML_ERROR_NOT_SUPPORTED}))
    (gpu,) = find_gpus({})
    assert gpu.memory_bytes > 10**6


def test_a_gpu_is_described(machine: list[Gpu]) -> None:
    machine.append(Gpu("GPU-aa"))
    assert find_gpus({}) == [Device("gpu", "GPU-aa", "H200", 100, (9, 0))]


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["GPU-aa1", "GPU-bb2", "GPU-cc3"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
        ("1", ["GPU-bb2"]),
        ("2,0", ["GPU-cc3", "GPU-aa1"]),
        (" 2 , 0 ", ["GPU-cc3", "GPU-aa1"]),
        ("0,-1,1", ["GPU-aa1"]),
        ("0,7,1", ["GPU-aa1"]),
        ("GPU-bb2", ["GPU-bb2"]),
        ("GPU-c", ["GPU-cc3"]),
        ("MIG-aa", []),
    ],
)
def test_only_what_the_environment_leaves_visible_is_used(
    machine: list[Gpu], visible: str | None, found: list[str]
) -> None:
    machine.extend([Gpu("GPU-aa1"), Gpu("GPU-bb2", parts=[]), Gpu("GPU-cc3")])
    environ = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert [gpu.id for gpu in find_gpus(environ)] == found


@pytest.mark.parametrize(
    ("visible", "found"),
    [
        (None, ["MIG-11", "MIG-22", "GPU-bb"]),
        ("0", ["MIG-11", "MIG-22"]),
        ("GPU-aa", ["MIG-11", "MIG-22"]),
        ("MIG-22", ["MIG-22"]),
        ("MIG-22,MIG-11", ["MIG-22", "MIG-11"]),
        ("MIG-99,MIG-11", []),
        ("1", ["GPU-bb"]),
    ],
)
def test_a_divided_gpu_counts_as_its_parts(machine: list[Gpu], visible: str | None, found: list[str]) -> None:
    parts = [Gpu("MIG-11", "H200 1g", 12), None, Gpu("MIG-22", "H200 1g", 12)]
    machine.extend([Gpu("GPU-aa", parts=parts, divided=True), Gpu("GPU-bb", parts=[])])
    gpus = find_gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert [gpu.id for gpu in gpus] == found
    assert all(gpu.compute_capability == (9, 0) for gpu in gpus)


@pytest.mark.parametrize(
    ("capability", "precision"),
    [
        ((9, 0), "mixed_bfloat16"),
        ((8, 0), "mixed_bfloat16"),
        ((7, 5), "mixed_float16"),
        ((6, 1), "float32"),
        ((0, 0), "float32"),
    ],
)
def test_the_precision_follows_the_devices_generation(capability: tuple[int, int], precision: str) -> None:
    assert Device("gpu", "GPU-a", "X", 1, capability).precision == precision


def gpus(count: int) -> list[Device]:
    return [Device("gpu", f"GPU-{number}", "H200", 1, (9, 0)) for number in range(count)]


@pytest.mark.parametrize(
    ("count", "cores", "workers", "per_device", "placed"),
    [
        (0, 4, None, None, [("cpu", 1)] * 4),
        (0, 4, 2, None, [("cpu", 2)] * 2),
        (0, 4, 3, None, [("cpu", 1)] * 3),
        (0, 2, 8, None, [("cpu", 1)] * 8),
        (1, 8, None, None, [("GPU-0", 8)]),
        (2, 8, None, None, [("GPU-0", 4), ("GPU-1", 4)]),
        (2, 8, None, 2, [("GPU-0", 2), ("GPU-1", 2), ("GPU-0", 2), ("GPU-1", 2)]),
        (2, 8, 1, None, [("GPU-0", 8)]),
        (2, 8, 3, None, [("GPU-0", 2), ("GPU-1", 2), ("GPU-0", 2)]),
        (2, 8, 3, 2, [("GPU-0", 2), ("GPU-1", 2), ("GPU-0", 2)]),
        (4, 2, None, None, [("GPU-0", 1), ("GPU-1", 1), ("GPU-2", 1), ("GPU-3", 1)]),
        # With `auto`, those that are started first.
        (0, 4, None, "auto", [("cpu", 1)]),
        (0, 4, 2, "auto", [("cpu", 2)]),
        (1, 16, None, "auto", [("GPU-0", 4)]),
        (2, 6, None, "auto", [("GPU-0", 3), ("GPU-1", 3)]),
        (2, 6, 1, "auto", [("GPU-0", 3)]),
    ],
)
def test_workers_are_spread_over_devices_and_share_the_cores(
    count: int, cores: int, workers: int | None, per_device: PerDevice, placed: list[tuple[str, int]]
) -> None:
    placements = place_workers(gpus(count), cores, workers=workers, per_device=per_device, environ={})
    assert [(place.device.id, place.threads) for place in placements] == placed


@pytest.mark.parametrize(
    ("count", "workers", "per_device", "says"),
    [
        (0, 0, None, "--workers 0: must be at least 1"),
        (1, -2, None, "--workers -2: must be at least 1"),
        (1, None, 0, "--workers-per-device 0: must be at least 1"),
        (0, 0, "auto", "--workers 0: must be at least 1"),
        (0, None, 2, "--workers-per-device 2: there is no GPU here. Use --workers"),
        (2, 5, 2, "--workers 5: 2 GPUs with --workers-per-device 2 hold 4. Give fewer"),
    ],
)
def test_what_cannot_be_placed_is_refused(count: int, workers: int | None, per_device: PerDevice, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        place_workers(gpus(count), 4, workers=workers, per_device=per_device, environ={})


def test_a_worker_on_a_gpu_sees_that_gpu_alone_and_leaves_memory_to_others() -> None:
    first, second = place_workers(gpus(2), 8, workers=None, per_device=None, environ={"XLA_FLAGS": "--mine"})
    assert first.environment["CUDA_VISIBLE_DEVICES"] == "GPU-0"
    assert second.environment["CUDA_VISIBLE_DEVICES"] == "GPU-1"
    assert first.environment["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"
    assert first.environment["XLA_PYTHON_CLIENT_PREALLOCATE"] == "false"
    assert first.environment["XLA_FLAGS"].startswith("--mine ")
    assert first.environment["TF_NUM_INTRAOP_THREADS"] == "4"
    assert "JAX_PLATFORMS" not in first.environment


def test_a_worker_on_the_cpu_sees_no_gpu_and_uses_its_share_of_the_cores() -> None:
    place, _ = place_workers([], 4, workers=2, per_device=None, environ={})
    assert place.environment["CUDA_VISIBLE_DEVICES"] == "-1"
    assert place.environment["JAX_PLATFORMS"] == "cpu"
    assert "intra_op_parallelism_threads=2" in place.environment["XLA_FLAGS"]
    assert {place.environment[name] for name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS")} == {"2"}
    assert place.device.precision == "float32"


def test_there_is_at_least_one_core() -> None:
    assert usable_cores() >= 1
