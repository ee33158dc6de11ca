"""Both directions of an objective: a study that minimises is one that maximises the negated values, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection

from studies.leaderboard import best_trial, leaderboard
from studies.objectives.directions import COMPUTED, CORRECTED, LARGEST, SMALLEST, direction_of
from studies.objectives.objective import Objective
from studies.simulation.rehearsal import Rehearsal
from studies.simulation.virtual_clock import Record, Recording, simulate
from studies.spec import Sampler, StrategyChoice
from studies.trials import incumbent

LOSS = Objective(name="val_loss", direction="min")
EPOCHS = 9

# What KerasTuner minimises, and may as well be meant as a score.
UNTOLD = {"circle", "cosine_similarity", "ctc", "deserialize", "dice", "get", "mean", "metric", "serialize", "sum"}
UNTOLD |= {"tversky"}


def asked_of_keras_tuner(name: str) -> str | None:
    from keras_tuner.engine.metrics_tracking import infer_metric_direction

    try:
        return str(infer_metric_direction(name))
    except TypeError:  # it makes each metric without arguments, which some must have
        return None


@pytest.mark.keras
def test_directions_are_told_as_keras_tuner_tells_them() -> None:
    import keras

    assert {name: asked_of_keras_tuner(f"val_{name}") for name in LARGEST} == dict.fromkeys(LARGEST, "max")
    assert {name: asked_of_keras_tuner(name) for name in SMALLEST} == dict.fromkeys(SMALLEST, "min")
    assert all(asked_of_keras_tuner(name) != "max" for name in CORRECTED | COMPUTED)
    names = {name for module in (keras.metrics, keras.losses) for name in dir(module) if name.islower()}
    told = {name for name in names if asked_of_keras_tuner(name) in ("max", "min") and not name.startswith("_")}
    assert told - LARGEST - SMALLEST - CORRECTED == UNTOLD & told


@pytest.mark.keras
def test_what_is_computed_has_a_direction() -> None:
    from models.evaluation import METRICS

    assert {name: direction_of(name) for name in METRICS} == {
        "val_accuracy": "max",
        "val_balanced_accuracy": "max",
        "val_loss": "min",
        "val_f1_macro": "max",
        "val_auc": "max",
    }


class Source:
    """Losses that fall, some of them to rise again, far outside of 0..1."""

    horizon = EPOCHS

    def curve_of(self, trial: int, params: Any) -> Recording:
        x, y = float(params["x"]), float(params["y"])
        epochs = np.arange(1, EPOCHS + 1)
        losses = 40.0 * (x - 0.3) ** 2 + 900.0 / (1 + epochs * (0.2 + y)) + y * epochs**1.5
        return Recording(-losses)


def rehearsed(objective: Objective, strategy: str, sampler: str) -> tuple[Rehearsal, Record]:
    space = {name: FloatDistribution(0.0, 1.0) for name in ("x", "y")}
    rehearsal = Rehearsal(
        space, EPOCHS, 3, strategy=StrategyChoice(name=strategy), sampler=Sampler(name=sampler),
        trials=24, budget_epochs=80 if strategy == "freeze_thaw" else None, objective=objective,
    )  # fmt: skip
    return rehearsal, simulate(rehearsal, Source(), workers=3, budget=300)


@pytest.mark.parametrize(
    ("strategy", "sampler"),
    [
        ("freeze_thaw", "model"),
        ("promotion", "tpe"),
        ("successive_halving", "tpe"),
        ("hyperband", "random"),
        ("median", "tpe"),
        ("none", "cmaes"),
    ],
)
def test_a_study_that_minimises_does_what_one_does_that_maximises_the_negated_values(
    strategy: str, sampler: str
) -> None:
    score = Objective(name="val_score", direction="max")
    (up, maximised), (down, minimised) = (rehearsed(one, strategy, sampler) for one in (score, LOSS))
    for column in ("trial", "epoch", "value", "time"):
        np.testing.assert_array_equal(getattr(maximised, column), getattr(minimised, column), err_msg=column)
    assert down.study.direction == StudyDirection.MINIMIZE
    first, second = (leaderboard(one.study) for one in (up, down))
    assert [row["number"] for row in first] == [row["number"] for row in second]
    assert [row["state"] for row in first] == [row["state"] for row in second]
    assert [row["value"] for row in second] == [None if row["value"] is None else -row["value"] for row in first]
    best = best_trial(down.study)
    assert best is not None
    assert best.value == min(trial.value for trial in down.study.trials if trial.state.name == "COMPLETE")  # type: ignore[type-var]
    found, same = (incumbent(one.study.trials, of) for one, of in ((up, score), (down, LOSS)))
    assert found is not None
    assert same is not None
    assert found.number == same.number
