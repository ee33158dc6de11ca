"""Trials that a function of the user's runs: claimed as all are, and themselves when they are taken up again."""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.samplers import GridSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState

from storage import attributes
from storage.claims import Claim, Claims
from storage.database import Database
from storage.errors import BadInput
from storage.leftovers import find_leftovers
from storage.settings import Home
from studies.functions.in_process import Meant, OwnTrials
from studies.functions.opening import begin, claims_of, find_or_create, is_in_memory, move, total_of_trials, url_of
from studies.functions.trials import ClaimedTrial, FunctionTrials, SamplerOf, values_of
from studies.stored import StudyRecord
from tests.databases import fresh_database, second_connection
from tuning.launch.functions.optimize import optimize
from tuning.user_functions import Handed, hand_over, in_words, take
from tuning.worker.functions.trial_runner import drawing_apart

MINIMIZE = StudyDirection.MINIMIZE


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with fresh_database(tmp_path / "studies.db") as opened:
        yield opened


def begun(database: Database, folder: Path, sampler_of: SamplerOf | None = None) -> tuple[FunctionTrials, Claims]:
    study = find_or_create(database, "mine", [MINIMIZE])
    record = begin(database, study, "mine.py:objective")
    claims = claims_of(database, study, record)
    claims.set_budget(3)
    chosen = RandomSampler(seed=1)
    pruner = optuna.pruners.MedianPruner(n_startup_trials=1)
    return FunctionTrials(study, claims, folder, sampler_of or (lambda _: chosen), pruner), claims


def taken(trials: FunctionTrials) -> tuple[ClaimedTrial, Claim]:
    claim = trials.next()
    assert claim is not None
    return trials.trial(claim), claim


def record(database: Database, trials: FunctionTrials, trial: ClaimedTrial, state: TrialState, *values: float) -> None:
    result = trials.over(trial, state, values)
    database.set_trial_state_values(trial._trial_id, result.state, result.values)


def test_a_trial_that_is_taken_up_again_is_itself(database: Database, tmp_path: Path) -> None:
    trials, claims = begun(database, tmp_path / "checkpoints")
    trial, claim = taken(trials)
    x = trial.suggest_float("x", 0, 1)
    folder = Path(trial.user_attrs["checkpoint"])
    (folder / "saved").write_text("something")
    for step, value in enumerate((5.0, 4.0, 9.0)):
        trial.report(value, step)
    claims.put_back(claim, "killed", "lost")

    again, second = taken(trials)
    assert (again.number, second.count) == (0, 2)
    assert again.suggest_float("x", 0, 1) == x
    assert Path(again.user_attrs["checkpoint"], "saved").read_text() == "something"
    again.report(3.5, 1)  # it had saved what was after step 0
    assert again.last_value == 3.5
    record(database, trials, again, TrialState.COMPLETE, 3.0)
    (known,) = database.get_all_trials(database.get_study_id_from_name("mine"))
    assert known.intermediate_values == {0: 5.0, 1: 3.5, 2: 9.0}
    assert (known.state, known.values) == (TrialState.COMPLETE, [3.0])


def test_what_a_former_claim_reported_further_on_saves_no_trial(database: Database, tmp_path: Path) -> None:
    trials, claims = begun(database, tmp_path)
    first, _ = taken(trials)
    for step in range(3):
        first.report(1.0, step)
    record(database, trials, first, TrialState.COMPLETE, 1.0)
    trial, claim = taken(trials)
    for step, value in enumerate((5.0, 0.5)):
        trial.report(value, step)
    assert not trial.should_prune()
    claims.put_back(claim, "killed", "lost")
    again, _ = taken(trials)
    again.report(5.0, 0)
    assert again.should_prune()


def test_who_gets_further_before_each_death_is_tried_for_as_long_as_it_does(database: Database, tmp_path: Path) -> None:
    trials, claims = begun(database, tmp_path)
    for step in range(8):
        trial, claim = taken(trials)
        trial.report(1.0, step)
        claims.put_back(claim, "killed", "lost")
    for _ in range(6):
        trial, claim = taken(trials)
        trial.report(1.0, 7)
        claims.put_back(claim, "killed", "lost")
    assert claims.standing().failed == 1


def test_a_sampler_that_is_at_its_end_stops_the_study(database: Database, tmp_path: Path) -> None:
    grid = GridSampler({"x": [1, 2]}, seed=0)
    trials, claims = begun(database, tmp_path, lambda _: grid)
    seen = set()
    while (claim := trials.next()) is not None:
        trial = trials.trial(claim)
        seen.add(trial.suggest_int("x", 1, 2))
        record(database, trials, trial, TrialState.COMPLETE, 1.0)
    assert seen == {1, 2}
    assert claims.standing().done and claims.standing().finished == 2


def test_what_was_enqueued_is_tried_first_and_counts(database: Database, tmp_path: Path) -> None:
    find_or_create(database, "mine", [MINIMIZE]).enqueue_trial({"x": 0.25})
    trials, claims = begun(database, tmp_path)
    trial, _ = taken(trials)
    assert trial.suggest_float("x", 0, 1) == 0.25
    assert claims.standing().started == 1


