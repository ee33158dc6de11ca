"""The whole job on a small real data set, through the command line."""

from __future__ import annotations

import json
import re
import shutil
import signal
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from storage import attributes
from storage.errors import BadInput
from storage.opening import open_database
from tests.folders import hostile_folder
from tests.integration.command_line import ROOT, CommandLine, interrupt, wait_until

pytestmark = pytest.mark.keras

# A trial of about a second.
SMALL = ("--dataset", "mnist_sample", "--train-images", "256", "--epochs", "3")
# Trials that last, and that nobody but the user interrupts.
LONG = (*SMALL[:-1], "300", "--strategy", "none", "--model", f"{ROOT / 'tests/faults/slow_models.py'}:Slow")


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> CommandLine:
    """A study of five trials, tuned by two workers, among modules of our names and Python's and settings of others."""
    folder = hostile_folder(tmp_path_factory.mktemp("folder"))
    elsewhere = {"floatx": "float16", "epsilon": 0.1, "backend": "torch", "image_data_format": "channels_first"}
    (folder / "keras.json").write_text(json.dumps(elsewhere))
    surroundings = {"PYTHONPATH": str(folder), "KERAS_HOME": str(folder), "KERAS_MAX_EPOCHS": "1"}
    command = CommandLine(tmp_path_factory.mktemp("tuned"), surroundings, folder)
    finished = command.run("tune", *SMALL, "--trials", "5", "--workers", "2")
    (command.home / "output").write_text(finished.stderr)
    assert finished.stdout == "", "only machine-readable output goes to stdout"
    return command


@pytest.fixture
def command(tmp_path: Path) -> CommandLine:
    return CommandLine(tmp_path / "home", {"SLOW_EPOCH_S": "0.3"})


def test_a_study_has_exactly_its_budget_and_stock_optuna_agrees(tuned: CommandLine) -> None:
    trials = tuned.study("mnist_sample").trials
    assert [trial.number for trial in trials] == [0, 1, 2, 3, 4]
    assert all(trial.state in (TrialState.COMPLETE, TrialState.PRUNED) for trial in trials)
    assert len({json.dumps(trial.params, sort_keys=True) for trial in trials}) == 5
    status = tuned.json("status", "--json")
    assert status["budget"] == {
        "trials": 5,
        "done": 5,
        "epochs": tuned.study("mnist_sample").user_attrs[attributes.BUDGET_EPOCHS],
    }
    assert status["trials"]["frozen"] == 0
    assert status["state"] == "done"
    best = tuned.study("mnist_sample").best_trial
    balanced = best.user_attrs[attributes.VALIDATION_BALANCED_ACCURACY]
    told = {"number": best.number, "value": best.value, "params": best.params, "balanced_accuracy": balanced}
    assert status["best"] == told
    assert status["imbalanced"] is False


def test_the_core_space_is_searched_and_the_first_trial_is_the_default(tuned: CommandLine) -> None:
    first = tuned.study("mnist_sample").trials[0]
    assert set(first.params) == {"batch_size", "optimizer", "learning_rate", "dropout"}
    assert first.system_attrs["fixed_params"] == first.params


def test_reports_are_each_epochs_own_and_the_value_is_that_of_the_kept_epoch(tuned: CommandLine) -> None:
    for trial in tuned.study("mnist_sample").trials:
        assert list(trial.intermediate_values) == list(range(1, trial.user_attrs[attributes.EPOCHS] + 1))
        if trial.state == TrialState.COMPLETE:
            assert trial.value == max(trial.intermediate_values.values())
            assert trial.intermediate_values[trial.user_attrs[attributes.BEST_EPOCH]] == trial.value
        else:
            assert trial.value == trial.intermediate_values[max(trial.intermediate_values)]


def test_both_workers_took_part_and_every_finished_trial_has_a_learning_curve(tuned: CommandLine) -> None:
    trials = tuned.study("mnist_sample").trials
    logs = [file.read_text() for file in tuned.home.glob("logs/mnist_sample/worker-*.log")]
    started = [[int(number) for number in re.findall(r"trial (\d+): claim 1$", log, re.MULTILINE)] for log in logs]
    assert [bool(numbers) for numbers in started] == [True, True]
    assert sorted(number for numbers in started for number in numbers) == [0, 1, 2, 3, 4]
    storage = optuna.storages.get_storage(tuned.url)
    for trial in trials:
        shown = optuna.artifacts.get_all_artifact_meta(trial, storage=storage)
        names = {meta.filename for meta in shown}
        assert {"learning_curve.png", "history.json"} <= names
        whole = {"model.keras", "confusion_matrix.png", "mistakes.png"}
        assert names & whole == (whole if trial.state == TrialState.COMPLETE else set())
        for meta in shown:
            assert (tuned.home / "artifacts" / meta.artifact_id).stat().st_size > 0


