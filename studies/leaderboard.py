"""The trials of a study in order, by its own direction. No Keras."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import optuna
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.attributes import PHASES, Phase
from studies.forecast import seconds_of
from studies.objectives.several import front
from studies.stored import StudyRecord
from studies.trials import audited_after, is_frozen, of_phase, phase_of

if TYPE_CHECKING:
    import pandas as pd

_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)


class Row(TypedDict):
    """One trial of a leaderboard.

    Attributes:
        number: the trial's.
        state: Optuna's word: `COMPLETE`, `PRUNED`, `RUNNING`, `WAITING` (also where it is frozen) or `FAIL`.
        value: of the study's objective, an accuracy in 0..1; of a PRUNED or WAITING trial the last one that it
            reported; else None.
        params: the hyperparameters, by name.
        epochs: how many were trained.
        seconds: how long it took; None while it is not over.
        worker: who ran it last.
        reason: why it failed or was put back, or after which epoch it was frozen, or would have been pruned but for an
            audit; else None.
        balanced_accuracy: the mean over the classes of their recall on the validation images, in 0..1, of a COMPLETE
            trial's weights; None where an earlier version trained them.
        backend: Keras's backend that it was trained on last, `tensorflow` or `jax`; None before, and where an earlier
            version trained it.
        phase: what it is for: `search`, `confirm` or `refit`.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    epochs: int
    seconds: float | None
    worker: str | None
    reason: str | None
    balanced_accuracy: float | None
    backend: str | None
    phase: Phase


class RowOfSeveral(Row):
    """One COMPLETE trial of a study with several objectives; where another program made that, its `value` is None.

    Attributes:
        values: one for each objective.
        front: whether no trial is better, or as good in one of them and better in another.
    """

    values: list[float]
    front: bool


def best_trial(study: optuna.Study, trials: Sequence[FrozenTrial] | None = None) -> FrozenTrial | None:
    """Return the search's COMPLETE trial with the best value, by the study's direction, the earliest of equals.

    None if there is none: before the first one, and where another program's study has several objectives; one of this
    service goes by the first.

    Args:
        study: the study.
        trials: all of its trials, where they have just been read.
    """
    return next(iter(complete_trials(study, trials)), None)


def complete_trials(study: optuna.Study, trials: Sequence[FrozenTrial] | None = None) -> list[FrozenTrial]:
    """Return the search's COMPLETE trials that have a value, best first by its direction, the earliest of equals.

    Where there are several objectives, the first one counts; of another program's study nobody knows which that is.
    """
    read = study.get_trials(deepcopy=False) if trials is None else trials
    complete = of_phase(trial for trial in read if trial.state == TrialState.COMPLETE)
    known = StudyRecord.of(study)
    return sorted((trial for trial in complete if _value(trial, known) is not None), key=_rank_in(known))


def pareto_front(study: optuna.Study, trials: Sequence[FrozenTrial] | None = None) -> list[FrozenTrial]:
    """Return the search's trials that none is better than, where a study has several objectives; else none.

    Args:
        study: the study.
        trials: all of its trials, where they have just been read.
    """
    read = study.get_trials(deepcopy=False) if trials is None else trials
    objectives = StudyRecord.of(study).valued
    return front(of_phase(read), objectives) if len(objectives) > 1 else []


def best_parameters(study: optuna.Study, count: int) -> list[dict[str, Any]]:
    """Return the parameters of the search's best trials, best first, by the best value that each reported."""
    best: list[tuple[float, int, dict[str, Any]]] = []
    objective = StudyRecord.of(study).objective
    for trial in of_phase(study.get_trials(deepcopy=False)):
        value = objective.best(trial.intermediate_values.values())
        if value is not None and trial.state != TrialState.FAIL:
            best.append((objective.rank(value), trial.number, trial.params))
    return [params for _, _, params in sorted(best, key=lambda one: one[:2])[:count]]


def leaderboard(study: optuna.Study) -> list[Row]:
    """Return all trials, the search's first: COMPLETE ones best first, then PRUNED, RUNNING, WAITING and FAIL ones."""
    known, read = StudyRecord.of(study), study.get_trials(deepcopy=False)
    rank, best = _rank_in(known), {trial.number for trial in pareto_front(study, read)}
    trials = sorted(read, key=lambda trial: (PHASES.index(phase_of(trial)), rank(trial)))
    return [_row(trial, known, front=trial.number in best) for trial in trials]


