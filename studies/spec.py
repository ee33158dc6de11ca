"""What a study is: its data, its model, its search space, its plan and its strategy.

A `StudySpec` is frozen, validated and JSON-able. It is stored in the study, so that a worker on any machine reads
what to do from the database alone, and its fingerprint tells whether two calls mean the same study. The budget
(how many trials) is no part of it: a study is extended without becoming another one.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from storage.errors import SpecMismatch
from studies.form import LARGEST_SIDE, SMALLEST_SIDE, Fit
from studies.objectives.objective import VALIDATION_ACCURACY, Objective

Space = Literal["core", "extended"]
ClassWeights = Literal["none", "balanced", "search"]
Precision = Literal["float32", "mixed_bfloat16"]

# The parameters that every study of an ImageClassifier searches.
CORE_PARAMETERS = ("batch_size", "optimizer", "learning_rate", "dropout")

# Of trials x epochs: the budget of epochs where none was asked for and the strategy needs one.
BUDGET_SHARE = 1 / 3

# How many images a published data set is judged with, where its study's file does not say.
VALIDATION_IMAGES = 5_000

# Short names of the project's own hypermodels.
HYPERMODELS = {
    "cnn": "models.cnn:CNN",
    "deep_cnn": "models.deep_cnn:DeepCNN",
    "fast_cnn": "models.fast_cnn:FastCNN",
    "resnet": "models.resnet:ResNet",
}

# KerasTuner's own, which are told the shape of the pictures and how many classes there are.
KERAS_TUNER_MODELS = ("keras_tuner:HyperEfficientNet", "keras_tuner:HyperResNet", "keras_tuner:HyperXception")

# The project's own strategies.
STRATEGIES = ("freeze_thaw", "promotion", "successive_halving", "hyperband", "median", "none")

Scalar = bool | int | float | str

# Fields that specs did not have before, with what they say where nobody chose.
_ADDED: dict[str, Any] = {
    "images": None,
    "defaults": {},
    "test_images": None,
    "class_weights": "none",
    "precision": "float32",
    "objectives": [VALIDATION_ACCURACY.model_dump()],
    "audit": 0.0,
}

ImageSide = Annotated[int, Field(ge=SMALLEST_SIDE, le=LARGEST_SIDE)]


class Frozen(BaseModel):
    """A value: immutable, with no field that was not declared, and no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ParameterRange(Frozen):
    """The values that one parameter may take: either `choices`, or `low` to `high`, both included.

    Attributes:
        low: the smallest value, itself included; a whole number for a parameter that counts.
        high: the largest value, itself included.
        step: the distance between two values; not together with `log`.
        log: whether the number is drawn on a logarithmic scale; `low` must be above 0.
        choices: draw one of these, instead of `low` and `high`.
        default: the value of the first trial; left out, the model's own, where it lies in the range.
    """

    low: float | None = None
    high: float | None = None
    step: Annotated[float, Field(gt=0)] | None = None
    log: bool = False
    choices: Annotated[tuple[Scalar, ...], Field(min_length=1)] | None = None
    default: Scalar | None = None

    @model_validator(mode="after")
    def _is_one_kind_of_range(self) -> Self:
        numeric = self.low is not None and self.high is not None
        if self.choices is not None:
            if self.low is not None or self.high is not None or self.step is not None or self.log:
                raise ValueError("give either choices, or low and high")
            if len(set(self.choices)) != len(self.choices):
                raise ValueError("choices must differ from each other")
            if self.default is not None and self.default not in self.choices:
                raise ValueError(f"default must be one of the choices {list(self.choices)}")
            return self
        if not numeric:
            raise ValueError("give choices = [...], or low = ... and high = ...")
        assert self.low is not None and self.high is not None
        if self.low > self.high:
            raise ValueError(f"low <= high must hold, received low={self.low:g}, high={self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low > 0 must hold on a logarithmic scale, received low={self.low:g}")
        if self.log and self.step is not None:
            raise ValueError("log and step cannot be combined: drop one of them")
        if self.default is not None:
            if isinstance(self.default, (str, bool)):
                raise ValueError(f"default must be a number, received {self.default!r}")
            if not self.low <= self.default <= self.high:
                raise ValueError(f"default must lie in [{self.low:g}, {self.high:g}], received {self.default:g}")
        return self

    def __str__(self) -> str:
        if self.choices is not None:
            return "one of " + ", ".join(str(choice) for choice in self.choices)
        scale = ", log" if self.log else f", step {self.step:g}" if self.step else ""
        return f"{self.low:g} to {self.high:g}{scale}"


