"""What an export asks of its process with Keras, and what that answers: one object of JSON each."""

from __future__ import annotations

from typing import Any, Literal, TypedDict, final

from studies.stored import StudyData


@final
class JudgeTask(TypedDict):
    """Compare a model with what its trial recorded; only if they agree, read the test split.

    Attributes:
        do: which task it is.
        model: the Keras model's file.
        home: where the data set is.
        spec: the study's, as it is stored.
        recorded: what the study records of its data.
        value: the validation accuracy that the trial recorded.
        tolerated: how far the model's may lie from it.
    """

    do: Literal["judge"]
    model: str
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
        folder: the bundle's.
        formats: names from `tuning.bundles.bundle.FORMATS`.
        tolerated: how far a probability of the SavedModel may lie from the Keras model's.
    """

    do: Literal["convert"]
    folder: str
    formats: list[str]
    tolerated: float


class Figures(TypedDict):
    """The accuracy, 0..1, and the mean cross-entropy in nats."""

    accuracy: float
    loss: float


class LabelFigures(TypedDict):
    """One class: precision and recall in 0..1, and its support in pictures."""

    label: str
    precision: float
    recall: float
    support: int


class TestFigures(Figures):
    """The figures of the test split, of each class too."""

    per_class: list[LabelFigures]


@final
class Judgement(TypedDict):
    """A model is what its trial recorded.

    Attributes:
        validation, test: its figures on each.
        confusion: `(classes, classes)` counts on the test split, a row for each true class.
        backend: the one that Keras computed on.
    """

    validation: Figures
    test: TestFigures
    confusion: list[list[int]]
    backend: str


@final
class Differs(TypedDict):
    """A model is not what its trial recorded: its validation accuracy. The test split was not read."""

    differs: float


@final
class Conversion(TypedDict):
    """A format was written, or why it was not."""

    format: str
    error: str | None


@final
class Failed(TypedDict):
    """The task could not be done, and why."""

    error: str


Task = JudgeTask | ConvertTask
Answer = Judgement | Differs | Conversion | Failed
