"""A study is made once, whoever begins it."""

from __future__ import annotations

from typing import Any

import optuna
import pytest

from storage import attributes
from storage.database import Database
from storage.errors import BadInput, SpecMismatch
from storage.leases import FirstCalls
from studies.spec import Sampler, StrategyChoice, StudySpec
from studies.stored import DEFAULT_LIMITS, StudyData, StudyRecord, create_or_load
from tests.databases import second_connection

DATA = StudyData(checksum="c", split="s", train=2, validation=1, mean=[0.5], std=[0.25])


def spec(*, epochs: int = 3) -> StudySpec:
    return StudySpec(
        dataset="mnist", model="models.cnn:CNN", space="core", parameters={}, seed=0, plan_name="cpu", epochs=epochs,
        train_images=None, validation_images=1, patience=10, sampler=Sampler(), strategy=StrategyChoice(),
    )  # fmt: skip


def attrs(database: Database) -> dict[str, Any]:
    return database.get_study_user_attrs(database.get_study_id_from_name("mnist"))


def test_a_new_study_records_what_it_is_and_another_call_finds_it(database: Database) -> None:
    study, made = create_or_load(database, "mnist", spec(), lambda: DATA, [{"dropout": 0.5}])
    assert made
    assert study.metric_names == ["validation accuracy"]
    recorded = attrs(database)
    assert StudySpec.stored(recorded[attributes.SPEC]) == spec()
    assert (recorded[attributes.DATA], recorded[attributes.FIRST]) == (DATA, [{"dropout": 0.5}])
    again, made = create_or_load(database, "mnist", spec(), lambda: pytest.fail("it was described again"))
    assert (again._study_id, made) == (study._study_id, False)
    assert attrs(database) == recorded


def test_the_record_of_a_study_has_what_it_records_and_defaults_for_what_it_does_not(database: Database) -> None:
    study, _ = create_or_load(database, "mnist", spec(), lambda: DATA, [{"dropout": 0.5}])
    study.set_user_attr(attributes.LIMITS, {"trials_per_worker": 3})
    record = StudyRecord.of(study)
    assert (record.name, record.spec, record.data, record.first) == ("mnist", spec(), DATA, [{"dropout": 0.5}])
    assert record.uid == attrs(database)[attributes.UID]
    assert record.limits == {**DEFAULT_LIMITS, "trials_per_worker": 3}
    assert (record.budget, record.budget_epochs, record.space, record.launched) == (0, None, None, None)
    study.set_user_attr(attributes.BUDGET, 9)
    study.set_user_attr(attributes.BUDGET_EPOCHS, 20)
    assert (record.budget, StudyRecord.of(study).budget, StudyRecord.of(study).budget_epochs) == (0, 9, 20)


def test_the_first_calls_of_a_device_are_read_where_they_are_whole(database: Database) -> None:
    study, _ = create_or_load(database, "mnist", spec(), lambda: DATA)
    assert StudyRecord.of(study).first_calls == {}
    known = {"before_s": 1, "train_s": 2.5, "test_s": 0.5}
    study.set_user_attr(attributes.FIRST_CALLS, {"CPU": known, "GPU": {"train_s": 1.0}, "TPU": None})
    assert StudyRecord.of(study).first_calls == {"CPU": FirstCalls(1.0, 2.5, 0.5)}


@pytest.mark.parametrize("recorded", [None, [], [900, 30.5], [900, "30"], {"cat": 900}])
def test_class_counts_that_are_none_are_not_recorded_and_the_rest_is(database: Database, recorded: Any) -> None:
    study, _ = create_or_load(database, "mnist", spec(), lambda: DATA)
    study.set_user_attr(attributes.DATA, {**DATA, "class_counts": recorded})
    record = StudyRecord.of(study)
    assert (record.data, record.class_counts, record.imbalanced) == (DATA, None, None)


@pytest.mark.parametrize(("counts", "imbalanced"), [([900, 30], True), ([3, 2], False), ([4, 0], True), ([7], False)])
def test_data_are_imbalanced_where_the_largest_class_is_more_than_half_as_large_again_as_the_smallest(
    database: Database, counts: list[int], imbalanced: bool
) -> None:
    study, _ = create_or_load(database, "mnist", spec(), lambda: {**DATA, "class_counts": counts})
    record = StudyRecord.of(study)
    assert (record.class_counts, record.imbalanced) == (counts, imbalanced)


def test_the_record_of_another_programs_study_is_read_and_has_no_spec(database: Database) -> None:
    record = StudyRecord.of(optuna.create_study(storage=database, study_name="theirs"))
    assert (record.uid, record.data, record.limits) == ("", None, DEFAULT_LIMITS)
    with pytest.raises(SpecMismatch, match="another program"):
        _ = record.spec


def test_data_that_are_refused_leave_no_study_behind(database: Database) -> None:
    def describe() -> StudyData:
        raise BadInput("cnn takes pictures.")

    with pytest.raises(BadInput, match="cnn takes pictures"):
        create_or_load(database, "rows", spec(), describe)
    assert optuna.get_all_study_names(database) == []


@pytest.mark.parametrize("epochs", [3, 50])
def test_of_two_launchers_that_begin_a_study_together_one_makes_it(database: Database, epochs: int) -> None:
    with second_connection(database) as other:

        def describe() -> StudyData:
            # Takes a while, in which another launcher comes first.
            assert create_or_load(other, "mnist", spec(epochs=50), lambda: DATA)[1]
            return DATA

        if epochs == 50:
            assert not create_or_load(database, "mnist", spec(epochs=50), describe)[1]
        else:
            with pytest.raises(SpecMismatch, match="epochs"):
                create_or_load(database, "mnist", spec(epochs=3), describe)
    assert StudySpec.stored(attrs(database)[attributes.SPEC]).epochs == 50


def test_a_study_whose_answer_was_lost_is_this_calls_own(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    repeated = Database.repeated

    def twice(opened: Database, call: Any) -> Any:
        first, second = repeated(opened, call), repeated(opened, call)
        assert first == second
        return second

    with monkeypatch.context() as context:
        context.setattr(Database, "repeated", twice)
        context.setattr(Database, "create_new_study", lambda *_: repeated(database, lambda: _created(database)))
        made = create_or_load(database, "mnist", spec(), lambda: DATA)[1]
    assert made


def _created(database: Database) -> int:
    from optuna.storages import RDBStorage
    from optuna.study import StudyDirection

    with database.writing():
        return RDBStorage.create_new_study(database, [StudyDirection.MAXIMIZE], "mnist")