def test_the_output_names_every_default_the_forecast_and_one_line_for_each_trial(tuned: CommandLine) -> None:
    output = (tuned.home / "output").read_text()
    for word in ("study", "data", "model", "plan", "strategy", "sampler", "seed", "workers"):
        assert f"\n{word} " in "\n" + output
    for name in ("batch_size", "optimizer", "learning_rate", "dropout"):
        assert f"\n  {name}" in output
    assert "forecast: 5 trials in about" in output
    lines = [line.split() for line in output.splitlines() if line.startswith("trial ")]
    assert {line[2] for line in lines} <= {"complete", "pruned", "frozen", "thawed"}
    over = [int(line[1]) for line in lines if line[2] in ("complete", "pruned")]
    # What was frozen to the end is told in one line.
    ended = re.search(r"^(\d+) frozen trials? pruned: ", output, re.MULTILINE)
    assert len(over) == len(set(over)) == 5 - (int(ended[1]) if ended else 0)
    assert {int(line[1]) for line in lines} == {0, 1, 2, 3, 4}


def test_the_same_command_again_trains_nothing_and_a_larger_total_extends_the_study(
    tuned: CommandLine, command: CommandLine
) -> None:
    # A copy: the others look at the study as it was.
    shutil.copytree(tuned.home, command.home)
    assert "nothing to do: 5 of 5" in command.run("tune", *SMALL, "--trials", "5").stderr
    command.run("tune", *SMALL, "--trials", "6", "--workers", "1")
    assert len(command.study("mnist_sample").trials) == 6
    # Without a number, the study keeps the total that it was extended to.
    assert "nothing to do: 6 of 6" in command.run("tune", *SMALL).stderr


def test_another_spec_is_refused_with_the_first_difference_and_both_cures(tuned: CommandLine) -> None:
    finished = tuned.run("tune", *SMALL[:-1], "4", status=2)
    assert "epochs is 3 there, 4 here" in finished.stderr
    assert "STUDY=another" in finished.stderr
    assert "make delete STUDY=mnist_sample" in finished.stderr
    assert len(finished.stderr.strip().splitlines()) == 1


def test_the_best_model_is_exported_and_classifies_a_picture(tuned: CommandLine, tmp_path: Path) -> None:
    from PIL import Image

    from storage.settings import Home
    from studies.datasets.preparing import open_prepared

    tuned.run("export", "--study", "mnist_sample", "--format", "keras")
    bundle = tuned.home / "exports" / "mnist_sample"
    metrics = json.loads((bundle / "metrics.json").read_text())
    best = tuned.study("mnist_sample").best_trial
    assert metrics["validation"]["accuracy"] == pytest.approx(best.value, abs=0.005)
    assert len(metrics["test"]["per_class"]) == 10
    images, _ = open_prepared("mnist_sample", Home(tuned.home)).test()
    # Dark on white, as on paper; the data set is white on black.
    Image.fromarray(255 - images[0, :, :, 0]).resize((200, 200)).save(tmp_path / "digit.png")
    (answer,) = tuned.json("predict", "--study", "mnist_sample", "--json", str(tmp_path / "digit.png"))
    assert len(answer["classes"]) == 5
    assert 0.0 < sum(one["probability"] for one in answer["classes"]) <= 1.0 + 1e-6


def test_the_same_trial_alone_gives_the_same_curve_again(tuned: CommandLine, command: CommandLine) -> None:
    command.run("tune", *SMALL, "--trials", "1", "--workers", "2")
    again = command.study("mnist_sample").trials[0]
    first = tuned.study("mnist_sample").trials[0]
    assert again.params == first.params
    # Among others it may have been frozen for good; alone it is the best and trains to its end.
    common = {epoch: again.intermediate_values[epoch] for epoch in first.intermediate_values}
    assert common == first.intermediate_values != {}


