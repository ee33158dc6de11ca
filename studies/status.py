"""Where a study stands, and how much room it takes. No Keras."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.connections import shown_url
from storage.settings import Home
from storage.stores.chosen import artifact_files, checkpoint_files
from storage.stores.file_store import FileStore
from studies.forecast import Effort, effort_of, epochs_forecast_s, rate_per_hour
from studies.leaderboard import balanced_accuracy, best_trial, pareto_front, plain_parameters, value_of
from studies.stored import StudyRecord
from studies.trials import is_alive, is_frozen, of_phase, spent_epochs


def status(study: optuna.Study, storage_url: str, home: Home, clock: Callable[[], float] = time.time) -> dict[str, Any]:
    """Return where a study stands, as `status --json` prints it.

    It runs while the worker of any trial is alive, by `studies.trials.is_alive`; `clock` gives seconds since 1970.

    `rate_per_hour` is trials finished an hour while any ran, from the last `studies.forecast.RATE_TRIALS`; `forecast_s`
    the seconds until the budget, of trials or of epochs, is spent at the present rate. Either is None where it cannot
    be told; a study that stands still has no forecast. `disk_bytes` is what the study takes up under the home. The
    URL's password is hidden. `imbalanced` is whether the classes are of unlike sizes, see `studies.class_balance`; None
    where that is not recorded. `images` are how many each part has, of `test` those that were split off for it.

    All of that is said of the search, but that it runs while a trial of any phase does. `phases` counts the trials of
    each phase as `trials` does.

    `objectives` are what it optimises, each with its `name` and `direction`, `max` or `min`. Where there are several,
    `front` are the trials that none is better than, with their `values`.

    A study of another program is not `ours`: it has no budget and no objectives, and its best trial is that of its own
    direction. Nor is one whose trials a `function` of the user's runs, but it has a budget.
    """
    record = StudyRecord.of(study)
    every = study.get_trials(deepcopy=False)
    trials = of_phase(every)
    count = counts_of(trials)
    done = count["complete"] + count["pruned"]
    counted = record.is_ours or record.function is not None
    budget = record.budget if counted else 0
    now = clock()
    alive = any(is_alive(trial, now) for trial in every)
    state = "done" if 0 < budget <= done else "running" if alive else "stopped"
    efforts = [effort_of(trial) for trial in trials]
    best = best_trial(study, trials)
    return {
        "study": study.study_name,
        "storage": shown_url(storage_url),
        "state": state,
        "trials": count,
        "budget": {"trials": budget, "done": done, "epochs": record.budget_epochs if record.is_ours else None},
        "epochs_trained": spent_epochs(trials),
        "best": _shown(best) if best is not None else None,
        "rate_per_hour": rate_per_hour(efforts),
        "forecast_s": forecast_s(record, efforts, budget - done) if budget and state == "running" else None,
        "disk_bytes": disk_use(study, home),
        "ours": record.is_ours,
        "function": record.function,
        "directions": [direction.name.lower() for direction in record.directions],
        "imbalanced": record.imbalanced,
        "phases": {phase: counts_of(of_phase(every, phase)) for phase in attributes.PHASES},
        "dataset": record.dataset,
        "images": _images(record),
        "objectives": [objective.model_dump() for objective in record.objectives],
        "front": [_shown(trial) | {"values": trial.values} for trial in pareto_front(study, trials)],
    }


def counts_of(trials: list[FrozenTrial]) -> dict[str, int]:
    """Return how many trials there are of each state; frozen ones are counted by themselves."""
    count = Counter(trial.state for trial in trials)
    frozen = sum(is_frozen(trial) for trial in trials)
    return {
        "complete": count[TrialState.COMPLETE],
        "pruned": count[TrialState.PRUNED],
        "failed": count[TrialState.FAIL],
        "running": count[TrialState.RUNNING],
        "waiting": count[TrialState.WAITING] - frozen,
        "frozen": frozen,
    }


def _images(record: StudyRecord) -> dict[str, int | None] | None:
    if record.data is None:
        return None
    return {"train": record.data["train"], "validation": record.data["validation"], "test": record.data.get("test")}


def _shown(best: FrozenTrial) -> dict[str, Any]:
    return {
        "number": best.number,
        "value": value_of(best),
        "params": plain_parameters(best),
        "balanced_accuracy": balanced_accuracy(best),
    }


def forecast_s(record: StudyRecord, efforts: Sequence[Effort], trials_left: int) -> float | None:
    """Return the seconds until the budget is spent: of epochs, where they are bounded: frozen trials end all at once.

    Args:
        record: what the study records.
        efforts: what each trial of its search has taken.
        trials_left: how many of its budget are not over.
    """
    if record.budget_epochs is None:
        rate = rate_per_hour(efforts)
        return trials_left / rate * 3600 if rate else None
    if record.launched is None:
        return None
    return epochs_forecast_s(efforts, record.budget_epochs, record.launched)


def disk_use(study: optuna.Study, home: Home) -> dict[str, int]:
    """Return the bytes of a study's files under a home: `artifacts`, `checkpoints`, `export`, `logs` and `total`.

    Files that come and go meanwhile are counted or not. Artifacts of former attempts at a trial count as well.
    """
    name, uid = study.study_name, StudyRecord.of(study).uid
    # A study of another program has none of these: what is called as it is another's.
    folders = (home.exported(name, uid), home.logs(name, uid)) if uid else (None,) * 2
    export, logs = (_size(_files(folder)) if folder is not None else 0 for folder in folders)
    keys = [key for trial in study.get_trials(deepcopy=False) for key in trial.system_attrs]
    keys += study._storage.get_study_system_attrs(study._study_id)
    ids = {key.removeprefix(attributes.OPTUNA_ARTIFACT) for key in keys if key.startswith(attributes.OPTUNA_ARTIFACT)}
    used = {
        "artifacts": artifact_files(home).size_bytes([*filter(None, map(os.path.basename, ids))]),
        "checkpoints": _inside(checkpoint_files(home, name, uid)) if uid else 0,
        "export": export,
        "logs": logs,
    }
    return {**used, "total": sum(used.values())}


def _inside(files: FileStore) -> int:
    try:
        return sum(stored.size_bytes for stored in files.inside(""))
    except FileNotFoundError:
        return 0


def _files(folder: Path) -> Iterable[Path]:
    return (Path(parent, name) for parent, _, names in os.walk(folder) for name in names)


def _size(files: Iterable[Path]) -> int:
    total = 0
    for file in files:
        try:
            total += file.lstat().st_size
        except FileNotFoundError:
            continue
    return total
