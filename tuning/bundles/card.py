"""The card of a bundle: whose model it is, how it was chosen and trained, on what, and with what. No Keras."""

from __future__ import annotations

import importlib.metadata
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from storage import attributes
from storage.files import sha256_of
from storage.prepared.bases import digits_of, is_base
from studies.datasets.prepared import PreparedDataset
from studies.leaderboard import value_of
from studies.phases.confirmation import interval
from studies.phases.known import confirmed, searched_value
from studies.phases.training import training_of
from studies.stored import StudyRecord
from studies.trials import of_phase, phase_of
from tuning.building import CODE, Building
from tuning.bundles.checking import Checked, precision_of
from tuning.tasks import Figures
from tuning.user_classes import UserFile

_LEARNED = {
    "searched": "the training part of data",
    "all": "all but validation and test images",
    "validation too": "all but test images",
}
_VERSIONS_OF = ("keras", "keras-tuner", "optuna", "numpy", "tensorflow", "jax", "torch")

Document = dict[str, Any]


def card_of(
    study: optuna.Study, record: StudyRecord, trial: FrozenTrial, dataset: PreparedDataset, checked: Checked
) -> Document:
    """Return what `card.json` holds, but for the formats.

    Args:
        study: Optuna's own.
        record: what it records.
        trial: whose model the bundle holds.
        dataset: what it was trained on.
        checked: the model.
    """
    spec, judgement = record.spec, checked.judgement
    test = judgement["test"]
    return {
        "study": record.name,
        "trial": trial.number,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "dataset": spec.dataset,
        "class_names": list(dataset.info.class_names),
        "input": {
            "shape": list(dataset.info.shape),
            "dtype": "float32",
            "range": [0, 255] if dataset.info.is_picture else None,
            "preparation": dataset.info.preparation,
            "fit": dataset.info.fit,
        },
        "output": ("the mean over the picture and its mirror image of " if checked.flips else "")
        + "one probability for each class, in the order of class_names",
        "flips": checked.flips,
        **_base_card(spec.model),
        "parameters": trial.params,
        **_told_of_phases(study, record, trial),
        "precision": precision_of(trial),
        "epochs": attributes.of_trial(trial, attributes.EPOCHS, int),
        "best_epoch": attributes.of_trial(trial, attributes.BEST_EPOCH, int),
        "validation": judgement["validation"] if training_of(spec, trial).is_judged else None,
        "test": Figures(accuracy=test["accuracy"], loss=test["loss"], balanced_accuracy=test["balanced_accuracy"]),
        "data": record.data,
        "spec": spec.model_dump(mode="json"),
        "versions": _versions() | {"backend": judgement["backend"]},
        "platform": f"{platform.system()} {platform.machine()}",
        "model_sha256": sha256_of(checked.model),
        **_building_card(checked.building),
    }


def _base_card(model: str) -> Document:
    """What a card says of a model that began with one that was trained already."""
    if not is_base(model):
        return {}
    return {"base": {"model": model.rpartition("@")[0], "sha256": digits_of(model)}}


def _building_card(building: Building | None) -> Document:
    """What a card says of a model that is built by a user's file."""
    if building is None:
        return {}
    code = UserFile.named(building["model"], Path(CODE))
    how = (
        f"in this project's checkout: from tuning.bundles.loading import load; load(FOLDER, run_code=True) runs {code}"
    )
    return {"building": building, "loading": how}


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _VERSIONS_OF:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _told_of_phases(study: optuna.Study, record: StudyRecord, trial: FrozenTrial) -> dict[str, Any]:
    """Return the keys of a card that say how its trial came to be.

    Args:
        study: Optuna's own.
        record: what it records.
        trial: whose model the bundle holds.

    Returns:
        `seed`, which decided all randomness of its training; `phase`; `training`, with `epochs`, `at_least` (values
        of the recipe that were raised to these) and `images`, which it learned from; `search`, the trial
        that tried its parameters first, its best value of the objective there, and where that is the validation
        accuracy the same by that name; `confirmation`, where these were trained again with other seeds: the
        mean value, its 90% interval, and the trial and the seed of each; `objective`, with the trial's own value;
        `costs`, likewise where there are more.
    """
    training = training_of(record.spec, trial)
    of = trial.number if training.of is None else training.of
    value = searched_value(study.get_trials(deepcopy=False)[of], record.objective)
    return {
        "seed": training.seed,
        "phase": phase_of(trial),
        "training": {
            "epochs": training.epochs,
            "at_least": dict(training.at_least),
            "images": _LEARNED[training.learned],
        },
        "search": {
            "trial": of,
            "value": value,
            **({"validation_accuracy": value} if record.objective.is_default else {}),
        },
        "objective": {**record.objective.model_dump(), "value": value_of(trial)},
        **_costs(record, trial),
        "confirmation": _confirmation(study, record, of),
    }


def _costs(record: StudyRecord, trial: FrozenTrial) -> Document:
    """What a card says of what a model costs, where that was an objective."""
    values = zip(record.objectives[1:], (trial.values or [])[1:], strict=False)
    costs = [{**objective.model_dump(), "value": value} for objective, value in values]
    return {"costs": costs} if costs else {}


def _confirmation(study: optuna.Study, record: StudyRecord, of: int) -> dict[str, Any] | None:
    known = confirmed(study, record.spec)
    one = next((one for one in known if one.of == of), None)
    if one is None or record.data is None:
        return None
    within = interval(one, known, record.data["validation"])
    trained = [
        (trial, training_of(record.spec, trial)) for trial in of_phase(study.get_trials(deepcopy=False), "confirm")
    ]
    seeds = [
        (trial.number, training.seed)
        for trial, training in trained
        if training.of == of and value_of(trial) is not None
    ]
    return {
        "mean": one.mean,
        "interval": [within.low, within.high],
        "trials": [{"trial": number, "seed": seed} for number, seed in seeds],
    }
