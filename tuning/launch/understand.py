"""What `tuning tune` was asked for, understood and found good.

Nothing is created or changed here, but that data of somebody's own are prepared: only they say which study suits them.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from sqlalchemy.engine import make_url

from storage.connections import sqlite_file
from storage.errors import BadInput, shown
from storage.opening import open_to_read
from storage.settings import Home
from studies.course import Course
from studies.datasets.splits import require_images
from studies.declaration import Overrides, PlanName, make_spec
from studies.leaderboard import best_parameters
from studies.spec import Plan, StudySpec
from studies.stored import DEFAULT_LIMITS, Limits, StoredStudy, StudyRecord, find_study, stored_study
from studies.strategies.chosen import make_strategy
from studies.strategies.samplers import require_sampler
from studies.strategies.strategy import Strategy
from tuning.launch.declared import Declared, Model, declared, model_meant, objectives_of, strategy_of, wanted
from tuning.launch.engines.chosen import Places, places_of, require_to_ship, to_send
from tuning.machine.devices import Device, PerDevice, Placement
from tuning.user_classes import UserFile, load_strategy, parse_strategy
from tuning.words import duration

# How many of another study's best configurations are tried first.
WARM_START_TRIALS = 4
# More are a slip: nobody sees the end of so many.
MOST_TRIALS = 1_000_000
# Of a study's name, as a folder's. File systems take 255 bytes, and what is added to it has some.
LONGEST_NAME = 200
# Categories of Unicode that a name may not have: control characters, ends of lines, bytes that are not UTF-8.
_NOT_WRITTEN = ("Cc", "Cs", "Zl", "Zp")


@dataclass(frozen=True)
class TuneOptions:
    """What `tuning tune` was given; None leaves the choice to the catalog or to the machine."""

    dataset: str | None = None
    spec_file: Path | None = None
    study: str | None = None
    trials: int | None = None
    budget_epochs: int | None = None
    from_study: str | None = None
    timeout_s: float | None = None
    for_s: float | None = None
    search_only: bool = False
    workers: int | None = None
    workers_per_device: PerDevice = None
    storage: str | None = None
    cluster: str | None = None
    ship: bool = False
    progress: bool = True
    dashboard: bool = True
    base_weights: Path | None = None
    overrides: Overrides = field(default_factory=Overrides)
    limits: Limits = field(default_factory=DEFAULT_LIMITS.copy)


@dataclass(frozen=True)
class Asked:
    """What a command means, on this machine and for the study that is there or not.

    Attributes:
        options: as given.
        home: where everything is kept.
        url: where the study is, or will be.
        name: the study's.
        declared: the study as it is declared, and what it trains on.
        plan: how much is spent where nothing else is said.
        spec: what is tuned and how.
        strategy: the spec's.
        model: what the hypermodel is, which the spec names.
        strategy_file: the file with the strategy, likewise.
        objective_file: the file with the function that is optimised, likewise.
        first: configurations that a new study tries first, after the defaults.
        places: where workers run, with `auto` those that are started first.
        before: what the study records, where it is there.
        course: what follows the search, and when; None for nothing.
    """

    options: TuneOptions
    home: Home
    url: str
    name: str
    declared: Declared
    plan: Plan
    spec: StudySpec
    strategy: Strategy
    model: Model
    strategy_file: UserFile | None
    objective_file: UserFile | None
    first: Sequence[dict[str, Any]]
    places: Places
    before: StudyRecord | None
    course: Course | None

    @property
    def user_files(self) -> list[UserFile]:
        """All files of the user's."""
        return [file for file in (self.user_file, self.strategy_file, self.objective_file) if file is not None]

    @property
    def user_file(self) -> UserFile | None:
        """The file with the hypermodel, if it is a user's."""
        return self.model.user_file

    @property
    def gpus(self) -> list[Device]:
        """The devices of this machine, or of the cluster; none for cores."""
        return self.places.gpus

    @property
    def placements(self) -> list[Placement]:
        """Where each worker runs."""
        return self.places.placements

    @property
    def packs(self) -> bool:
        """Whether it is found out how many workers a device should have."""
        return self.options.workers_per_device == "auto"

    def trials(self, before: int) -> int:
        """Return the total of trials that the study is to have.

        Args:
            before: what it has now, which may have been extended, and which it keeps without a number; 0 for none.
        """
        return self.options.trials or before or self.plan.trials


