"""How many workers share a device: on devices of every kind, the packing ends where one more is not worth it."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuning.launch.packing import CONTEXT_BYTES, EPOCHS_IN_ALL, MAX_WORKERS, SHARE, WORTH, CpuPacking, GpuPacking
from tuning.messages import Memory, Throughput

GB = 10**9
Curve = Callable[[int], float]


class Machine:
    """A GPU on which workers train, one epoch after the other; what it measures is exact but for `noise`.

    Args:
        curve: images per second of so many workers together, for a workload of cost 1.
        peak_bytes: what each worker takes of its memory.
        memory_bytes: what it has.
        cap: how many workers there may be.
        costs: of the workloads; a trial draws one and keeps it for `trial_epochs`.
        noise: the standard deviation of the measured pace, relative.
    """

    def __init__(
        self,
        curve: Curve,
        *,
        peak_bytes: int = GB,
        memory_bytes: int = 1000 * GB,
        cap: int = MAX_WORKERS,
        costs: tuple[float, ...] = (1.0,),
        trial_epochs: int = 3,
        noise: float = 0.0,
        seed: int = 0,
    ) -> None:
        self.now = 0.0
        self.curve = curve
        self.costs = costs
        self.peak_bytes = peak_bytes
        self.trial_epochs = trial_epochs
        self.noise = noise
        self.random = random.Random(seed)
        self.packing = GpuPacking("GPU 0", memory_bytes=memory_bytes, host_bytes=10**15, cap=cap)
        # By worker: the cost of its trial, epochs left of it, when the epoch began, work left in it, whether it traces.
        self.trials: dict[int, list[float]] = {}
        self.levels = [1]
        self.lines: list[str] = []

    def run(self, epochs: int) -> int:
        """Train so many epochs in all; return how many workers there are at the end."""
        for _ in range(epochs):
            self.step()
        return self.packing.workers

    def step(self) -> None:
        for worker in range(self.packing.workers):
            self.trials.setdefault(worker, self.trial(traces=True))
        here = len(self.trials)
        speed = self.curve(here) / here
        worker, trial = min(self.trials.items(), key=lambda item: item[1][3])
        passed = trial[3] / speed
        self.now += passed
        for other in self.trials.values():
            other[3] -= passed * speed
        seconds = self.now - trial[2]
        measured = 1000 / seconds * math.exp(self.random.gauss(0, self.noise))
        epoch = Throughput(f"costs {trial[0]}", measured, trial[2], seconds, warm=not trial[4])
        self.tell(worker, epoch, here)
        trial[1] -= 1
        trial[2:] = [self.now, 1000 * trial[0], 0.0]
        if trial[1] <= 0:
            self.trials[worker] = self.trial(traces=False)
            if worker >= self.packing.workers:
                del self.trials[worker]  # it leaves after its trial
                self.packing.gone(worker)

    def trial(self, *, traces: bool) -> list[float]:
        cost = self.random.choice(self.costs)
        return [cost, self.trial_epochs, self.now, 1000 * cost * (3 if traces else 1), float(traces)]

    def tell(self, worker: int, epoch: Throughput, present: int) -> None:
        lines = [self.packing.peaked(Memory(self.peak_bytes, 1))]
        if worker < self.packing.workers:
            lines.append(self.packing.paced(worker, epoch, present))
        self.lines += [line for line in lines if line is not None]
        if self.packing.workers != self.levels[-1]:
            self.levels.append(self.packing.workers)


def saturating(best: float, *, after: float = 0.0) -> Curve:
    """So many workers fill the device; each one more costs `after` of the whole."""
    return lambda workers: min(workers, best) * (1 - after) ** max(0.0, workers - best)


@settings(max_examples=40)
@given(best=st.floats(1, 20), after=st.floats(0, 0.3), cap=st.integers(1, MAX_WORKERS), epochs=st.integers(1, 5))
def test_the_packing_ends_within_five_percent_of_the_best(best: float, after: float, cap: int, epochs: int) -> None:
    curve = saturating(best, after=after)
    machine = Machine(curve, cap=cap, trial_epochs=epochs)
    workers = machine.run(4 * cap * cap + 200)
    assert curve(workers) * WORTH * 1.001 >= max(curve(count) for count in range(1, cap + 1))
    # Up step by step, and at most one step back.
    assert machine.levels[: max(machine.levels)] == list(range(1, max(machine.levels) + 1))
    assert len(machine.levels) <= max(machine.levels) + 1
    assert machine.packing.workers <= cap


@settings(max_examples=40)
@given(best=st.floats(1.2, 12), seed=st.integers(0, 1000))
def test_trials_of_other_costs_and_noise_do_not_mislead_it(best: float, seed: int) -> None:
    curve = saturating(best, after=0.1)
    machine = Machine(curve, costs=(1.0, 2.0, 5.0), noise=0.005, seed=seed)
    workers = machine.run(1500)
    assert curve(workers) * 1.12 >= max(curve(count) for count in range(1, MAX_WORKERS + 1))


@settings(max_examples=30)
@given(peak_gb=st.floats(0.1, 40), memory_gb=st.floats(1, 80))
def test_the_peaks_fit_into_the_memory(peak_gb: float, memory_gb: float) -> None:
    machine = Machine(float, peak_bytes=int(peak_gb * GB), memory_bytes=int(memory_gb * GB))
    workers = machine.run(1500)
    fit = int(SHARE * memory_gb * GB // (peak_gb * GB + CONTEXT_BYTES))
    assert max(machine.levels) == workers == max(1, min(MAX_WORKERS, fit))


@settings(max_examples=40)
@given(
    peaks=st.lists(st.floats(0.1, 30), min_size=1, max_size=8),
    best=st.floats(1, 16),
    between=st.integers(1, 200),
)
def test_a_larger_peak_has_it_back_off_at_once(peaks: list[float], best: float, between: int) -> None:
    memory = 40 * GB
    machine = Machine(saturating(best), peak_bytes=0, memory_bytes=memory)
    for peak_gb in peaks:
        machine.peak_bytes = max(machine.peak_bytes, int(peak_gb * GB))
        for _ in range(between):
            machine.step()
            room = SHARE * memory // (machine.peak_bytes + CONTEXT_BYTES)
            assert machine.packing.workers <= max(1, room)


def test_a_mix_of_trials_that_stays_the_same_is_left_alone_for_ever() -> None:
    machine = Machine(saturating(3), costs=(1.0, 4.0))
    machine.run(300)
    levels = list(machine.levels)
    assert machine.run(20_000) == 3
    assert machine.levels == levels


def test_changing_mixes_open_the_search_ever_more_rarely() -> None:
    machine = Machine(saturating(3, after=0.3))
    for mix in range(1, 200):
        machine.costs = (1 + mix / 100,)
        machine.run(100)
    assert machine.packing.workers == 3
    assert sum("measured anew" in line for line in machine.lines) <= 8


def test_another_mix_of_trials_is_measured_anew_in_both_directions() -> None:
    machine = Machine(saturating(3))
    assert machine.run(200) == 3
    machine.curve, machine.costs = saturating(6), (2.0,)
    assert machine.run(1000) == 6
    machine.curve, machine.costs = saturating(4.9, after=0.3), (3.0,)
    assert machine.run(3000) == 5


def test_a_trial_that_finds_no_memory_halves_the_workers_and_later_they_come_back() -> None:
    machine = Machine(saturating(8))
    assert machine.run(600) == 8
    assert machine.packing.ran_out(8) == "GPU 0: a trial of 8 workers found no memory: back to 4"
    # The others leave after their trials: what runs out meanwhile says nothing of four.
    assert machine.packing.ran_out(7) is None
    assert machine.packing.workers == 4
    machine.levels.append(4)
    machine.run(110)
    assert machine.packing.workers == 4
    assert machine.run(2000) == 8


def test_a_trial_that_is_too_large_alone_changes_nothing() -> None:
    packing = Machine(saturating(8), cap=1).packing
    assert packing.ran_out(1) is None
    assert packing.workers == 1


def test_one_line_tells_of_each_step() -> None:
    machine = Machine(saturating(2.4), peak_bytes=int(0.7 * GB), memory_bytes=16 * GB)
    machine.run(200)
    assert machine.lines == [
        "GPU 0: 2 workers train 2.0 times as fast as 1 (peak memory 1.4 of 16 GB)",
        "GPU 0: 3 workers train 1.2 times as fast as 2 (peak memory 2.1 of 16 GB)",
        "GPU 0: 4 workers train 1.00 times as fast as 3: back to 3",
    ]


def test_what_ends_the_search_for_want_of_memory_is_told() -> None:
    machine = Machine(float, peak_bytes=5 * GB, memory_bytes=16 * GB)
    machine.run(200)
    assert machine.lines == [
        "GPU 0: 2 workers train 2.0 times as fast as 1, one more would not fit (peak memory 10 of 16 GB)"
    ]
    machine.peak_bytes = 9 * GB
    machine.step()
    assert machine.lines[1:] == ["GPU 0: 2 workers do not fit (peak memory 18 of 16 GB): back to 1"]


def test_the_machines_own_memory_bounds_the_workers_of_a_gpu_too() -> None:
    packing = GpuPacking("GPU 0", memory_bytes=100 * GB, host_bytes=4 * GB, cap=16)
    packing.peaked(Memory(GB, 3 * GB))
    lines = [packing.paced(0, Throughput("a", 1.0, float(now), 1.0, warm=True), 1) for now in range(10)]
    assert [line for line in lines if line] == ["GPU 0: one more would not fit (main memory 3.0 of 4.0 GB)"]
    assert packing.workers == 1


def test_an_epoch_counts_only_if_all_workers_trained_while_it_lasted() -> None:
    now = 0.0
    packing = GpuPacking("GPU 0", memory_bytes=100 * GB, host_bytes=100 * GB, cap=16)

    def epochs(workers: list[int], *, present: int, warm: bool = True) -> int:
        nonlocal now
        for worker in workers:
            packing.paced(worker, Throughput("a", 100.0, now, 1.0, warm), present)
            now += 0.0 if worker < max(workers) else 1.0
        return packing.workers

    epochs([0], present=1)  # from here on all train
    epochs([0, 0, 0], present=1)
    epochs([0] * EPOCHS_IN_ALL, present=1, warm=False)
    epochs([0], present=2)  # somebody is there who should not be
    epochs([0], present=1)  # again from here on
    assert epochs([0, 0], present=1) == 1
    assert epochs([0], present=1) == 2
    epochs([0, 1], present=2, warm=False)
    epochs([0, 1], present=2)
    epochs([0] * 30, present=2)  # the other one trains no more
    packing.gone(1)
    epochs([0, 0, 0], present=2)
    epochs([0, 1], present=2, warm=False)
    assert packing.workers == 2
    assert epochs([0, 1], present=2) == 3


# --- The cores


@given(
    cores=st.integers(1, 64),
    memory_gb=st.floats(0.5, 200),
    peaks=st.lists(st.floats(0.1, 20), min_size=1, max_size=5),
)
def test_workers_on_the_cores_fit_into_the_memory_and_use_the_cores(
    cores: int, memory_gb: float, peaks: list[float]
) -> None:
    packing = CpuPacking(cores=cores, memory_bytes=int(memory_gb * GB), workers=cores)
    assert (packing.workers, packing.threads) == (cores, 1)
    for number, peak in enumerate(peaks):
        before = packing.workers
        line = packing.peaked(Memory(0, int(peak * GB)))
        assert (line is not None) == (packing.workers < before)
        if number == 0:
            assert packing.workers * packing.threads <= cores < packing.workers * (packing.threads + 1)
            threads = packing.threads
    assert packing.workers == 1 or packing.workers * max(peaks) <= SHARE * memory_gb + 1e-6
    assert packing.threads == threads


def test_fewer_workers_with_more_threads_are_told_and_later_fewer_with_the_same() -> None:
    packing = CpuPacking(cores=8, memory_bytes=6 * GB, workers=8)
    assert packing.peaked(Memory(0, GB)) == (
        "CPU: not enough memory for 8 workers (1.2 GB each of 6.0 GB): 4 with 2 thread(s) each"
    )
    assert packing.peaked(Memory(0, int(1.3 * GB))) is None
    assert packing.peaked(Memory(0, int(1.5 * GB))) == (
        "CPU: not enough memory for 4 workers (1.5 GB each of 6.0 GB): 3 with 2 thread(s) each"
    )
    assert packing.ran_out(4) is None
    assert packing.ran_out(3) == "CPU: not enough memory for 3 workers (a trial found none): 1 with 2 thread(s) each"
    assert packing.ran_out(1) is None


@pytest.mark.parametrize("workers", [1, 3, 20])
def test_a_number_of_workers_is_kept_to(workers: int) -> None:
    packing = CpuPacking(cores=8, memory_bytes=100 * GB, workers=workers)
    assert packing.peaked(Memory(0, GB)) is None
    assert packing.workers == workers
