"""How many workers share a device: what is decided from what they say of their pace and memory.

Nothing here starts a process or reads a clock: the workers say when their epochs began, by the clock of the machine.

On a GPU it is hill climbing. One worker more is tried as long as it fits into the memory; it stays if the workers
together then train noticeably faster. Trials differ, so like is compared with like: the pace of one workload (the same
model, optimizer and batch size) with so many workers and with one fewer.

On a CPU one worker on each core trains the most, so the only question is whether their memory is there.
"""

from __future__ import annotations

import math
import statistics
from collections import Counter, defaultdict, deque
from collections.abc import Iterable
from typing import Protocol

from tuning.messages import Memory, Throughput

MAX_WORKERS = 16
"""So many processes share a GPU at most."""
SHARE = 0.9
"""The part of a memory that may be planned for: a framework keeps a little more than it counts."""
WORTH = 1.05
"""One worker more stays if all together are this many times as fast."""
EPOCHS = 2
"""Epochs that each worker must have trained among the others before their number is judged ..."""
EPOCHS_IN_ALL = 6
"""... and all of them together: with more epochs of one number, the next one meets a known workload sooner."""
UNALIKE_EPOCHS = 20
"""After so many epochs of each, numbers are compared that have no workload in common, over all trials."""
REOPEN_EPOCHS = 30
"""The search begins anew at the earliest after so many epochs of each worker; each time after twice as many."""
GROWTH = 1.25
"""A worker on the cores is expected to take so many times what its preflight took."""
CONTEXT_BYTES = 600_000_000
"""What CUDA takes of a device for each process, besides what the framework counts."""
# How many of a workload's last paces with one number of workers are remembered; how many trials' workloads.
_REMEMBERED = 8
_RECENT = 16
# A worker that said nothing for so many of its epochs, and so many seconds, is not training: it is between trials.
_SILENT_EPOCHS = 3.0
_SILENT_S = 10.0
_ROUNDING_S = 0.01


class Packing(Protocol):
    """How many workers a device should have now.

    Each method returns what there is to tell the user of it, one line, or nothing.

    Attributes:
        workers: how many.
    """

    workers: int

    def paced(self, worker: int, epoch: Throughput, present: int) -> str | None:
        """Take in an epoch's pace.

        Args:
            worker: the number of its place.
            epoch: what it said.
            present: how many processes there are on the device, those included that are to leave.
        """

    def peaked(self, memory: Memory) -> str | None:
        """Take in the most memory that one worker has taken so far."""

    def ran_out(self, present: int) -> str | None:
        """Take in that a worker's trial found no memory."""

    def gone(self, worker: int) -> None:
        """Take in that a worker's process ended; another may follow in its place."""


