"""The trials of a study in order. No Keras."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypedDict

import optuna
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from studies.forecast import seconds_of
from studies.trials import is_frozen

if TYPE_CHECKING:
    import pandas as pd

_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)


class Row(TypedDict):
    """One trial of a leaderboard.

    Attributes:
        number: the trial's.
        state: Optuna's word: `COMPLETE`, `PRUNED`, `RUNNING`, `WAITING` (also where it is frozen) or `FAIL`.
        value: the validation accuracy in 0..1; of a PRUNED or WAITING trial the last one that it reported; else None.
        params: the hyperparameters, by name.
        epochs: how many were trained.
        seconds: how long it took; None while it is not over.
        worker: who ran it last.
        reason: why it failed or was put back, or after which epoch it was frozen; else None.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    epochs: int
    seconds: float | None
    worker: str | None
    reason: str | None


def best_trial(study: optuna.Study) -> FrozenTrial | None:
    """Return the COMPLETE trial with the highest value, the earliest of equals; None if there is none."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    return min((trial for trial in complete if _value(trial) is not None), key=_rank, default=None)


def best_parameters(study: optuna.Study, count: int) -> list[dict[str, Any]]:
    """Return the parameters of the best trials, best first, by the highest value that each reported."""
    best: list[tuple[float, int, dict[str, Any]]] = []
    for trial in study.get_trials(deepcopy=False):
        values = [value for value in trial.intermediate_values.values() if math.isfinite(value)]
        if values and trial.state != TrialState.FAIL:
            best.append((-max(values), trial.number, trial.params))
    return [params for _, _, params in sorted(best, key=lambda one: one[:2])[:count]]


def leaderboard(study: optuna.Study) -> list[Row]:
    """Return all trials, best first: COMPLETE ones by value, then PRUNED, RUNNING, WAITING and failed ones."""
    return [_row(trial) for trial in sorted(study.get_trials(deepcopy=False), key=_rank)]


def as_table(rows: list[Row]) -> pd.DataFrame:
    """Return the rows as a table with one column `params_<name>` for each hyperparameter, as Optuna names them."""
    import pandas as pd

    names = dict.fromkeys(name for row in rows for name in row["params"])
    columns: dict[str, list[Any]] = {
        key: [row[key] for row in rows]  # type: ignore[literal-required]
        for key in Row.__annotations__
        if key != "params"
    }
    columns |= {f"params_{name}": [row["params"].get(name) for row in rows] for name in names}
    # As objects: a whole number stays one in a column where others have none.
    return pd.DataFrame(columns, dtype=object)


def _value(trial: FrozenTrial) -> float | None:
    value = trial.values[0] if trial.values else None
    if value is None and trial.state in (TrialState.PRUNED, TrialState.WAITING) and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
    return value if value is not None and math.isfinite(value) else None


def _rank(trial: FrozenTrial) -> tuple[int, float, int]:
    value = _value(trial)
    return _ORDER.index(trial.state), math.inf if value is None else -value, trial.number


def _row(trial: FrozenTrial) -> Row:
    attrs = trial.user_attrs
    reason = attrs.get(attributes.REASON) if trial.state == TrialState.FAIL else None
    if is_frozen(trial):
        reason = f"frozen after epoch {trial.last_step}"
    elif trial.state == TrialState.WAITING and attrs.get(attributes.GIVEN_UP):
        reason = attrs[attributes.GIVEN_UP][-1]["reason"]
    return Row(
        number=trial.number,
        state=trial.state.name,
        value=_value(trial),
        params=trial.params,
        epochs=int(attrs.get(attributes.EPOCHS, len(trial.intermediate_values))),
        seconds=seconds_of(trial),
        worker=attrs.get(attributes.WORKER),
        reason=reason,
    )
