"""Has as many workers on each device as its packing wants: starts more, and asks some to leave."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

from storage.processes.cores import usable_cores
from tuning.launch.engines.cluster import Growth
from tuning.launch.engines.engine import Adjusting
from tuning.launch.packing import MAX_WORKERS, CpuPacking, GpuPacking, Packing
from tuning.launch.understand import Asked
from tuning.launch.workforce import Ended, Event, Slot, Workforce
from tuning.machine.devices import CORES, Device, Placement, cores_as_device, place_worker
from tuning.machine.memory import free_bytes
from tuning.messages import Alone, Crowded, EpochEnded, Memory, OutOfMemory, Started


class Packer:
    """Follows the packings of this machine's devices.

    Args:
        workforce: the workers; one on each device to begin with, which never goes.
        packings: of each device, by its id.
        place: returns the placement of a worker on a device, by its id.
        report: takes one line about each change.
    """

    def __init__(
        self,
        workforce: Workforce,
        packings: Mapping[str, Packing],
        place: Callable[[str], Placement],
        report: Callable[[str], None],
    ) -> None:
        self._workforce = workforce
        self._packings = packings
        self._place = place
        self._report = report
        # What each worker's process was last told of its company, by the number of its place.
        self._told: dict[int, bool] = {}

    def adjust(self, trials_left: int) -> None:
        """Take in what the workers said, and have as many as are wanted now; call it often.

        Args:
            trials_left: how many trials are not over. There is no use for more workers.
        """
        for slot, event in self._workforce.drain_events():
            line = self._take_in(slot, event, self._packings[slot.placement.device.id])
            if line is not None:
                self._report(line)
        for device, packing in self._packings.items():
            self._follow(device, packing, trials_left)
            self._tell_of_company(device)

    def _take_in(self, slot: Slot, event: Event, packing: Packing) -> str | None:
        present = sum(other.alive for other in self._on(slot.placement.device.id))
        match event:
            case Started():
                self._told.pop(slot.number, None)
            case Ended():
                packing.gone(slot.number)
            case OutOfMemory():
                return packing.ran_out(present)
            case Memory():
                return packing.peaked(event)
            case EpochEnded(throughput, memory):
                line = packing.peaked(memory)
                return line if line is not None or slot.leaving else packing.paced(slot.number, throughput, present)
        return None

    def _follow(self, device: str, packing: Packing, trials_left: int) -> None:
        slots = self._on(device)
        staying = [slot for slot in slots if not slot.closing]
        for slot in staying[packing.workers :]:
            self._workforce.dismiss(slot)
        placement = self._place(device)
        for slot in staying[: packing.workers]:
            if placement not in (slot.placement, slot.moves_to):
                self._workforce.move(slot, placement)
        # Those that are about to leave still take their memory.
        for _ in range(packing.workers - len(slots)):
            if len(self._workforce.slots) < trials_left:
                self._workforce.add(placement)

    def _tell_of_company(self, device: str) -> None:
        slots = [slot for slot in self._on(device) if slot.alive]
        crowded = len(slots) > 1
        for slot in slots:
            if self._told.get(slot.number, False) != crowded:
                self._workforce.say(slot, Crowded() if crowded else Alone())
                self._told[slot.number] = crowded

    def _on(self, device: str) -> list[Slot]:
        return [slot for slot in self._workforce.slots if slot.placement.device.id == device]


def packer_of(asked: Asked, workforce: Workforce, report: Callable[[str], None]) -> Adjusting | None:
    """Return what has as many workers of a study as are useful; None where a number was given."""
    if asked.places.cluster is not None and asked.options.workers is None:
        return Growth(workforce, asked.places.cluster, asked.placements[0])
    if not asked.packs:
        return None
    return make_packer(
        workforce,
        asked.gpus,
        cores=usable_cores(),
        workers=asked.options.workers,
        memory_bytes=free_bytes(),
        environ=os.environ,
        report=report,
    )


def make_packer(
    workforce: Workforce,
    gpus: list[Device],
    *,
    cores: int,
    workers: int | None,
    memory_bytes: int,
    environ: Mapping[str, str],
    report: Callable[[str], None],
) -> Packer:
    """Return the packer of a workforce that was placed with `auto`.

    Args:
        workforce: the workers.
        gpus: the machine's; none for the cores.
        cores: usable CPU cores.
        workers: how many workers there may be in all; None for as many as are useful.
        memory_bytes: the machine's memory that was free before they were started.
        environ: the environment that they inherit.
        report: takes one line about each change.
    """
    if not gpus:
        on_cores = CpuPacking(cores=cores, memory_bytes=memory_bytes, workers=workers or cores)
        return Packer(
            workforce,
            {CORES: on_cores},
            lambda _: place_worker(cores_as_device(), on_cores.threads, environ),
            report,
        )
    placed = {slot.placement.device.id: slot.placement for slot in workforce.slots}
    packings: dict[str, Packing] = {}
    for number, gpu in enumerate(gpu for gpu in gpus if gpu.id in placed):
        share = MAX_WORKERS if workers is None else (workers + len(placed) - 1 - number) // len(placed)
        packings[gpu.id] = GpuPacking(
            f"GPU {number}",
            memory_bytes=gpu.memory_bytes,
            host_bytes=memory_bytes // len(placed),
            cap=max(1, min(MAX_WORKERS, cores // len(placed), share)),
        )
    return Packer(workforce, packings, placed.__getitem__, report)
