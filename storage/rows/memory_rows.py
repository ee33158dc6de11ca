"""Claims without a database: of one process, for studies on a virtual clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from copy import copy
from typing import Any

from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.attributes import Phase, phase_in
from storage.rows.ledger import UNFINISHED, Counts, Failed, TrialRow, counted, in_a_row, is_frozen


class Memory(InMemoryStorage):
    """Optuna's storage in memory, with claims. For one thread: nothing is undone, repeated or fenced."""

    def __init__(self) -> None:
        super().__init__()
        self._reports = 0
        # Of each trial its last report, as a database has it by the ids of its rows: to report a step again is none.
        self._last_report: dict[int, int] = {}

    def set_trial_intermediate_value(self, trial_id: int, step: int, intermediate_value: float) -> None:
        again = step in self._get_trial(trial_id).intermediate_values
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        if not again:
            self._reports += 1
            self._last_report[trial_id] = self._reports

    def set_trial_state_values(self, trial_id: int, state: TrialState, values: Sequence[float] | None = None) -> bool:
        trial = self._get_trial(trial_id)
        if state == TrialState.FAIL and not trial.state.is_finished():
            study_id, _ = self._trial_id_to_study_id_and_number[trial_id]
            after = self.last_report(self.get_all_trials(study_id, deepcopy=False))
            self.set_trial_system_attr(trial_id, attributes.FAILED_AFTER, after)
        return super().set_trial_state_values(trial_id, state, values)

    def last_report(self, trials: Iterable[FrozenTrial]) -> int:
        """Return the last report of some trials; 0 for none."""
        return max((self._last_report.get(trial._trial_id, 0) for trial in trials), default=0)

    @contextmanager
    def rows(self, study_id: int, *, write: bool, rides: bool = False) -> Iterator[MemoryRows]:
        """Yield a study's rows; see `storage.rows.ledger.Ledger`."""
        yield MemoryRows(self, study_id)

    def repeated(self, call: Callable[[], Any]) -> Any:
        """Return `call()`: memory is never busy."""
        return call()

    def fence(self, trial_id: int, claim_id: str) -> None:
        """Do nothing: there is one process."""

    def unfence(self, trial_id: int) -> None:
        """Do nothing, likewise."""

    def together(self, trial_id: int) -> AbstractContextManager[None]:
        """Do nothing, likewise."""
        return nullcontext()


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

    def counts(self, phase: Phase) -> Counts:
        return counted(
            (
                trial.state,
                trial.system_attrs.get(attributes.CLAIM) is not None,
                trial.system_attrs.get(attributes.FROZEN) is not None,
                1,
            )
            for trial in self._of(phase)
        )

    def trainings(self, phase: Phase) -> list[Any]:
        of_phase = (trial for trial in self._of(phase) if trial.state != TrialState.FAIL)
        return [trial.system_attrs.get(attributes.TRAINING) for trial in of_phase]

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

    def failed_in_a_row(self, since: int) -> list[Failed]:
        trials = self._trials()
        others = [trial for trial in trials if trial.state != TrialState.FAIL]
        finished = [trial.datetime_complete for trial in others if trial.datetime_complete is not None]
        failed = (
            Failed(
                trial._trial_id, trial.number, trial.system_attrs.get(attributes.FAILED_AFTER), trial.datetime_complete
            )
            for trial in trials[since:]
            if trial.state == TrialState.FAIL
        )
        return in_a_row(failed, self._storage.last_report(others), max(finished, default=None))

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
        if self.lock_state(trial_id) is None:
            return None
        return attributes.read(self._trial(trial_id).user_attrs, key, object)

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

    def _of(self, phase: Phase) -> list[FrozenTrial]:
        return [trial for trial in self._trials() if phase_in(trial.system_attrs) == phase]

    def _trial(self, trial_id: int) -> FrozenTrial:
        return self._storage._get_trial(trial_id)


def _row(trial: FrozenTrial) -> TrialRow:
    attrs = trial.system_attrs
    return TrialRow(
        trial._trial_id,
        trial.number,
        trial.state,
        attrs.get(attributes.CLAIM),
        attrs.get(attributes.FROZEN),
        phase_in(attrs),
    )
