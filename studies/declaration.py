"""A study's TOML file: read, checked, and made into a spec for the devices at hand."""

from __future__ import annotations

import json
import math
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationError

from storage.errors import BadInput, unknown_name
from studies.objectives.objective import VALIDATION_ACCURACY, Direction, Objective
from studies.objectives.several import require_whole_trials
from studies.spec import (
    HYPERMODELS,
    KERAS_TUNER_MODELS,
    STRATEGIES,
    VALIDATION_IMAGES,
    ClassWeights,
    Frozen,
    Images,
    ParameterRange,
    Plan,
    Precision,
    Sampler,
    Scalar,
    Space,
    StrategyChoice,
    StudySpec,
)

CATALOG = Path(__file__).resolve().parent / "catalog"

PlanName = Literal["cpu", "gpu"]

AskedPrecision = Literal["auto", "float32", "mixed_bfloat16"]


class Declaration(Frozen):
    """What a study's TOML file declares.

    Attributes:
        dataset: a data set's name, or data of your own: a folder of pictures, a `file.npz`, a `file.csv`, `hf:FOLDER`.
        images: the form that pictures of your own are given.
        model: the hypermodel: `cnn`, `deep_cnn`, `fast_cnn`, `resnet`, or one of your own, `file.py:Class`.
        space: which parameters are searched.
        class_weights: how classes of unlike sizes weigh while training: with `none` each picture alike, with `balanced`
            each class alike; `search` tries both.
        precision: what the cores compute in; a GPU computes in its own. `auto` is decided when the study is made: half
            precision (`mixed_bfloat16`) where its cores have instructions for it, the plan is `cpu` and the model one
            of the project's own, else `float32`.
        audit: the share of trials, from 0 to 1, that are trained to their end though the strategy ends them: what
            pruning costs is seen in these. Their epochs are of the budget.
        seed: all randomness derives from it: the split, the proposals, the weights, the order of the images.
        objective: what is optimised: `val_accuracy`, or any other curve that the history of a training has, such as
            `val_loss`; `balanced_accuracy`, `f1_macro` or `auc`, which are computed after each epoch; or a function of
            your own, `file.py:function`. After it may stand what a trained model costs, of which less is better:
            `weights`, `bytes` or `seconds_per_image`.
        direction: whether the largest value of its curve is the best one, `max`, or the smallest, `min`; left out, it
            is told from the name.
        parameters: ranges that replace the model's own, a table for each parameter; a name that the model does not
            know is refused.
        defaults: values in place of the model's own defaults, by parameter name, whether the parameter is searched or
            not: `augmentation = 0.4`.
        first: configurations that are known to be good, tried right after the defaults; what one leaves out is drawn.
            They are of the file's model: where a plan or `--model` has another, they are left out.
        plan: how much is spent: `[plan.cpu]`, `[plan.gpu]` or both. With a GPU `plan.gpu` is taken, else `plan.cpu`;
            where only one is there, that one. A study keeps the plan that it was begun with.
    """

    dataset: str
    images: Images | None = None
    model: str = "cnn"
    space: Space = "core"
    class_weights: ClassWeights = "none"
    precision: AskedPrecision = "float32"
    audit: Annotated[float, Field(ge=0, le=1)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    parameters: dict[str, ParameterRange] = Field(default_factory=dict)
    defaults: dict[str, Scalar] = Field(default_factory=dict)
    first: tuple[dict[str, Scalar], ...] = ()
    plan: dict[PlanName, Plan]
    objective: str = VALIDATION_ACCURACY.name
    direction: Direction | None = None
    sampler: Sampler = Sampler()
    strategy: StrategyChoice = StrategyChoice()

    def plan_for(self, name: PlanName) -> Plan:
        """Return the plan called `name`, or the only one there is."""
        return self.plan[name] if name in self.plan else next(iter(self.plan.values()))

    def first_for(self, plan: Plan, model: str | None) -> tuple[dict[str, Scalar], ...]:
        """Return what a plan's study tries first: what is good for one network says little of another.

        Args:
            plan: one of this declaration.
            model: the hypermodel, where the command line names one.
        """
        trained = _full(model or plan.model or self.model)
        if plan.first is not None and trained == _full(plan.model or self.model):
            return plan.first
        return self.first if trained == _full(self.model) else ()


@dataclass(frozen=True)
class Overrides:
    """What the command line says instead of the file; None leaves the file's value.

    `cores` nobody says: it is what the cores of this machine compute fastest in.
    """

    model: str | None = None
    space: str | None = None
    epochs: int | None = None
    train_images: int | None = None
    seed: int | None = None
    strategy: str | None = None
    class_weights: str | None = None
    objective: str | None = None
    direction: str | None = None
    images: Images | None = None
    precision: str | None = None
    audit: float | None = None
    cores: Precision = "float32"


def catalog_names() -> list[str]:
    """Return the names of the declared studies."""
    return sorted(file.stem for file in CATALOG.glob("*.toml"))


def from_catalog(dataset: str) -> Declaration:
    """Return the declared study of a data set.

    Raises:
        BadInput: there is none; the message names the nearest one.
    """
    if dataset not in catalog_names():
        raise unknown_name("data set", dataset, catalog_names())
    return read_declaration(CATALOG / f"{dataset}.toml")


def read_declaration(file: Path) -> Declaration:
    """Return what a TOML file declares.

    Raises:
        BadInput: it cannot be read, or is wrong; the message names the file, the key, the value and what is allowed.
    """
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8-sig"))  # editors on Windows begin with a mark
    except OSError as error:
        raise BadInput(
            f"{file}: cannot be read: {error.strerror}. Give SPEC the path of a study's TOML file."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{file}: line {line} is not UTF-8, as TOML is. Save the file in that encoding.") from error
    except tomllib.TOMLDecodeError as error:
        raise BadInput(f"{file}: not TOML: {error}. Mend the file there.") from error
    try:
        declaration = Declaration.model_validate(document)
    except ValidationError as error:
        raise BadInput(f"{file}: {_first_problem(error, document)}") from error
    if not declaration.plan:
        raise BadInput(f"{file}: plan = {{}}: give [plan.cpu], [plan.gpu] or both, each with trials and epochs.")
    return declaration


def _first_problem(error: ValidationError, document: dict[str, Any]) -> str:
    problem = error.errors()[0]
    # Pydantic ends a path with what is no key: `[key]`, and the type that it tried for a value of several types.
    path = [str(part) for part in problem["loc"] if part not in ("[key]", "bool", "int", "float", "str")]
    key = ".".join(path) or "(the file)"
    if problem["type"] == "extra_forbidden":
        known = _allowed_keys(path[:-1])
        return f"{key} = {_toml(problem['input'])}: no such key. Allowed: {', '.join(known)}."
    if problem["type"] == "missing":
        return f"{key}: is missing. Add it to the file."
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "too_short":
        message = f"it has {problem['ctx']['actual_length']} values, and needs {problem['ctx']['min_length']} or more"
    return f"{key} = {_toml(problem['input'])}: {message[:1].lower()}{message[1:]}."


def _allowed_keys(path: list[str]) -> list[str]:
    tables: dict[str, type[Frozen]] = {
        "plan": Plan,
        "sampler": Sampler,
        "strategy": StrategyChoice,
        "parameters": ParameterRange,
        "images": Images,
    }
    return list((tables[path[0]] if path else Declaration).model_fields)


def _toml(value: Any) -> str:
    return json.dumps(value, default=str)


def _full(model: str) -> str:
    return HYPERMODELS.get(model, model)


def hypermodel_name(model: str) -> str:
    """Return the full name of one of the project's hypermodels, or of KerasTuner's.

    Raises:
        BadInput: there is no such model; the message names the nearest one.
    """
    if model in HYPERMODELS:
        return HYPERMODELS[model]
    if model in (*HYPERMODELS.values(), *KERAS_TUNER_MODELS):
        return model
    raise unknown_name(
        "model", model, (*HYPERMODELS, *KERAS_TUNER_MODELS), then="A hypermodel of your own is given as file.py:Class."
    )


def declaration_of(spec: StudySpec, trials: int) -> Declaration:
    """Return what declares a study as it is stored, so that it goes on as it was begun.

    Args:
        spec: the study's.
        trials: its budget.
    """
    plan = Plan(
        trials=max(trials, 1),
        epochs=spec.epochs,
        train_images=spec.train_images,
        validation_images=spec.validation_images,
        test_images=spec.test_images,
        patience=spec.patience,
    )
    return Declaration(
        dataset=spec.dataset,
        images=spec.images,
        model=spec.model,
        space=spec.space,
        class_weights=spec.class_weights,
        precision=spec.precision,
        audit=spec.audit,
        seed=spec.seed,
        objective=" ".join(objective.name for objective in spec.objectives),
        direction=spec.objective.direction,
        parameters=spec.parameters,
        defaults=spec.defaults,
        plan={spec.plan_name: plan},
        sampler=spec.sampler,
        strategy=spec.strategy,
    )


def patience_for(plan: Plan, epochs: int) -> int:
    """Return a plan's patience in a study of so many epochs: its share of the plan's, where they are more."""
    return math.ceil(plan.patience * max(1.0, epochs / plan.epochs))


def _require_sane(overrides: Overrides, strategy: str) -> None:
    for flag, value in (("epochs", overrides.epochs), ("train-images", overrides.train_images)):
        if value is not None and value < 1:
            raise BadInput(f"--{flag} {value}: must be at least 1. Leave it out for the catalog's own.")
    if strategy not in STRATEGIES and ".py:" not in strategy:
        raise unknown_name("strategy", strategy, STRATEGIES, then="One of your own is given as file.py:Class.")


def make_spec(
    declaration: Declaration,
    overrides: Overrides,
    *,
    plan_name: PlanName,
    model: str,
    strategy: str,
    objectives: tuple[Objective, ...] = (VALIDATION_ACCURACY,),
) -> StudySpec:
    """Return the spec that a declaration and a command line mean together.

    Args:
        declaration: the study's file.
        overrides: the command line.
        plan_name: which plan to take, by the devices at hand.
        model: full name of the hypermodel, see `hypermodel_name`.
        strategy: name of the strategy.
        objectives: what is optimised.

    Raises:
        BadInput: an override is out of its range.
    """
    plan = declaration.plan_for(plan_name)
    _require_sane(overrides, strategy)
    space = overrides.space or declaration.space
    if space not in ("core", "extended"):
        raise unknown_name("space", space, ["core", "extended"])
    class_weights = overrides.class_weights or declaration.class_weights
    if class_weights not in get_args(ClassWeights):
        raise unknown_name("class weighting", class_weights, get_args(ClassWeights))
    precision = overrides.precision or declaration.precision
    if precision == "auto":
        # What it is worth was measured with these networks.
        precision = overrides.cores if plan_name == "cpu" and model in HYPERMODELS.values() else "float32"
    if precision not in get_args(Precision):
        raise unknown_name("precision", precision, get_args(AskedPrecision))
    spec = StudySpec(
        dataset=declaration.dataset,
        images=declaration.images,
        model=model,
        space=space,
        parameters=declaration.parameters,
        defaults={**declaration.defaults, **plan.defaults},
        seed=_seed(declaration, overrides),
        plan_name=plan_name,
        epochs=overrides.epochs or plan.epochs,
        train_images=overrides.train_images or plan.train_images,
        validation_images=plan.validation_images or VALIDATION_IMAGES,
        test_images=plan.test_images,
        patience=patience_for(plan, overrides.epochs or plan.epochs),
        sampler=declaration.sampler,
        strategy=declaration.strategy.model_copy(update={"name": strategy}),
        class_weights=class_weights,
        precision=precision,
        objectives=objectives,
        audit=_audit(declaration, overrides),
    )
    require_whole_trials(objectives, strategy=strategy, sampler=declaration.sampler.name)
    return spec


def _seed(declaration: Declaration, overrides: Overrides) -> int:
    seed = declaration.seed if overrides.seed is None else overrides.seed
    if not 0 <= seed < 2**32:
        raise BadInput(f"--seed {seed}: must be at least 0 and below 2**32. Leave it out for the catalog's own.")
    return seed


def _audit(declaration: Declaration, overrides: Overrides) -> float:
    audit = declaration.audit if overrides.audit is None else overrides.audit
    if not 0 <= audit <= 1:
        raise BadInput(
            f"--audit {audit:g}: must be a share from 0 to 1, such as 0.1. Leave it out for the catalog's own."
        )
    return audit
