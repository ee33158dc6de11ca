"""What a training costs, by a few steps of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from itertools import pairwise
from typing import Any

import keras
import numpy as np

from models.backend import seed_generators
from models.training.feeding import LabelledImages
from models.training.loop import VALIDATION_BATCH_SIZE
from storage.errors import BadInput
from storage.leases import FirstCalls
from studies.phases.training import Training
from studies.spec import derive_seed
from tuning.tasks import Measured
from tuning.worker.hyperparameters import RangedHyperParameters
from tuning.worker.preflight.refusals import cannot
from tuning.worker.training_data import Classifiers

# Steps that are timed, after one that is not because it traces.
TIMED_STEPS = 3

# A training that tells nobody of its steps is timed for so long at least, on at most so many times the data.
WHOLE_S, MOST_TIMES = 1.0, 64

UNTOLD = FirstCalls(0.0, 0.0, 0.0)
ESTIMATED = (
    "its own training tells nobody of its steps: what a trial costs is estimated, from trainings on a part of the data"
)


def batch_of(hp: RangedHyperParameters) -> int:
    """Return how many images a step takes; 0 where the parameters do not say."""
    return int(hp.values.get("batch_size", 0))


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
        raise BadInput(cannot("built", hp, error)) from error
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
    validation = _first(data.validation, 2 * VALIDATION_BATCH_SIZE)
    times = _StepClock(clock)
    started = clock()
    try:
        model = classifier.build(hp)
        batch_size = min(batch_of(hp) or 32, len(learned_from))  # which `build` says where it was not given
        part = _first(learned_from, (1 + steps) * batch_size)
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
        raise BadInput(cannot("trained", hp, error)) from error
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
