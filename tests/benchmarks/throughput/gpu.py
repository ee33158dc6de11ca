"""``make bench-gpu``: images per second of one trial, of stock ``fit`` on the same network, and of several at once.

Counted are whole epochs, validation included, without the first one, which traces and compiles. Several trials run as
the service's workers do, each a process with the environment that the launcher would give it, and are counted while
all of them train. Beside stands how much arithmetic that is, of what the device does when it only multiplies matrices.
Without a GPU the same is measured on the cores, with few images.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput
from storage.processes.cores import usable_cores
from storage.settings import Home
from studies.datasets.preparing import open_prepared
from studies.datasets.registry import dataset_info
from studies.datasets.splits import channel_statistics
from tests.benchmarks.command import exit_status
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.throughput.data import KEPT, scratch
from tests.benchmarks.throughput.measures import mean, median, shown, training_flops
from tests.benchmarks.throughput.processes import module, programs
from tests.benchmarks.throughput.task import Folder, Task
from tuning.machine.devices import Device, Placement, find_gpus, place_workers

SEED: Final = 20_261_120


@dataclass(frozen=True)
class Case:
    """A model and what it is trained on.

    Attributes:
        model: its short name.
        dataset: whose images it sees, or others of their shape.
        of_fit: how many times as fast as ``fit`` a trial should be.
        of_one: how many times as fast as one trial alone several together should be.
        train_images, validation_images: how many.
        epochs: of which the first one is not counted.
    """

    model: str
    dataset: str
    of_fit: float
    of_one: float
    train_images: int
    validation_images: int
    epochs: int = 4

    @property
    def on_cores(self) -> Case:
        """The same, small."""
        few = 2_048 if self.model == "cnn" else 256
        return replace(self, train_images=few, validation_images=few // 4, epochs=3)

    @property
    def smoke(self) -> Case:
        """The same, as small as it can be."""
        return replace(self, train_images=256, validation_images=128, epochs=2)


CASES: Final = {
    "cnn": Case("cnn", "mnist", of_fit=2.0, of_one=3.0, train_images=55_000, validation_images=5_000),
    "resnet": Case("resnet", "cifar10", of_fit=1.3, of_one=1.5, train_images=45_000, validation_images=5_000),
}


@dataclass(frozen=True)
class Trained:
    """What one process did while all of them trained.

    Attributes:
        images_s: training images per second of a whole epoch, the median over the epochs counted.
        accuracy: the best validation accuracy.
        forward_flops: of one image.
        backend: Keras's.
    """

    images_s: float
    accuracy: float
    forward_flops: int
    backend: str


@dataclass(frozen=True)
class Figures:
    """What was measured of one case.

    Attributes:
        case: which.
        data: what the images were, in words.
        fit, trial: of one process, one for each repeat.
        together: of so many at once, images per second of all, one for each repeat.
    """

    case: Case
    data: str
    fit: Sequence[Trained]
    trial: Sequence[Trained]
    together: Mapping[int, Sequence[float]]

    @property
    def alone_s(self) -> float:
        """Images per second of one trial."""
        return median([one.images_s for one in self.trial])

    @property
    def packed(self) -> tuple[int, float]:
        """How many at once are the fastest, and their images per second."""
        rates = {count: median(images_s) for count, images_s in self.together.items()} or {1: self.alone_s}
        best = max(rates, key=lambda count: rates[count])
        return best, rates[best]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    gpus = find_gpus()[:1]
    cases = [_sized(case, gpus, smoke=given.smoke) for case in _cases(given.models)]
    repeats = given.repeats if given.repeats is not None else (1 if given.smoke else 3)
    counts = given.at_once or ([2] if given.smoke else [2, 4, 8] if gpus else [usable_cores()])
    if min(repeats, *counts) < 1:
        raise BadInput(f"--repeats {repeats} --at-once {' '.join(map(str, counts))}: give at least 1.")
    if not gpus:
        print("no GPU here: measured small, on the cores", file=sys.stderr)
    rates = _matrix_rates(gpus)
    figures = [_measure(case, gpus, counts, repeats) for case in cases]
    found = report(figures, rates, _placements(gpus, 1)[0].device)
    print(found)
    keep(found, "bench-gpu", make_parser(), given)
    return 0


def _cases(given: Sequence[str] | None) -> list[Case]:
    for name in given or ():
        if name not in CASES:
            raise BadInput(f"--models {name}: there is none of that name. Take of {', '.join(CASES)}.")
    return [CASES[name] for name in dict.fromkeys(given or CASES)]


def _sized(case: Case, gpus: Sequence[Device], *, smoke: bool) -> Case:
    if smoke:
        return case.smoke
    return case if gpus else case.on_cores


def _placements(gpus: list[Device], count: int) -> list[Placement]:
    """Return where so many workers run, as the launcher would have it."""
    per_device = count if gpus else None
    return place_workers(gpus, usable_cores(), workers=count, per_device=per_device, environ=os.environ)


def _measure(case: Case, gpus: list[Device], counts: Sequence[int], repeats: int) -> Figures:
    fit: list[Trained] = []
    trial: list[Trained] = []
    together: dict[int, list[float]] = {}
    with scratch() as folder:
        data = make_task(Folder(folder), case)
        for _ in range(repeats):
            fit += _run(case, "fit", _placements(gpus, 1), folder)
            trial += _run(case, "trial", _placements(gpus, 1), folder)
            for count in counts:
                run = _run(case, "trial", _placements(gpus, count), folder)
                together.setdefault(count, []).append(sum(one.images_s for one in run))
    return Figures(case, data, fit, trial, together)


def _run(case: Case, how: str, placements: Sequence[Placement], folder: Path) -> list[Trained]:
    """Train so many of a case at once; all wait for each other after their first epoch."""
    print(f"{case.model}: {len(placements)} {how} ...", end="", file=sys.stderr, flush=True)
    with programs(folder) as running:
        started = [
            running.start(
                f"{how}-{number}",
                module("gpu_trial", case.model, how, placement.device.precision, folder),
                {**os.environ, **placement.environment},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            )
            for number, placement in enumerate(placements)
        ]
        warm = [_event(process, "warm") for process in started]
        if None not in warm:
            for process in started:
                _let_go(process)
        done = [_event(process, "done") for process in started]
        running.wait()
    trained = [_trained(case, one) for one in done if one is not None]
    print(f" {sum(one.images_s for one in trained):,.0f} images/s", file=sys.stderr)
    return trained


def _let_go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def _event(process: subprocess.Popen[str], name: str) -> dict[str, Any] | None:
    """Return the next line of a process that tells this event; None when it ends without."""
    assert process.stdout is not None and process.stdin is not None
    for line in process.stdout:
        if line.startswith("{") and (event := json.loads(line))["event"] == name:
            return dict(event)
    process.stdin.close()
    return None


def _trained(case: Case, done: Mapping[str, Any]) -> Trained:
    images_s = case.train_images / median(done["epoch_s"])
    return Trained(images_s, done["val_accuracy"], done["forward_flops"], done["backend"])


def _matrix_rates(gpus: list[Device]) -> dict[str, float]:
    """Return the device's FLOP/s in products of matrices, by dtype."""
    side, products = ("8192", "50") if gpus else ("1024", "4")
    placement = _placements(gpus, 1)[0]
    with scratch() as folder, programs(folder) as running:
        output = folder / "matrix.out"
        with output.open("w") as stdout:
            environment = {**os.environ, **placement.environment}
            running.start("matrix", module("gpu_matrix", side, products), environment, stdout=stdout)
            running.wait()
        found = json.loads(output.read_text().splitlines()[-1])
    return {dtype: float(found[dtype]) for dtype in ("bfloat16", "float32")}


