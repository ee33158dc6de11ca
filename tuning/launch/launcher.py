"""One study on this machine: prepare, start workers, watch, drain. Never imports Keras."""

from __future__ import annotations

import math
import os
import shlex
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from rich.console import Console
from sqlalchemy.engine import make_url

from storage import attributes
from storage.claims import Claims, Standing
from storage.connections import shown_url, sqlite_file
from storage.database import Database
from storage.errors import BadInput, StorageUnavailable
from storage.leases import LeaseWatch
from storage.opening import open_database
from storage.settings import STORAGE_VARIABLE, Home
from studies.datasets.prepared import PreparedDataset, prepare
from studies.datasets.registry import dataset_info
from studies.declaration import Declaration, Overrides, PlanName, from_catalog, make_spec, read_declaration
from studies.forecast import Launched
from studies.leaderboard import best_parameters, best_trial
from studies.scheduler import first_in_words
from studies.space import SearchSpace
from studies.spec import BUDGET_SHARE, Plan, StudySpec
from studies.stored import DEFAULT_LIMITS, Limits, create_or_load, find_study, stored_spec
from studies.strategies.chosen import make_strategy
from studies.strategies.samplers import require_sampler
from studies.strategies.strategy import Strategy
from studies.study_data import describe
from studies.trials import spent_epochs
from tuning.launch.packer import Packer, make_packer
from tuning.launch.progress import Progress
from tuning.launch.workforce import Workforce
from tuning.machine.compile_cache import drop_unsealed
from tuning.machine.compile_probe import probe_compile_cache
from tuning.machine.devices import PerDevice, Placement, find_gpus, place_workers, usable_cores
from tuning.machine.memory import free_bytes
from tuning.messages import LAUNCHER_GRACE_S, Cost, Preflight, WorkerOptions
from tuning.user_classes import load_strategy, parse_model, parse_strategy
from tuning.words import duration, parameters_in_words, value_in_words

TICK_S = 0.5
# How many of another study's best configurations are tried first.
WARM_START_TRIALS = 4
# More are a slip: nobody sees the end of so many.
MOST_TRIALS = 1_000_000
# Of a study's name, as a folder's. File systems take 255 bytes, and what is added to it has some.
LONGEST_NAME = 200
# A study of CIFAR-10 with 24 trials and 64 epochs, on 2026-11-20: so many epochs each time that a trial was thawed.
EPOCHS_A_THAW = 3
# How often leases are looked at.
WATCH_S = 5.0


