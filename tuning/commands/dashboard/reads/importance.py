"""How much each parameter matters, as Optuna's dashboard computes it, from COMPLETE trials that are read once."""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from typing import Any

from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from optuna_dashboard._importance import _get_importance_target, convert_to_importance_type
from sqlalchemy import Connection

from storage.rows.trial_rows import read_trials
from tuning.commands.dashboard.reads.shown_trial import ShownTrial

_NONE_LATER = 2**31 - 1  # the largest id of a trial


class Importances:
    """The importances of one study's parameters.

    Args:
        study_id: its id.
    """

    def __init__(self, study_id: int) -> None:
        self._study_id = study_id
        self._complete: dict[int, FrozenTrial] = {}
        self._computed: list[list[Any]] = []
        self._of = -1

    def read(self, connection: Connection, trials: Sequence[ShownTrial]) -> None:
        """Read the parameters of the trials that are COMPLETE since the last time."""
        missing = {
            trial.trial_id
            for trial in trials
            if trial.state == TrialState.COMPLETE and trial.trial_id not in self._complete
        }
        for trial in read_trials(connection, self._study_id, after=_NONE_LATER, also=missing):
            trial._user_attrs, trial._system_attrs, trial.intermediate_values = {}, {}, {}
            self._complete[trial._trial_id] = trial

    def of(self, storage: BaseStorage, name: str, searched: Sequence[str]) -> list[list[dict[str, Any]]]:
        """Return the importances, a list for each objective.

        Args:
            storage: where the study is.
            name: the study's.
            searched: the names of all parameters: where nothing tells them apart, they are equally important.

        Raises:
            ValueError: they cannot be computed.
        """
        if self._of != len(self._complete):
            complete = [self._complete[trial_id] for trial_id in sorted(self._complete)]
            study = _Complete(name, storage, complete)
            self._computed = [_computed(study, place, searched) for place in range(len(study.directions))]
            self._of = len(complete)
        return self._computed


class _Complete(Study):
    """A study that has its COMPLETE trials at hand."""

    def __init__(self, name: str, storage: BaseStorage, complete: list[FrozenTrial]) -> None:
        super().__init__(study_name=name, storage=storage)
        self.complete = complete

    def get_trials(self, deepcopy: bool = True, states: Container[TrialState] | None = None) -> list[FrozenTrial]:
        """Return them, the objects themselves."""
        return self.complete


def _computed(study: _Complete, objective: int, searched: Sequence[str]) -> list[dict[str, Any]]:
    if len(study.complete) <= 1:
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that low values are best, which the target sees to
        evaluator = PedAnovaImportanceEvaluator()
        target = _get_importance_target(study, objective)
        found = get_param_importances(study, target=target, evaluator=evaluator)
    # Those that no COMPLETE trial has are in no study that Optuna is shown here.
    named = [name for name in searched if any(name in trial.distributions for trial in study.complete)]
    equal = found or {name: 1 / len(named) for name in named}
    return [dict(one) for one in convert_to_importance_type(equal, study.complete)]
