"""Which study is meant, where it stands, and its trials in order. No Keras."""

from __future__ import annotations

import json
import math
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypedDict

import optuna
import sqlalchemy
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.database import Database, shown_url
from storage.errors import BadInput, unknown_name
from storage.settings import Home
from studies.disk_use import disk_use
from studies.forecast import epochs_forecast_s, rate_per_hour, seconds_of
from studies.strategies.strategy import is_frozen

if TYPE_CHECKING:
    import pandas as pd

_ORDER = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING, TrialState.FAIL)


class Row(TypedDict):
    """One trial of a leaderboard.

    Attributes:
        number: the trial's.
        state: Optuna's word: `COMPLETE`, `PRUNED`, `RUNNING`, `WAITING` or `FAIL`.
        value: the validation accuracy in 0..1; of a PRUNED or WAITING trial the last one that it reported; else None.
        params: the hyperparameters, by name.
        epochs: how many were trained.
        seconds: how long it took; None while it is not over.
        worker: who ran it last.
        reason: why it failed, or why it was put back.
    """

    number: int
    state: str
    value: float | None
    params: dict[str, Any]
    epochs: int
    seconds: float | None
    worker: str | None
    reason: str | None


def find_study(database: Database, name: str | None) -> optuna.Study:
    """Return the study called `name`; without one, the study whose trial began last.

    Raises:
        BadInput: there is no such study, or none at all.
    """
    last_begun = _last_begun(database)
    if not last_begun:
        raise BadInput("there is no study here yet. Start one with: make tune DATASET=mnist")
    if name is None:
        name = max(last_begun, key=lambda known: last_begun[known])
    if name not in last_begun:
        raise unknown_name("study", name, last_begun)
    return optuna.load_study(study_name=name, storage=database)


def _last_begun(database: Database) -> dict[str, tuple[float, int]]:
    """When a trial of each study was last taken up, and the study's id: this orders studies without reading trials."""
    study, trial, attribute = models.StudyModel, models.TrialModel, models.StudySystemAttributeModel
    query = (
        sqlalchemy.select(
            study.study_name, study.study_id, sqlalchemy.func.max(trial._datetime_start_utc), attribute.value_json
        )
        .outerjoin(trial, trial.study_id == study.study_id)
        .outerjoin(attribute, (attribute.study_id == study.study_id) & (attribute.key == attributes.BEGUN))
        .group_by(study.study_id, study.study_name, attribute.value_json)
    )

    def attempt() -> dict[str, tuple[float, int]]:
        with database.reading() as session:
            return {
                name: (max(_seconds(started), json.loads(begun) if begun is not None else -math.inf), number)
                for name, number, started, begun in session.execute(query)
            }

    result: dict[str, tuple[float, int]] = database.repeated(attempt)
    return result


def _seconds(utc: datetime | None) -> float:
    return utc.replace(tzinfo=UTC).timestamp() if utc is not None else -math.inf


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


def status(study: optuna.Study, storage_url: str, home: Home) -> dict[str, Any]:
    """Return where a study stands, as `status --json` prints it.

    `rate_per_hour` is trials finished an hour while any ran, from the last `studies.forecast.RATE_TRIALS`; `forecast_s`
    the seconds until the budget, of trials or of epochs, is spent at the present rate. Either is None where it cannot
    be told; a study that stands still has no forecast. `disk_bytes` is what the study takes up under the home. The
    URL's password is hidden.
    """
    trials = study.get_trials(deepcopy=False)
    count = Counter(trial.state for trial in trials)
    budget = int(study.user_attrs.get(attributes.BUDGET, 0))
    done = count[TrialState.COMPLETE] + count[TrialState.PRUNED]
    state = "done" if 0 < budget <= done else "running" if count[TrialState.RUNNING] else "stopped"
    frozen = sum(is_frozen(trial) for trial in trials)
    rate = rate_per_hour(trials)
    best = best_trial(study)
    return {
        "study": study.study_name,
        "storage": shown_url(storage_url),
        "state": state,
        "trials": {
            "complete": count[TrialState.COMPLETE],
            "pruned": count[TrialState.PRUNED],
            "failed": count[TrialState.FAIL],
            "running": count[TrialState.RUNNING],
            "waiting": count[TrialState.WAITING] - frozen,
            "frozen": frozen,
        },
        "budget": {"trials": budget, "done": done, "epochs": study.user_attrs.get(attributes.BUDGET_EPOCHS)},
        "epochs_trained": sum(len(trial.intermediate_values) for trial in trials),
        "best": {"number": best.number, "value": best.value, "params": best.params} if best is not None else None,
        "rate_per_hour": rate,
        "forecast_s": _forecast_s(study, trials, budget - done, rate) if state == "running" else None,
        "disk_bytes": disk_use(study, home),
    }


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
        epochs=int(attrs.get("epochs", len(trial.intermediate_values))),
        seconds=seconds_of(trial),
        worker=attrs.get(attributes.WORKER),
        reason=reason,
    )


def _forecast_s(study: optuna.Study, trials: list[FrozenTrial], trials_left: int, rate: float | None) -> float | None:
    """The seconds until the budget is spent: of epochs, where they are bounded, since frozen trials end all at once."""
    budget_epochs = study.user_attrs.get(attributes.BUDGET_EPOCHS)
    if budget_epochs is None:
        return trials_left / rate * 3600 if rate else None
    launched = study.user_attrs.get(attributes.LAUNCHED)
    return epochs_forecast_s(trials, int(budget_epochs), launched) if launched is not None else None