@pytest.mark.long
def test_four_workers_share_a_budget_of_six_exactly(command: CommandLine) -> None:
    command.run("tune", *SMALL[:-1], "1", "--trials", "6", "--workers", "4")
    trials = command.study("mnist_sample").trials
    assert sorted(trial.number for trial in trials) == list(range(6))
    assert all(trial.state.is_finished() for trial in trials)


def _running(command: CommandLine) -> list[optuna.trial.FrozenTrial]:
    try:
        database = open_database(command.url)
    except BadInput:  # not made yet
        return []
    try:
        trials = database.get_all_trials(database.get_study_id_from_name("mnist_sample"))
    except KeyError:
        return []
    finally:
        database.engine.dispose()
    return [trial for trial in trials if trial.state == TrialState.RUNNING and trial.intermediate_values]


def test_one_ctrl_c_puts_the_running_trials_back_and_the_same_command_goes_on(command: CommandLine) -> None:
    process = command.start("tune", *LONG, "--trials", "60", "--workers", "2")
    wait_until(lambda: _running(command))
    assert not any("://" in word for worker in command.workers() for word in worker.cmdline()), (
        "a URL may hold a password"
    )
    finished = interrupt(process)
    assert finished.status == 130
    assert "the same command goes on" in finished.stderr
    assert not command.workers()
    trials = command.study("mnist_sample").trials
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    waiting = [trial for trial in trials if trial.state == TrialState.WAITING]
    assert waiting
    assert all(trial.user_attrs[attributes.GIVEN_UP][0]["reason"] == "interrupted" for trial in waiting)
    params = {trial.number: trial.params for trial in waiting}
    # A time limit leaves no trial RUNNING either, and takes up what was put back instead of new ones.
    limited = command.run("tune", *LONG, "--trials", "60", "--workers", "2", "--timeout", "12s")
    assert "time is up" in limited.stderr
    trials = command.study("mnist_sample").trials
    assert not [trial for trial in trials if trial.state == TrialState.RUNNING]
    assert {trial.number: trial.params for trial in trials if trial.number in params} == params


@pytest.mark.long
def test_no_worker_outlives_a_launcher_that_is_killed(command: CommandLine) -> None:
    process = command.start("tune", *LONG, "--trials", "2", "--workers", "2")
    wait_until(lambda: _running(command))
    workers = command.workers()
    assert len(workers) == 2
    process.kill()
    process.communicate()
    wait_until(lambda: not command.workers(), timeout_s=30)
    assert not [t for t in command.study("mnist_sample").trials if t.state == TrialState.RUNNING]


@pytest.mark.long
def test_a_killed_worker_is_replaced_and_its_trial_is_finished_by_another(command: CommandLine) -> None:
    process = command.start("tune", *SMALL[:-1], "30", "--trials", "2", "--workers", "1", "--strategy", "none")
    (trial,) = wait_until(lambda: _running(command))
    (worker,) = command.workers()
    worker.send_signal(signal.SIGKILL)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    assert "was killed by signal 9" in stderr
    after = command.study("mnist_sample").trials
    assert len(after) == 2
    assert after[trial.number].state.is_finished()
    assert after[trial.number].params == trial.params
    assert "killed by signal 9" in after[trial.number].user_attrs[attributes.GIVEN_UP][0]["reason"]