def test_a_study_in_memory_moves_and_the_object_is_that_of_the_database(database: Database) -> None:
    study = optuna.create_study(study_name="mine", direction="maximize")
    study.enqueue_trial({"x": 0.5})
    assert is_in_memory(study)
    assert not move(study, database, "mine.py:objective")
    assert not is_in_memory(study)
    assert url_of(study) == str(database.engine.url)
    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [{"x": 0.5}]
    study.add_trial(optuna.trial.create_trial(value=1.0))
    assert len(find_or_create(database, "mine", study.directions).trials) == 2
    with pytest.raises(BadInput, match="is there to maximize, not to minimize"):
        find_or_create(database, "mine", [MINIMIZE])
    assert move(optuna.create_study(study_name="mine", direction="maximize"), database, "mine.py:objective")
    other = optuna.create_study(study_name="mine", direction="maximize")
    other.enqueue_trial({"x": 0.5})
    with pytest.raises(BadInput, match="Give this one another name"):
        move(other, database, "mine.py:objective")
    unnamed = optuna.create_study()
    assert not move(unnamed, database, "mine.py:objective")
    assert unnamed.study_name.startswith("mine-") and len(unnamed.study_name) == len("mine-12345678")


def test_a_study_of_tune_is_refused_and_one_of_a_function_says_so(database: Database) -> None:
    study = find_or_create(database, "ours", [MINIMIZE])
    study.set_user_attr(attributes.SPEC, {"dataset": "mnist"})
    with pytest.raises(BadInput, match="was begun with tuning tune"):
        begin(database, study, "mine.py:objective")
    mine = begin(database, find_or_create(database, "mine", [MINIMIZE]), "mine.py:objective")
    assert mine.function == "mine.py:objective" and not mine.is_ours
    with pytest.raises(BadInput, match=r"is of mine\.py:objective"):
        mine.require_ours()


def test_a_folder_is_freed_unless_its_trial_is_complete_or_goes_on(database: Database, tmp_path: Path) -> None:
    home = Home(tmp_path)
    study = find_or_create(database, "mine", [MINIMIZE])
    known: StudyRecord = begin(database, study, "mine.py:objective")
    trials, _ = begun(database, home.checkpoints("mine", known.uid))
    for state in (TrialState.COMPLETE, TrialState.FAIL):
        trial, _claim = taken(trials)
        record(database, trials, trial, state, *([1.0] if state == TrialState.COMPLETE else []))
    taken(trials)
    left = find_leftovers(home, [database], clock=lambda: 1e12)
    assert [leftover.name for leftover in left.free if leftover.kind == "checkpoints"] == ["1"]


def test_a_process_runs_trials_itself_and_a_strategy_stops_the_bad_ones(tmp_path: Path) -> None:
    home = Home(tmp_path)
    own = OwnTrials(Meant(home, "mine", "val_loss", "min", "mine.py:build_model", 1, "median"))
    assert own.set_budget(8) == 0
    for number in range(5):
        assert own.take() is not None
        assert own.report(number, 0.5) and own.report(number, 0.5)
        own.complete(number, 0.5 - 0.01 * number, {attributes.BEST_EPOCH: 2})
    trial = own.take()
    assert trial is not None
    trial.suggest_float("x", 0, 1)
    assert not own.report(5, 9.0)
    own.put_back(5)
    assert own.take() is not None
    assert not own.report(5, 8.0)
    own.prune(5)
    assert own.take() is not None
    own.fail(6, "error", "it raised")
    states = ["COMPLETE"] * 5 + ["PRUNED", "FAIL"]
    assert [trial.state.name for trial in own.study.trials] == states
    assert own.study.trials[5].value == 8.0 and own.study.trials[5].intermediate_values == {1: 8.0}
    assert [trial.number for trial in own.recorded()] == [4, 3, 2, 1, 0, 5, 6]
    assert sorted(folder.name for folder in own.folder.iterdir()) == ["0", "1", "2", "3", "4"]
    assert own.study.metric_names == ["val_loss"]
    with pytest.raises(BadInput, match=r"strategy='freeze_thaw': .* take one of successive_halving, hyperband, median"):
        OwnTrials(Meant(home, "mine", "val_loss", "min", "mine.py:build_model", 1, "freeze_thaw"))


def test_to_begin_anew_deletes_no_study_of_tune(tmp_path: Path) -> None:
    meant, deleted = Meant(Home(tmp_path), "mnist", "val_loss", "min", "mine.py:build_model", 1, "none"), []
    own = OwnTrials(meant, lambda: deleted.append("not there"))
    OwnTrials(meant, lambda: deleted.append("there"))
    assert deleted == ["there"]
    own.study.set_user_attr(attributes.SPEC, {"dataset": "mnist"})
    with pytest.raises(BadInput, match="was begun with tuning tune"):
        OwnTrials(meant, lambda: deleted.append("of tune"))
    assert deleted == ["there"]


