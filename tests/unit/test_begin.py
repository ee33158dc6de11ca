"""A command is understood before anything is changed; then its study is made, or found and given its new budget."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest

from storage import attributes
from storage.claims import StudyDeleted
from storage.errors import BadInput, SpecMismatch
from storage.settings import Home
from studies.declaration import Overrides
from studies.stored import DEFAULT_LIMITS
from tests.databases import claimed, finish
from tuning.launch.begin import Begun, begun
from tuning.launch.declared import Model
from tuning.launch.summary import print_end, print_plan, print_preflight
from tuning.launch.understand import TuneOptions, understood
from tuning.machine.devices import Device
from tuning.messages import Cost, Preflight
from tuning.user_classes import UserFile

OPTIONS = TuneOptions(dataset="mnist_sample", workers=2, overrides=Overrides(epochs=4, strategy="none"))


@pytest.fixture(autouse=True)
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[Device]:
    """The GPUs that the machine has: none until a test says otherwise."""
    found: list[Device] = []
    monkeypatch.setattr("tuning.launch.engines.chosen.find_gpus", lambda: found)
    return found


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from studies.datasets.preparing import prepare

    home = Home(tmp_path_factory.mktemp("prepared"))
    return prepare("mnist_sample", home).folder


@pytest.fixture
def place(home: Path, prepared: Path) -> Home:
    """A home that has the data set, and nothing besides."""
    made = Home(home)
    made.make(made.dataset("mnist_sample").parent)
    made.dataset("mnist_sample").symlink_to(prepared)
    return made


@contextlib.contextmanager
def study_of(place: Home, **options: Any) -> Iterator[Begun]:
    study = begun(understood(replace(OPTIONS, **options), place))
    try:
        yield study
    finally:
        study.database.engine.dispose()


# --- Understood


def test_what_was_asked_for_is_understood_without_making_anything(tmp_path: Path) -> None:
    asked = understood(replace(OPTIONS, trials=7), Home(tmp_path / "home"))
    assert (asked.name, asked.spec.epochs, asked.spec.plan_name) == ("mnist_sample", 4, "cpu")
    assert asked.url == f"sqlite:///{tmp_path}/home/studies.db"
    assert len(asked.placements) == 2
    assert asked.trials(before=0) == asked.trials(before=24) == 7
    assert list(tmp_path.iterdir()) == []


def test_a_study_goes_on_under_the_plan_that_it_was_begun_with(place: Home, gpus: list[Device]) -> None:
    with study_of(place):
        gpus.append(Device("gpu", "GPU-0", "H200", 100 * 10**9, (9, 0)))
        assert understood(replace(OPTIONS, workers=1), place).spec.plan_name == "cpu"


def test_a_total_that_the_study_has_passed_is_refused_and_changes_nothing(place: Home) -> None:
    with study_of(place, trials=5) as study:
        for _ in range(3):
            finish(study.database, claimed(study.claims))
        before = study.database.get_study_user_attrs(study.study._study_id)
        with pytest.raises(BadInput, match=r"--trials 2: 3 trials of study 'mnist_sample' are finished.*give 5"):
            understood(replace(OPTIONS, trials=2, limits={**DEFAULT_LIMITS, "trials_per_worker": 1}), place)
        assert study.database.get_study_user_attrs(study.study._study_id) == before


def test_nothing_can_be_learned_from_a_study_without_values(place: Home) -> None:
    none = "--from-study another: none of its trials has a value yet"
    with study_of(place, study="another"), pytest.raises(BadInput, match=none):
        understood(replace(OPTIONS, from_study="another"), place)


# --- Begun


def test_a_new_study_records_what_it_is_and_what_it_may_cost(place: Home) -> None:
    with study_of(place, trials=6, budget_epochs=20, limits={**DEFAULT_LIMITS, "trial_timeout_s": 60.0}) as study:
        assert study.created
        record = study.record
        assert (record.budget, record.budget_epochs, record.limits["trial_timeout_s"]) == (6, 20, 60.0)
        assert record.data is not None
        assert record.data["validation"] == 400


def test_a_study_that_exists_keeps_its_total_and_its_epochs_grow_with_it(place: Home) -> None:
    with study_of(place, trials=6, budget_epochs=20):
        with study_of(place) as again:
            assert not again.created
            assert (again.record.budget, again.record.budget_epochs) == (6, 20)
        with study_of(place, trials=10) as extended:
            assert (extended.record.budget, extended.record.budget_epochs) == (10, 34)
        with study_of(place) as again:
            assert (again.record.budget, again.record.budget_epochs) == (10, 34)


@pytest.mark.parametrize(("strategy", "bounded"), [("none", False), ("freeze_thaw", True)])
def test_epochs_are_bounded_where_the_strategy_would_go_on_for_ever(place: Home, strategy: str, bounded: bool) -> None:
    with study_of(place, trials=6, overrides=Overrides(epochs=4, strategy=strategy)) as study:
        epochs = study.record.budget_epochs
        assert (epochs is not None and 6 <= epochs < 24) if bounded else epochs is None


@pytest.mark.parametrize(("trials", "enough"), [(1, 4), (2, 5), (3, 6), (12, 16)])
def test_a_small_study_may_spend_what_it_trains_in_any_case(place: Home, trials: int, enough: int) -> None:
    freezing = Overrides(epochs=4, strategy="freeze_thaw")
    with study_of(place, trials=trials, overrides=freezing) as study:  # each one epoch, the best all four
        assert study.record.budget_epochs == enough
    with study_of(place, trials=trials + 1, overrides=freezing) as extended:
        assert (extended.record.budget_epochs or 0) >= enough + 1


def test_only_a_study_that_this_command_made_and_nobody_worked_on_is_undone(place: Home) -> None:
    with study_of(place) as study, study_of(place) as found:
        claim = claimed(study.claims)
        study.undo()
        assert [trial.number for trial in study.study.trials] == [claim.number]
        found.undo()
    with study_of(place, study="another") as study:
        study.undo()
        assert study.database.get_all_studies()[0].study_name == "mnist_sample"
        assert len(study.database.get_all_studies()) == 1


# --- Gone while it is worked on


def test_a_study_that_is_there_is_not_gone(place: Home) -> None:
    with study_of(place, trials=3) as study:
        assert study.gone() is None


def test_of_a_study_that_was_deleted_it_is_said_that_it_was(place: Home) -> None:
    with study_of(place, trials=3) as study:
        study.database.delete_study(study.study._study_id)
        gone = study.gone()
        assert isinstance(gone, StudyDeleted)
        assert "was deleted while it ran. Start it anew" in str(gone)


def test_of_a_study_that_was_renamed_it_is_said_where_it_goes_on_with_its_files(place: Home) -> None:
    """Optuna's dashboard renames a study by copying it and deleting the first."""
    with study_of(place, trials=3) as study:
        uid = study.record.uid
        checkpoints = place.make(place.checkpoints("mnist_sample", uid))
        optuna.copy_study(
            from_study_name="mnist_sample",
            from_storage=study.database,
            to_storage=study.database,
            to_study_name="new name",
        )
        study.database.delete_study(study.study._study_id)
        assert "was renamed while it ran. Give the same command with STUDY='new name'" in str(study.gone())
        again = begun(understood(replace(OPTIONS, trials=3, study="new name"), place))
        assert (again.created, again.record.uid) == (False, uid)
        assert place.checkpoints("new name", again.record.uid) == checkpoints
        again.database.engine.dispose()


