"""The peer Optuna: a script with an objective, started several times at once on one SQLite file.

It is written as Optuna's documentation shows: `Easy parallelization
<https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/004_distributed.html>`_ and the example
``keras/keras_integration.py``. The example's callback is in optuna-integration, which is not installed here: `Pruning`
is what its documentation says of it. The configurations come from a sampler by the trial's number, since of enqueued
trials two processes may take the same one, and the second to end it then crashes (optuna#4002).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import TrialState

from tests.benchmarks.throughput.configurations import BATCH_SIZES, DROPOUTS, LEARNING_RATES, OPTIMIZERS, Configuration
from tests.benchmarks.throughput.peer_names import OPTUNA_STUDY
from tests.benchmarks.throughput.peer_network import compiled
from tests.benchmarks.throughput.task import Folder

STARTED = (TrialState.RUNNING, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)


class Listed(optuna.samplers.BaseSampler):
    """Gives each trial the configuration of its number."""

    def __init__(self, configurations: Sequence[Configuration]) -> None:
        self._configurations = configurations

    def infer_relative_search_space(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: optuna.trial.FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: optuna.trial.FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._configurations[trial.number][param_name]


class Pruning(keras.callbacks.Callback):
    """Reports each epoch to a trial, and asks whether to prune it."""

    def __init__(self, trial: optuna.Trial, monitor: str) -> None:
        super().__init__()
        self._trial = trial
        self._monitor = monitor

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        self._trial.report(float((logs or {})[self._monitor]), step=epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned(f"Trial was pruned at epoch {epoch}.")


def main(folder: Folder, storage: str) -> None:
    """Run trials until all configurations are taken."""
    task, training, validation = folder.task, folder.part("training"), folder.part("validation")

    def objective(trial: optuna.Trial) -> float:
        if trial.number >= len(task.configurations):  # both processes asked for the last one
            trial.study.stop()
            raise optuna.TrialPruned
        keras.backend.clear_session()
        batch_size = trial.suggest_categorical("batch_size", BATCH_SIZES)
        configuration: dict[str, int | float | str] = {
            "batch_size": batch_size,
            "optimizer": trial.suggest_categorical("optimizer", OPTIMIZERS),
            "learning_rate": trial.suggest_float("learning_rate", *LEARNING_RATES, log=True),
            "dropout": trial.suggest_float("dropout", *DROPOUTS),
        }
        steps = task.epochs * math.ceil(len(training[0]) / batch_size)
        model = compiled(task, training[0].shape[1:], configuration, steps)
        history = model.fit(
            *training,
            batch_size=batch_size,
            epochs=task.epochs,
            validation_data=validation,
            callbacks=[Pruning(trial, "val_accuracy")],
            verbose=0,
        )
        # The example evaluates once more; that time is left out here.
        return float(max(history.history["val_accuracy"]))

    study = optuna.load_study(
        study_name=OPTUNA_STUDY,
        storage=storage,
        sampler=Listed(task.configurations),
        pruner=optuna.pruners.NopPruner(),
    )
    # Those that run count: otherwise whoever ends first begins one trial more.
    enough = optuna.study.MaxTrialsCallback(len(task.configurations), states=STARTED)
    study.optimize(objective, callbacks=[enough])


if __name__ == "__main__":
    main(Folder(Path(sys.argv[1])), sys.argv[2])