@pytest.mark.slow
def test_a_trial_that_was_frozen_and_thawed_has_the_curve_of_one_that_was_not(
    command: CommandLine, tmp_path: Path
) -> None:
    small = ("--dataset", "mnist_sample", "--train-images", "256", "--epochs", "4", "--workers", "1")
    finished = command.run("tune", *small, "--strategy", "promotion", "--trials", "4", "--budget-epochs", "12")
    trials = command.study("mnist_sample").trials
    assert {trial.state for trial in trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    frozen = {int(line.split()[1]) for line in finished.stderr.splitlines() if line.split()[2:3] == ["frozen"]}
    thawed = [trial for trial in trials if trial.number in frozen and len(trial.intermediate_values) > 1]
    assert frozen
    assert thawed
    assert any(trial.state == TrialState.COMPLETE for trial in thawed)
    for trial in trials:
        names = {meta.filename for meta in optuna.artifacts.get_all_artifact_meta(trial, storage=_storage(command))}
        assert "learning_curve.png" in names, "of what was ended while it was frozen, too"
        assert attributes.GIVEN_UP not in trial.user_attrs
    assert sum(len(trial.intermediate_values) for trial in trials) <= 12 + 1 + 3
    assert not list((command.home / "checkpoints").rglob("*.checkpoint")), "nothing is kept of what is over"

    whole = CommandLine(tmp_path / "another home")
    whole.run("tune", *small, "--strategy", "none", "--trials", "4")
    for trial in thawed:
        other = whole.study("mnist_sample").trials[trial.number]
        if trial.params == other.params:
            curve = trial.intermediate_values
            assert curve == {epoch: other.intermediate_values[epoch] for epoch in curve}
    assert trials[0].params == whole.study("mnist_sample").trials[0].params


def _storage(command: CommandLine) -> optuna.storages.BaseStorage:
    return optuna.storages.get_storage(command.url)


BROKEN = '''
import keras
from models.cnn import CNN


class RunsOut(CNN):
    """Fails with every optimizer but one, each in its own way."""

    def fit(self, hp, model, *args, **kwargs):
        optimizer = hp.get("optimizer")
        if self.epochs > 1 and kwargs.get("seed"):
            if optimizer == "adam":
                raise MemoryError("no room for 7 TB")
            if optimizer == "sgd":
                for weights in model.trainable_weights:
                    weights.assign(weights * float("nan"))
        return super().fit(hp, model, *args, **kwargs)


class Unbuildable(CNN):
    def backbone(self, hp, x):
        return keras.layers.Conv2D(4, 99, padding="valid")(x)
'''


def test_failed_trials_have_a_class_and_a_reason_and_do_not_count(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    (tmp_path / "study.toml").write_text(
        'dataset = "mnist_sample"\n[plan.cpu]\ntrials = 2\nepochs = 2\ntrain_images = 256\nvalidation_images = 200\n'
        '[parameters.learning_rate]\nlow = 0.001\nhigh = 0.002\nlog = true\n[sampler]\nname = "random"\n'
        '[strategy]\nname = "none"\n'
    )
    model = f"{tmp_path / 'mine.py'}:RunsOut"
    # With this seed each optimizer is drawn once more at the most: a worker that ran out of memory is replaced.
    command.run("tune", "--spec", str(tmp_path / "study.toml"), "--model", model, "--workers", "1", "--seed", "0")
    trials = command.study("mnist_sample").trials
    finished = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert len(finished) == 2
    assert {trial.params["optimizer"] for trial in finished} == {"adamw"}
    assert all(0.001 <= trial.params["learning_rate"] <= 0.002 for trial in trials)
    classes = {trial.params["optimizer"]: trial.user_attrs[attributes.FAILURE] for trial in failed}
    assert classes == {"adam": "out_of_memory", "sgd": "diverged"}
    assert all("\n" not in trial.user_attrs[attributes.REASON] for trial in failed)
    rows = command.json("trials", "--study", "mnist_sample", "--format", "json")
    assert any("no room for 7 TB" in (row["reason"] or "") for row in rows)


@pytest.mark.parametrize(
    ("defaults", "says"),
    [
        ("averaging = 1.0", "`defaults.averaging` must be from 0 to below 1. Received: 1.0."),
        ("averagin = 0.9", "`defaults` knows batch_size, "),
        ("dropout = true", "`defaults.dropout` must be like 0.3. Received: True."),
    ],
)
def test_defaults_that_no_training_can_have_are_refused_before_the_study_is_made(
    command: CommandLine, tmp_path: Path, defaults: str, says: str
) -> None:
    (tmp_path / "study.toml").write_text(
        f'dataset = "mnist_sample"\ndefaults = {{ {defaults} }}\n[plan.cpu]\ntrials = 1\nepochs = 1\n'
        "train_images = 256\nvalidation_images = 200\n"
    )
    finished = command.run("tune", "--spec", str(tmp_path / "study.toml"), "--study", "refused", status=2)
    error = finished.stderr.strip().splitlines()[-1]
    assert error.startswith(f"error: {says}")
    assert error.endswith("Mend `defaults` in the study's file.")
    assert "refused" not in optuna.get_all_study_names(command.url)


def test_what_would_fail_in_every_trial_fails_in_the_preflight_once(command: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(BROKEN)
    model = f"{tmp_path / 'mine.py'}:Unbuildable"
    finished = command.run("tune", *SMALL, "--model", model, status=2)
    error = finished.stderr.strip().splitlines()[-1]
    assert error.startswith("error: the model cannot be built with batch_size=")
    assert "mnist_sample" not in optuna.get_all_study_names(command.url), "nothing was created"