def test_a_study_is_not_given_fewer_epochs_than_its_trials_train_in_any_case(place: Home) -> None:
    with study_of(place, trials=6, budget_epochs=20):
        pass
    with pytest.raises(BadInput, match="--budget-epochs 8: 9 are trained at least, one by each of 6 trials"):
        understood(replace(OPTIONS, budget_epochs=8), place)


# --- What is printed


def test_the_plan_says_what_is_going_to_be_done(place: Home) -> None:
    lines: list[str] = []
    asked = understood(replace(OPTIONS, trials=6, budget_epochs=20), place)
    study = begun(asked)
    print_plan(lines.append, asked, study)
    study.database.engine.dispose()
    plan = {line[:10].rstrip(): line[10:] for line in lines}
    assert plan["study"] == f"mnist_sample, in sqlite:///{place.root}/studies.db"
    assert plan["data"].endswith(": 1,600 training and 400 validation images")
    assert plan["model"] == "models.cnn:CNN, core space"
    assert plan["plan"].startswith("cpu: 6 trials of at most 4 epochs, 20 in all, patience ")
    assert plan["strategy"] == "none"
    assert plan["seed"] == "0"
    assert plan["workers"].startswith("2 on CPU, ")
    assert list(plan) == ["study", "data", "model", "plan", "strategy", "sampler", "seed", "workers"]


