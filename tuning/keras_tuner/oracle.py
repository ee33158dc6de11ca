"""KerasTuner's oracle, answered by an Optuna study: what a tuner asks for, and is told to keep, goes through claims."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import keras_tuner
import numpy as np
from keras_tuner.engine.hyperparameters import Fixed
from keras_tuner.engine.trial import Trial, TrialStatus

from storage import attributes
from storage.errors import ClaimLost
from studies.functions.in_process import OwnTrials
from tuning.words import counted
from tuning.worker.endings import ERROR
from tuning.worker.hyperparameters import TrialHyperParameters, ranges_of

PRUNED = "PRUNED"
"""The status of a trial that was stopped, a word that KerasTuner does not have."""

_STATUS = {"COMPLETE": TrialStatus.COMPLETED, "FAIL": TrialStatus.FAILED, "PRUNED": PRUNED}


class StudyOracle(keras_tuner.Oracle):
    """Gives a tuner the trials of a study.

    Each hyperparameter is drawn when the model declares it, so that what is not active is not drawn. Nothing is kept in
    files of its own: what any process recorded is seen by all.

    Args:
        own: returns the study's trials, which this process runs.
        objective: KerasTuner's, or its name.
        max_trials: the study's total of finished trials.
        **kwargs: `seed`, `hyperparameters` and `tune_new_entries` of KerasTuner's.
    """

    def __init__(self, own: Callable[[], OwnTrials], objective: Any, max_trials: int, **kwargs: Any) -> None:
        super().__init__(objective=objective, max_trials=max_trials, **kwargs)
        self._own = own
        self._ranges = ranges_of(self.hyperparameters)
        self._begun = False

    def _begin(self) -> None:
        """Let the study have so many trials, and say where it is."""
        own = self._own()
        done = own.set_budget(self.max_trials)
        far = f", {done} of {counted(self.max_trials, 'trial')} finished" if done else ""
        print(f"study {own.study.study_name!r} in {own.shown_url}{far}", file=sys.stderr)

    def create_trial(self, tuner_id: str) -> Trial:
        """Return the next trial; one that is STOPPED once the budget is spent."""
        # Not in the tuner's `on_search_begin`, which is for who derives from it.
        if not self._begun:
            self._begin()
            self._begun = True
        taken = self._own().take(waiting=lambda: print("waiting for the trials of other processes", file=sys.stderr))
        if taken is None:
            self._begun = False  # the next search may have another number of trials
            return Trial(keras_tuner.HyperParameters(), trial_id="", status=TrialStatus.STOPPED)
        searched = None if self.tune_new_entries else self._ranges.keys()
        hp = TrialHyperParameters(taken, self._ranges, first_range_holds=True, searched=searched)
        trial = Trial(hp, trial_id=self._id_of(taken.number))
        self.trials[trial.trial_id] = trial
        self._show_begin(trial)
        return trial

    def _id_of(self, number: int) -> str:
        return f"{number:0{len(str(self.max_trials))}d}"

    def _show_begin(self, trial: Trial) -> None:
        display = self._display
        display.trial_start[trial.trial_id] = now = datetime.now()
        display.trial_number[trial.trial_id] = int(trial.trial_id) + 1
        display.search_start = display.search_start or now
        if self.verbose >= 1:
            print(f"\nSearch: Running Trial #{int(trial.trial_id) + 1}\n")

    def show_values(self, hp: keras_tuner.HyperParameters) -> None:
        """Show what a trial was given, once its model has asked for it."""
        trial = next((trial for trial in self.trials.values() if trial.hyperparameters is hp), None)
        if trial is not None and self.verbose >= 1:
            self._display.show_hyperparameter_table(trial)
            print()

    def goes_on(self, trial: Trial, logs: Mapping[str, float]) -> bool:
        """Report a trial's epoch; return whether it goes on."""
        if not self.objective.has_value(logs):  # perhaps its own `fit` computes it in the end
            return True
        return self._own().report(int(trial.trial_id), float(self.objective.get_value(logs)))

    def end_trial(self, trial: Trial) -> None:
        """Record how a trial ended: COMPLETED, PRUNED, or FAILED with a message. One that was lost is dropped."""
        self.update_space(trial.hyperparameters)
        try:
            self._record(trial, int(trial.trial_id))
        except ClaimLost as error:
            print(f"{error}; dropped", file=sys.stderr)
            return
        self.end_order.append(trial.trial_id)
        self._check_consecutive_failures()
        if self.verbose >= 1:
            self._display.on_trial_end(trial)

    def _record(self, trial: Trial, number: int) -> None:
        own = self._own()
        if trial.status == PRUNED:
            own.prune(number)
            return
        if trial.status == TrialStatus.COMPLETED:
            self.score_trial(trial)
            if not np.isnan(trial.score):
                metrics = {name: float(trial.metrics.get_best_value(name)) for name in trial.metrics.metrics}
                said = {attributes.BEST_EPOCH: int(trial.best_step) + 1, attributes.METRICS: metrics}
                own.complete(number, float(trial.score), said)
                return
            trial.message = f"{self.objective.name} is not a number"
        failure = attributes.DIVERGED if trial.status == TrialStatus.COMPLETED else ERROR
        trial.status = TrialStatus.FAILED
        own.fail(number, failure, ((trial.message or "").strip().splitlines() or ["no reason was given"])[-1])

    def put_back(self, trial: Trial) -> None:
        """Put a trial that was cut short back into the queue."""
        self._begun = False
        self._own().put_back(int(trial.trial_id))

    def folder_of(self, trial_id: str) -> str:
        """Return the folder of a trial's own."""
        return self._own().folder_of(int(trial_id))

    def get_best_trials(self, num_trials: int = 1) -> list[Trial]:
        """Return the best trials, whichever process ran them."""
        return [self._as_trial(recorded) for recorded in self._own().recorded()[:num_trials]]

    def _as_trial(self, recorded: Any) -> Trial:
        hp = self.get_space()
        hp.values = dict(recorded.params)
        for one in hp.space:
            if isinstance(one, Fixed) and hp.is_active(one):
                hp.values[one.name] = one.value
        trial = Trial(hp, self._id_of(recorded.number), _STATUS.get(recorded.state.name, TrialStatus.RUNNING))
        trial.score = recorded.value
        trial.best_step = (attributes.of_trial(recorded, attributes.BEST_EPOCH, int) or 1) - 1
        trial.message = attributes.of_trial(recorded, attributes.REASON, str)
        for name, value in (attributes.of_trial(recorded, attributes.METRICS, dict) or {}).items():
            trial.metrics.update(name, value, step=trial.best_step)
        return trial

    def remaining_trials(self) -> int:
        """Return how many trials are not finished yet."""
        finished = sum(trial.state.name in ("COMPLETE", "PRUNED") for trial in self._own().recorded())
        left: int = self.max_trials - finished
        return max(0, left)

    def _save_trial(self, trial: Trial) -> None:
        """Nothing: the study has it."""

    def save(self) -> None:
        """Nothing: the study has it."""

    def reload(self) -> None:
        """Nothing: the study has it."""
