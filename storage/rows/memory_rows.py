"""Claims without a database: of one process, for studies on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from typing import Any

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.rows.ledger import UNFINISHED, Counts, TrialRow, counted, is_frozen


class Memory(InMemoryStorage):
    """Optuna's storage in memory, with claims. For one thread: nothing is undone, repeated or fenced."""

    @contextmanager
    def rows(self, study_id: int, *, write: bool) -> Iterator[MemoryRows]:
        """Yield a study's rows; see `storage.rows.ledger.Ledger`."""
        yield MemoryRows(self, study_id)

    def repeated(self, call: Callable[[], Any]) -> Any:
        """Return `call()`: memory is never busy."""
        return call()

    def fence(self, trial_id: int, claim_id: str) -> None:
        """Do nothing: there is one process."""

    def unfence(self, trial_id: int) -> None:
        """Do nothing, likewise."""


class MemoryRows:
    """`Rows` of a storage in memory.

    Args:
        storage: where the study is.
        study_id: the study's id.
    """

    def __init__(self, storage: Memory, study_id: int) -> None:
        self._storage = storage
        self._study_id = study_id

    def lock(self) -> None:
        self._storage.get_study_name_from_id(self._study_id)

    def counts(self) -> Counts:
        return counted(
            (
                trial.state,
                trial.system_attrs.get(attributes.CLAIM) is not None,
                trial.system_attrs.get(attributes.FROZEN) is not None,
                1,
            )
            for trial in self._trials()
        )

    def active(self) -> list[TrialRow]:
        unfinished = (trial for trial in self._trials() if trial.state in UNFINISHED)
        return [_row(trial) for trial in unfinished if not is_frozen(trial)]

    def frozen(self, number: int) -> TrialRow | None:
        trials = self._trials()
        return _row(trials[number]) if 0 <= number < len(trials) and is_frozen(trials[number]) else None

    def unfinished(self) -> set[int]:
        return {trial.number for trial in self._trials() if trial.state in UNFINISHED}

    def next_number(self) -> int:
        return len(self._trials())

    def last_finished(self, count: int, since: int) -> list[tuple[int, int, TrialState]]:
        finished = [trial for trial in self._trials() if trial.state.is_finished() and trial.number >= since]
        finished.sort(key=lambda trial: (trial.datetime_complete, trial.number), reverse=True)
        return [(trial._trial_id, trial.number, trial.state) for trial in finished[:count]]

    def create(self) -> TrialRow:
        return _row(self._trial(self._storage.create_new_trial(self._study_id)))

    def lock_state(self, trial_id: int) -> TrialState | None:
        try:
            return self._trial(trial_id).state
        except KeyError:
            return None

    def begin(self, trial_id: int) -> None:
        began = self._trial(trial_id).datetime_start
        self._storage.set_trial_state_values(trial_id, TrialState.RUNNING)
        if began is not None:
            trial = copy(self._trial(trial_id))
            trial.datetime_start = began
            self._storage._set_trial(trial_id, trial)

    def wait(self, trial_id: int) -> None:
        self._storage.set_trial_state_values(trial_id, TrialState.WAITING)

    def fail(self, trial_id: int) -> None:
        self._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def forget_parameters(self, trial_id: int) -> None:
        trial = copy(self._trial(trial_id))
        trial.params, trial.distributions = {}, {}
        self._storage._set_trial(trial_id, trial)

    def system_attr(self, trial_id: int, key: str) -> Any:
        return self._trial(trial_id).system_attrs.get(key) if self.lock_state(trial_id) is not None else None

    def set_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_system_attr(trial_id, key, value)

    def user_attr(self, trial_id: int, key: str) -> Any:
        return self._trial(trial_id).user_attrs.get(key) if self.lock_state(trial_id) is not None else None

    def set_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        self._storage.set_trial_user_attr(trial_id, key, value)

    def study_user_attrs(self) -> Mapping[str, Any]:
        return self._storage.get_study_user_attrs(self._study_id)

    def study_system_attrs(self) -> Mapping[str, Any]:
        return self._storage.get_study_system_attrs(self._study_id)

    def set_study_user_attr(self, key: str, value: Any) -> None:
        self._storage.set_study_user_attr(self._study_id, key, value)

    def set_study_system_attr(self, key: str, value: Any) -> None:
        self._storage.set_study_system_attr(self._study_id, key, value)

    def _trials(self) -> list[FrozenTrial]:
        try:
            return self._storage.get_all_trials(self._study_id, deepcopy=False)
        except KeyError:  # the study was deleted
            return []

    def _trial(self, trial_id: int) -> FrozenTrial:
        return self._storage._get_trial(trial_id)


def _row(trial: FrozenTrial) -> TrialRow:
    attrs = trial.system_attrs
    return TrialRow(
        trial._trial_id, trial.number, trial.state, attrs.get(attributes.CLAIM), attrs.get(attributes.FROZEN)
    )
