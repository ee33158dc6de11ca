"""What `tune` does besides the search: it is sized to a time, and the winner is trained with what is left of that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import IntDistribution
from optuna.trial import TrialState
from rich.console import Console

from storage import attributes
from storage.attributes import Phase
from storage.claims import Planned
from storage.database import Database
from storage.errors import BadInput, TuningError
from storage.settings import Home
from studies.course import Course
from studies.declaration import Overrides, from_catalog
from studies.phases.sizing import Pace
from studies.phases.training import Training, training_of
from studies.stored import StudyRecord
from tests.databases import url_of
from tuning.launch.begin import Begun, begun
from tuning.launch.phases import following, refit
from tuning.launch.phases.following import follow
from tuning.launch.phases.pace import Configured
from tuning.launch.phases.phase import Opened, PhaseOptions
from tuning.launch.searching import is_over
from tuning.launch.spending import Spending
from tuning.launch.timed import timed
from tuning.launch.understand import Asked, TuneOptions, understood

PACE = Pace(begin_s=5, start_s=5, image_s=1e-3, judge_s=0.4)
"""Of MNIST's sample an epoch takes 2 s."""


class Clock:
    """Seconds that pass when they are told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


# --- A study that is sized to a time ---


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, Pace]:
    """The pace of each model, in the place of a measurement."""
    paces = {"models.cnn:CNN": PACE, "models.deep_cnn:DeepCNN": PACE, "models.fast_cnn:FastCNN": PACE}
    monkeypatch.setattr("tuning.launch.timed.pace_of", lambda study, home, **_: paces[study.spec.model])
    return paces


def ask(home: Path, dataset: str = "mnist_sample", **given: Any) -> Asked:
    return understood(TuneOptions(dataset=dataset, **given), Home(home))


def sized(home: Path, clock: Clock, said: list[str] | None = None, **given: Any) -> Asked:
    asked, _ = timed(ask(home, **given), Spending(clock), (said if said is not None else []).append)
    return asked


def test_a_study_is_sized_to_its_time_says_so_and_records_it(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace]
) -> None:
    said: list[str] = []
    asked = sized(tmp_path, clock, said, for_s=1800.0)
    study = begun(asked)
    assert study.record.course == asked.course
    assert asked.course is not None
    assert (asked.course.time_s, asked.course.search_s, asked.course.refit_epochs) == (1800, 450, 0)
    assert (study.record.budget, study.record.budget_epochs) == (asked.plan.trials, asked.plan.budget_epochs)
    assert asked.plan.trials >= 12
    assert study.record.spec.epochs == asked.plan.epochs
    assert "time      30 min: 8 min to search, 1,600 images a trial" in said[-1]
    study.database.engine.dispose()


def test_the_same_command_goes_on_with_the_study_as_it_was_sized_and_more_time_is_the_winners(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace]
) -> None:
    first = sized(tmp_path, clock, for_s=1800.0)
    begun(first).database.engine.dispose()
    measured["models.cnn:CNN"] = Pace(50, 50, 1, 100)
    again = sized(tmp_path, clock, for_s=1800.0)
    assert (again.spec, again.course) == (first.spec, first.course)
    longer = sized(tmp_path, clock, for_s=3600.0)
    assert longer.spec == first.spec
    study = begun(longer)
    assert study.record.course is not None
    assert study.record.course.time_s == 3600
    study.database.engine.dispose()
    without = ask(tmp_path)
    assert without.course == study.record.course


def test_a_study_of_a_plan_that_is_given_a_time_trains_its_winner_for_what_is_left_of_it(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace]
) -> None:
    planned = ask(tmp_path, "mnist")
    assert planned.course is not None
    before = StudyRecord.unmade({}, {"checksum": "", "split": "", "train": 1, "validation": 1, "mean": [], "std": []})
    begun_so = replace(planned, options=replace(planned.options, for_s=900.0), before=replace(
        before, budget=24, course=planned.course
    ))  # fmt: skip
    asked, _ = timed(begun_so, Spending(clock), print)
    assert asked.course == Course(refit_epochs=0, time_s=900, search_s=225)


@pytest.mark.parametrize("given", [{"trials": 99}, {"budget_epochs": 999}])
def test_another_budget_for_a_study_that_has_a_time_is_refused(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace], given: dict[str, Any]
) -> None:
    begun(sized(tmp_path, clock, for_s=1800.0)).database.engine.dispose()
    with pytest.raises(BadInput, match="has 30 min, and how much is tried follows"):
        ask(tmp_path, **given)


def test_a_study_that_had_no_time_is_given_one_for_what_follows_its_search(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace]
) -> None:
    begun(ask(tmp_path)).database.engine.dispose()
    asked = sized(tmp_path, clock, for_s=1800.0)
    assert asked.course == Course(refit_epochs=0, time_s=1800, search_s=450)


def test_the_larger_network_is_taken_where_it_can_be_trained_for_long_enough(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = ask(tmp_path).plan.model_copy(update={"large_model": "fast_cnn", "defaults": {"augmentation": 0.7}})
    declaration = from_catalog("mnist_sample").model_copy(update={"plan": {"cpu": plan}})
    monkeypatch.setattr("tuning.launch.declared.from_catalog", lambda name: declaration)
    taken = sized(tmp_path, clock, for_s=1800.0)
    assert taken.spec.model == "models.fast_cnn:FastCNN"
    assert taken.spec.defaults == {}, "it has its own"
    assert taken.first == ()
    measured["models.fast_cnn:FastCNN"] = Pace(5, 5, 0.1, 1)
    assert sized(tmp_path, clock, for_s=1800.0).spec.model == "models.cnn:CNN"
    few = plan.model_copy(update={"large_model_epochs": 1})
    declaration = declaration.model_copy(update={"plan": {"cpu": few}})
    assert sized(tmp_path, clock, for_s=1800.0).spec.model == "models.fast_cnn:FastCNN"
    declaration = declaration.model_copy(update={"plan": {"cpu": plan}})
    measured["models.fast_cnn:FastCNN"] = PACE
    asked_for = sized(tmp_path, clock, for_s=1800.0, overrides=Overrides(model="deep_cnn"))
    assert asked_for.spec.model == "models.deep_cnn:DeepCNN"


def test_where_nothing_is_searched_it_is_known_how_fast_the_defaults_train_for_long(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked_of: list[Training] = []
    slow = Pace(15, 15, 0.01, 5)

    def measure(study: Configured, home: Home, *, training: Training) -> Pace:
        asked_of.append(training)
        return slow

    monkeypatch.setattr("tuning.launch.timed.pace_of", measure)
    short, known = timed(ask(tmp_path, for_s=120.0), Spending(clock), print)
    assert short.course is not None
    assert (short.plan.trials, short.course.search_s, known) == (1, None, slow)
    _, unknown = timed(ask(tmp_path, for_s=36_000.0), Spending(clock), print)
    assert unknown is None, "another than the defaults may win"
    assert asked_of[0].at_least["averaging"] > 0


def test_what_was_said_of_epochs_and_images_is_kept(tmp_path: Path, clock: Clock, measured: dict[str, Pace]) -> None:
    asked = sized(tmp_path, clock, for_s=1800.0, overrides=Overrides(epochs=2, train_images=500))
    assert (asked.spec.epochs, asked.spec.train_images) == (2, 500)
    assert asked.course is not None
    assert not asked.course.all_images


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"for_s": 20.0}, "--for 20s"),
        ({"for_s": 900.0, "trials": 3}, "--trials 3"),
        ({"for_s": 900.0, "budget_epochs": 30}, "--budget-epochs 30"),
        ({"for_s": 900.0, "search_only": True}, "--search-only"),
    ],
)
def test_what_contradicts_a_time_is_refused(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace], given: dict[str, Any], named: str
) -> None:
    with pytest.raises(BadInput, match=named):
        sized(tmp_path, clock, **given)


def test_shorter_trials_have_a_shorter_training_of_their_winner(tmp_path: Path) -> None:
    whole, short = ask(tmp_path, "mnist"), ask(tmp_path, "mnist", overrides=Overrides(epochs=1))
    assert whole.course is not None
    assert short.course is not None
    assert whole.course.refit_epochs == 40
    assert short.course.refit_epochs == 8
    assert ask(tmp_path, "mnist", search_only=True).course is None


# --- When the search ends ---


def test_the_search_ends_with_its_share_of_the_time_but_never_before_there_is_something_to_train(
    tmp_path: Path, clock: Clock, measured: dict[str, Pace]
) -> None:
    asked = sized(tmp_path, clock, for_s=1800.0)
    study = begun(asked)
    spending = Spending(clock)
    spending.on(study.study)
    add(study.study, 0.5, TrialState.COMPLETE)
    assert not is_over(asked, study, spending)
    clock.now += 440
    assert is_over(asked, study, spending), "a little earlier, since workers need time to stop"
    study.database.engine.dispose()
    empty = begun(sized(tmp_path, clock, for_s=1800.0, study="empty"))
    late = Spending(clock)
    late.on(empty.study)
    clock.now += 440
    assert not is_over(asked, empty, late)
    empty.database.engine.dispose()


# --- What follows the search ---


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def searched(tmp_path: Path, database: Database, monkeypatch: pytest.MonkeyPatch, said: list[str]) -> Opened:
    """A study of two configurations; whatever is planned later is trained by nobody and comes to 0.9."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study: Begun = begun(ask(tmp_path, storage=url_of(database), study="s"))
    for value in (0.5, 0.8):
        add(study.study, value, TrialState.COMPLETE)

    def train(found: Opened, phase: Phase, planned: Sequence[Planned]) -> int:
        claims = found.claims(phase)
        claims.enqueue(planned)
        while (claim := claims.next(None)) is not None:
            found.database.set_trial_state_values(claim.trial_id, TrialState.COMPLETE, [0.9])
        return 0

    for module in ("following", "refit", "confirm"):
        monkeypatch.setattr(f"tuning.launch.phases.{module}.run_phase", train)
    monkeypatch.setattr(following, "pace_of", lambda *_, **__: PACE)
    console = Console(stderr=True)
    monkeypatch.setattr(console, "print", lambda line, **_: said.append(line))
    record = StudyRecord.of(study.study)
    return Opened(
        PhaseOptions("s"), Home(tmp_path), url_of(database), study.database, study.study, record, None, None, console
    )