@dataclass(frozen=True)
class TuneOptions:
    """What `tuning tune` was asked for; None leaves the choice to the catalog or to the machine."""

    dataset: str | None = None
    spec_file: Path | None = None
    study: str | None = None
    trials: int | None = None
    budget_epochs: int | None = None
    from_study: str | None = None
    timeout_s: float | None = None
    workers: int | None = None
    workers_per_device: PerDevice = None
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
    if options.trials is not None and not 1 <= options.trials <= MOST_TRIALS:
        raise BadInput(
            f"--trials {options.trials}: must be from 1 to {MOST_TRIALS:,}. Leave it out for the catalog's own."
        )
    if options.budget_epochs is not None and options.budget_epochs < 1:
        raise BadInput(f"--budget-epochs {options.budget_epochs}: must be at least 1. Leave it out for the plan's own.")
    gpus = find_gpus()
    placements = place_workers(
        gpus,
        usable_cores(),
        workers=options.workers,
        per_device=options.workers_per_device,
        environ=os.environ,
    )
    name = options.study or declaration.dataset
    if (length := len(home.logs(name).name.encode())) > LONGEST_NAME:
        raise BadInput(f"--study: a name of {length} bytes, and at most {LONGEST_NAME} make the name of a folder.")
    url = options.storage or home.database_url
    # A home that is not there yet holds no study, and is not made before all that was given is known to be good.
    if home.root.exists():
        home.make(home.root)
    stored = stored_spec(url, name) if options.storage is not None or home.root.exists() else None
    # A study goes on under the plan that it was begun with, whatever machine it goes on on.
    plan_name: PlanName = stored.plan_name if stored is not None else ("gpu" if gpus else "cpu")
    plan = declaration.plan_for(plan_name)
    model, user_file = parse_model(options.overrides.model or plan.model or declaration.model)
    strategy_name, strategy_file = parse_strategy(options.overrides.strategy or declaration.strategy.name)
    spec = make_spec(declaration, options.overrides, plan_name=plan_name, model=model, strategy=strategy_name)
    strategy = make_strategy(spec, load_strategy(strategy_name, strategy_file))
    require_sampler(spec)
    if stored is not None:
        spec.require_same(stored, name)
    first = _first(declaration, url, options.from_study)
    _require_enough_epochs(options.budget_epochs, options.trials or (plan.trials if stored is None else 1), spec.epochs)
    home.make(home.root)
    dataset = prepare(spec.dataset, home)
    database = open_database(url, create=True)
    study, created = create_or_load(database, name, spec, lambda: describe(dataset, spec), first)
    uid = study.user_attrs.get(attributes.UID)
    claims = Claims(database, study._study_id, owner="launcher", uid=uid)
    # Without a number, a study that exists keeps its own total, which may have been extended.
    before = study.user_attrs.get(attributes.BUDGET)
    trials = options.trials or before or plan.trials
    finished = claims.standing().finished
    if trials < finished:
        raise BadInput(
            f"--trials {trials}: {finished} trials of study {name!r} are finished already, and it is a total. To add"
            f" {trials}, give {finished + trials}."
        )
    study.set_user_attr(attributes.LIMITS, options.limits)
    budget_epochs = options.budget_epochs
    epochs_before = study.user_attrs.get(attributes.BUDGET_EPOCHS)
    if budget_epochs is None and before and epochs_before:
        budget_epochs = math.ceil(epochs_before * trials / before)
    elif budget_epochs is None and (strategy.needs_budget or plan.budget_epochs is not None):
        budget_epochs = _budget_epochs(plan, spec, trials)
    claims.set_budget(trials, {attributes.BUDGET_EPOCHS: budget_epochs})
    packs = options.workers_per_device == "auto"
    if options.from_study is not None and not created:
        console.print(
            f"--from-study {options.from_study}: study {name!r} was begun already; what it tries first stays as it was",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    _print_plan(console, study, spec, strategy, trials, budget_epochs, dataset, placements, packs, database)
    if claims.standing().done:
        console.print(f"nothing to do: {claims.standing().finished} of {trials} trials are finished")
        return 0
    drop_unsealed(home)

    def report(line: str) -> None:
        console.print(line, highlight=False, markup=False, soft_wrap=True)

    for placement in {placement.device.name: placement for placement in placements}.values():
        probe_compile_cache(home, placement, os.environ, report)
    progress = Progress(study, spec.epochs, console, live=options.progress and console.is_terminal)
    workforce = Workforce(
        claims,
        placements,
        lambda place: WorkerOptions.at(place, name, user_file, strategy_file),
        # The URL may hold a password, and command lines are public.
        {"TUNING_HOME": str(home.root), STORAGE_VARIABLE: url},
        home.make(home.logs(name)),
        report,
    )
    packer = None
    if packs:
        packer = make_packer(
            workforce,
            gpus,
            cores=usable_cores(),
            workers=options.workers,
            memory_bytes=free_bytes(),
            environ=os.environ,
            report=report,
        )
    launcher = _Launcher(
        study, spec, strategy, claims, workforce, packer, progress, console, options.timeout_s, options.storage
    )
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


def _budget_epochs(plan: Plan, spec: StudySpec, trials: int) -> int:
    """Return how many epochs so many trials train together under a plan, where nothing else was asked for."""
    whole = plan.trials * plan.epochs
    share = (plan.budget_epochs or math.ceil(BUDGET_SHARE * whole)) / whole
    return max(trials, math.ceil(share * trials * spec.epochs))


def _require_enough_epochs(budget_epochs: int | None, trials: int, epochs: int) -> None:
    """Refuse a budget of epochs that so many trials cannot keep.

    Raises:
        BadInput: it is too small.
    """
    least = trials + epochs - 1
    if budget_epochs is not None and budget_epochs < least:
        raise BadInput(
            f"--budget-epochs {budget_epochs}: {least} are trained at least, one by each of {trials} trials, and all"
            f" {epochs} by the best of them. Give {least} or more."
        )


def _first(declaration: Declaration, url: str, from_study: str | None) -> list[dict[str, Any]]:
    """Return the configurations that a new study tries first, after the defaults. Changes nothing.

    Raises:
        BadInput: there is no study of that name.
    """
    first = [dict(params) for params in declaration.first]
    if from_study is None:
        return first
    file = sqlite_file(make_url(url))
    if file is not None and not file.exists():
        raise BadInput(f"--from-study {from_study}: there is no study here yet. Leave it out.")
    learned = best_parameters(find_study(open_database(url), from_study), WARM_START_TRIALS)
    if not learned:
        raise BadInput(
            f"--from-study {from_study}: none of its trials has a value yet. Tune it first, or leave this out."
        )
    return first + learned


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
    strategy: Strategy,
    trials: int,
    budget_epochs: int | None,
    dataset: PreparedDataset,
    placements: list[Placement],
    packs: bool,
    database: Database,
) -> None:
    data = study.user_attrs[attributes.DATA]
    devices = {placement.device.name for placement in placements}
    threads = placements[0].threads
    sampler = spec.sampler
    in_all = f", {budget_epochs} in all" if budget_epochs is not None else ""
    rows = {
        "study": f"{study.study_name}, in {database.shown_url}",
        "data": f"{dataset.info.title}: {data['train']:,} training and {data['validation']:,} validation images",
        "model": f"{spec.model}, {spec.space} space",
        "plan": f"{spec.plan_name}: {trials} trials of at most {spec.epochs} epochs{in_all}, patience {spec.patience}",
        "strategy": strategy.in_words(),
        "sampler": ("the strategy's own model" if sampler.name == "model" else sampler.name)
        + (f", {sampler.startup_trials} startup trials" if sampler.name == "tpe" else "")
        + (", the defaults first" if sampler.default_first else ""),
        "seed": str(spec.seed),
        "workers": f"{len(placements)} on {', '.join(sorted(devices))}, {threads} thread(s) each"
        + (", to begin with" if packs else ""),
    }
    for name, words in rows.items():
        console.print(f"{name:<10}{words}", highlight=False, markup=False, soft_wrap=True)