class Plan(Frozen):
    """How much is spent.

    Attributes:
        trials: the budget, where the command line gives no other: the study's total of finished trials.
        epochs: the most epochs of a trial; the learning rate's schedule ends there.
        train_images: how many images are trained on, each class with its share; left out, all that validation leaves.
        validation_images: how many images of the training split are held out to judge with, each class with its share;
            left out, 5,000, and of data of your own 15% of what is left to train on, or what they bring.
        test_images: of data of your own that bring no test split, how many are held out to test on; left out, 15%.
        patience: epochs without a better value of the objective after which a trial at a constant learning rate stops
            by itself; with more `--epochs` than the plan's it grows with them. A trial with a schedule trains to its
            end.
        model: another hypermodel under this plan; left out, the file's.
        budget_epochs: how many epochs all trials together train, but that the best one goes on to its end; left out,
            with `freeze_thaw` a third of what they would train if each trained to its end, else no bound.
        defaults: more of `defaults`, under this plan alone; what both name is the plan's.
        first: configurations known to be good of this plan's network, in place of the file's; left out, the file's
            where the plan has the file's model, else none.
        large_model: another hypermodel where a time is given (`FOR=30m`) in which it can be trained for long enough; it
            has its own defaults, and is not given what is in `defaults` and `first`.
        large_model_epochs: how many epochs are long enough for that: fewer where it learns what it can in few.
        confirm: `[configurations, seeds]`: how many of the best are trained again with how many other seeds after the
            search, each at least 2; left out, none is.
        refit_epochs: for how many epochs the winner is trained in the end; left out, it is not.
    """

    trials: Annotated[int, Field(ge=1)]
    epochs: Annotated[int, Field(ge=1)]
    train_images: Annotated[int, Field(ge=1)] | None = None
    validation_images: Annotated[int, Field(ge=1)] | None = None
    test_images: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1)] = 10
    model: str | None = None
    budget_epochs: Annotated[int, Field(ge=1)] | None = None
    defaults: dict[str, Scalar] = Field(default_factory=dict)
    first: tuple[dict[str, Scalar], ...] | None = None
    large_model: str | None = None
    large_model_epochs: Annotated[int, Field(ge=1)] = 10
    confirm: tuple[Annotated[int, Field(ge=2)], Annotated[int, Field(ge=2)]] | None = None
    refit_epochs: Annotated[int, Field(ge=1)] | None = None


class Images(Frozen):
    """The form that pictures of your own are given; the data sets that are published have theirs.

    Attributes:
        size: the side of a square in pixels, or `[height, width]`; left out, it follows from the pictures.
        fit: how a picture of other proportions gets that form: `crop` cuts off what is too much on both sides, `pad`
            puts black beside it, `stretch` changes its proportions.
        flips: whether a mirrored picture keeps its class, so that training may mirror it; left out, it does where the
            pictures are in colour and the classes are no digits or letters.
    """

    size: tuple[ImageSide, ImageSide] | None = None
    fit: Fit = "crop"
    flips: bool | None = None

    @field_validator("size", mode="before")
    @classmethod
    def _of_a_square(cls, size: Any) -> Any:
        return (size, size) if type(size) is int else size

    def said_anew(self, other: Images | None) -> Images:
        """Return this form with what another one says."""
        return self.model_copy(update=other.model_dump(exclude_unset=True)) if other is not None else self


class Sampler(Frozen):
    """Which sampler proposes parameters.

    Attributes:
        name: who proposes parameters: `model` is the strategy's own where it has one (`freeze_thaw`), else TPE; the
            others are Optuna's: `tpe` (Bergstra et al. 2011, multivariate), `cmaes`, `gp`, `random`, `grid`, `qmc`.
            `gp` needs PyTorch: `.venv/bin/python -m pip install torch`.
        startup_trials: trials drawn at random before `tpe`, `cmaes` or `gp` begins to learn; `tpe` and `cmaes` learn
            from frozen and pruned trials too, `gp` only from those that were trained to their end.
        default_first: whether trial 0 has the model's defaults.
        points: how many values of each number a `grid` has; it begins after the trials that come first, and one with
            fewer points than the other trials is refused.
    """

    name: Literal["model", "tpe", "cmaes", "gp", "random", "grid", "qmc"] = "model"
    startup_trials: Annotated[int, Field(ge=1)] = 10
    default_first: bool = True
    points: Annotated[int, Field(ge=1)] = 3


class StrategyChoice(Frozen):
    """Which strategy decides what is trained on, and for how long.

    Attributes:
        name: `freeze_thaw`, `promotion` (successive halving that pauses and promotes, Li et al. 2020),
            `successive_halving` (the same, stopping), `hyperband`, `median`, `none`, or one of your own,
            `file.py:Class`, which is stored with a checksum.
        min_epochs: epochs before the first decision (not `freeze_thaw`).
        reduction_factor: of the trials that reach a decision, one in so many goes on (`promotion`,
            `successive_halving`, `hyperband`).
        cost: what `freeze_thaw` spends sparingly: with `seconds` a configuration whose epochs take twice as long must
            promise twice as much.
    """

    name: str = "freeze_thaw"
    min_epochs: Annotated[int, Field(ge=1)] = 1
    reduction_factor: Annotated[int, Field(ge=2)] = 3
    cost: Literal["epochs", "seconds"] = "epochs"

    @field_validator("name")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name not in STRATEGIES and ".py:" not in name:
            raise ValueError(f"must be one of {', '.join(STRATEGIES)}, or file.py:Class")
        return name


