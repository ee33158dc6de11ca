"""The space at its extremes: every model there is built, the default and the largest are trained for a few steps."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import keras

from models.classifier import UnusableModel
from models.recipe import UnusableDefault
from models.remarks import remarks_on
from storage.errors import BadInput, unknown_name
from storage.leases import FirstCalls
from studies.space import SearchSpace
from tuning.building import building_of
from tuning.messages import Cost, Preflight
from tuning.tasks import Judge
from tuning.user_classes import UserFile
from tuning.worker.hyperparameters import (
    DeclaredHyperParameters,
    RangedHyperParameters,
    conditions_in_words,
    conditions_of,
    distribution_of,
    extremes,
    parameters_of,
    search_space,
)
from tuning.worker.preflight.exporting import MEND, ON_CPU, NotExportable, why_not_whole
from tuning.worker.preflight.refusals import cannot, values_in_words
from tuning.worker.preflight.timing import ESTIMATED, UNTOLD, batch_of, timed
from tuning.worker.training_data import Classifiers


def preflight(
    classifiers: Classifiers, user_file: UserFile | None, clock: Callable[[], float] = time.monotonic
) -> tuple[SearchSpace, Preflight, FirstCalls]:
    """Walk the space at its extremes, build the models there, and time steps of the default and the largest.

    Args:
        classifiers: the study's; what is compiled for them here serves the first trials.
        user_file: the file with the hypermodel, if it is a user's.
        clock: monotonic seconds.

    Returns:
        What is searched, what the user is told, and what the first calls of a training took, on all of its data.

    Raises:
        BadInput: the space cannot be walked, a model cannot be built, trained or exported; the message names the
            values.
    """
    if user_file is None:
        return _preflight(classifiers, None, clock)
    with Judge(ON_CPU) as judge:
        return _preflight(classifiers, (user_file, judge), clock)


def _preflight(
    classifiers: Classifiers, users: tuple[UserFile, Judge] | None, clock: Callable[[], float]
) -> tuple[SearchSpace, Preflight, FirstCalls]:
    started, ranges = clock(), classifiers.spec.parameters
    require_known_parameters(classifiers)
    holds = classifiers.hypermodel.first_range_holds
    default = RangedHyperParameters(ranges, first_range_holds=holds)
    built = _build(classifiers, default)
    default_weights, warnings, notes = built.weights, built.remarks, built.notes
    space, repeated = dict(default.active), dict(default.repeated)
    largest, largest_weights = default, default_weights
    for values in extremes(default):
        hp = RangedHyperParameters(ranges, values, first_range_holds=holds)
        built = _build(classifiers, hp)
        weights, warnings, notes = built.weights, warnings + built.remarks, notes + built.notes
        space.update(hp.active)
        repeated |= hp.repeated
        if weights > largest_weights or (weights == largest_weights and batch_of(hp) > batch_of(largest)):
            largest, largest_weights = hp, weights

    not_whole: list[str] = []

    def noted(said: list[str], classifier: keras.Model) -> None:
        notes.extend(said)

    def trained(said: list[str], classifier: keras.Model) -> None:
        notes.extend(said)
        if users is not None:
            not_whole.extend(_not_whole(classifiers, classifier, *users, largest))

    alike = parameters_of(largest) == parameters_of(default)
    default_cost, default_calls = _cost(classifiers, default, clock, trained if alike else noted)
    largest_cost, largest_calls = (
        (default_cost, default_calls) if alike else _cost(classifiers, largest, clock, trained)
    )
    if UNTOLD in (default_calls, largest_calls):
        notes.append(ESTIMATED)
    # What a training of the model's own declares is known once it has run.
    space |= default.active | largest.active
    found = Preflight(
        parameters={name: words for name, known in space.items() if (words := _in_words(known)) is not None},
        defaults=parameters_of(default),
        default_weights=default_weights,
        largest_weights=largest_weights,
        default_cost=default_cost,
        largest_cost=largest_cost,
        seconds=clock() - started,
        warnings=list(dict.fromkeys([*repeated.values(), *warnings, *not_whole])),
        notes=list(dict.fromkeys(notes)),
        exports_with_file=bool(not_whole),
    )
    return search_space(space), found, default_calls.longest(largest_calls)


def _in_words(hyperparameter: Any) -> str | None:
    distribution = distribution_of(hyperparameter)
    if distribution is None:
        return None
    words = str(distribution.__dict__)
    choices, low, high = (getattr(distribution, name, None) for name in ("choices", "low", "high"))
    if choices is not None:
        words = "one of " + ", ".join(str(choice) for choice in choices)
    elif low is not None and high is not None:
        words = f"{low:g} to {high:g}" + (", log" if getattr(distribution, "log", False) else "")
    conditions = conditions_of(hyperparameter.conditions)
    return words + (f" (where {conditions_in_words(conditions)})" if conditions else "")


def require_known_parameters(classifiers: Classifiers) -> None:
    """Refuse a range for a parameter that the model declares neither in the study's space nor in the extended one.

    A file may give ranges for the extended space that a core study leaves unused; a misspelt name is in neither.

    Raises:
        BadInput: there is such a range.
    """
    missing, known = set(classifiers.spec.parameters), set[str]()
    if not missing:
        return
    for names in _declared(classifiers):
        known |= names
        if missing <= known:
            return
    for name in classifiers.spec.parameters:
        if name not in known:
            raise unknown_name("parameter", name, known, then="Mend [parameters] in the study's file.")


def _declared(classifiers: Classifiers) -> Iterator[set[str]]:
    """The names that a model declares here and there in its spaces, the study's own first."""
    spec = classifiers.spec
    extended = replace(classifiers, spec=spec.model_copy(update={"space": "extended"}))
    for walked in (classifiers, extended):
        # Without the ranges, since they may leave out what a name is declared under.
        for ranges in ({}, spec.parameters):
            default = DeclaredHyperParameters(ranges)
            yield _names_in(walked, default)
            for values in extremes(default):
                yield _names_in(walked, DeclaredHyperParameters(ranges, values))


