"""Trials that wait are read once, and whoever reads them sees each change: in SQLite and in PostgreSQL alike."""

from __future__ import annotations

import math
from random import Random

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from storage.claims import Claim, Claims, Start, Thaw
from storage.database import Database, Result
from tests.databases import claimed, finish, new_study, second_connection


def read(database: Database, name: str = "mnist") -> list[FrozenTrial]:
    return optuna.load_study(study_name=name, storage=database).get_trials(deepcopy=False)


def change_something(
    database: Database, dashboard: Database, claims: Claims, running: list[Claim], random: Random
) -> None:
    """Do one of the things that happen to a study: by its workers, by stock Optuna, by somebody in the dashboard."""
    waiting = [trial for trial in read(database) if trial.state == TrialState.WAITING]
    what = random.choice(["start", "thaw", "epoch", "epoch", "freeze", "finish", "note", "again", "enqueue", "fail"])
    if what == "start" or (what == "thaw" and waiting):
        claim = claims.next(Start() if what == "start" else Thaw(random.choice(waiting).number))
        if claim is None:
            return
        running.append(claim)
        if not database.get_trial(claim.trial_id).params:
            database.set_trial_param(claim.trial_id, "x", random.random(), FloatDistribution(0, 1))
    elif what == "note" and waiting:
        write = random.choice([dashboard.set_trial_system_attr, dashboard.set_trial_user_attr])
        write(random.choice(waiting)._trial_id, random.choice("ab"), random.random())
    elif what == "enqueue":
        optuna.load_study(study_name="mnist", storage=database).enqueue_trial({"x": random.random()})
    elif running:
        claim = running[random.randrange(len(running))]
        reports = database.get_trial(claim.trial_id).intermediate_values
        if what in ("epoch", "again"):
            epoch = len(reports) + 1 if what == "epoch" or not reports else random.randint(1, len(reports))
            database.set_trial_intermediate_value(claim.trial_id, epoch, random.choice([random.random(), math.inf]))
            claims.progressed(claim, epoch)
            return
        running.remove(claim)
        if what == "freeze":
            claims.put_back(claim, "frozen", "frozen")
        else:
            finish(database, claim, TrialState.COMPLETE if what == "finish" else TrialState.FAIL)


def test_a_trial_that_has_the_id_of_a_deleted_one_is_read_for_itself(database: Database) -> None:
    for x in (0.25, 0.75):
        with second_connection(database) as stock:
            study = optuna.create_study(study_name="mnist", storage=stock, direction="maximize")
            study.add_trial(
                optuna.trial.create_trial(
                    state=TrialState.WAITING, params={"x": x}, distributions={"x": FloatDistribution(0, 1)}
                )
            )
            for _ in range(2):
                assert [trial.params for trial in read(database)] == [{"x": x}]
            stock.delete_study(study._study_id)


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 7))])
def test_a_reader_sees_each_change_of_what_waits(database: Database, seed: int) -> None:
    random, running, states = Random(seed), list[Claim](), set[TrialState]()
    with second_connection(database) as worker:
        claims = new_study(worker, budget=10**6)
        reader = optuna.load_study(study_name="mnist", storage=database)
        for _ in range(100):
            change_something(worker, database, claims, running, random)
            as_stored = RDBStorage._get_trials(worker, reader._study_id, None, set(), -1)
            assert reader.get_trials(deepcopy=False) == as_stored
            states |= {trial.state for trial in as_stored}
    assert states >= {TrialState.WAITING, TrialState.RUNNING, TrialState.COMPLETE}


def test_what_did_not_change_while_it_waited_is_not_read_again(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    claims = new_study(database, budget=100)
    held = [claimed(claims) for _ in range(12)]
    for claim in held[:10]:
        assert claims.put_back(claim, "frozen", "frozen")
    study = optuna.load_study(study_name="mnist", storage=database)
    before = study.get_trials(deepcopy=False)
    built: list[int] = []
    as_announced = Database._as_announced

    def counted(self: Database, trial: FrozenTrial) -> FrozenTrial:
        built.append(trial.number)
        return as_announced(self, trial)

    monkeypatch.setattr(Database, "_as_announced", counted)
    with second_connection(database) as dashboard:
        dashboard.set_trial_user_attr(held[3].trial_id, "note", "look")
    after = study.get_trials(deepcopy=False)
    assert built == [3, 10, 11], "what changed, and what runs"
    assert [number for number in range(12) if after[number] is before[number]] == [0, 1, 2, 4, 5, 6, 7, 8, 9]
    # Another cache of Optuna's over the same database.
    assert [trial is read(database)[trial.number] for trial in after[:10]] == [True] * 10
    # One that is taken up is forgotten.
    assert claimed(claims, Thaw(0)).number == 0
    assert read(database)[0].state == TrialState.RUNNING
    assert held[0].trial_id not in database._waiting._read[study._study_id]


def test_a_result_that_was_announced_and_withdrawn_leaves_no_trace_on_what_waits(database: Database) -> None:
    claims = new_study(database)
    claim = claimed(claims)
    assert claims.put_back(claim, "frozen", "frozen")
    assert read(database)[0].state == TrialState.WAITING
    database.announce(claim.trial_id, Result(TrialState.COMPLETE, 0.5))
    assert read(database)[0].state == TrialState.COMPLETE
    database.withdraw(claim.trial_id)
    assert read(database)[0].state == TrialState.WAITING


def test_a_study_with_the_id_of_a_deleted_one_is_read_anew(database: Database) -> None:
    for name, x in (("first", 0.25), ("second", 0.75)):
        claims = new_study(database, name=name)
        claim = claimed(claims)
        database.set_trial_param(claim.trial_id, "x", x, FloatDistribution(0, 1))
        assert claims.put_back(claim, "frozen", "frozen")
        assert read(database, name)[0].params == {"x": x}
        database.delete_study(database.get_study_id_from_name(name))