def add(study: optuna.Study, value: float, state: TrialState) -> None:
    study.add_trial(
        optuna.trial.create_trial(
            state=state,
            value=value,
            params={"batch_size": int(value * 100)},
            distributions={"batch_size": IntDistribution(1, 999)},
            intermediate_values={1: value},
        )
    )


def spent(found: Opened, clock: Clock, seconds: float) -> Spending:
    spending = Spending(clock)
    spending.on(found.study)
    clock.now += seconds
    return spending


def trained(found: Opened, phase: Phase) -> list[Any]:
    trials = found.study.get_trials(deepcopy=False)
    return [
        training_of(found.record.spec, trial) for trial in trials if trial.system_attrs.get(attributes.PHASE) == phase
    ]


def test_the_winner_is_trained_for_as_many_epochs_as_the_time_leaves(searched: Opened, clock: Clock) -> None:
    assert follow(searched, Course(refit_epochs=0, time_s=600), spent(searched, clock, 300)) == 0
    (one,) = trained(searched, "refit")
    # Of 300 s, 15 go to begin; of the rest a little is kept.
    assert (one.of, one.epochs) == (1, int(0.97 * 285 / 2))
    assert one.at_least["augmentation"] == refit.OTHER_AUGMENTATION


def test_a_winner_whose_pace_is_known_is_not_measured_again(searched: Opened, clock: Clock, said: list[str]) -> None:
    pace = Pace(begin_s=0, start_s=0, image_s=0, judge_s=10)
    assert follow(searched, Course(refit_epochs=0, time_s=600), spent(searched, clock, 300), pace) == 0
    (one,) = trained(searched, "refit")
    assert one.epochs == int(0.97 * 295 / 10)
    assert not any("measuring" in line for line in said)


