"""What would fail in every trial fails here, once, before the first: the space at its extremes, the largest model."""

from __future__ import annotations

import contextlib
import logging
import shlex
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import reduce
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from models.backend import on_accelerator, seed_generators
from models.classifier import Inputs, UnusableModel
from models.recipe import UnusableDefault
from models.remarks import remarks_on
from models.training.feeding import LabelledImages
from models.training.loop import VALIDATION_BATCH_SIZE, UnknownMonitor
from storage.errors import BadInput, first_sentence, unknown_name
from storage.leases import FirstCalls
from studies.phases.training import Training
from studies.space import SearchSpace
from studies.spec import derive_seed
from tuning.building import WEIGHTS, Building, building_of, copy_code
from tuning.messages import Cost, Preflight
from tuning.tasks import TOLERATED_PROBABILITY, CompareTask, Failed, Judge, Measured
from tuning.user_classes import UserFile
from tuning.worker.endings import failure_of
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
from tuning.worker.training_data import Classifiers

logger = logging.getLogger(__name__)

# Steps that are timed, after one that is not because it traces.
TIMED_STEPS = 3

# A training that tells nobody of its steps is timed for so long at least, on at most so many times the data.
WHOLE_S, MOST_TIMES = 1.0, 64

UNTOLD = FirstCalls(0.0, 0.0, 0.0)
ESTIMATED = (
    "its own training tells nobody of its steps: what a trial costs is estimated, from trainings on a part of the data"
)

# What a saved model says is compared on so many images.
COMPARED_IMAGES = 8

# The fresh process computes on the CPU: the device is the workers'.
ON_CPU = {"CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu"}

MEND = (
    "Put layers in place of what is not Keras's own (of a Lambda, say), or have the file build the same model each time"
    " from its parameters alone, with nothing of its folder but modules that it imports."
)


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
        if weights > largest_weights or (weights == largest_weights and _batch(hp) > _batch(largest)):
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


def _batch(hp: RangedHyperParameters) -> Any:
    return hp.values.get("batch_size", 0)


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
        raise BadInput(_cannot("built", hp, error)) from error
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
        values, facts = _values(hp), f"{error.whole}; and {error.built}"
        raise BadInput(f"the model cannot be exported with {values}: {facts}. {MEND}") from error
    if reason is None:
        return []
    enough = "Its weights and your file are enough, which was tried: the study runs, and its bundle will hold both"
    return [f"{reason}. {enough}. Export it with MODEL={shlex.quote(str(user_file))}"]


def _is_users(classifiers: Classifiers) -> bool:
    # The project's own models have tests that say of them what is found out of a user's.
    return ".py:" in classifiers.spec.model


def _cannot(what: str, hp: RangedHyperParameters, error: Exception) -> str:
    if isinstance(error, UnknownMonitor):
        return f"objective {error.name!r}: {error}. Give one of these."
    values = _values(hp)
    logger.error("the model cannot be %s with %s", what, values, exc_info=error)
    _, reason = failure_of(error)
    return f"the model cannot be {what} with {values}: {reason.rstrip('.')}. Narrow the space, or mend the model."


def _values(hp: RangedHyperParameters) -> str:
    return ", ".join(f"{name}={value}" for name, value in parameters_of(hp).items())


