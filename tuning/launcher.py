"""One study on this machine: prepare, start workers, watch, drain. Never imports Keras."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console

from storage.claims import BUDGET_KEY, Claims, LeaseWatch
from storage.database import Database, open_database
from storage.errors import BadInput, StorageUnavailable
from storage.settings import Home
from studies import attributes
from studies.attributes import DEFAULT_LIMITS, Limits
from studies.datasets.prepared import PreparedDataset, prepare
from studies.datasets.registry import dataset_info
from studies.declaration import Declaration, Overrides, PlanName, from_catalog, make_spec, read_declaration
from studies.leaderboard import best_trial
from studies.spec import StudySpec
from studies.stored import create_or_load, stored_spec
from studies.study_data import describe
from tuning.devices import Placement, find_gpus, place_workers, usable_cores
from tuning.hypermodels import parse_model
from tuning.progress import Progress, parameters_in_words, value_in_words
from tuning.status import duration
from tuning.workforce import GRACE_S, Workforce

TICK_S = 0.5
# How often leases are looked at.
WATCH_S = 5.0


@dataclass(frozen=True)
class TuneOptions:
    """What `tuning tune` was asked for; None leaves the choice to the catalog or to the machine."""

    dataset: str | None = None
    spec_file: Path | None = None
    study: str | None = None
    trials: int | None = None
    timeout_s: float | None = None
    workers: int | None = None
    workers_per_device: int | None = None
    storage: str | None = None
    progress: bool = True
    overrides: Overrides = field(default_factory=Overrides)
    limits: Limits = field(default_factory=DEFAULT_LIMITS.copy)


def tune(options: TuneOptions, home: Home, console: Console) -> int:
    """Run or continue a study on this machine's devices; return the exit status: 0 done, 1 failed, 130 interrupted.

    Raises:
        BadInput: something given cannot be used; nothing was created or changed.
        TuningError: the study cannot go on.
    """
    declaration = _declaration(options)
    dataset_info(declaration.dataset)
    if options.trials is not None and options.trials < 1:
        raise BadInput(f"--trials {options.trials}: must be at least 1. Leave it out for the catalog's own.")
    gpus = find_gpus()
    placements = place_workers(
        gpus,
        usable_cores(),
        workers=options.workers,
        per_device=options.workers_per_device,
        environ=os.environ,
    )
    name = options.study or declaration.dataset
    url = options.storage or home.database_url
    # A home that is not there yet holds no study, and is not made before all that was given is known to be good.
    if home.root.exists():
        home.make(home.root)
    stored = stored_spec(url, name) if options.storage is not None or home.root.exists() else None
    # A study goes on under the plan that it was begun with, whatever machine it goes on on.
    plan_name: PlanName = stored.plan_name if stored is not None else ("gpu" if gpus else "cpu")
    plan = declaration.plan_for(plan_name)
    model, user_file = parse_model(options.overrides.model or plan.model or declaration.model)
    spec = make_spec(declaration, options.overrides, plan_name=plan_name, model=model)
    if stored is not None:
        spec.require_same(stored, name)
    home.make(home.root)
    dataset = prepare(spec.dataset, home)
    database = open_database(url, create=True)
    study, created = create_or_load(database, name, spec, lambda: describe(dataset, spec))
    study.set_user_attr(attributes.LIMITS, options.limits)
    claims = Claims(database, study._study_id, owner="launcher")
    # Without a number, a study that exists keeps its own total, which may have been extended.
    trials = options.trials or study.user_attrs.get(BUDGET_KEY) or plan.trials
    claims.set_budget(trials)
    _print_plan(console, study, spec, trials, dataset, placements, database)
    if claims.standing().done:
        console.print(f"nothing to do: {claims.standing().finished} of {trials} trials are finished")
        return 0
    progress = Progress(study, spec.epochs, console, live=options.progress and console.is_terminal)
    workforce = Workforce(
        claims,
        placements,
        ["--study", name, "--storage", url, *(["--model", str(user_file)] if user_file is not None else [])],
        {"TUNING_HOME": str(home.root)},
        home.make(home.logs(name)),
        report=lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True),
    )
    launcher = _Launcher(study, spec, claims, workforce, progress, console, options.timeout_s, options.storage)
    database.sleep = launcher.wait_for_database
    try:
        return launcher.run()
    except StorageUnavailable as error:
        if not launcher.interrupted:
            raise
        console.print(str(error), highlight=False, markup=False, soft_wrap=True)
        return 130
    except BadInput:
        # The preflight refused it before the first trial: as if it had not been asked for.
        if created and not study.get_trials(deepcopy=False):
            database.delete_study(study._study_id)
        raise


def _declaration(options: TuneOptions) -> Declaration:
    if options.spec_file is not None:
        declaration = read_declaration(options.spec_file)
        if options.dataset not in (None, declaration.dataset):
            raise BadInput(
                f"--dataset {options.dataset}: {options.spec_file} is for {declaration.dataset!r}. Leave one out."
            )
        return declaration
    if options.dataset is None:
        raise BadInput("no data set was given. Say which: make tune DATASET=cifar10")
    return from_catalog(options.dataset)


def _print_plan(
    console: Console,
    study: optuna.Study,
    spec: StudySpec,
    trials: int,
    dataset: PreparedDataset,
    placements: list[Placement],
    database: Database,
) -> None:
    data = study.user_attrs[attributes.DATA]
    devices = {placement.device.name for placement in placements}
    threads = placements[0].threads
    pruner, sampler = spec.pruner, spec.sampler
    rows = {
        "study": f"{study.study_name}, in {database.shown_url}",
        "data": f"{dataset.info.title}: {data['train']:,} training and {data['validation']:,} validation images",
        "model": f"{spec.model}, {spec.space} space",
        "plan": f"{spec.plan_name}: {trials} trials of at most {spec.epochs} epochs, patience {spec.patience}",
        "sampler": sampler.name
        + (f", {sampler.startup_trials} startup trials" if sampler.name == "tpe" else "")
        + (", the defaults first" if sampler.default_first else ""),
        "pruner": pruner.name
        + (f", 1 in {pruner.reduction_factor} goes on" if pruner.name == "successive_halving" else "")
        + (f", from epoch {pruner.min_epochs}" if pruner.name != "none" else ""),
        "seed": str(spec.seed),
        "workers": f"{len(placements)} on {', '.join(sorted(devices))}, {threads} thread(s) each",
    }
    for name, words in rows.items():
        console.print(f"{name:<10}{words}", highlight=False, markup=False, soft_wrap=True)


class _Launcher:
    def __init__(
        self,
        study: optuna.Study,
        spec: StudySpec,
        claims: Claims,
        workforce: Workforce,
        progress: Progress,
        console: Console,
        timeout_s: float | None,
        storage: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._spec = spec
        self._claims = claims
        self._workforce = workforce
        self._progress = progress
        self._console = console
        self._storage = storage
        self._clock = clock
        self._started = clock()
        # Asked to stop a little before the end of its time, so that the study ends in it.
        self._deadline = None if timeout_s is None else self._started + timeout_s - min(GRACE_S, timeout_s / 4)
        self._watch = LeaseWatch(claims)
        self._watched = self._started
        self._interrupts = 0

    def run(self) -> int:
        with self._signals():
            try:
                self._workforce.start()
                self._preflight()
                self._progress.start()
                try:
                    self._watch_workers()
                finally:
                    self._progress.stop()
            finally:
                before = self._interrupts
                if before:
                    self._print(
                        "stopping: running trials go on to the end of their epoch if that is near, and back into the"
                        f" queue, within {GRACE_S:g} s; Ctrl-C again ends them now"
                    )
                self._workforce.end(hurry=lambda: self._interrupts > max(before, 1))
        return self._conclude()

    @contextmanager
    def _signals(self) -> Iterator[None]:
        def on_signal(_number: int, _frame: object) -> None:
            self._interrupts += 1

        before = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @property
    def interrupted(self) -> bool:
        """Whether a stop was asked for by a signal."""
        return self._interrupts > 0

    def wait_for_database(self, seconds: float) -> None:
        """Wait between two tries of a call; a signal meanwhile ends the waiting.

        Raises:
            StorageUnavailable: a stop was asked for.
        """
        before, until = self._interrupts, self._clock() + seconds
        while self._clock() < until:
            if self._interrupts > before:
                raise StorageUnavailable("interrupted while the database is busy or away; the same command goes on")
            time.sleep(0.05)

    def _stopping(self) -> bool:
        return self._interrupts > 0 or (self._deadline is not None and self._clock() >= self._deadline)

    def _preflight(self) -> None:
        self._print("preflight: walking the space, building the largest model ...")
        found = self._workforce.preflight(give_up=self._stopping)
        if found is not None:
            self._print_preflight(found)
            self._workforce.go()

    def _print_preflight(self, found: dict[str, Any]) -> None:
        width = max((len(name) for name in found["parameters"]), default=0)
        for name, words in found["parameters"].items():
            first = found["defaults"].get(name)
            shown = f", first {value_in_words(first)}" if first is not None and self._spec.sampler.default_first else ""
            self._print(f"  {name:<{width}}  {words}{shown}")
        standing = self._claims.standing()
        left = standing.budget - standing.finished
        typical, most = (self._forecast_s(found[key], left) for key in ("default_cost", "largest_cost"))
        self._print(
            f"preflight took {duration(found['seconds'])}: {found['default_weights']:,} weights by default, at most"
            f" {found['largest_weights']:,}"
        )
        most_words = f", {duration(most)} if every trial had the largest model" if most > 1.1 * typical else ""
        self._print(f"forecast: {left} trials in about {duration(typical)}{most_words}")

    def _forecast_s(self, cost: dict[str, float], trials: int) -> float:
        slots = self._workforce.slots
        # More threads than cores share the cores; the preflight measured with a core to itself.
        crowding = max(1.0, sum(slot.placement.threads for slot in slots) / usable_cores())
        trial_s = crowding * (cost["start_s"] + cost["epoch_s"] * _expected_epochs(self._spec))
        return trial_s * trials / min(len(slots), trials)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _watch_workers(self) -> None:
        """Watch until the budget is spent, the time is up, or a stop is asked for.

        Raises:
            TuningError: the study cannot go on.
        """
        while not self._stopping():
            self._progress.update()
            standing = self._claims.standing()
            if standing.done and not standing.running:
                return
            self._workforce.tend()
            if self._clock() - self._watched >= WATCH_S:
                self._watched = self._clock()
                for claim in self._watch.put_back_expired():
                    self._workforce.kill_owner(claim.owner)
                    self._print(f"trial {claim.number}: its worker fell silent, so the trial is given up by it")
            self._pause()

    def _pause(self) -> None:
        # Short naps, since a signal only sets a number.
        until = self._clock() + TICK_S
        while self._clock() < until and not self._interrupts:
            time.sleep(0.05)

    def _conclude(self) -> int:
        standing = self._claims.standing()
        self._print(
            f"{standing.finished} of {standing.budget} trials finished ({standing.complete} complete,"
            f" {standing.pruned} pruned), {standing.failed} failed, in {duration(self._clock() - self._started)}"
        )
        best = best_trial(self._study)
        if best is not None:
            self._print(f"best: trial {best.number}, validation accuracy {best.value:.4f}, {parameters_in_words(best)}")
        if self._interrupts:
            self._print(f"interrupted: {standing.waiting} trials are back in the queue; the same command goes on")
            return 130
        if not standing.done:
            self._print(f"time is up: {standing.waiting} trials are back in the queue; the same command goes on")
        elif best is not None:
            storage = f" STORAGE='{self._storage}'" if self._storage is not None else ""
            self._print(f"next: make export STUDY={self._study.study_name}{storage}")
        return 0


def _expected_epochs(spec: StudySpec) -> float:
    """Return how many epochs a trial trains on average, by the pruner's own arithmetic."""
    if spec.pruner.name != "successive_halving":
        return float(spec.epochs)
    expected, share, before = 0.0, 1.0, 0
    rung = spec.pruner.min_epochs
    while rung < spec.epochs:
        expected += share * (rung - before)
        before, share = rung, share / spec.pruner.reduction_factor
        rung *= spec.pruner.reduction_factor
    return expected + share * (spec.epochs - before)
