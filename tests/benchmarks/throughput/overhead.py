"""``make bench-overhead``: one list of trials in the service, in two peers and at its bound, one after the other.

24 trials of 4 epochs on 4,000 images of MNIST, two processes, nothing pruned, the same configurations for all. The
service's seconds are from the start of its command to its end, imports included; its preflight, which looks at the
whole search space before the first trial and which nobody else makes, is reported apart. The bound is two processes
that have imported Keras before and do nothing but call ``fit``.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import optuna

from storage.errors import BadInput, TuningError
from tests.benchmarks.command import exit_status
from tests.benchmarks.report import Report, Table, add_result_option, keep
from tests.benchmarks.throughput.configurations import draw_configurations
from tests.benchmarks.throughput.contestants import CONTESTANTS, PEERS, Outcome
from tests.benchmarks.throughput.data import Plan, prepared, scratch
from tests.benchmarks.throughput.measures import difference, mean, median, median_ratio, shown

OURS: Final = "tuning"
# What the service's seconds without the preflight may be, of each other's.
WANTED: Final[Mapping[str, float]] = {"bound": 1.05, "optuna": 0.80, "keras_tuner": 0.75}
# Means may differ by so many standard errors before results count as different.
NOISE: Final = 3.0

FULL: Final = Plan(
    "mnist", train_images=4_000, validation_images=1_000, epochs=4, configurations=draw_configurations(24)
)
SMOKE: Final = Plan(
    "mnist_sample", train_images=1_000, validation_images=500, epochs=1, configurations=draw_configurations(4)
)
# What the peers are tried with, with threads pinned and without, to take their better setting.
TRIAL_RUN: Final = Plan(
    "mnist", train_images=4_000, validation_images=1_000, epochs=2, configurations=draw_configurations(6)
)


@dataclass
class Measured:
    """The outcomes so far, by contestant, one for each repeat; None where it failed."""

    outcomes: dict[str, list[Outcome | None]] = field(default_factory=dict)

    def add(self, name: str, outcome: Outcome | None) -> None:
        """Keep what a contestant did in its next repeat."""
        self.outcomes.setdefault(name, []).append(outcome)

    @property
    def is_complete(self) -> bool:
        """Whether every contestant got through, in one repeat at least."""
        return all(any(outcomes) for outcomes in self.outcomes.values())

    def training_s(self, name: str) -> list[float]:
        """Return the seconds without preflight of each repeat, NaN where it failed."""
        return [math.nan if one is None else one.training_s for one in self.outcomes[name]]

    def values(self, name: str) -> dict[int, float]:
        """Return the mean value of each configuration over the repeats."""
        found = [one.values for one in self.outcomes[name] if one is not None]
        numbers = {number for one in found for number in one}
        return {number: mean([one[number] for one in found if number in one]) for number in sorted(numbers)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return its exit status."""
    given = make_parser().parse_args(arguments)
    return exit_status(lambda: _compare(given), stopped="Nothing was kept.")


def _compare(given: argparse.Namespace) -> int:
    plan = SMOKE if given.smoke else FULL
    repeats = given.repeats if given.repeats is not None else (1 if given.smoke else 3)
    if min(repeats, given.workers) < 1:
        raise BadInput(f"--repeats {repeats} --workers {given.workers}: give at least 1.")
    contestants = _contestants(given.contestants)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    os.environ["KERAS_BACKEND"] = "tensorflow"  # the bound's values are no constants there only
    _take_cores(given.workers)
    prepared(plan.dataset)
    threads = _threads(contestants, given)
    measured = measure(plan, contestants, given.workers, repeats, threads)
    found = report(measured, plan, given.workers, threads)
    print(found)
    keep(found, "bench-overhead", make_parser(), given)
    return 0 if measured.is_complete else 1


def measure(
    plan: Plan, contestants: Sequence[str], workers: int, repeats: int, threads: Mapping[str, int | None]
) -> Measured:
    """Run all contestants one after the other, so often; the next repeat begins with another one."""
    measured = Measured()
    for repeat in range(repeats):
        first = repeat % len(contestants)
        for name in (*contestants[first:], *contestants[:first]):
            measured.add(name, _try(name, plan, workers, threads.get(name, 1), f"repeat {repeat + 1}"))
    return measured


def _try(name: str, plan: Plan, workers: int, threads: int | None, words: str) -> Outcome | None:
    """Run a contestant; say what came of it. One that fails costs its repeat, not the others' hours."""
    print(f"{words}: {name} ...", end="", file=sys.stderr, flush=True)
    try:
        with scratch() as folder:
            outcome = CONTESTANTS[name](plan, workers, threads, folder)
    except TuningError as error:
        print(f" failed: {error}", file=sys.stderr)
        return None
    missing = len(plan.configurations) - len(outcome.values)
    lacking = f", {missing} configurations have no result" if missing else ""
    print(f" {outcome.wall_s:.1f} s, mean accuracy {mean([*outcome.values.values()]):.4f}{lacking}", file=sys.stderr)
    return outcome