class _StepClock(keras.callbacks.Callback):
    """Notes when steps were done: how many of the epoch's, at which second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self.steps: list[tuple[int, float]] = []
        self.tests: list[tuple[int, float]] = []
        # When the first call of each kind began; None while none has said so.
        self.step_began: float | None = None
        self.test_began: float | None = None
        self.epochs = 0  # that told of themselves, not those that are taken for told because the training is over

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        if self.step_began is None:
            self.step_began = self._clock()

    def on_test_batch_begin(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        if self.test_began is None:
            self.test_began = self._clock()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self.steps.append((batch + 1, self._clock()))

    def on_test_batch_end(self, batch: int, logs: Mapping[str, float] | None = None) -> None:
        self.tests.append((batch + 1, self._clock()))

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self.epochs += not self.model.stop_training
        self.model.stop_training = True


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


def timed(
    classifiers: Classifiers,
    hp: RangedHyperParameters,
    clock: Callable[[], float],
    *,
    training: Training | None = None,
    steps: int = TIMED_STEPS,
    then: Callable[[list[str], keras.Model], None] = lambda notes, classifier: None,
) -> tuple[Measured, FirstCalls]:
    """Time a few steps of a study's own training on its own data.

    Args:
        classifiers: the study's.
        hp: the parameters.
        clock: monotonic seconds.
        training: what the training is one of; None for one of the search.
        steps: how many are timed, after one that traces.
        then: is given what its author should know of it, and what was trained.

    Raises:
        BadInput: it cannot be trained.
    """
    try:
        phases = classifiers.new(training).phases(hp)
    except Exception as error:
        raise BadInput(_cannot("built", hp, error)) from error
    found = [_timed(one, classifiers, hp, clock, training, steps, then) for _, one in phases]
    shares = [share for share, _ in phases]
    measured = Measured(
        start_s=sum(one["start_s"] for one, _ in found),
        image_s=sum(share * one["image_s"] for share, (one, _) in zip(shares, found, strict=True)),
        judge_s=sum(share * one["judge_s"] for share, (one, _) in zip(shares, found, strict=True)),
        timed_s=sum(one["timed_s"] for one, _ in found),
    )
    return measured, reduce(FirstCalls.longest, (calls for _, calls in found))


def _timed(
    classifier: Any,  # a `models.tunable.Tunable`
    classifiers: Classifiers,
    hp: RangedHyperParameters,
    clock: Callable[[], float],
    training: Training | None,
    steps: int,
    then: Callable[[list[str], keras.Model], None],
) -> tuple[Measured, FirstCalls]:
    """Time a few steps of a training whose epochs are all alike; see `timed`."""
    data = classifiers.data
    learned_from = classifiers.learned_from(training)
    seed_generators(derive_seed(classifiers.spec.seed, "preflight"))
    batch_size = min(int(_batch(hp)) or 32, len(learned_from))
    part = _first(learned_from, (1 + steps) * batch_size)
    validation = _first(data.validation, 2 * VALIDATION_BATCH_SIZE)
    times = _StepClock(clock)
    started = clock()
    try:
        model = classifier.build(hp)
        built = clock()
        classifier.fit(hp, model, part, validation, seed=0, callbacks=[times])
        own, fitted = classifier.runs_whole() is not None, clock()
        estimated = None
        if own and len(times.steps) < 2:
            epochs = training.epochs if training is not None else classifiers.spec.epochs

            def train(images: int) -> int:
                judged = max(1, images * len(data.validation) // len(learned_from))
                counted, model.stop_training = _StepClock(clock), False
                parts = _first(learned_from, images), _first(data.validation, judged)
                classifier.fit(hp, model, *parts, seed=0, callbacks=[counted])
                return counted.epochs or epochs

            estimated = image_seconds(train, len(part), len(learned_from), clock)
    except Exception as error:
        raise BadInput(_cannot("trained", hp, error)) from error
    then(classifier.notes(), classifier.classifier(model))
    if estimated is not None:
        image_s, epochs = estimated
        start_s = max(0.0, fitted - started - image_s * epochs * len(part))
        return Measured(start_s=start_s, image_s=image_s, judge_s=0.0, timed_s=clock() - started), UNTOLD
    step_s = _typical(times.steps)
    if own:  # it may have batches of its own
        batch_size = max(1, len(part) // max(step for step, _ in times.steps))
    # With a single batch of validation there is nothing to take a difference of: a third of a step's cost per image,
    # which is what the forward pass takes of it.
    test_s = _typical(times.tests) / min(VALIDATION_BATCH_SIZE, len(validation)) or step_s / batch_size / 3
    (_, first), (_, last) = times.steps[0], times.steps[-1]
    tested = times.tests[0][1] if times.tests else last
    measured = Measured(
        start_s=first - started + tested - last,
        image_s=step_s / batch_size,
        judge_s=test_s * len(data.validation),
        timed_s=clock() - started,
    )
    step_began, test_began = times.step_began or first, times.test_began or last
    # What `fit` prepares may grow with the data.
    before_s = (step_began - built) * len(learned_from) / len(part)
    return measured, FirstCalls(before_s, first - step_began, tested - test_began)


def image_seconds(train: Callable[[int], int], images: int, most: int, clock: Callable[[], float]) -> tuple[float, int]:
    """Return what each further image costs an epoch of a training of which only its end is heard, and its epochs.

    What it takes whatever the data, which is most where they are few, is left out.

    Args:
        train: trains once more on so many images, with nothing left to trace; returns the epochs.
        images: few.
        most: how many there are.
        clock: monotonic seconds.
    """

    def timed(count: int) -> tuple[float, int]:
        began = clock()
        epochs = train(count)
        return clock() - began, epochs

    few_s, epochs = timed(images)
    many = min(most, images * max(4, min(MOST_TIMES, round(WHOLE_S / max(few_s, 1e-3)))))
    if many <= images:
        return few_s / images / epochs, epochs
    many_s, epochs = timed(many)
    more_s = (many_s - few_s) / (many - images)
    return (more_s if more_s > 0.0 else many_s / many) / epochs, epochs


def _typical(times: Sequence[tuple[int, float]]) -> float:
    """Return the seconds of a step.

    The first call is left out, which traced, and the first half of the others: memory is not yet where it stays, and
    clocks and threads are not yet awake. On two cores the first steps of a network took half as long again.
    """
    pace = [(b - a) / (n - m) for (m, a), (n, b) in pairwise(times)]
    return float(np.median(pace[len(pace) // 2 :])) if pace else 0.0


def _first(images: LabelledImages, count: int) -> LabelledImages:
    return LabelledImages(images.images, images.labels, images.indices[:count])


class NotExportable(Exception):
    """Neither Keras's own file nor weights with the user's file give the model again.

    Attributes:
        whole: why the file does not.
        built: why the weights do not.
    """

    def __init__(self, whole: str, built: str) -> None:
        super().__init__(f"{whole}; {built}")
        self.whole = whole
        self.built = built


def why_not_whole(classifier: keras.Model, judge: Judge, file: Path, inputs: Inputs, building: Building) -> str | None:
    """Return why a trial's model is no file that Keras loads by itself; None if it is.

    Args:
        classifier: raw pixels to probabilities, as a trial saves it.
        judge: not yet asked.
        file: the user's, which makes such a model.
        inputs: what it is told of its data.
        building: what it makes this one of.

    Raises:
        NotExportable: the file and the weights do not give it either.
    """
    images = _compared_images(inputs)
    probabilities = np.asarray(classifier.predict_on_batch(images))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "said.npz", images=images, probabilities=probabilities)
        try:
            classifier.save(folder / "model.keras")
        except Exception as error:  # Keras raises what it likes
            whole: str | None = f"Keras cannot save the model as one file ({_reason(error)})"
        else:
            answer = _answer(judge, folder / "model.keras", None)
            whole = answer and f"Keras cannot load the saved model where your file is unknown ({answer})"
        if whole is None:
            return None
        try:
            classifier.save_weights(folder / WEIGHTS)
            copy_code(file, folder)
        except Exception as error:  # likewise
            raise NotExportable(whole, f"its weights cannot be saved ({_reason(error)})") from error
        with Judge(ON_CPU) as another:
            built = _answer(another, folder / WEIGHTS, building)
        if built is not None:
            raise NotExportable(whole, f"a copy of your file does not build it again for its weights ({built})")
        return whole


def _compared_images(inputs: Inputs) -> npt.NDArray[Any]:
    """Noise of full contrast, and each time of half as much: of what saturates a softmax, no difference is seen."""
    random, shape = np.random.default_rng(0), (COMPARED_IMAGES, *inputs.shape)
    mean, contrast = np.asarray(inputs.mean), 0.5 ** np.arange(COMPARED_IMAGES).reshape(-1, *(1 for _ in inputs.shape))
    pixels = inputs.dtype == "uint8"
    noise = random.integers(0, 256, shape) - mean if pixels else random.normal(size=shape) * inputs.std
    images = mean + contrast * noise
    return (np.rint(images) if pixels else images).astype(inputs.dtype)


def _answer(judge: Judge, model: Path, building: Building | None) -> str | None:
    """Return what is wrong with a saved model; None if it says what the model said."""
    task = CompareTask(do="compare", model=str(model), building=building, said=str(model.parent / "said.npz"))
    answer = next(judge.ask(task), Failed(error="no answer"))
    exact = keras.config.dtype_policy().name == "float32" and not on_accelerator()
    if "error" in answer:
        return first_sentence(str(answer["error"]))
    if "difference" in answer and answer["difference"] <= TOLERATED_PROBABILITY["float32" if exact else "mixed"]:
        return None
    return f"loaded, it says other probabilities than before it was saved, {answer}"


def _reason(error: Exception) -> str:
    return first_sentence(failure_of(error)[1])