def understood(options: TuneOptions, home: Home) -> Asked:
    """Return what a command means.

    Raises:
        BadInput: something given cannot be used.
        TuningError: the database that was given cannot be reached.
    """
    url = options.storage or home.database_url
    meant = wanted(options.dataset or _recorded_dataset(options, url, home), options.spec_file)
    _require_sane(options)
    places = places_of(options.cluster, url, home, workers=options.workers, per_device=options.workers_per_device)
    name = options.study or meant.label
    _require_name(name, home)
    # A home that is not there yet holds no study.
    if home.root.exists():
        home.make(home.root)
    stored = _stored(options, url, home, name)
    found = declared(meant, options.overrides, home, stored)
    declaration, dataset = found.declaration, found.dataset
    # A study goes on under the plan that it was begun with, whatever machine it goes on on.
    plan_name: PlanName = stored.record.spec.plan_name if stored is not None else ("gpu" if places.gpus else "cpu")
    plan = declaration.plan_for(plan_name)
    model = model_meant(options.overrides.model or plan.model or declaration.model, options.base_weights, home)
    objectives, objective_file = objectives_of(declaration, options.overrides)
    strategy_name, strategy_file = parse_strategy(strategy_of(declaration, options.overrides, objectives))
    spec = make_spec(
        declaration, options.overrides, plan_name=plan_name, model=model.name, strategy=strategy_name,
        objectives=objectives,
    )  # fmt: skip
    if stored is not None and stored.record.spec.patience == plan.patience:
        # Whatever its epochs: studies were begun so before patience grew with them.
        spec = spec.model_copy(update={"patience": plan.patience})
    strategy = make_strategy(spec, load_strategy(strategy_name, strategy_file))
    require_sampler(spec)
    if stored is not None:
        spec.require_same(stored.record.spec, name)
    first = _first(declaration.first_for(plan, options.overrides.model), url, options.from_study)
    before = stored.record if stored is not None else None
    asked = Asked(
        options, home, url, name, found, plan, spec, strategy, model, strategy_file, objective_file, first, places,
        before, _course(options, plan, before, objectives),
    )  # fmt: skip
    asked = replace(asked, places=replace(places, shipped=to_send(options.ship, asked.user_files)))
    has = stored.record.budget if stored is not None else 0
    _require_enough_epochs(options.budget_epochs, asked.trials(has), spec.epochs)
    if stored is not None:
        _require_unfinished(asked.trials(stored.record.budget), stored.standing.finished, name)
        _require_no_time(options, stored.record)
    require_images(
        dataset.images("train"),
        validation_images=spec.validation_images,
        train_images=spec.train_images,
        test_images=spec.test_images or 0,
    )
    return asked


def _require_name(name: str, home: Home) -> None:
    """Refuse a name that no message could have in its line, or no file system."""
    if any(unicodedata.category(letter) in _NOT_WRITTEN for letter in name):
        raise BadInput(
            f"--study: the name {shown(name)!r} has what is no letter, such as the end of a line. Give STUDY=another."
        )
    if (length := len(home.logs(name).name.encode())) > LONGEST_NAME:
        raise BadInput(
            f"--study: a name of {length} bytes, and at most {LONGEST_NAME} make the name of a folder. Give another."
        )


def _stored(options: TuneOptions, url: str, home: Home, name: str) -> StoredStudy | None:
    return stored_study(url, name) if options.storage is not None or home.root.exists() else None


def _recorded_dataset(options: TuneOptions, url: str, home: Home) -> str | None:
    """Return the data set of a study that is there, where nothing but its name was given."""
    if options.study is None or options.spec_file is not None:
        return None
    stored = _stored(options, url, home, options.study)
    return stored.record.spec.dataset if stored is not None else None