class StudySpec(Frozen):
    """Everything that decides what a study's trials are.

    Attributes:
        dataset: a data set's name, or the absolute path of data of one's own.
        images: the form that pictures of one's own are given; None for data sets that are published.
        model: the hypermodel, `"module:Class"` for the project's own and KerasTuner's, `"file.py:name@sha256"` for a
            user's.
        space: `core` or `extended`.
        parameters: the ranges that replace the model's own, by parameter name.
        defaults: what replaces the model's own defaults, by parameter name, whether it is searched or not.
        test_images: how many images are split off to test on; None where the data set brings a test split.
        seed: all randomness of the study derives from it.
        plan_name: the catalog's plan that was taken, `cpu` or `gpu`.
        class_weights: how the classes weigh while training; `search` makes it a parameter.
        precision: the Keras dtype policy that the cores compute in, in every worker alike; a GPU computes in its own.
        objectives: what is optimised: a curve, and perhaps what a trained model costs besides.
        audit: the share of trials that are trained to their end though the strategy ends them.
    """

    dataset: str
    images: Images | None = None
    model: str
    space: Space
    parameters: dict[str, ParameterRange]
    defaults: dict[str, Scalar] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    plan_name: Literal["cpu", "gpu"]
    epochs: Annotated[int, Field(ge=1)]
    train_images: Annotated[int, Field(ge=1)] | None
    validation_images: Annotated[int, Field(ge=1)]
    test_images: Annotated[int, Field(ge=1)] | None = None
    patience: Annotated[int, Field(ge=1)]
    sampler: Sampler
    strategy: StrategyChoice
    class_weights: ClassWeights = "none"
    precision: Precision = "float32"
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    objectives: Annotated[tuple[Objective, ...], Field(min_length=1, max_length=2)] = (VALIDATION_ACCURACY,)

    @property
    def objective(self) -> Objective:
        """What is optimised, where there are two the first: by it an epoch is judged."""
        return self.objectives[0]

    @model_serializer(mode="wrap")
    def _document(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what is as it was before there was a choice: studies of then keep their fingerprints."""
        document: dict[str, Any] = write(self)
        return {key: value for key, value in document.items() if key not in _ADDED or value != _ADDED[key]}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the canonical JSON, hexadecimal."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()

    @classmethod
    def stored(cls, document: Any) -> StudySpec:
        """Return the spec that was stored as `document`.

        Raises:
            SpecMismatch: the document is none, or one of another version.
        """
        try:
            return cls.model_validate(document)
        except ValueError as error:
            raise SpecMismatch(
                "the study's stored spec cannot be read: it was made by another version of this service, or by another"
                " program. Take STUDY=another for a new study."
            ) from error

    def require_same(self, stored: StudySpec, study: str) -> None:
        """Refuse to continue `study`, which holds `stored`, under this spec.

        Raises:
            SpecMismatch: they differ; the message names the first difference and the two cures.
        """
        mine, theirs = self.model_dump(mode="json"), stored.model_dump(mode="json")
        for path, given, held in differences(mine, theirs):
            raise SpecMismatch(
                f"study {study!r} exists with another spec: {path} is {_shown(held)} there, {_shown(given)} here."
                " Give what it was begun with to go on with it, or take STUDY=another for a new study, or remove this"
                f" one with: make delete STUDY={shlex.quote(study)}"
            )


def _shown(value: Any) -> str:
    if value is None:
        return "not set"
    return json.dumps(value, sort_keys=True)


def model_name(model: str) -> str:
    """Return what the command line calls a hypermodel, without the checksum of a user's file."""
    short = next((name for name, place in HYPERMODELS.items() if place == model), None)
    return short or model.partition("@")[0]


def differences(mine: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[tuple[str, Any, Any]]:
    """Return what two documents of specs say differently: the path of each key, and both values."""
    found: list[tuple[str, Any, Any]] = []
    for key in [*mine, *(key for key in theirs if key not in mine)]:
        given, held = mine.get(key), theirs.get(key)
        if isinstance(given, dict) and isinstance(held, dict):
            found += differences(given, held, f"{prefix}{key}.")
        elif given != held:
            found.append((prefix + key, given, held))
    return found


def derive_seed(seed: int, *path: str | int) -> int:
    """Return a 32-bit seed that depends on `seed` and `path` alone, independent for different paths.

    Derived by SHA-256 instead of by adding numbers, so that (study 1, trial 2) and (study 2, trial 1) differ.
    """
    text = "/".join([str(seed), *map(str, path)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big")
