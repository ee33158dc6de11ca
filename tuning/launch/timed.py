"""A new study that is sized to a time, after it was measured how fast its trainings go here."""

from __future__ import annotations

from dataclasses import dataclass, replace

from storage.errors import BadInput
from studies.course import Course
from studies.datasets.preparing import prepare
from studies.declaration import make_spec
from studies.forecast import expected_epochs
from studies.phases.sizing import SEARCH_SHARE, Fidelity, Pace, Sized, epochs_in, sized
from studies.phases.training import refit_training
from studies.spec import BUDGET_SHARE
from studies.strategies.chosen import make_strategy
from studies.study_data import describe
from tuning.launch.phases.pace import Configured, pace_of
from tuning.launch.phases.refit import long_recipe
from tuning.launch.spending import Spending
from tuning.launch.summary import Report
from tuning.launch.understand import Asked
from tuning.user_classes import load_strategy, parse_model
from tuning.words import counted, duration

LEAST_S = 60.0
"""In less, a process is hardly ready to train."""
LARGE_SHARE = 0.7
"""Of the time: in it, the larger network must fit for as many epochs as its plan says."""


@dataclass(frozen=True)
class _Candidate:
    """A network that the study may be of.

    Attributes:
        asked: what the study would be.
        pace: how fast it trains all images.
        images: how many these are.
    """

    asked: Asked
    pace: Pace
    images: int


def timed(asked: Asked, spending: Spending, report: Report) -> tuple[Asked, Pace | None]:
    """Return a study that fits the time that was given, and how fast its winner trains where that is known already.

    A study that is there keeps its search, and when that ends; one that had no time ends it after its share of this
    one. What is left is the winner's.

    Args:
        asked: what was asked for.
        spending: how much of the time is over.
        report: takes one line for the user.

    Returns:
        the study, and the seconds that its winner's training takes: None where it is not the defaults' for certain.

    Raises:
        BadInput: it cannot be trained here, or the time is too short for anything.
    """
    time_s = asked.options.for_s
    assert time_s is not None
    if time_s < LEAST_S:
        raise BadInput(f"--for {time_s:g}s: nothing can be trained in that. Give {LEAST_S:g}s or more.")
    if asked.before is not None and asked.before.budget:
        return replace(asked, course=_longer(asked.before.course, time_s)), None
    report("measuring how fast a training goes here ...")
    chosen = _large_that_fits(asked, time_s, spending) or _measured(asked)
    found = sized(
        time_s,
        spending.elapsed_s,
        chosen.pace,
        images=chosen.images,
        devices=max(1, len(asked.gpus)),
        share=_share(chosen.asked),
        fixed=_fixed(asked),
    )
    _tell(report, chosen, found, time_s)
    fitting = _with(chosen.asked, found)
    defaults_win = found.course.search_s is None and fitting.spec.sampler.default_first
    return fitting, chosen.pace if defaults_win else None


def _longer(course: Course | None, time_s: float) -> Course:
    before = course or Course()
    search_s = before.search_s if before.time_s is not None else SEARCH_SHARE * time_s
    return replace(before, refit_epochs=0, time_s=time_s, search_s=search_s)


def _large_that_fits(asked: Asked, time_s: float, spending: Spending) -> _Candidate | None:
    """Return the plan's larger network, measured; None where there is none or too little time for it."""
    larger = _of_large_model(asked)
    if larger is None:
        return None
    large = _measured(larger)
    fits = epochs_in(LARGE_SHARE * time_s - spending.elapsed_s, large.pace, large.images)
    return large if fits >= asked.plan.large_model_epochs else None


def _measured(asked: Asked) -> _Candidate:
    spec = asked.spec
    asked.model.keep(asked.home)  # where the process that measures looks for it
    dataset = prepare(spec.dataset, asked.home, images=spec.images, checksum=asked.declared.dataset.checksum)
    whole = spec.model_copy(update={"train_images": None})
    data = describe(dataset, whole)
    # As the winner trains, for whom most of the time is; a trial of the search takes no longer.
    recipe = long_recipe(dataset.info, data["train"], whole.epochs)
    training = refit_training(whole, 0, epochs=whole.epochs, at_least=recipe)
    pace = pace_of(Configured(whole, data, asked.user_file, asked.objective_file), asked.home, training=training)
    return _Candidate(asked, pace, data["train"])


def _of_large_model(asked: Asked) -> Asked | None:
    """Return the same study of the plan's larger network; None where there is none, or another was asked for."""
    plan, overrides = asked.plan, asked.options.overrides
    if plan.large_model is None or overrides.model is not None or asked.before is not None:
        return None
    model, _ = parse_model(plan.large_model)
    own = plan.model_copy(update={"model": plan.large_model, "defaults": {}})
    name = asked.spec.plan_name
    declaration = asked.declared.declaration.model_copy(update={"plan": {name: own}, "defaults": {}})
    before = asked.spec
    spec = make_spec(
        declaration,
        overrides,
        plan_name=name,
        model=model,
        strategy=before.strategy.name,
        objectives=before.objectives,
    )
    # What is known to be good is so of the other network.
    first = asked.first if asked.options.from_study is not None else ()
    return replace(asked, plan=own, spec=spec, first=first)


def _fixed(asked: Asked) -> Fidelity | None:
    """Return with what configurations are compared where that was said, or recorded before the budget was."""
    overrides = asked.options.overrides
    if asked.before is None and overrides.epochs is None and overrides.train_images is None:
        return None
    return Fidelity(asked.spec.train_images, asked.spec.epochs)


def _share(asked: Asked) -> float:
    if asked.strategy.needs_budget:
        return BUDGET_SHARE
    return expected_epochs(asked.strategy) / asked.spec.epochs


def _with(asked: Asked, found: Sized) -> Asked:
    fidelity = found.fidelity
    spec = asked.spec.model_copy(update={"epochs": fidelity.epochs, "train_images": fidelity.images})
    plan = asked.plan.model_copy(
        update={"trials": found.trials, "epochs": fidelity.epochs, "budget_epochs": found.budget_epochs}
    )
    strategy = make_strategy(spec, load_strategy(spec.strategy.name, asked.strategy_file))
    return replace(asked, spec=spec, plan=plan, strategy=strategy, course=found.course)


def _tell(report: Report, chosen: _Candidate, found: Sized, time_s: float) -> None:
    course, fidelity, images = found.course, found.fidelity, chosen.images
    report(
        f"  an epoch of {counted(images, 'image')} takes {chosen.pace.epoch_s(images):.1f} s with"
        f" {chosen.asked.spec.model}"
    )
    said = []
    if course.search_s is None:
        said.append("too little to search in: the defaults")
    else:
        said.append(f"{duration(course.search_s)} to search, {counted(fidelity.images or images, 'image')} a trial")
        confirmed = f"{course.confirm[0]} x {course.confirm[1]} to confirm" if course.confirm is not None else None
        said.append(confirmed or "none to confirm, since 2 x 2 trainings would take more than 15% of it")
    said.append(f"then about {counted(found.refit_epochs, 'epoch')} of {counted(images, 'image')}")
    report(f"time      {duration(time_s)}: {'; '.join(said)}")