class GpuPacking:
    """The packing of one GPU.

    Args:
        name: what the user calls it.
        memory_bytes: its memory.
        host_bytes: of the machine's free memory, the share of this GPU's workers.
        cap: how many workers there may be at most.
    """

    def __init__(self, name: str, *, memory_bytes: int, host_bytes: int, cap: int) -> None:
        self.workers = 1
        self._name = name
        self._memory_bytes = memory_bytes
        self._host_bytes = host_bytes
        self._cap = self._most = cap
        self._peak_bytes = 0
        self._resident_bytes = 0
        # By number of workers and workload; kept while the search goes on, to compare with.
        self._paces: dict[int, dict[str, deque[float]]] = {}
        self._searching = True
        self._searches = 1
        self._ran_out = False
        self._settled_epochs = 0
        self._recent: deque[str] = deque(maxlen=_RECENT)
        self._judged: set[str] = set()
        self._arrive(1)

    def _arrive(self, workers: int) -> None:
        self.workers = workers
        # The last epoch of each worker; since when all of them train.
        self._heard: dict[int, Throughput] = {}
        self._together: float | None = None
        self._counted: Counter[int] = Counter()

    def paced(self, worker: int, epoch: Throughput, present: int) -> str | None:
        """Take in an epoch's pace; see `Packing`."""
        if present != self.workers:
            # Somebody is still on the way, in or out: what is measured now is no number of workers' pace.
            self._heard.clear()
            self._together = None
            return None
        if not self._among_all(worker, epoch):
            return None
        here = self._paces.setdefault(self.workers, defaultdict(lambda: deque(maxlen=_REMEMBERED)))
        here[epoch.workload].append(epoch.images_per_s)
        self._counted[worker] += 1
        return self._judge() if self._searching else self._reconsider(epoch.workload)

    def _among_all(self, worker: int, epoch: Throughput) -> bool:
        """Return whether all the others trained as well while this epoch lasted, and nothing was traced in it."""
        self._heard[worker] = epoch
        if len(self._heard) < self.workers:
            return False
        if self._together is None:
            self._together = max(last.ended for last in self._heard.values())
            return False
        silent_s = {other: epoch.ended - last.ended for other, last in self._heard.items()}
        idle = any(silent_s[other] > _SILENT_EPOCHS * last.seconds + _SILENT_S for other, last in self._heard.items())
        return epoch.warm and not idle and epoch.began >= self._together - _ROUNDING_S

    def gone(self, worker: int) -> None:
        """Forget when the worker was heard; see `Packing`."""
        self._heard.pop(worker, None)
        self._together = None

    def _judge(self) -> str | None:
        workers = self.workers
        if len(self._counted) < workers or min(self._counted.values()) < EPOCHS:
            return None
        if self._counted.total() < EPOCHS_IN_ALL:
            return None
        gain = None
        if workers - 1 in self._paces:
            gain = self._gain()
            if gain is None:
                return None
            if gain < WORTH:
                self._settle(workers - 1)
                return (
                    f"{self._name}: {workers} workers train {_times(gain)} as fast as {workers - 1}:"
                    f" back to {workers - 1}"
                )
        words = [] if gain is None else [f"{workers} workers train {_times(gain)} as fast as {workers - 1}"]
        if workers >= self._cap:
            self._settle(workers)
        elif self._fit() > workers:
            self._arrive(workers + 1)
        else:
            words.append("one more would not fit")
            self._settle(workers)
        return f"{self._name}: {', '.join(words)}{self._memory_in_words(workers)}" if words else None

    def _gain(self) -> float | None:
        """Return how many times as fast as with one worker fewer all together are; None if it is too early to say."""
        here, below = self._paces[self.workers], self._paces[self.workers - 1]
        shared = [name for name in here if name in below]
        if shared:
            ratios = [statistics.median(here[name]) / statistics.median(below[name]) for name in shared]
            return math.exp(statistics.fmean(map(math.log, ratios))) * self.workers / (self.workers - 1)
        if min(self._counted.values()) < UNALIKE_EPOCHS:
            return None
        return _typical(here.values()) * self.workers / (_typical(below.values()) * (self.workers - 1))

    def _settle(self, workers: int) -> None:
        self._judged = {name for paces in self._paces.values() for name in paces}
        self._searching = False
        self._settled_epochs = 0
        self._recent.clear()
        self._arrive(workers)

    def _reconsider(self, workload: str) -> str | None:
        """Search anew when the trials are others than those that were measured, or memory was short and may be back."""
        self._settled_epochs += 1
        self._recent.append(workload)
        if self._settled_epochs < REOPEN_EPOCHS * self.workers * 2 ** (self._searches - 1):
            return None
        strange = sum(name not in self._judged for name in self._recent)
        if not self._ran_out and strange <= len(self._recent) / 2:
            return None
        self._searches += 1
        self._cap, self._ran_out = self._most, False
        self._searching = True
        self._paces.clear()
        # From one fewer, so that the search can end below the present number, too.
        self._arrive(max(1, min(self.workers, self._fit()) - 1))
        return f"{self._name}: how many workers share it is measured anew"

    def peaked(self, memory: Memory) -> str | None:
        """Back off at once where the largest peaks do not fit any more; see `Packing`."""
        self._peak_bytes = max(self._peak_bytes, memory.peak_bytes)
        self._resident_bytes = max(self._resident_bytes, memory.resident_bytes)
        before, fit = self.workers, max(1, self._fit())
        if before <= fit:
            return None
        self._settle(fit)
        return f"{self._name}: {before} workers do not fit{self._memory_in_words(before)}: back to {fit}"

    def ran_out(self, present: int) -> str | None:
        """Back off to half, and no further than that for a long while; see `Packing`."""
        if present > self.workers or self.workers == 1:
            # The answer to the last one is still on its way; or the trial is too large for the GPU alone.
            return None
        self._cap = self.workers // 2
        self._ran_out = True
        before = self.workers
        self._settle(self._cap)
        return f"{self._name}: a trial of {before} workers found no memory: back to {self._cap}"

    def _fit(self) -> int:
        """Return how many workers fit, each as large as the largest so far."""
        on_device = SHARE * self._memory_bytes // (self._peak_bytes + CONTEXT_BYTES)
        on_host = SHARE * self._host_bytes // max(1, self._resident_bytes)
        return int(min(on_device, on_host))

    def _memory_in_words(self, workers: int) -> str:
        """Say what so many workers take of the memory that is the shorter one."""
        if not self._peak_bytes and not self._resident_bytes:
            return ""
        device_share = (self._peak_bytes + CONTEXT_BYTES) / max(1, self._memory_bytes)
        if self._resident_bytes / max(1, self._host_bytes) > device_share:
            return f" (main memory {_gb(workers * self._resident_bytes)} of {_gb(self._host_bytes)} GB)"
        return f" (peak memory {_gb(workers * self._peak_bytes)} of {_gb(self._memory_bytes)} GB)"