def plain_parameters(trial: FrozenTrial) -> dict[str, Any]:
    """Return a trial's parameters as JSON has them, which has no word for infinity."""
    return {
        name: str(value) if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in trial.params.items()
    }


def balanced_accuracy(trial: FrozenTrial) -> float | None:
    """Return the balanced validation accuracy of a trial's weights; None where none was recorded."""
    return attributes.of_trial(trial, attributes.VALIDATION_BALANCED_ACCURACY, float)


def as_table(rows: list[Row]) -> pd.DataFrame:
    """Return the rows as a table with one column `params_<name>` for each hyperparameter, as Optuna names them."""
    import pandas as pd

    names = dict.fromkeys(name for row in rows for name in row["params"])
    keys = RowOfSeveral.__annotations__ if any("values" in row for row in rows) else Row.__annotations__
    columns: dict[str, list[Any]] = {key: [row.get(key) for row in rows] for key in keys if key != "params"}
    columns |= {f"params_{name}": [row["params"].get(name) for row in rows] for name in names}
    # As objects: a whole number stays one in a column where others have none.
    return pd.DataFrame(columns, dtype=object)


# Of a column, by the types of what is in it: the first that has them all.
_KINDS = (({bool}, "boolean"), ({int}, "Int64"), ({int, float}, "Float64"), ({str}, "string"))


def as_typed_table(rows: list[Row]) -> pd.DataFrame:
    """Return the rows as `as_table` does, each column with the type of what is in it: to reckon with."""
    table = as_table(rows)
    types: dict[str, Any] = {}
    for name in table.columns:
        found = {type(value) for value in table[name] if value is not None}
        types[name] = next((kind for kinds, kind in _KINDS if found and found <= kinds), object)
    return table.astype(types)


def value_of(trial: FrozenTrial) -> float | None:
    """Return a trial's value, or the last that it reported; None where it has none that is a finite number.

    Where there are several objectives, it is that of the first. What learned from the validation images, too, has none:
    see `studies.phases.training.Training.is_judged`.
    """
    value = trial.values[0] if trial.values else None
    if value is None and trial.state in (TrialState.PRUNED, TrialState.WAITING) and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
    return value if value is not None and math.isfinite(value) else None


def _value(trial: FrozenTrial, record: StudyRecord) -> float | None:
    """The value that a trial is ranked by; of another program's several objectives nobody knows which comes first."""
    return value_of(trial) if len(record.directions) == 1 or record.is_ours else None


def _rank_in(record: StudyRecord) -> Callable[[FrozenTrial], tuple[int, float, int]]:
    def rank(trial: FrozenTrial) -> tuple[int, float, int]:
        return _ORDER.index(trial.state), record.objective.rank(_value(trial, record)), trial.number

    return rank


def _row(trial: FrozenTrial, record: StudyRecord, *, front: bool) -> Row:
    epochs = attributes.of_trial(trial, attributes.EPOCHS, int)
    row = Row(
        number=trial.number,
        state=trial.state.name,
        value=_value(trial, record),
        params=plain_parameters(trial),
        epochs=len(trial.intermediate_values) if epochs is None else epochs,
        seconds=seconds_of(trial),
        worker=attributes.of_trial(trial, attributes.WORKER, str),
        reason=_reason(trial),
        balanced_accuracy=balanced_accuracy(trial),
        backend=attributes.of_trial(trial, attributes.BACKEND, str),
        phase=phase_of(trial),
    )
    several = trial.values is not None and len(trial.values) > 1
    return RowOfSeveral(**row, values=trial.values, front=front) if several else row


def _reason(trial: FrozenTrial) -> str | None:
    if trial.state == TrialState.FAIL:
        return attributes.of_trial(trial, attributes.REASON, str)
    if is_frozen(trial):
        return f"frozen after epoch {trial.last_step}"
    if (after := audited_after(trial)) is not None:
        return f"audited: it would have been pruned after epoch {after}"
    given_up = attributes.of_trial(trial, attributes.GIVEN_UP, list) if trial.state == TrialState.WAITING else None
    last = attributes.typed(given_up[-1], dict) if given_up else None
    return attributes.typed(last.get("reason"), str) if last else None
