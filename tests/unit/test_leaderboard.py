"""The order of trials, what `status` says, and which study is meant."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from storage import attributes
from storage.database import Database
from storage.errors import BadInput
from storage.leases import LEASE_S
from storage.opening import open_database
from storage.settings import Home
from studies.forecast import Launched, moment
from studies.leaderboard import as_table, best_parameters, best_trial, leaderboard
from studies.status import status
from studies.stored import find_study
from tests.databases import claimed, new_study
from tuning.commands.status import show_status, show_trials

NOON = datetime(2026, 3, 1, 12, 0)
HOME = Home(Path("/none"))


@pytest.fixture
def database(home: Path) -> Database:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return open_database(f"sqlite:///{home / 'studies.db'}", create=True)


@pytest.fixture
def study(database: Database) -> optuna.Study:
    made = optuna.create_study(study_name="mnist", storage=database, direction="maximize")
    made.set_user_attr(attributes.SPEC, {})
    made.set_user_attr(attributes.BUDGET, 10)
    return made


def trial(
    value: float | None = None,
    state: TrialState = TrialState.COMPLETE,
    *,
    begun: datetime = NOON,
    seconds: float = 60.0,
    curve: tuple[float, ...] = (),
    params: dict[str, Any] | None = None,
    **attrs: Any,
) -> FrozenTrial:
    known: dict[str, BaseDistribution] = {
        "learning_rate": FloatDistribution(1e-5, 1.0, log=True),
        "units": IntDistribution(1, 512),
        "optimizer": CategoricalDistribution(["sgd", "adam"]),
    }
    params = params or {}
    return FrozenTrial(
        number=-1,
        trial_id=-1,
        state=state,
        value=value,
        datetime_start=None if state == TrialState.WAITING else begun,
        datetime_complete=begun + timedelta(seconds=seconds) if state.is_finished() else None,
        params=params,
        distributions={name: known[name] for name in params},
        user_attrs={attributes.PREFIX + name: value for name, value in attrs.items()},
        system_attrs={},
        intermediate_values=dict(enumerate(curve, start=1)),
    )


def test_the_best_trial_comes_first_and_a_failed_one_last(study: optuna.Study) -> None:
    for one in (
        trial(state=TrialState.FAIL, failure="diverged", reason="the loss was not finite"),
        trial(0.8),
        trial(state=TrialState.PRUNED, curve=(0.1, 0.99)),
        trial(state=TrialState.RUNNING, curve=(0.5,)),
        trial(0.9),
        trial(
            state=TrialState.WAITING, given_up=[{"worker": "w1", "reason": "old"}, {"worker": "w2", "reason": "new"}]
        ),
    ):
        study.add_trial(one)
    rows = leaderboard(study)
    assert [(row["number"], row["state"]) for row in rows] == [
        (4, "COMPLETE"), (1, "COMPLETE"), (2, "PRUNED"), (3, "RUNNING"), (5, "WAITING"), (0, "FAIL"),
    ]  # fmt: skip
    assert [row["value"] for row in rows] == [0.9, 0.8, 0.99, None, None, None]
    assert [row["reason"] for row in rows] == [None, None, None, None, "new", "the loss was not finite"]
    assert [row["epochs"] for row in rows] == [0, 0, 2, 1, 0, 0]


def test_a_row_has_the_promised_keys_and_no_others(study: optuna.Study) -> None:
    study.add_trial(trial(0.9, params={"units": 32}, epochs=3, seconds=4.5, worker="host:1:ab", backend="jax"))
    (row,) = leaderboard(study)
    keys = {"number", "state", "value", "params", "epochs", "seconds", "worker", "reason"}
    assert set(row) == {*keys, "balanced_accuracy", "backend", "phase"}
    assert row["params"] == {"units": 32}
    assert (row["epochs"], row["worker"], row["backend"]) == (3, "host:1:ab", "jax")


def test_the_earliest_of_equals_is_the_best_trial(study: optuna.Study) -> None:
    for value in (0.5, 0.9, 0.9):
        study.add_trial(trial(value))
    best = best_trial(study)
    assert best is not None
    assert best.number == 1


def test_without_a_complete_trial_there_is_no_best_one(study: optuna.Study) -> None:
    study.add_trial(trial(state=TrialState.PRUNED, curve=(0.9,)))
    assert best_trial(study) is None
    assert status(study, "sqlite://", HOME)["best"] is None


def test_status_counts_what_is_finished_and_reported(study: optuna.Study) -> None:
    study.add_trial(trial(0.9, curve=(0.5, 0.9), params={"units": 32}))
    study.add_trial(trial(state=TrialState.PRUNED, curve=(0.5,)))
    study.add_trial(trial(state=TrialState.FAIL, curve=(0.1,)))
    study.add_trial(trial(state=TrialState.RUNNING))
    said = status(study, "postgresql+psycopg://me:secret@host/name", HOME)
    assert said["study"] == "mnist"
    assert "secret" not in said["storage"]
    assert said["state"] == "running"
    assert said["trials"] == {"complete": 1, "pruned": 1, "failed": 1, "running": 1, "waiting": 0, "frozen": 0}
    assert said["budget"] == {"trials": 10, "done": 2, "epochs": None}
    assert said["epochs_trained"] == 4
    assert said["best"] == {"number": 0, "value": 0.9, "params": {"units": 32}, "balanced_accuracy": None}


def test_a_study_whose_workers_are_all_gone_is_stopped(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    now = [1_000.0]
    claims = new_study(database, budget=3, clock=lambda: now[0])
    study = optuna.load_study(study_name="mnist", storage=database)

    def state() -> str:
        said = status(study, "sqlite://", HOME, clock=lambda: now[0])
        assert said["trials"]["running"] == 2
        return str(said["state"])

    first, _ = claimed(claims), claimed(claims)
    now[0] += LEASE_S
    assert state() == "running"
    claims.beat(first)
    now[0] += LEASE_S
    assert state() == "running", "one of them is alive"
    now[0] += 1
    assert state() == "stopped"
    show_status(study, "sqlite:///x.db", HOME)
    shown = " ".join(capsys.readouterr().out.split())
    assert "stopped: 2 trials are recorded as running, but no worker has shown a sign of life for 45 s" in shown


def test_status_and_the_leaderboard_tell_frozen_trials_from_those_that_were_interrupted(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    claims = new_study(database, budget=3)
    study = optuna.load_study(study_name="mnist", storage=database)
    study.set_user_attr(attributes.SPEC, {})
    study.set_user_attr(attributes.BUDGET_EPOCHS, 1200)
    cold, interrupted = claimed(claims), claimed(claims)
    for epoch in (1, 2):
        database.set_trial_intermediate_value(cold.trial_id, epoch, 0.5)
    claims.progressed(cold, 2)
    claims.put_back(cold, "frozen after epoch 2", "frozen")
    claims.put_back(interrupted, "asked to stop")
    said = status(study, "sqlite://", HOME)
    assert said["trials"] == {"complete": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 1, "frozen": 1}
    assert said["budget"] == {"trials": 3, "done": 0, "epochs": 1200}
    rows = {row["number"]: row for row in leaderboard(study)}
    assert (rows[0]["state"], rows[0]["reason"], rows[0]["epochs"]) == ("WAITING", "frozen after epoch 2", 2)
    assert rows[1]["reason"] == "asked to stop"
    show_status(study, "sqlite:///x.db", HOME)
    shown = capsys.readouterr().out
    assert "1 waiting, 1 frozen" in shown
    assert "2 of 1,200 trained" in shown
    study.set_user_attr(attributes.BUDGET_EPOCHS, 1)
    show_status(study, "sqlite:///x.db", HOME)
    assert "2 trained, 1 planned: the best trial goes on to its end" in capsys.readouterr().out


def test_the_best_parameters_are_those_of_the_highest_reports_whatever_became_of_the_trials(
    study: optuna.Study,
) -> None:
    study.add_trial(trial(0.9, curve=(0.5, 0.9), params={"units": 1}))
    study.add_trial(trial(state=TrialState.PRUNED, curve=(0.95, 0.2), params={"units": 2}))
    study.add_trial(trial(state=TrialState.RUNNING, curve=(0.9,), params={"units": 3}))
    study.add_trial(trial(state=TrialState.RUNNING, params={"units": 4}))
    assert best_parameters(study, 2) == [{"units": 2}, {"units": 1}]
    assert best_parameters(study, 9) == [{"units": 2}, {"units": 1}, {"units": 3}]


def test_parameters_that_failed_or_diverged_are_not_among_the_best(study: optuna.Study) -> None:
    study.add_trial(trial(state=TrialState.FAIL, curve=(0.99,), params={"units": 1}))
    study.add_trial(trial(state=TrialState.PRUNED, curve=(float("nan"),), params={"units": 2}))
    study.add_trial(trial(0.5, curve=(0.5,), params={"units": 3}))
    assert best_parameters(study, 9) == [{"units": 3}]


def test_a_study_is_done_when_its_budget_is_spent_and_stopped_when_nothing_runs(study: optuna.Study) -> None:
    study.add_trial(trial(0.9))
    assert status(study, "sqlite://", HOME)["state"] == "stopped"
    study.set_user_attr(attributes.BUDGET, 1)
    assert status(study, "sqlite://", HOME)["state"] == "done"


def test_the_rate_leaves_out_the_night_between_two_calls_and_counts_parallel_workers(study: optuna.Study) -> None:
    for begun in (NOON, NOON + timedelta(hours=12)):
        for _ in range(2):  # two workers, a minute each
            study.add_trial(trial(0.9, begun=begun))
    assert status(study, "sqlite://", HOME)["forecast_s"] is None
    study.add_trial(trial(state=TrialState.RUNNING))
    said = status(study, "sqlite://", HOME)
    assert said["rate_per_hour"] == pytest.approx(120)
    assert said["forecast_s"] == pytest.approx(6 / 120 * 3600)


def test_a_budget_of_epochs_is_forecast_at_the_pace_so_far(study: optuna.Study) -> None:
    def forecast_s() -> Any:
        return status(study, "sqlite://", HOME)["forecast_s"]

    study.set_user_attr(attributes.BUDGET_EPOCHS, 30)
    study.add_trial(trial(state=TrialState.RUNNING))
    assert forecast_s() is None, "nobody said when the workers were let go"
    study.set_user_attr(attributes.LAUNCHED, Launched(at=moment(NOON), epochs=0, epoch_s=8.0))
    assert forecast_s() == pytest.approx(30 * 8)
    study.add_trial(trial(state=TrialState.PRUNED, curve=(0.1, 0.2, 0.3, 0.4)))
    study.add_trial(trial(state=TrialState.RUNNING, curve=(0.1,)))
    assert forecast_s() == pytest.approx(25 * 60 / (5 + 2 / 2))


def test_the_rate_does_not_jump_when_the_clocks_change(study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        # On 29 March 2026, clocks go from 02:00 on to 03:00: from 01:30 to 03:30 one hour passes.
        one = trial(0.9, begun=datetime(2026, 3, 29, 1, 30), seconds=2 * 3600)
        study.add_trial(one)
        assert status(study, "sqlite://", HOME)["rate_per_hour"] == pytest.approx(1)
    finally:
        monkeypatch.undo()
        time.tzset()


def fill(file: Path, size_bytes: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size_bytes))


def test_status_says_what_the_study_takes_up_on_the_disk(
    study: optuna.Study, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = Home(home)
    assert status(study, "sqlite://", mine)["disk_bytes"] == {
        "artifacts": 0, "checkpoints": 0, "export": 0, "logs": 0, "total": 0,
    }  # fmt: skip
    study.set_user_attr(attributes.UID, "0123456789")
    study.add_trial(trial(0.9))
    study._storage.set_study_system_attr(study._study_id, "artifacts:of-the-study", '{"artifact_id": "of-the-study"}')
    running = study.ask()
    for name in ("a", "b", "gone"):
        study._storage.set_trial_system_attr(running._trial_id, f"artifacts:{name}", f'{{"artifact_id": "{name}"}}')
    fill(mine.artifacts / "of-the-study", 500_000)
    fill(mine.artifacts / "a", 1_000_000)
    fill(mine.artifacts / "b", 1_000_000)
    fill(mine.artifacts / "another's", 9)
    fill(mine.checkpoints("mnist", "0123456789") / "1" / "claim-1-epochs-1.checkpoint", 300_000)
    fill(mine.checkpoints("mnist", "another one") / "1" / "claim-1-epochs-1.checkpoint", 9)
    fill(mine.export("mnist") / "saved_model" / "weights", 20)
    fill(mine.logs("mnist") / "worker-0.log", 1)
    assert status(study, "sqlite://", mine)["disk_bytes"] == {
        "artifacts": 2_500_000, "checkpoints": 300_000, "export": 20, "logs": 1, "total": 2_800_021,
    }  # fmt: skip
    show_status(study, "sqlite:///x.db", mine)
    assert "2.8 MB: 2.5 MB artifacts, 0.3 MB checkpoints, 0.0 MB export" in capsys.readouterr().out


def test_without_a_name_the_study_whose_trial_began_last_is_meant(database: Database, study: optuna.Study) -> None:
    study.add_trial(trial(0.5, begun=NOON + timedelta(hours=1)))
    other = optuna.create_study(study_name="other", storage=database, direction="maximize")
    other.set_user_attr(attributes.SPEC, {})
    other.add_trial(trial(0.5, begun=NOON))
    optuna.create_study(study_name="never tuned", storage=database)
    assert find_study(database, None).study_name == "mnist"
    other.add_trial(trial(0.5, begun=NOON + timedelta(hours=2)))
    assert find_study(database, None).study_name == "other"
    assert find_study(database, "mnist").study_name == "mnist"


def test_an_unknown_study_is_refused_with_the_nearest_name(database: Database, study: optuna.Study) -> None:
    with pytest.raises(BadInput, match=r"unknown study 'minst'\. Did you mean 'mnist'"):
        find_study(database, "minst")


def test_without_any_study_the_next_step_is_named(database: Database) -> None:
    with pytest.raises(BadInput, match="make tune"):
        find_study(database, None)


def test_trials_in_csv_keep_whole_numbers_whole(study: optuna.Study, capsys: pytest.CaptureFixture[str]) -> None:
    study.add_trial(trial(0.5, params={"units": 32}))
    study.add_trial(trial(0.9, params={"optimizer": "adam"}, reason='a "comma", and\na line'))
    show_trials(study, "csv")
    first, second = csv.DictReader(io.StringIO(capsys.readouterr().out))
    assert (first["number"], first["params_units"], first["params_optimizer"]) == ("1", "", "adam")
    assert second["params_units"] == "32"
    assert len(as_table(leaderboard(study))) == 2


def test_trials_and_status_in_json_are_the_promised_documents(
    study: optuna.Study, capsys: pytest.CaptureFixture[str]
) -> None:
    study.add_trial(trial(0.5, params={"learning_rate": 0.01}))
    show_trials(study, "json")
    assert json.loads(capsys.readouterr().out)[0]["params"] == {"learning_rate": 0.01}
    show_status(study, "sqlite:///x.db", HOME, as_json=True)
    assert json.loads(capsys.readouterr().out)["budget"] == {"trials": 10, "done": 1, "epochs": None}


def describe_classes(study: optuna.Study, *counts: int) -> None:
    known = {"checksum": "c", "split": "s", "train": sum(counts), "validation": 9, "mean": [0.0], "std": [1.0]}
    study.set_user_attr(attributes.DATA, {**known, **({"class_counts": list(counts)} if counts else {})})


@pytest.mark.parametrize("counts", [(30, 900), (30, 40), ()])
def test_the_balanced_accuracy_is_told_to_programs_always_and_to_people_where_the_data_are_imbalanced(
    study: optuna.Study, capsys: pytest.CaptureFixture[str], counts: tuple[int, ...]
) -> None:
    describe_classes(study, *counts)
    study.add_trial(trial(0.95, val_balanced_accuracy=0.625))
    study.add_trial(trial(0.9))  # an earlier version's
    show_trials(study, "json")
    assert [row["balanced_accuracy"] for row in json.loads(capsys.readouterr().out)] == [0.625, None]
    show_status(study, "sqlite:///x.db", HOME, as_json=True)
    said = json.loads(capsys.readouterr().out)
    assert said["best"]["balanced_accuracy"] == 0.625
    assert said["imbalanced"] is (None if not counts else counts == (30, 900))
    show_trials(study)
    show_status(study, "sqlite:///x.db", HOME)
    shown = capsys.readouterr().out
    for words in ("balanced", "0.6250", "95.00% validation accuracy, 62.50% balanced"):
        assert (words in shown) == (counts == (30, 900))


def test_tables_show_names_that_look_like_markup(database: Database, capsys: pytest.CaptureFixture[str]) -> None:
    study = optuna.create_study(study_name="[bold]x[/]", storage=database, direction="maximize")
    study.add_trial(trial(0.91234, params={"units": 32}))
    study.add_trial(trial(state=TrialState.FAIL, reason="[red] is no colour"))
    show_trials(study)
    shown = capsys.readouterr().out
    assert "[bold]x[/]" in shown
    assert "0.9123" in shown
    assert "[red] is no colour" in shown
    show_status(study, "sqlite:///x.db", HOME)
    assert "[bold]x[/]" in capsys.readouterr().out


def test_an_unknown_format_is_refused(study: optuna.Study) -> None:
    with pytest.raises(BadInput, match="Did you mean 'csv'"):
        show_trials(study, "cvs")
