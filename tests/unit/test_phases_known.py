"""Which configurations are confirmed, which one is refitted, and what is exported in the end."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console

from storage import attributes
from storage.database import Database
from storage.errors import BadInput, TuningError
from storage.settings import Home
from studies.objectives.objective import VALIDATION_ACCURACY
from studies.phases.known import (
    best_configurations,
    compared,
    confirmed,
    planned_confirmation,
    planned_winner,
    refitted,
    searched_value,
    winning_trial,
)
from studies.phases.training import confirmation_training, refit_training, training_of
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.stored import StudyRecord
from tests.databases import url_of
from tuning.bundles.choice import chosen
from tuning.launch.phases.confirm import confirm
from tuning.launch.phases.phase import PhaseOptions
from tuning.launch.phases.refit import refit
from tuning.launch.progress import Progress

SPEC = StudySpec(
    dataset="mnist_sample", model="models.cnn:CNN", space="core", parameters={}, seed=3, plan_name="cpu", epochs=8,
    train_images=None, validation_images=400, patience=5, sampler=Sampler(), strategy=StrategyChoice(),
)  # fmt: skip
DATA: dict[str, Any] = {
    "checksum": "c", "split": "s", "train": 1600, "validation": 400, "mean": [0.0], "std": [1.0]
}  # fmt: skip


@pytest.fixture
def study(database: Database) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    made = optuna.create_study(study_name="mnist", storage=database, direction="maximize")
    made.set_user_attr(attributes.SPEC, SPEC.model_dump(mode="json"))
    made.set_user_attr(attributes.DATA, DATA)
    return made


def add(
    study: optuna.Study,
    units: int,
    curve: tuple[float, ...],
    state: TrialState = TrialState.COMPLETE,
    **system_attrs: Any,
) -> FrozenTrial:
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=max(curve) if state == TrialState.COMPLETE else None,
            params={"units": units},
            distributions={"units": IntDistribution(1, 999)},
            intermediate_values=dict(enumerate(curve, start=1)),
            system_attrs=system_attrs,
        )
    )
    return study.get_trials()[-1]


def confirm_with(study: optuna.Study, of: int, *values: float, state: TrialState = TrialState.COMPLETE) -> None:
    for index, value in enumerate(values):
        training = confirmation_training(SPEC, of, index).document()
        recorded: dict[str, Any] = {attributes.PHASE: "confirm", attributes.TRAINING: training}
        add(study, 1, (value,), state, **recorded)


def add_refit(study: optuna.Study, of: int, value: float) -> FrozenTrial:
    training = refit_training(SPEC, of, epochs=40, at_least={}).document()
    recorded: dict[str, Any] = {attributes.PHASE: "refit", attributes.TRAINING: training}
    return add(study, 1, (value,), **recorded)


def test_the_best_configurations_are_distinct_and_those_that_were_pruned_are_among_them(study: optuna.Study) -> None:
    add(study, 10, (0.5, 0.8))
    add(study, 20, (0.9, 0.7), TrialState.PRUNED)
    add(study, 10, (0.5, 0.85))
    add(study, 30, (0.99,), TrialState.FAIL)
    confirm_with(study, 0, 0.999)
    assert [trial.number for trial in best_configurations(study, 5)] == [1, 2]
    assert [trial.number for trial in best_configurations(study, 1)] == [1]
    assert searched_value(study.trials[1], VALIDATION_ACCURACY) == 0.9


def test_each_configuration_is_planned_with_seeds_of_its_own_one_round_after_the_other(study: optuna.Study) -> None:
    trials = [add(study, 10, (0.8,)), add(study, 20, (0.9,))]
    plan = planned_confirmation(SPEC, trials, 3)
    assert [one.params["units"] for one in plan] == [10, 20] * 3
    assert len({one.training["seed"] for one in plan}) == 6
    assert all(one in planned_confirmation(SPEC, trials, 4) for one in plan), "more seeds keep those that are there"
    assert planned_confirmation(SPEC, trials[:1], 3) == plan[::2], "a seed does not hang on who else is confirmed"


def test_a_configuration_is_confirmed_by_two_trainings_and_only_once_all_are_over(study: optuna.Study) -> None:
    for units in (10, 20, 30):
        add(study, units, (0.7, 0.8))
    confirm_with(study, 0, 0.7, 0.72)
    confirm_with(study, 1, 0.9)
    confirm_with(study, 2, 0.75, 0.77)
    confirm_with(study, 2, 0.99, state=TrialState.WAITING)
    (one,) = confirmed(study, SPEC)
    assert (one.of, one.searched, one.epochs, one.values) == (0, 0.8, 2, (0.7, 0.72))


def test_the_winner_is_the_confirmed_one_and_without_a_confirmation_the_best_that_was_trained_to_its_end(
    study: optuna.Study,
) -> None:
    assert winning_trial(study, SPEC) is None
    add(study, 20, (0.95,), TrialState.PRUNED)
    assert winning_trial(study, SPEC) == study.trials[0]
    add(study, 10, (0.9,))
    assert winning_trial(study, SPEC) == study.trials[1]
    confirm_with(study, 0, 0.93, 0.94)
    confirm_with(study, 1, 0.86, 0.88)
    assert winning_trial(study, SPEC) == study.trials[0]


# --- What is exported ---


class WithModel:
    """Artifacts among which the models of some trials are."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = numbers

    def find(self, trial: FrozenTrial, role: str) -> str | None:
        return role if trial.number in self._numbers else None