class CpuPacking:
    """The packing of the cores: one worker on each if their memory is there, else fewer with more threads each.

    That is decided once, by what the preflight took. Should trials take more, workers leave, and those that stay keep
    their threads: a trial that was begun with one number of threads does not go on with another in the same process.

    Args:
        cores: of the machine.
        memory_bytes: what is free of its memory before any worker runs.
        workers: how many there are to be if they fit.

    Attributes:
        threads: of each worker.
    """

    def __init__(self, *, cores: int, memory_bytes: int, workers: int) -> None:
        self.workers = workers
        self.threads = max(1, cores // workers)
        self._cores = cores
        self._memory_bytes = memory_bytes
        self._resident_bytes = 0

    def paced(self, worker: int, epoch: Throughput, present: int) -> str | None:
        """Nothing follows from it here; see `Packing`."""
        return None

    def gone(self, worker: int) -> None:
        """Nothing follows from it here; see `Packing`."""

    def peaked(self, memory: Memory) -> str | None:
        """Have fewer workers where the largest peaks do not fit; see `Packing`."""
        begins = self._resident_bytes == 0
        self._resident_bytes = max(self._resident_bytes, memory.resident_bytes)
        expected_bytes = max(1, self._resident_bytes) * (GROWTH if begins else 1.0)
        fit = max(1, int(SHARE * self._memory_bytes // expected_bytes))
        if fit >= self.workers:
            return None
        if begins:
            self.threads = max(1, self._cores // fit)
        return self._fewer(fit, f"{_gb(expected_bytes)} GB each of {_gb(self._memory_bytes)} GB")

    def ran_out(self, present: int) -> str | None:
        """Have half as many workers; see `Packing`."""
        if present > self.workers or self.workers == 1:
            return None
        return self._fewer(self.workers // 2, "a trial found none")

    def _fewer(self, workers: int, why: str) -> str:
        before, self.workers = self.workers, workers
        return f"CPU: not enough memory for {before} workers ({why}): {workers} with {self.threads} thread(s) each"


def _typical(paces: Iterable[deque[float]]) -> float:
    return statistics.geometric_mean([pace for known in paces for pace in known])


def _times(gain: float) -> str:
    return f"{gain:.2f} times" if gain < WORTH else f"{gain:.1f} times"


def _gb(size_bytes: float) -> str:
    return f"{size_bytes / 1e9:.1f}" if size_bytes < 1e10 else f"{size_bytes / 1e9:.0f}"