def _threads(contestants: Iterable[str], given: argparse.Namespace) -> dict[str, int | None]:
    """Return the threads that each contestant is given; a peer's by trying, unless they are given."""
    chosen: dict[str, int | None] = {"bound": 1}
    if given.threads == "auto" and not given.smoke:
        return chosen | {name: _better_threads(name, given.workers) for name in PEERS if name in contestants}
    return chosen | dict.fromkeys(PEERS, None if given.threads == "free" else 1)


def _better_threads(name: str, workers: int) -> int | None:
    tried: dict[int | None, Outcome | None] = {
        threads: _try(name, TRIAL_RUN, workers, threads, f"{_in_words(threads)} threads") for threads in (1, None)
    }
    return min(tried, key=lambda threads: outcome.wall_s if (outcome := tried[threads]) is not None else math.inf)


def _in_words(threads: int | None) -> str:
    return "free" if threads is None else f"{threads} pinned"


def _take_cores(workers: int) -> None:
    """Keep this process, and all that it starts, to one core for each worker."""
    if not hasattr(os, "sched_setaffinity"):  # macOS knows no affinity
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < workers:
        print(f"{workers} workers share {len(cores)} core(s): seconds are not those of free ones", file=sys.stderr)
    os.sched_setaffinity(0, cores[:workers])


def _contestants(given: Sequence[str] | None) -> list[str]:
    names = list(given or CONTESTANTS)
    for name in names:
        if name not in CONTESTANTS:
            raise BadInput(f"--contestants {name}: there is none of that name. Take of {', '.join(CONTESTANTS)}.")
    return list(dict.fromkeys(names))


def report(measured: Measured, plan: Plan, workers: int, threads: Mapping[str, int | None]) -> Report:
    """Return what is printed."""
    images = f"{plan.train_images:,} + {plan.validation_images:,} images of {plan.dataset}"
    head = (
        f"{len(plan.configurations)} trials of {plan.epochs} epochs on {images}, {workers} processes, TensorFlow on the"
        " CPU"
    )
    others = [name for name in measured.outcomes if name != OURS and OURS in measured.outcomes]
    ratios = {f"{OURS} / {name}": _ratio(measured, name) for name in others}
    tables = [Table(head, _seconds(measured, threads)), Table("", _results(measured))]
    return Report(tables, _verdicts(measured), ratios)


def _ratio(measured: Measured, name: str) -> float:
    return median_ratio(measured.training_s(OURS), measured.training_s(name))


def _seconds(measured: Measured, threads: Mapping[str, int | None]) -> list[list[str]]:
    others = [name for name in measured.outcomes if name != OURS]
    rows = [
        [
            "contestant",
            "threads",
            "wall s",
            "preflight s",
            "without s",
            "CPU s",
            *(f"/ {name}" for name in others),
            "each",
        ]
    ]
    for name, outcomes in measured.outcomes.items():
        done = [one for one in outcomes if one is not None]
        own = measured.training_s(name)
        rows.append(
            [
                name,
                "its own" if name == OURS else _in_words(threads.get(name, 1)),
                shown(median([one.wall_s for one in done]), 1),
                shown(median([one.preflight_s for one in done]), 1) if name == OURS else "",
                shown(median(own), 1),
                shown(median([one.cpu_s for one in done]), 1),
                *(shown(median_ratio(own, measured.training_s(other))) for other in others),
                " ".join(shown(seconds, 1) for seconds in own),
            ]
        )
    return rows


def _results(measured: Measured) -> list[list[str]]:
    names = list(measured.outcomes)
    rows = [["contestant", "mean validation accuracy", "configurations", f"difference to {names[0]}", "standard error"]]
    for name in names:
        values = measured.values(name)
        differing = difference(values, measured.values(names[0])) if name != names[0] else (math.nan, math.nan)
        rows.append(
            [name, shown(mean([*values.values()]), 4), str(len(values)), *(shown(value, 4) for value in differing)]
        )
    return rows


def _verdicts(measured: Measured) -> list[str]:
    names = list(measured.outcomes)
    far = []
    for name in names[1:]:
        away, error = difference(measured.values(name), measured.values(names[0]))
        far += [name] if abs(away) > NOISE * error else []
    lines = [f"other accuracies than {names[0]}, beyond noise: {', '.join(far)}" if far else "accuracies agree"]
    if OURS in names:
        lines += [
            f"{OURS} / {name}: {shown(_ratio(measured, name))}, at most {wanted:.2f} is wanted"
            for name, wanted in WANTED.items()
            if name in names
        ]
    return lines


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.throughput.overhead", description=__doc__)
    parser.add_argument("--smoke", action="store_true", help="4 trials of 1 epoch, once; ends in about a minute")
    parser.add_argument("--repeats", type=int, help="how often each contestant runs; default: 3")
    parser.add_argument("--workers", type=int, default=2, help="processes of each; default: %(default)s")
    parser.add_argument("--contestants", nargs="+", help=f"default: {' '.join(CONTESTANTS)}")
    parser.add_argument(
        "--threads",
        choices=("auto", "pinned", "free"),
        default="auto",
        help="of the peers: one each, as many as TensorFlow takes, or what is faster; default: %(default)s",
    )
    add_result_option(parser)
    return parser


if __name__ == "__main__":
    sys.exit(main())