def test_the_refitted_winner_is_exported_the_latest_of_several_and_what_was_better_is_told(study: optuna.Study) -> None:
    add(study, 10, (0.9,))
    record = StudyRecord.of(study)

    def exported(*numbers: int, asked: int | None = None) -> tuple[int, str | None]:
        artifacts: Any = WithModel(*numbers)
        trial, said = chosen(study, record, artifacts, asked)
        return trial.number, said

    assert exported(0) == (0, None)
    add_refit(study, 0, 0.92)
    assert exported(0) == (0, None), "the refitted one has no model"
    assert exported(0, 1) == (1, None)
    add_refit(study, 0, 0.85)
    assert [trial.number for trial in refitted(study)] == [2, 1]
    number, said = exported(0, 1, 2)
    assert number == 2
    assert said is not None
    assert "0.8500" in said
    assert "--trial 0" in said
    assert exported(0, 1, 2, asked=0) == (0, None)


# --- What the commands refuse ---


@pytest.mark.parametrize(("top", "seeds"), [(0, 3), (3, 1), (-1, 2), (1_000, 2)])
def test_a_confirmation_of_nothing_or_of_one_seed_is_refused(
    database: Database, study: optuna.Study, top: int, seeds: int
) -> None:
    with pytest.raises(BadInput, match="--seeds"):
        confirm(PhaseOptions(storage=url_of(database)), Home(Path("/none")), Console(), top=top, seeds=seeds)


def test_a_study_without_a_value_is_neither_confirmed_nor_refitted(database: Database, study: optuna.Study) -> None:
    options, home = PhaseOptions(study="mnist", storage=url_of(database)), Home(Path("/none"))
    with pytest.raises(TuningError, match="has no trial with a value to confirm"):
        confirm(options, home, Console())
    with pytest.raises(TuningError, match="has no trial with a value to refit"):
        refit(options, home, Console())


def test_a_later_phase_on_a_cluster_needs_what_its_nodes_reach(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="--cluster auto: needs PostgreSQL"):
        confirm(PhaseOptions(cluster="auto"), Home(tmp_path, "file:///shared"), Console())
    with pytest.raises(BadInput, match="--cluster auto: needs a place for files"):
        refit(PhaseOptions(storage="postgresql+psycopg://db/none", cluster="auto"), Home(tmp_path), Console())
    with pytest.raises(BadInput, match="--cluster head: must be auto"):
        refit(PhaseOptions(cluster="head"), Home(tmp_path), Console())