def _require_sane(options: TuneOptions) -> None:
    """Refuse numbers that no study can have."""
    if options.trials is not None and not 1 <= options.trials <= MOST_TRIALS:
        raise BadInput(
            f"--trials {options.trials}: must be from 1 to {MOST_TRIALS:,}. Leave it out for the catalog's own."
        )
    if options.budget_epochs is not None and options.budget_epochs < 1:
        raise BadInput(f"--budget-epochs {options.budget_epochs}: must be at least 1. Leave it out for the plan's own.")
    require_to_ship(options.ship, options.cluster)
    if options.for_s is not None and options.cluster is not None:
        raise BadInput("--for: measures how fast this machine trains. Give --trials with --cluster (make: TRIALS=).")
    if options.for_s is not None:
        given = {"--trials": options.trials, "--budget-epochs": options.budget_epochs}
        for flag, value in given.items():
            if value is not None:
                raise BadInput(f"{flag} {value}: how much is tried follows from --for. Leave one of them out.")
        if options.search_only:
            raise BadInput("--search-only: with --for, most of the time is the winner's. Give --timeout instead.")


def _course(
    options: TuneOptions, plan: Plan, before: StudyRecord | None, objectives: Sequence[object]
) -> Course | None:
    """Return what follows the search: what the study was begun with, else what the plan says.

    With two objectives nothing does: which trial is worth more training is for a person to say.

    Raises:
        BadInput: there are two, and what was given needs a winner, or trials that are not whole.
    """
    if len(objectives) > 1:
        if options.for_s is not None:
            raise BadInput("--for: with two objectives no single trial wins. Give --trials and --timeout instead.")
        if options.budget_epochs is not None:
            raise BadInput(
                f"--budget-epochs {options.budget_epochs}: with two objectives every trial is trained to its end. Give"
                " --trials and --epochs instead."
            )
        return None
    if options.search_only:
        return None
    if before is not None and before.budget:
        return before.course
    if plan.confirm is None and plan.refit_epochs is None:
        return None
    refit_epochs = plan.refit_epochs
    if refit_epochs is not None and options.overrides.epochs is not None:
        # Whoever asks for shorter trials is in a hurry, whoever asks for longer ones is not.
        refit_epochs = math.ceil(refit_epochs * options.overrides.epochs / plan.epochs)
    return Course(plan.confirm, refit_epochs)


def _first(known: Sequence[Mapping[str, Any]], url: str, from_study: str | None) -> list[dict[str, Any]]:
    """Return the configurations that a new study tries first, after the defaults.

    Raises:
        BadInput: there is no study of that name, another program made it, or there is nothing to learn from it.
    """
    first = [dict(params) for params in known]
    if from_study is None:
        return first
    file = sqlite_file(make_url(url))
    if file is not None and not file.exists():
        raise BadInput(f"--from-study {from_study}: there is no study here yet. Leave it out.")
    database = open_to_read(url)
    try:
        study = find_study(database, from_study)
        StudyRecord.of(study).require_ours()
        learned = best_parameters(study, WARM_START_TRIALS)
    finally:
        database.engine.dispose()
    if not learned:
        raise BadInput(
            f"--from-study {from_study}: none of its trials has a value yet. Tune it first, or leave this out."
        )
    return first + learned


def fewest_epochs(trials: int, epochs: int) -> int:
    """Return how many epochs so many trials train together at least: each of them one, and the best one all."""
    return trials + epochs - 1


def _require_enough_epochs(budget_epochs: int | None, trials: int, epochs: int) -> None:
    """Refuse a budget of epochs that so many trials cannot keep."""
    least = fewest_epochs(trials, epochs)
    if budget_epochs is not None and budget_epochs < least:
        raise BadInput(
            f"--budget-epochs {budget_epochs}: {least} are trained at least, one by each of {trials} trials, and all"
            f" {epochs} by the best of them. Give {least} or more."
        )


def _require_no_time(options: TuneOptions, before: StudyRecord) -> None:
    """Refuse another budget for a study whose time decides how much is tried: it would change nothing."""
    time_s = before.course.time_s if before.course is not None else None
    for flag, value, own in (
        ("trials", options.trials, before.budget),
        ("budget-epochs", options.budget_epochs, before.budget_epochs),
    ):
        if time_s is not None and value not in (None, own):
            raise BadInput(
                f"--{flag} {value}: study {before.name!r} has {duration(time_s)}, and how much is tried follows from"
                " that. Give more time with --for (make: FOR=), or take STUDY=another for a new study."
            )


def _require_unfinished(trials: int, finished: int, name: str) -> None:
    """Refuse a total of trials that the study has passed already."""
    if trials < finished:
        raise BadInput(
            f"--trials {trials}: {finished} trials of study {name!r} are finished already, and it is a total. To add"
            f" {trials}, give {finished + trials}."
        )
