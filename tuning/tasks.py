"""What is asked of a fresh process with Keras, and what that answers: one object of JSON each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Literal, Self, TypedDict, final

from storage.processes.isolation import python_environment, python_module
from studies.stored import StudyData
from tuning.building import Building
from tuning.keras_settings import require_keras_json

# The SavedModel, or the Keras model loaded again, must give the Keras model's probabilities, up to rounding.
TOLERATED_PROBABILITY = {"float32": 1e-4, "mixed": 2e-2}


@final
class JudgeTask(TypedDict):
    """Compare a model with what its trial recorded; only if they agree, read the test split.

    Attributes:
        do: which task it is.
        model: the Keras model's file, or its weights.
        building: what else a model is built of that is saved as weights; the code beside them is run.
        home: where the data set is.
        spec: the study's, as it is stored.
        recorded: what the study records of its data.
        value: the validation accuracy that the trial recorded.
        tolerated: how far the model's may lie from it.
    """

    do: Literal["judge"]
    model: str
    building: Building | None
    home: str
    spec: dict[str, Any]
    recorded: StudyData
    value: float
    tolerated: float


@final
class MirrorTask(TypedDict):
    """Compare a model with what its trial recorded; only if they agree, have it look at the mirror image too.

    Where it is one file, the model that says the mean of both takes its place; what is built has `Building.mirrored`.

    Attributes:
        do: which task it is.
        model: the Keras model's file, or its weights.
        building, home, spec, recorded, value, tolerated: see `JudgeTask`.
    """

    do: Literal["mirror"]
    model: str
    building: Building | None
    home: str
    spec: dict[str, Any]
    recorded: StudyData
    value: float
    tolerated: float


@final
class ConvertTask(TypedDict):
    """Write a bundle's Keras model in other formats; a `Conversion` answers for each.

    Attributes:
        do: which task it is.
        model: the Keras model's file in the bundle, or its weights.
        building: see `JudgeTask`.
        formats: names from `tuning.bundles.bundle.FORMATS`.
        tolerated: how far a probability of the SavedModel may lie from the Keras model's.
    """

    do: Literal["convert"]
    model: str
    building: Building | None
    formats: list[str]
    tolerated: float


@final
class CompareTask(TypedDict):
    """Load a saved model and compare what it says of some images with what the model said that was saved.

    Attributes:
        do: which task it is.
        model: the Keras model's file, or its weights.
        building: see `JudgeTask`.
        said: an `.npz` with `images`, raw pixels, and `probabilities`, one row each.
    """

    do: Literal["compare"]
    model: str
    building: Building | None
    said: str


@final
class PredictTask(TypedDict):
    """Say what pictures show.

    Attributes:
        do: which task it is.
        model: the Keras model's file, or its weights.
        building: see `JudgeTask`.
        images: an `.npy` of raw pixels, `(n, height, width, channels)`.
    """

    do: Literal["predict"]
    model: str
    building: Building | None
    images: str


@final
class MeasureTask(TypedDict):
    """Say how fast a configuration of a study trains here, whether the study is there yet or not.

    Attributes:
        options: `tuning.messages.WorkerOptions` as JSON: where it trains.
        home: where the data set is.
        spec: the study's, as it is stored.
        recorded: what the study records of its data, or will.
        parameters: those of the configuration; None for the defaults.
        training: `studies.phases.training.Training` as JSON; None for that of a trial of the search.
    """

    options: str
    home: str
    spec: dict[str, Any]
    recorded: StudyData
    parameters: dict[str, Any] | None
    training: dict[str, Any] | None


@final
class Measured(TypedDict):
    """How fast a training goes, in seconds: see `studies.phases.sizing.Pace`.

    Attributes:
        start_s: to build a model and to trace its steps.
        image_s: for each image of an epoch.
        judge_s: for the validation after it.
        timed_s: what it took to find that out, once the process was ready to train.
    """

    start_s: float
    image_s: float
    judge_s: float
    timed_s: float


class Figures(TypedDict):
    """The accuracy, 0..1, the mean cross-entropy in nats, and the mean over the classes of their recall, 0..1."""

    accuracy: float
    loss: float
    balanced_accuracy: float


class LabelFigures(TypedDict):
    """One class: precision and recall in 0..1, and its support in pictures."""

    label: str
    precision: float
    recall: float
    support: int


class TestFigures(Figures):
    """The figures of the test split, of each class too."""

    per_class: list[LabelFigures]


class Mistake(TypedDict):
    """A validation picture that was taken for another class.

    Attributes:
        image: its place in the training split, from 0.
        label, predicted: the numbers of its class, and of what it was taken for.
        probability: what the model gave that, 0..1.
    """

    image: int
    label: int
    predicted: int
    probability: float


class Looked(TypedDict):
    """What `validation.json` holds: what a model took for what on the validation images.

    Attributes:
        confusion: `(classes, classes)` counts, a row for each true class.
        mistakes: the worst, those of which it was the surest first.
    """

    confusion: list[list[int]]
    mistakes: list[Mistake]


@final
class Judgement(TypedDict):
    """A model is what its trial recorded.

    Attributes:
        validation, test: its figures on each.
        confusion: `(classes, classes)` counts on the test split, a row for each true class.
        looked: at the validation images; whoever looks at test images chooses by them.
        backend: the one that Keras computed on.
    """

    looked: Looked
    validation: Figures
    test: TestFigures
    confusion: list[list[int]]
    backend: str


@final
class Mirrored(TypedDict):
    """A model is what its trial recorded: the validation accuracy of the mean of a picture and its mirror image."""

    mirrored: float


@final
class Differs(TypedDict):
    """A model is not what its trial recorded: its validation accuracy. The test split was not read."""

    differs: float


@final
class Difference(TypedDict):
    """A model was loaded: how far a probability lies from what was said, at most."""

    difference: float


@final
class Predicted(TypedDict):
    """What pictures show: a row of probabilities each, in the order of the classes."""

    predicted: list[list[float]]


@final
class Conversion(TypedDict):
    """A format was written, or why it was not."""

    format: str
    error: str | None


@final
class Failed(TypedDict):
    """The task could not be done, and why."""

    error: str


Task = JudgeTask | MirrorTask | ConvertTask | CompareTask | PredictTask | MeasureTask
Answer = Judgement | Mirrored | Differs | Difference | Predicted | Conversion | Measured | Failed


@contextmanager
def answering() -> Iterator[Callable[[Answer], None]]:
    """In such a process: yield what says an answer.

    Libraries print to stdout: from now on that is stderr, and answers go where stdout was.
    """
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)

        def say(answer: Answer) -> None:
            answers.write(json.dumps(answer) + "\n")
            answers.flush()

        yield say


def asked() -> Any:
    """In such a process: wait for its task and return it."""
    return json.load(sys.stdin)


class FreshProcess:
    """A fresh process, which imports Keras while its task is not known yet. What it prints is dropped, unless it dies.

    Args:
        module: what it runs.
        environ: what its environment has besides.

    Raises:
        BadInput: Keras cannot be imported there.
    """

    def __init__(self, module: str, environ: Mapping[str, str] | None = None) -> None:
        require_keras_json(os.environ)
        environment = {
            **python_environment(os.environ),
            "TF_CPP_MIN_LOG_LEVEL": "3",
            # Workers may be training on the same device.
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **(environ or {}),
        }
        self._process = subprocess.Popen(
            python_module(module),
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def ask(self, task: Task) -> Iterator[Answer]:
        """Give the process its one task; yield its answers."""
        said, printed = self._process.communicate(json.dumps(task))
        for line in said.splitlines():
            yield json.loads(line)
        status = self._process.returncode
        if status != 0:
            last = next((line for line in reversed(printed.splitlines()) if line.strip()), "it said nothing")
            yield Failed(error=f"the process ended with status {status}: {last.strip()}")


class Judge(FreshProcess):
    """Loads saved models: judges, converts, compares and asks them."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__("tuning.bundles.judge", environ)


class Meter(FreshProcess):
    """Trains a few steps, and says how long they took."""

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        super().__init__("tuning.worker.preparing.measuring", environ)