@pytest.mark.parametrize("epochs", [0, -3, 1_000_000])
def test_a_refit_of_so_many_epochs_is_refused(database: Database, study: optuna.Study, epochs: int) -> None:
    with pytest.raises(BadInput, match="--epochs"):
        refit(PhaseOptions(storage=url_of(database)), Home(Path("/none")), Console(), epochs=epochs)


def test_a_model_of_a_user_s_is_asked_for_before_anything_is_enqueued(database: Database, study: optuna.Study) -> None:
    spec = SPEC.model_copy(update={"model": "mine.py:Mine@abc"})
    study.set_user_attr(attributes.SPEC, spec.model_dump(mode="json"))
    add(study, 10, (0.9,))
    with pytest.raises(BadInput, match="mine"):
        confirm(PhaseOptions(study="mnist", storage=url_of(database)), Home(Path("/none")), Console())
    assert len(study.trials) == 1


def test_what_a_refit_trains_with_is_what_it_is_planned_with(study: optuna.Study) -> None:
    add(study, 10, (0.9,))
    trial = add_refit(study, 0, 0.95)
    assert training_of(SPEC, trial).of == 0
    assert training_of(SPEC, trial).epochs == 40


# --- What is shown meanwhile ---


def test_the_view_of_a_later_phase_counts_its_own_epochs_and_tells_its_own_trials(study: optuna.Study) -> None:
    add(study, 10, (0.9,))
    text = io.StringIO()
    console = Console(file=text, width=120, force_terminal=True, color_system=None)
    progress = Progress(study, SPEC.epochs, console, live=True, phase="refit")
    progress.start()
    add_refit(study, 0, 0.95)
    confirm_with(study, 0, 0.7)
    progress.stop()
    said = text.getvalue()
    assert "1/40 epochs, 1/1 trials" in said
    assert "trial   1 complete 0.9500  1 epoch" in said
    assert "best so far" not in said, "that is the search's to say"
    assert "trial   2" not in said


# --- What a plan trains for long ---


def test_a_plan_prefers_the_defaults_to_what_may_be_luck(study: optuna.Study) -> None:
    add(study, 10, (0.70,))
    add(study, 20, (0.72,))
    # Of 1,000 images, two standard errors of such a difference are 0.041; of 10,000 they are 0.013.
    assert winner_of(study, 1_000) == 0
    assert winner_of(study, 10_000) == 1


def test_the_defaults_are_no_better_for_having_been_frozen_early(study: optuna.Study) -> None:
    add(study, 10, (0.3,), TrialState.PRUNED)
    add(study, 20, (0.5, 0.8))
    assert winner_of(study, 1_000) == 1


def test_where_the_defaults_failed_or_did_not_come_first_the_best_is_taken(study: optuna.Study) -> None:
    add(study, 10, (0.70,), TrialState.FAIL)
    assert winner_of(study, 1_000) is None
    add(study, 20, (0.71,))
    assert winner_of(study, 1_000) == 1
    unlike = SPEC.model_copy(update={"sampler": Sampler(default_first=False)})
    add(study, 30, (0.72,))
    assert winner_of(study, 1_000, unlike) == 2


def test_what_a_confirmation_found_is_taken_however_little_better_it_is(study: optuna.Study) -> None:
    add(study, 10, (0.70,))
    add(study, 20, (0.701,))
    confirm_with(study, 0, 0.700, 0.700)
    confirm_with(study, 1, 0.701, 0.700)
    assert winner_of(study, 1_000) == 1


def test_a_plan_confirms_the_defaults_too(study: optuna.Study) -> None:
    for units, value in ((10, 0.5), (20, 0.9), (30, 0.8), (40, 0.7)):
        add(study, units, (value,))
    assert [trial.number for trial in compared(study, SPEC, 2)] == [1, 0]
    assert [trial.number for trial in compared(study, SPEC, 3)] == [1, 2, 0]
    assert [trial.number for trial in compared(study, SPEC, 4)] == [1, 2, 3, 0]


def winner_of(study: optuna.Study, images: int, spec: StudySpec = SPEC) -> int | None:
    found = planned_winner(study, spec, images)
    return found.number if found is not None else None