@pytest.mark.parametrize(
    ("returned", "objectives", "values"), [(1, 1, [1.0]), ((0.5, 3), 2, [0.5, 3.0]), (math.inf, 1, [math.inf])]
)
def test_what_an_objective_returns_is_its_values(returned: Any, objectives: int, values: list[float]) -> None:
    assert values_of(returned, objectives) == values


@pytest.mark.parametrize(("returned", "objectives"), [(None, 1), ("0.5", 2), ((1.0, 2.0), 1), (1.0, 2)])
def test_what_is_no_value_is_told(returned: Any, objectives: int) -> None:
    with pytest.raises(ValueError, match="returned"):
        values_of(returned, objectives)


def test_a_total_of_trials_is_a_whole_number() -> None:
    assert [total_of_trials("trials", given) for given in (3, np.int64(3))] == [3, 3]
    for given in (0, 2.5, "3", True, None):
        with pytest.raises(BadInput, match=r"trials=.*: must be a whole number, at least 1"):
            total_of_trials("trials", given)


@pytest.mark.parametrize("wrong", [{"trials": 2.5}, {"timeout": 0}, {"strategy": "freeze_thaw"}])
def test_what_cannot_be_meant_is_refused_before_a_study_is_made(
    wrong: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUNING_HOME", str(tmp_path / "home"))
    with pytest.raises(BadInput, match=f"^{next(iter(wrong))}="):
        optimize(objective, study="mine", **{"trials": 1, **wrong})
    assert not (tmp_path / "home").exists()


def objective(trial: optuna.Trial, shift: float = 0.0) -> float:
    return trial.suggest_float("x", 0, 1) + shift


def handed(objective: Any) -> Handed:
    return Handed(objective, RandomSampler(seed=1), optuna.pruners.NopPruner())


def test_a_worker_is_handed_a_function_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    monkeypatch.setattr(sys, "path", [*sys.path])
    file = tmp_path / "objective"
    hand_over(file, handed(functools.partial(objective, shift=2.0)))
    assert file.stat().st_mode & 0o077 == 0
    found = take(file, lambda line: pytest.fail(line))
    assert found.objective.func is objective  # type: ignore[attr-defined]
    fixed: Any = optuna.trial.FixedTrial({"x": 0.5})
    assert found.objective(fixed) == 2.5
    assert in_words(found.objective) == "test_function_trials.py:objective"


def test_the_users_own_modules_are_found_before_this_projects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    project = str(Path(__file__).resolve().parents[2])
    monkeypatch.setattr(sys, "path", [str(tmp_path), project, *sys.path])
    hand_over(tmp_path / "objective", handed(objective))
    monkeypatch.setattr(sys, "path", [folder for folder in sys.path if folder != str(tmp_path)])  # as a worker begins
    take(tmp_path / "objective", lambda line: pytest.fail(line))
    assert sys.path.index(str(tmp_path)) < sys.path.index(project)


def test_no_two_processes_draw_alike_and_the_first_one_repeats_what_a_seed_says(tmp_path: Path) -> None:
    with fresh_database(tmp_path / "studies.db") as database:
        find_or_create(database, "mine", [MINIMIZE]).enqueue_trial({"x": 0.5})
        first, second = (begun(database, tmp_path, drawing_apart(RandomSampler(seed=1)))[0] for _ in range(2))
        drawn = [taken(trials)[0].suggest_float("x", 0, 1) for trials in (first, second, first)]
    alone = optuna.create_study(sampler=RandomSampler(seed=1))
    alone.enqueue_trial({"x": 0.5})
    expected = [alone.ask().suggest_float("x", 0, 1) for _ in range(2)]
    assert [drawn[0], drawn[2]] == expected
    assert drawn[1] not in expected


def test_processes_that_begin_a_study_at_the_same_time_go_by_one_uid(database: Database, tmp_path: Path) -> None:
    study = find_or_create(database, "mine", [MINIMIZE])
    together = Barrier(4)

    def begin_it(_: int) -> str:
        with second_connection(database) as own:
            mine = optuna.load_study(study_name="mine", storage=own)
            together.wait()
            return begin(own, mine, "mine.py:objective").uid

    with ThreadPoolExecutor(4) as processes:
        uids = set(processes.map(begin_it, range(4)))
    assert uids == {StudyRecord.of(study).uid}


def test_what_no_worker_could_find_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match=r"objective cannot be handed to workers: .*lambda.* Define it with def") as told:
        hand_over(tmp_path / "objective", handed(lambda trial: 0.0))
    assert "\n" not in str(told.value)
    monkeypatch.delattr(sys.modules["__main__"], "__file__", raising=False)  # a worker of xdist has none
    monkeypatch.setattr(objective, "__module__", "__main__")
    monkeypatch.setattr(sys.modules["__main__"], "objective", objective, raising=False)
    with pytest.raises(BadInput, match="stands in a notebook or at a prompt"):
        hand_over(tmp_path / "objective", handed(objective))
