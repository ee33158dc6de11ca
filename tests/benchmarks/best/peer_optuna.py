"""The peer Optuna: TPE with the median pruner, then a retraining of the best.

The search is a script that is started several times at once on one SQLite file, as its documentation shows (`Easy
parallelization <https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html>`_ and the
example ``keras/keras_integration.py``), but judges by validation images where that example takes the test split.
Another process retrains, with all threads.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import keras
import keras_tuner
import optuna
from keras_tuner.engine import hyperparameters
from optuna.trial import TrialState

from studies.spec import derive_seed
from tests.benchmarks.best.peer_training import (
    VALIDATION_BATCH_SIZE,
    Material,
    RunsOut,
    built,
    handed_over,
    pace_of,
    plain_fit,
    steps_of_epoch,
    with_values,
)
from tests.benchmarks.best.sizing import trial_epochs
from tests.benchmarks.best.task import Task
from tests.benchmarks.throughput.peer_names import OPTUNA_STUDY

EPOCHS: Final = "epochs"


class TimeIsUp(Exception):
    """The search's time is over."""


class Pruning(keras.callbacks.Callback):
    """Reports each epoch to a trial, and asks whether to prune it."""

    def __init__(self, trial: optuna.Trial) -> None:
        super().__init__()
        self._trial = trial

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._trial.report(float((logs or {})["val_accuracy"]), step=epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"Trial was pruned at epoch {epoch}.")


def suggested(trial: optuna.Trial, material: Material) -> keras_tuner.HyperParameters:
    """Return a trial's configuration: each parameter that the hypermodel declares, in the range that it has there."""
    declared, values = keras_tuner.HyperParameters(), {}
    material.classifier(1, 1).recipe(declared)
    for one in declared.space:
        if isinstance(one, hyperparameters.Choice):
            values[one.name] = trial.suggest_categorical(one.name, one.values)
        else:
            log = one.sampling == "log"
            values[one.name] = trial.suggest_float(one.name, one.min_value, one.max_value, log=log)
    return with_values(values)


def load_study(storage: str) -> optuna.Study:
    """Return the study, which was made before the workers were started."""
    return optuna.load_study(study_name=OPTUNA_STUDY, storage=storage)


def epochs_of(study: optuna.Study, until: float) -> int:
    """Return how many epochs a trial has, as soon as the first worker has said it; one where it is too late for that.

    Args:
        study: all workers'.
        until: when the search is over, in seconds since 1970.
    """
    while EPOCHS not in study.user_attrs and time.time() < until:
        time.sleep(0.1)
    return int(study.user_attrs.get(EPOCHS, 1))


def search(task: Task, storage: str, number: int, workers: int) -> None:
    """Run trials until the search's time is over.

    Args:
        task: what is searched.
        storage: the study's database.
        number: which of the workers this is.
        workers: how many there are.
    """
    material, defaults = Material(task), with_values({})
    images = len(material.train)
    steps = steps_of_epoch(material.classifier(1, images), defaults, images, plain_fit)
    # All measure at once, so that each has its share of the machine; what the first one finds counts for all.
    pace = pace_of(material, defaults, plain_fit)
    study = load_study(storage)
    if number == 0:
        left_s = task.searched_until - time.time()
        study.set_user_attr(EPOCHS, trial_epochs(workers * left_s / pace.epoch_s(steps)))
    epochs = epochs_of(study, task.searched_until)
    training, validation = material.arrays(material.train), material.arrays(material.validation)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        hp = suggested(trial, material)
        _, model = built(material, hp, epochs=epochs, images=images, fit=plain_fit)
        history = model.fit(
            *training,
            batch_size=hp.get("batch_size"),
            epochs=epochs,
            validation_data=validation,
            validation_batch_size=VALIDATION_BATCH_SIZE,
            callbacks=[Pruning(trial), RunsOut(task.searched_until, TimeIsUp)],
            verbose=0,
        )
        return float(history.history["val_accuracy"][-1])

    seed = derive_seed(task.seed, "peer", number)
    keras.utils.set_random_seed(seed)
    study.sampler = optuna.samplers.TPESampler(seed=seed)
    study.pruner = optuna.pruners.MedianPruner()
    with suppress(TimeIsUp):
        study.optimize(objective)


def retrain(task: Task, storage: str, answer: Path) -> None:
    """Train the best configuration, and write down what came of it."""
    study = load_study(storage)
    trials = study.get_trials(deepcopy=False)
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    params = study.best_params if complete else {}
    epochs = sum(len(trial.intermediate_values) for trial in trials)
    longest = study.user_attrs.get(EPOCHS, 1)
    searched = (
        f"{len(trials)} trials of at most {longest} epochs, {len(complete)} of them complete, {epochs} epochs in all"
    )
    keras.utils.set_random_seed(task.seed)
    handed_over(Material(task), with_values(params), plain_fit, searched=searched).write(answer)


def main(task_file: str, storage: str, *rest: str) -> None:
    """Search as worker NUMBER of WORKERS, or retrain and write to ANSWER."""
    task = Task.read(Path(task_file))
    if len(rest) == 2:
        search(task, storage, int(rest[0]), int(rest[1]))
    else:
        retrain(task, storage, Path(rest[0]))


if __name__ == "__main__":
    main(*sys.argv[1:])