class _Launcher:
    def __init__(
        self,
        study: optuna.Study,
        spec: StudySpec,
        strategy: Strategy,
        claims: Claims,
        workforce: Workforce,
        packer: Packer | None,
        progress: Progress,
        console: Console,
        timeout_s: float | None,
        storage: str | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._study = study
        self._spec = spec
        self._strategy = strategy
        self._claims = claims
        self._workforce = workforce
        self._packer = packer
        self._progress = progress
        self._console = console
        self._storage = storage
        self._clock = clock
        self._started = clock()
        # Asked to stop a little before the end of its time, so that the study ends in it.
        self._deadline = None if timeout_s is None else self._started + timeout_s - min(LAUNCHER_GRACE_S, timeout_s / 4)
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
                try:
                    if before:
                        self._print(
                            "stopping: running trials go on to the end of their epoch if that is near, and back into"
                            f" the queue, within {LAUNCHER_GRACE_S:g} s; Ctrl-C again ends them now"
                        )
                finally:  # what reads the output may be gone
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
            self._pack(self._claims.standing())
            expected_s = self._print_preflight(found)
            self._workforce.go()
            self._record_launch(expected_s)

    def _pack(self, standing: Standing) -> None:
        if self._packer is not None:
            self._packer.adjust(standing.budget - standing.finished)

    def _record_launch(self, expected_s: float) -> None:
        """Record what `status` and the live view forecast from: when the workers were let go, and what is expected."""
        spent = spent_epochs(self._study.get_trials(deepcopy=False))
        _, epochs = self._work_left(self._claims.standing())
        epoch_s = expected_s / epochs if epochs else None
        self._study.set_user_attr(attributes.LAUNCHED, Launched(at=time.time(), epochs=spent, epoch_s=epoch_s))
        self._progress.expected_epoch_s = epoch_s

    def _print_preflight(self, found: Preflight) -> float:
        """Print what the preflight found; return the seconds that the study is expected to take."""
        width = max((len(name) for name in found.parameters), default=0)
        for name, words in found.parameters.items():
            first = found.defaults.get(name)
            shown = f", first {value_in_words(first)}" if first is not None and self._spec.sampler.default_first else ""
            self._print(f"  {name:<{width}}  {words}{shown}")
        standing = self._claims.standing()
        space = SearchSpace.stored(self._study.user_attrs[attributes.SPACE])
        first = first_in_words(self._spec, space, self._study.user_attrs.get(attributes.FIRST, []))
        if first is not None and not standing.started:
            self._print(f"first: {first}")
        left = standing.budget - standing.finished
        typical, most = (self._forecast_s(cost, standing) for cost in (found.default_cost, found.largest_cost))
        self._print(
            f"preflight took {duration(found.seconds)}: {found.default_weights:,} weights by default, at most"
            f" {found.largest_weights:,}"
        )
        most_words = f", {duration(most)} if every trial had the largest model" if most > 1.1 * typical else ""
        self._print(f"forecast: {left} trials in about {duration(typical)}{most_words}")
        return typical

    def _forecast_s(self, cost: Cost, standing: Standing) -> float:
        slots = self._workforce.slots
        # More threads than cores share the cores; the preflight measured with a core to itself.
        crowding = max(1.0, sum(slot.placement.threads for slot in slots) / usable_cores())
        taken_up, epochs = self._work_left(standing)
        return crowding * (cost.start_s * taken_up + cost.epoch_s * epochs) / max(1.0, min(len(slots), taken_up))

    def _work_left(self, standing: Standing) -> tuple[float, float]:
        """Return how often a trial is taken up from now on, and how many epochs are trained."""
        trials = standing.budget - standing.finished
        budget = self._study.user_attrs.get(attributes.BUDGET_EPOCHS)
        if budget is None:
            return trials, trials * self._strategy.expected_epochs()
        spent = spent_epochs(self._study.get_trials(deepcopy=False))
        # Each trial yet to come trains one, whatever is left.
        epochs = max(budget - spent, standing.budget - standing.started)
        epochs = min(max(0, epochs), trials * self._spec.epochs)
        return times_taken_up(standing, epochs, freezes=self._strategy.freezes), epochs

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def _watch_workers(self) -> None:
        """Watch until the budget is spent, the time is up, or a stop is asked for.

        Raises:
            TuningError: the study cannot go on.
        """
        while not self._stopping():
            standing = self._claims.standing()
            self._progress.update()
            if standing.done and not standing.running:
                return
            self._workforce.tend()
            self._pack(standing)
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
            self._print(
                f"best: trial {best.number}, validation accuracy {best.value:.4f}, {parameters_in_words(best.params)}"
            )
        if self._interrupts:
            self._print(f"interrupted: {_left_over(standing)}; the same command goes on")
            return 130
        if not standing.done:
            self._print(f"time is up: {_left_over(standing)}; the same command goes on")
        elif best is not None:
            storage = f" STORAGE={shlex.quote(shown_url(self._storage))}" if self._storage is not None else ""
            self._print(f"next: make export STUDY={shlex.quote(self._study.study_name)}{storage}")
        return 0


def times_taken_up(standing: Standing, epochs: int, *, freezes: bool) -> float:
    """Return how often a trial is begun or taken up again, more or less, until so many more epochs are trained."""
    if not freezes:
        return min(epochs, standing.budget - standing.finished)
    new = min(epochs, standing.budget - standing.started)
    return new + (epochs - new) / EPOCHS_A_THAW


def _left_over(standing: Standing) -> str:
    frozen = f", {standing.frozen} are frozen" if standing.frozen else ""
    return f"{standing.waiting} trials are back in the queue{frozen}"