def with_counts(study: Begun, *counts: int) -> Begun:
    """A study as if the classes of its training part were of these sizes."""
    assert study.record.data is not None
    return replace(study, record=replace(study.record, data={**study.record.data, "class_counts": list(counts)}))


def test_the_plan_says_that_classes_are_of_unlike_sizes(place: Home) -> None:
    asked, lines = understood(OPTIONS, place), list[str]()
    with study_of(place) as study:
        assert study.record.class_counts is not None
        assert sum(study.record.class_counts) == 1600
        for counts in ((900, *9 * [30]), (900, *9 * [600]), (901, *9 * [600])):
            print_plan(lines.append, asked, with_counts(study, *counts))
    said = [line for line in lines if line.startswith("classes   ")]
    assert len(said) == 2, "900 are 1.5 times 600, and not more"
    sizes = "imbalanced: '0' has 900 pictures, '1' 30; balanced accuracy is shown"
    assert said[0] == f"classes   {sizes}, CLASS_WEIGHTS=balanced weighs them alike"


@pytest.mark.parametrize(
    ("weights", "says"),
    [("balanced", "each weighs alike in training"), ("search", "whether each weighs alike in training is searched")],
)
def test_the_plan_says_how_classes_weigh(place: Home, weights: str, says: str) -> None:
    overrides = replace(OPTIONS.overrides, class_weights=weights)
    asked, lines = understood(replace(OPTIONS, overrides=overrides), place), list[str]()
    assert asked.spec.class_weights == weights
    with study_of(place, overrides=overrides) as study:
        print_plan(lines.append, asked, study)
        print_plan(lines.append, asked, with_counts(study, 900, *9 * [30]))
    said = [line for line in lines if line.startswith("classes   ")]
    sizes = "imbalanced: '0' has 900 pictures, '1' 30; balanced accuracy is shown"
    assert said == [f"classes   {says}", f"classes   {sizes}, {says}"]


def test_a_study_goes_on_with_the_weights_of_classes_that_it_was_begun_with(place: Home) -> None:
    with study_of(place):
        weighed = replace(OPTIONS, overrides=replace(OPTIONS.overrides, class_weights="balanced"))
        with pytest.raises(SpecMismatch, match='class_weights is not set there, "balanced" here'):
            understood(weighed, place)
        asked = understood(replace(OPTIONS, overrides=replace(OPTIONS.overrides, class_weights="none")), place)
        assert asked.spec.fingerprint == understood(OPTIONS, place).spec.fingerprint


@pytest.mark.parametrize("weights", ["balance", "None"])
def test_an_unknown_way_to_weigh_classes_is_refused(place: Home, weights: str) -> None:
    asked = replace(OPTIONS, overrides=replace(OPTIONS.overrides, class_weights=weights))
    with pytest.raises(BadInput, match=f"unknown class weighting '{weights}'. .*balanced"):
        understood(asked, place)


def test_what_a_begun_study_tries_first_cannot_be_changed_and_that_is_said(place: Home) -> None:
    lines: list[str] = []
    with study_of(place, study="another") as another, study_of(place) as study:
        claim = claimed(another.claims)
        another.database.set_trial_intermediate_value(claim.trial_id, 1, 0.5)
        asked = understood(replace(OPTIONS, from_study="another"), place)
        print_plan(lines.append, asked, replace(study, created=False))
    assert lines[0] == (
        "--from-study another: study 'mnist_sample' was begun already; what it tries first stays as it was"
    )