def test_what_is_done_is_not_done_again_but_where_the_time_has_grown(searched: Opened, clock: Clock) -> None:
    course = Course(confirm=(2, 2), refit_epochs=0, time_s=600)
    spending = spent(searched, clock, 300)
    follow(searched, course, spending)
    follow(searched, course, spending)
    clock.now += 250
    follow(searched, course, spending)
    assert len(trained(searched, "confirm")) == 4
    assert len(trained(searched, "refit")) == 1
    follow(searched, Course(confirm=(2, 2), refit_epochs=0, time_s=6_000), spending)
    assert [one.epochs for one in trained(searched, "refit")] == [138, int(0.97 * (6_000 - 550 - 15) / 2)]


def test_a_plan_without_a_time_trains_for_its_epochs_once(searched: Opened, clock: Clock) -> None:
    course = Course(refit_epochs=7)
    for _ in range(2):
        assert follow(searched, course, spent(searched, clock, 1)) == 0
    (one,) = trained(searched, "refit")
    assert one.epochs == 7


def test_a_training_that_waits_goes_on_although_the_time_is_over(searched: Opened, clock: Clock) -> None:
    waits = refit.long_training(searched, searched.study.get_trials()[0], 5)
    searched.claims("refit").enqueue([Planned({"batch_size": 50}, waits.document())])
    assert follow(searched, Course(refit_epochs=0, time_s=600), spent(searched, clock, 700)) == 0
    assert trained(searched, "refit") == [waits]
    assert searched.claims("refit").standing().complete == 1


def test_after_the_time_nothing_is_begun_and_that_it_took_longer_is_said(
    searched: Opened, clock: Clock, said: list[str]
) -> None:
    assert follow(searched, Course(refit_epochs=0, time_s=600), spent(searched, clock, 601)) == 0
    assert trained(searched, "refit") == []
    assert "time is up" in said[-1]
    late = Course(refit_epochs=3, time_s=500)
    follow(searched, late, spent(searched, clock, 601))
    assert "slowed down" in said[-1]


def test_of_a_search_without_a_value_nothing_follows(searched: Opened, clock: Clock) -> None:
    empty = begun(ask(searched.home.root, storage=searched.url, study="empty"))
    nothing = replace(searched, database=empty.database, study=empty.study, record=empty.record)
    with pytest.raises(TuningError, match="no trial with a value to refit"):
        follow(nothing, Course(refit_epochs=3), spent(searched, clock, 0))


def test_what_all_launchers_spent_is_counted_and_kept(searched: Opened, clock: Clock) -> None:
    first = spent(searched, clock, 10)
    first.note()
    clock.now += 1_000  # nobody works on it
    second = Spending(clock)
    second.on(searched.study)
    clock.now += 5
    assert second.spent_s == 15
    second.note()
    assert StudyRecord.of(searched.study).spent_s == 15
