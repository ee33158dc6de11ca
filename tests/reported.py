"""A study that a report is written of: trials, confirmation, winner and an exported model's figures. No training."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from storage import attributes
from storage.database import Database
from storage.settings import Home, mark
from studies.datasets.preparing import prepare
from studies.phases.training import confirmation_training, refit_training
from studies.space import Parameter, SearchSpace
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.study_data import describe
from tests.databases import fresh_database
from tuning.bundles.bundle import CARD, METRICS, VALIDATION

UID = "0123456789abcdef"
SPEC = StudySpec(
    dataset="mnist_sample", model="models.cnn:CNN", space="core", parameters={}, seed=3, plan_name="cpu", epochs=8,
    train_images=None, validation_images=400, patience=5, sampler=Sampler(), strategy=StrategyChoice(),
)  # fmt: skip
OPTIMIZERS = ("sgd", "adam")


def curve(place: int, epochs: int) -> dict[int, float]:
    """A learning curve that rises, of trial `place` of 24."""
    level = 0.5 + 0.4 * math.sin(place * 1.7) ** 2
    return {epoch: round(level * (1 - 0.6**epoch), 6) for epoch in range(1, epochs + 1)}


def make_study(
    database: Database, *, name: str = "mnist", trials: int = 24, optimizers: tuple[str, ...] = OPTIMIZERS,
    extra: str = "layer_0/units", data: Any = None, spec: StudySpec = SPEC, uid: str = UID,
) -> optuna.Study:  # fmt: skip
    """Make a study whose every third trial was trained to its end, the others pruned after two epochs."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(study_name=name, storage=database, direction="maximize")
    space: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(1e-4, 1.0, log=True),
        extra: IntDistribution(16, 256, step=16),
        "optimizer": CategoricalDistribution(optimizers),
    }
    for key, value in {
        attributes.SPEC: spec.model_dump(mode="json"),
        attributes.DATA: data,
        attributes.UID: uid,
        attributes.BUDGET: trials,
        attributes.SPACE: SearchSpace({key: Parameter(one) for key, one in space.items()}).document(),
    }.items():
        made.set_user_attr(key, value)
    for place in range(trials):
        complete = place % 3 == 0
        values = curve(place, spec.epochs if complete else 2)
        params = {
            "learning_rate": 10 ** (-4 + place % 5),
            extra: 16 * (1 + place % 7),
            "optimizer": optimizers[place % 2],
        }
        params["learning_rate"] = min(1.0, params["learning_rate"])
        _add(made, TrialState.COMPLETE if complete else TrialState.PRUNED, values, params, space)
    return made


def add_later_phases(study: optuna.Study) -> None:
    """Confirm trials 0 and 3 with two seeds each, and train the winner for long."""
    for of in (0, 3):
        for index in range(2):
            recorded = confirmation_training(SPEC, of, index).document()
            value = {8: 0.5 + 0.05 * (of > 0) + 0.01 * index}
            _add(study, TrialState.COMPLETE, value, {}, {}, PHASE="confirm", TRAINING=recorded)
    recorded = refit_training(SPEC, 3, epochs=40, at_least={"label_smoothing": 0.1}).document()
    _add(study, TrialState.COMPLETE, curve(3, 40), {}, {}, PHASE="refit", TRAINING=recorded)


def _add(
    study: optuna.Study, state: TrialState, values: dict[int, float], params: dict[str, Any],
    distributions: dict[str, BaseDistribution], **system: Any,
) -> None:  # fmt: skip
    own = {getattr(attributes, key): value for key, value in system.items()}
    recorded = {attributes.SECONDS: 3.0 * len(values), attributes.DEVICE: "CPU", attributes.EPOCHS: len(values)}
    study.add_trial(
        create_trial(
            state=state, value=max(values.values()), params=params, distributions=distributions,
            intermediate_values=values, user_attrs=recorded, system_attrs={**own, attributes.CLAIM: {"id": None}},
        )
    )  # fmt: skip


def put_bundle(home: Home, study: str, class_names: list[str], images: list[int]) -> Path:
    """Put what an export says of its model into a home: the figures alone, without the model."""
    folder = home.make(home.export(study, UID))
    mark(folder, UID)
    classes = len(class_names)
    confusion = [[40 if row == column else 3 * (column == 1) for column in range(classes)] for row in range(classes)]
    mistakes = [{"image": at, "label": 0, "predicted": 1, "probability": 0.9 - at / 1e6} for at in images]
    documents = {
        CARD: {"trial": 28, "class_names": class_names},
        METRICS: {"validation": {"accuracy": 0.93}, "test": {"accuracy": 0.9123}},
        VALIDATION: {"confusion": confusion, "mistakes": mistakes},
    }
    for file, document in documents.items():
        (folder / file).write_text(json.dumps(document))
    return folder


@contextmanager
def whole_study(home: Home, name: str = "mnist") -> Iterator[optuna.Study]:
    """Make a study with everything that a report tells of."""
    dataset = prepare("mnist_sample", home, report=lambda _: None)
    home.root.mkdir(parents=True, exist_ok=True)
    with fresh_database(home.root / "studies.db") as database:
        study = make_study(database, name=name, data=describe(dataset, SPEC))
        add_later_phases(study)
        put_bundle(home, name, list(dataset.info.class_names), [3, 7, 11])
        yield study