def test_the_preflight_says_the_ranges_and_the_defaults(place: Home) -> None:
    found = Preflight(
        {"dropout": "0 to 0.5", "units": "16 to 64"}, {"dropout": 0.25}, 10, 2000, Cost(1, 1), Cost(1, 1), 3,
        warnings=["it ends with a softmax"],
    )  # fmt: skip
    lines: list[str] = []
    with study_of(place) as study:
        record = replace(study.record, space_document=[], first=[])
        print_preflight(lines.append, found, record, study.claims.standing())
    assert lines == [
        "  dropout  0 to 0.5, first 0.25",
        "  units    16 to 64",
        "warning: it ends with a softmax",
        "preflight took 3 s: 10 weights by default, at most 2,000",
    ]


@pytest.mark.parametrize(
    ("finished", "interrupted", "last"),
    [
        (1, True, "interrupted: 1 trial is back in the queue; the same command goes on"),
        (1, False, "time is up: 1 trial is back in the queue; the same command goes on"),
        (2, False, "next: make export STUDY=mnist_sample"),
    ],
)
def test_the_end_says_what_became_of_the_study_and_what_is_next(
    place: Home, finished: int, interrupted: bool, last: str
) -> None:
    lines: list[str] = []
    asked = understood(replace(OPTIONS, trials=2), place)
    with study_of(place, trials=2) as study:
        for value in range(finished):
            finish(study.database, claimed(study.claims), value=value / 2)
        if finished < 2:
            study.claims.put_back(claimed(study.claims), "interrupted")
        print_end(lines.append, asked, study, elapsed_s=300.0, interrupted=interrupted)
    assert lines[0] == f"{finished} of 2 trials finished ({finished} complete, 0 pruned), 0 failed, in 5 min"
    assert lines[1].startswith(f"best: trial {finished - 1}, validation accuracy 0.{'05'[finished - 1]}000")
    assert lines[-1] == last


def test_the_end_names_the_file_where_export_needs_it(place: Home, tmp_path: Path) -> None:
    file = tmp_path / "my model.py"
    file.write_text("")
    lines: list[str] = []
    asked = replace(
        understood(replace(OPTIONS, trials=1), place), model=Model("my_model", UserFile(file, "Mine"), None)
    )
    with study_of(place, trials=1) as study:
        finish(study.database, claimed(study.claims), value=0.5)
        for with_file in (False, True):
            print_end(lines.append, asked, study, elapsed_s=1.0, interrupted=False, with_file=with_file)
    ends = [line for line in lines if line.startswith("next: ")]
    assert ends == ["next: make export STUDY=mnist_sample", f"next: make export STUDY=mnist_sample MODEL='{file}:Mine'"]


@pytest.mark.parametrize(("counts", "says"), [((900, 30), " (balanced 0.2500), "), ((90, 80), ", ")])
def test_the_end_says_the_balanced_accuracy_of_the_best_where_classes_are_of_unlike_sizes(
    place: Home, counts: tuple[int, ...], says: str
) -> None:
    lines: list[str] = []
    with study_of(place, trials=1) as study:
        claim = claimed(study.claims)
        study.database.set_trial_user_attr(claim.trial_id, attributes.VALIDATION_BALANCED_ACCURACY, 0.25)
        finish(study.database, claim, value=0.5)
        asked = understood(replace(OPTIONS, trials=1), place)
        print_end(lines.append, asked, with_counts(study, *counts), elapsed_s=1.0, interrupted=False)
    assert lines[1].startswith(f"best: trial 0, validation accuracy 0.5000{says}")


# --- Patience


@pytest.mark.parametrize(("epochs", "patience"), [(None, 3), (3, 3), (6, 3), (12, 6), (32, 16), (7, 4)])
def test_patience_grows_with_more_epochs_than_the_plan_has(place: Home, epochs: int | None, patience: int) -> None:
    options = replace(OPTIONS, overrides=replace(OPTIONS.overrides, epochs=epochs))
    assert (understood(options, place).plan.epochs, understood(options, place).plan.patience) == (6, 3)
    assert understood(options, place).spec.patience == patience


def test_a_study_that_was_begun_with_another_patience_keeps_it(place: Home) -> None:
    options = replace(OPTIONS, overrides=replace(OPTIONS.overrides, epochs=32))
    asked = understood(options, place)
    before = replace(asked, spec=asked.spec.model_copy(update={"patience": 3}))
    begun(before).database.engine.dispose()
    assert understood(options, place).spec == before.spec
    assert understood(options, place).spec.fingerprint == before.spec.fingerprint