def make_task(folder: Folder, case: Case) -> str:
    """Write a case's data, real where they are prepared here; return what they are, in words."""
    info = dataset_info(case.dataset)
    count = case.train_images + case.validation_images
    found = _prepared_images(case.dataset, count)
    images, labels = found or patterns(count, info.shape, len(info.class_names))
    at = case.train_images
    mean_, std = channel_statistics(images, np.arange(at))
    folder.write(Task(case.dataset, len(info.class_names), list(mean_), list(std), case.epochs, []))
    folder.write_part("training", images[:at], labels[:at])
    folder.write_part("validation", images[at:], labels[at:])
    return info.title if found else f"made-up images of {info.title}'s shape"


def _prepared_images(dataset: str, count: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]] | None:
    for home in (Home.from_environment(), Home(KEPT)):
        try:
            found = open_prepared(dataset, home)
        except BadInput:
            continue
        rows = np.random.default_rng(SEED).permutation(len(found.train_labels))[:count]
        return found.train_images[rows], found.train_labels[rows]
    return None


def patterns(
    count: int, shape: tuple[int, int, int], classes: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Return images `(count, *shape)`, each its class's pattern under noise, and their labels `(count,)`."""
    generator = np.random.default_rng(SEED)
    labels = generator.integers(0, classes, count)
    own = generator.integers(0, 64, (classes, *shape), dtype=np.uint8)
    return own[labels] + generator.integers(0, 192, (count, *shape), dtype=np.uint8), labels


def report(figures: Sequence[Figures], rates: Mapping[str, float], device: Device) -> Report:
    """Return what is printed."""
    backend = next((one.backend for case in figures for one in case.trial), "?")
    rate = rates["bfloat16" if "bfloat16" in device.precision else "float32"]
    peaks = ", ".join(f"{dtype} {flops / 1e12:.2f}" for dtype, flops in rates.items())
    head = f"backend {backend} on {device.name}, {device.precision}; products of matrices, TFLOP/s: {peaks}"
    tables = [Table(head, _rates(figures)), Table("", _arithmetic(figures, rate)), Table("", _accuracies(figures))]
    return Report(tables)


def _rates(figures: Sequence[Figures]) -> list[list[str]]:
    rows = [["model", "data", "fit, images/s", "one trial", "/ fit", "wanted", "several", "at once", "/ one", "wanted"]]
    for one in figures:
        fit = median([trained.images_s for trained in one.fit])
        count, packed = one.packed
        rows.append(
            [
                one.case.model,
                one.data,
                f"{fit:,.0f}",
                f"{one.alone_s:,.0f}",
                shown(one.alone_s / fit),
                f"at least {one.case.of_fit:g}",
                f"{packed:,.0f}",
                str(count),
                shown(packed / one.alone_s),
                f"at least {one.case.of_one:g}",
            ]
        )
    return rows


def _arithmetic(figures: Sequence[Figures], rate: float) -> list[list[str]]:
    rows = [["model", "MFLOP an image", "one trial, TFLOP/s", "of the device", "several", "of the device"]]
    for one in figures:
        flops = training_flops(one.trial[0].forward_flops) if one.trial else math.nan
        row = [one.case.model, shown(flops / 1e6, 1)]
        for images_s in (one.alone_s, one.packed[1]):
            row += [shown(images_s * flops / 1e12, 3), f"{shown(100 * images_s * flops / rate, 1)} %"]
        rows.append(row)
    return rows


def _accuracies(figures: Sequence[Figures]) -> list[list[str]]:
    rows = [["model", "validation accuracy with fit", "of a trial"]]
    for one in figures:
        both = ([trained.accuracy for trained in trained_] for trained_ in (one.fit, one.trial))
        rows.append([one.case.model, *(shown(mean(accuracies), 4) for accuracies in both)])
    return rows


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.throughput.gpu", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="few images, once; ends in about a minute")
    parser.add_argument("--models", nargs="+", help=f"default: {' '.join(CASES)}")
    parser.add_argument("--at-once", nargs="+", type=int, help="numbers of trials to try; default: 2 4 8")
    parser.add_argument("--repeats", type=int, help="how often each is measured; default: 3")
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
