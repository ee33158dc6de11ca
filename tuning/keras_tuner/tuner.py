"""A `keras_tuner.Tuner` in use: the script stays KerasTuner's, its trials are claimed in an Optuna study."""

from __future__ import annotations

import traceback
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import keras_tuner
from keras_tuner.engine.trial import Trial, TrialStatus

from storage.errors import BadInput, ClaimLost, TuningError
from storage.settings import Home
from studies.functions.in_process import Meant, OwnTrials, pruner_named
from studies.functions.opening import total_of_trials
from tuning.commands.delete import delete_study
from tuning.keras_tuner.oracle import PRUNED, StudyOracle
from tuning.user_functions import in_words
from tuning.worker.hyperparameters import TrialHyperParameters

_PROJECT = "untitled_project"  # as KerasTuner calls it

_REFUSED = {
    "oracle": "what is tried is said by the study's sampler",
    "allow_new_entries": "what is not to be searched is left out by tune_new_entries=False",
    "max_retries_per_trial": "a trial that raises has failed",
    "max_consecutive_failed_trials": "after three in a row the search ends",
}


class _Stopped(Exception):
    """The strategy stopped the trial."""


class Tuner(keras_tuner.Tuner):
    """Searches as KerasTuner's tuners do, in this process; the same script run several times at once shares the trials.

    Args:
        hypermodel: KerasTuner's: a function that builds a model, or a `HyperModel`.
        objective: a name, a `keras_tuner.Objective` or a list of these; its direction is told as KerasTuner does.
        max_trials: the study's total of finished trials, COMPLETE and PRUNED, of all processes and all searches.
        seed: what is tried derives from it.
        hyperparameters: what replaces the model's own declarations of these names.
        tune_new_entries: whether what the model declares besides is searched; else it has its defaults.
        directory: where the database and all files are, as `TUNING_HOME`, which it is by default.
        project_name: the study's name.
        overwrite: whether a study of that name is deleted first; else the search goes on with it.
        strategy: `none`, `median`, `successive_halving` or `hyperband`: whether and how bad trials are stopped.
        **kwargs: those of `keras_tuner.Tuner`, `executions_per_trial` among them.

    Raises:
        BadInput: something given cannot be used.
    """

    def __init__(
        self,
        hypermodel: Any = None,
        objective: Any = None,
        max_trials: int = 10,
        seed: int | None = None,
        hyperparameters: Any = None,
        tune_new_entries: bool = True,
        *,
        directory: Any = None,
        project_name: str | None = None,
        overwrite: bool = False,
        strategy: str = "none",
        **kwargs: Any,
    ) -> None:
        for name in _REFUSED.keys() & kwargs.keys():
            raise BadInput(f"{name}=...: is not taken here, since {_REFUSED[name]}. Leave it out.")
        max_trials = total_of_trials("max_trials", max_trials)
        pruner_named(strategy)
        self._home = Home(Path(directory).expanduser().resolve()) if directory else Home.from_environment()
        self._study_name = project_name or _PROJECT
        self._function = in_words(hypermodel if hypermodel is not None else type(self))
        self._strategy = strategy
        self._deletes = overwrite
        # Opened when it is first asked for: a script whose model alone is wanted makes no study.
        self._opened: OwnTrials | None = None
        space = {"hyperparameters": hyperparameters, "tune_new_entries": tune_new_entries}
        oracle = StudyOracle(self._own_trials, objective, max_trials, seed=seed, **space)
        self._seed = seed
        super().__init__(
            oracle=oracle,
            hypermodel=hypermodel,
            directory=str(self._home.root),
            project_name=self._study_name,
            **kwargs,
        )

    def _own_trials(self) -> OwnTrials:
        if self._opened is None:
            home, study, objective = self._home, self._study_name, self.oracle.objective
            search = (self._seed, self._strategy)
            meant = Meant(home, study, objective.name, objective.direction, self._function, *search)
            delete = partial(delete_study, home.database_url, study, home, confirm=lambda _: True)
            self._opened = OwnTrials(meant, delete if self._deletes else None)
        return self._opened

    def _try_build(self, hp: Any) -> Any:
        first = isinstance(hp, TrialHyperParameters) and not hp.values
        model = super()._try_build(hp)
        if first:
            self.oracle.show_values(hp)
        return model

    def _configure_tensorboard_dir(self, callbacks: list[Any], trial: Trial, execution: int = 0) -> None:
        # KerasTuner's own imports TensorBoard, which need not be installed, whether there is such a callback or not.
        if any(type(callback).__name__ == "TensorBoard" for callback in callbacks):
            super()._configure_tensorboard_dir(callbacks, trial, execution)

    def on_epoch_end(self, trial: Trial, model: Any, epoch: int, logs: Any = None) -> None:
        """Report the objective, and stop the trial where the strategy says so."""
        if not self.oracle.goes_on(trial, logs or {}):
            raise _Stopped

    def _try_run_and_update_trial(self, trial: Trial, *fit_args: Any, **fit_kwargs: Any) -> None:
        try:
            self._run_and_update_trial(trial, *fit_args, **fit_kwargs)
            trial.status = TrialStatus.COMPLETED
        except _Stopped:
            trial.status = PRUNED
        except ClaimLost:  # another process has it
            trial.status = TrialStatus.FAILED
        except (keras_tuner.errors.FatalError, TuningError):
            self._put_back(trial)
            raise
        except Exception:
            trial.status, trial.message = TrialStatus.FAILED, traceback.format_exc()
        except BaseException:  # Ctrl-C, most likely
            self._put_back(trial)
            raise

    def _put_back(self, trial: Trial) -> None:
        with suppress(ClaimLost):
            self.oracle.put_back(trial)

    @property
    def project_dir(self) -> str:
        """The folder with a folder for each trial."""
        return str(self._own_trials().folder)

    def get_trial_dir(self, trial_id: str) -> str:
        """Return the folder of a trial, which has the weights of its best epoch."""
        folder: str = self.oracle.folder_of(trial_id)
        return folder

    def _get_tuner_fname(self) -> str:
        return ""  # nothing is kept in a file of its own

    def save(self) -> None:
        """Nothing: the study has it."""

    def reload(self) -> None:
        """Nothing: the study has it."""