def _names_in(classifiers: Classifiers, hp: DeclaredHyperParameters) -> set[str]:
    # What cannot be built may lie outside of the ranges or be of a space that is not this study's.
    with contextlib.suppress(Exception):
        classifiers.models.discard(int(classifiers.new().untrained(hp).count_params()))
    return hp.names


class _Built(NamedTuple):
    """How many weights a model has, what is wrong with it, and how it is given its data: a line each."""

    weights: int
    remarks: list[str]
    notes: list[str]


def _build(classifiers: Classifiers, hp: RangedHyperParameters) -> _Built:
    try:
        classifier = classifiers.new()
        network = classifier.untrained(hp)
        weights = int(network.count_params())
        remarks = remarks_on(classifier, network) if _is_users(classifiers) else []
    except BadInput:
        raise
    except UnusableModel as error:
        raise BadInput(f"{str(error).rstrip('.')}. Mend the model, or name another one.") from error
    except UnusableDefault as error:
        raise BadInput(f"{error} Mend `defaults` in the study's file.") from error
    except Exception as error:
        raise BadInput(cannot("built", hp, error)) from error
    classifiers.models.discard(weights)
    return _Built(weights, remarks, classifier.notes())


def _not_whole(
    classifiers: Classifiers, classifier: keras.Model, user_file: UserFile, judge: Judge, hp: RangedHyperParameters
) -> list[str]:
    """Return what is to be said of a model that is no file which Keras loads by itself: a line, or none if it is."""
    building = building_of(
        classifiers.spec,
        asdict(classifiers.data.inputs),
        train_images=len(classifiers.data.training),
        parameters=parameters_of(hp),
        precision=keras.config.dtype_policy().name,
    )
    try:
        reason = why_not_whole(classifier, judge, user_file.path, classifiers.data.inputs, building)
    except NotExportable as error:
        values, facts = values_in_words(hp), f"{error.whole}; and {error.built}"
        raise BadInput(f"the model cannot be exported with {values}: {facts}. {MEND}") from error
    if reason is None:
        return []
    enough = "Its weights and your file are enough, which was tried: the study runs, and its bundle will hold both"
    return [f"{reason}. {enough}. Export it with MODEL={shlex.quote(str(user_file))}"]


def _is_users(classifiers: Classifiers) -> bool:
    # The project's own models have tests that say of them what is found out of a user's.
    return ".py:" in classifiers.spec.model


def _cost(
    classifiers: Classifiers,
    hp: RangedHyperParameters,
    clock: Callable[[], float],
    then: Callable[[list[str], keras.Model], None],
) -> tuple[Cost, FirstCalls]:
    """Time a few steps of the study's own training on its own data; then hand over what was trained."""
    measured, calls = timed(classifiers, hp, clock, then=then)
    data = classifiers.data
    return Cost(measured["start_s"], measured["image_s"] * len(data.training) + measured["judge_s"]), calls
