"""`tuning.optimize`, called by a script as a user has it: in worker processes that are killed, interrupted, go on."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from storage import attributes
from tests.integration.command_line import CommandLine
from tests.integration.user_script import UserScript
from tests.pages.page import Page
from tuning.cli import run

GOES_ON = """
import os
import time
from pathlib import Path

import optuna

import tuning


def objective(trial):
    x = trial.suggest_float("x", -1, 1)
    saved = Path(trial.user_attrs["checkpoint"]) / "step"
    begin = int(saved.read_text()) if saved.exists() else 0
    for step in range(begin, 6):
        with Path("log").open("a") as log:
            log.write(f"{trial.number} {step} {os.getpid()}\\n")
        time.sleep(0.15)
        trial.report(x * x, step)
        beside = saved.with_suffix(".new")
        beside.write_text(str(step + 1))
        beside.rename(saved)
    return x * x


if __name__ == "__main__":
    study = optuna.create_study(study_name="mine", storage="sqlite:///theirs.db", load_if_exists=True)
    tuning.optimize(objective, study=study, trials=int(os.environ["TRIALS"]), workers=2)
    print(len(study.trials), study.best_value == min(trial.value for trial in study.trials))
"""


@dataclass(frozen=True)
class Script(UserScript):
    """A script with a database of its own, and a log that its objective writes."""

    @property
    def url(self) -> str:
        return f"sqlite:///{self.folder / 'theirs.db'}"

    @property
    def log(self) -> list[tuple[int, int, int]]:
        """What the objective did: trial, step and process."""
        file = self.folder / "log"
        lines = [line.split() for line in file.read_text().splitlines()] if file.exists() else []
        return [(int(trial), int(step), int(process)) for trial, step, process in lines]


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def wait_until(true: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_killed_workers_trial_goes_on_as_itself_and_so_many_trials_are_so_many(script: Script) -> None:
    process = script.start(GOES_ON, TRIALS="4")
    killed = set()
    for deaths in (1, 2):
        wait_until(lambda: any(step >= 2 and process not in killed for _, step, process in script.log))
        victim = next(process for _, step, process in reversed(script.log) if step >= 2 and process not in killed)
        killed.add(victim)
        os.kill(victim, signal.SIGKILL)
        assert len(killed) == deaths
    stdout, stderr = script.finish(process)
    assert stdout == "4 True\n"
    assert "was killed" in stderr or "ended by signal" in stderr, stderr
    trials = optuna.load_study(study_name="mine", storage=script.url).trials
    assert [trial.state for trial in trials] == [TrialState.COMPLETE] * 4
    assert all(list(trial.intermediate_values) == list(range(6)) for trial in trials)
    given_up = [trial for trial in trials if attributes.GIVEN_UP in trial.user_attrs]
    assert given_up
    for trial in given_up:  # each step once more at most, the one that was cut short; none from the beginning
        steps = [step for number, step, _ in script.log if number == trial.number]
        assert steps == sorted(steps) and len(steps) <= 6 + len(killed)
    assert all(Path(trial.user_attrs["checkpoint"], "step").read_text() == "6" for trial in trials)


def test_after_ctrl_c_the_same_call_goes_on_and_more_trials_extend_the_study(
    script: Script, capsys: pytest.CaptureFixture[str]
) -> None:
    others = psutil.Process().children(recursive=True)  # of earlier tests: what starts processes for them stays
    process = script.start(GOES_ON, TRIALS="2")
    wait_until(lambda: any(step >= 2 for _, step, _ in script.log))
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=100)
    assert "KeyboardInterrupt" in stderr and "back in the queue; the same call goes on" in stderr
    assert set(psutil.Process().children(recursive=True)) <= set(others)
    assert not list(script.home.root.glob("logs/*/objective-*"))
    before = len(script.log)
    assert script.run(GOES_ON, TRIALS="2")[0] == "2 True\n"
    assert min(step for trial, step, _ in script.log[before:] if trial == script.log[0][0]) >= 2
    assert "nothing to do: 2 of 2 trials are finished" in script.run(GOES_ON, TRIALS="2")[1]
    assert run(["status", "--study", "mine", "--storage", script.url]) == 0
    said = capsys.readouterr().out
    assert "script.py:objective, to minimize" in said and "2 of 2 trials done" in said


UNGUARDED = """
import sys

import optuna

import tuning

print("runs", file=sys.stderr)


class Objective:
    def __init__(self, shift):
        self.shift = shift

    def __call__(self, trial):
        x = trial.suggest_float("x", 0, 1)
        if trial.number == 2:
            raise optuna.TrialPruned()
        return x + self.shift, 1 - x


study = optuna.create_study(directions=["minimize", "maximize"])
study.enqueue_trial({"x": 0.5})
tuning.optimize(Objective(1.0), study=study, trials=3, workers=1)
print([trial.values for trial in study.trials][0], len(study.trials), len(study.best_trials))
"""


def test_a_script_without_a_guard_is_not_run_again_by_its_workers(script: Script) -> None:
    stdout, stderr = script.run(UNGUARDED)
    assert stdout == "[1.5, 0.5] 3 2\n" or stdout == "[1.5, 0.5] 3 1\n"
    assert stderr.count('script.py has no `if __name__ == "__main__":` around tuning.optimize') == 1
    assert stderr.count("runs") == 1  # the workers' output is their log's
    (log,) = script.home.root.glob("logs/*/*.log")
    assert log.read_text().count("runs") == 1
    (study,) = optuna.get_all_study_summaries(f"sqlite:///{script.home.root / 'studies.db'}")
    assert study.n_trials == 3


@pytest.mark.keras
@pytest.mark.slow
def test_the_example_of_an_objective_runs_as_printed(script: Script) -> None:
    command = CommandLine(script.home.root)
    command.run("data", "prepare", "mnist_sample")
    text = next(text for text in Page.read("tuning/SCRIPTS.md").blocks("python") if "my_objective.py" in text)
    stdout, stderr = script.run(text)
    assert stdout.startswith("trial ") and "learning_rate" in stdout
    assert "6 of 6 trials finished" in stderr
    (study,) = optuna.get_all_study_summaries(command.url)
    assert study.n_trials == 6 and study.best_trial is not None
    assert study.best_trial.value is not None and study.best_trial.value > 0.6


CASES = next(
    (up / "shared" / "cases" / "models" for up in Path(__file__).parents if (up / "shared" / "cases").is_dir()), None
)


@pytest.mark.keras
@pytest.mark.slow
@pytest.mark.skipif(CASES is None, reason="scripts as people publish them do not lie beside the checkout")
@pytest.mark.parametrize(
    ("case", "objective"), [("o01_optuna_pruning.py", "objective"), ("o02_optuna_class.py", "Objective()")]
)
def test_a_published_script_runs_with_one_line_changed(script: Script, case: str, objective: str) -> None:
    CommandLine(script.home.root).run("data", "prepare", "mnist_sample")
    (script.folder / "datasets").symlink_to(script.home.root / "datasets")
    assert CASES is not None
    text, line = (CASES / case).read_text(), f"study.optimize({objective}, n_trials=3)"
    assert text.count(line) == 1
    changed = f"__import__('tuning').optimize({objective}, study=study, trials=3)"
    stdout, stderr = script.run(text.replace(line, changed))
    assert "3 of 3 trials finished" in stderr and stdout


PRUNES = """
import optuna
from optuna.trial import TrialState


class PruningCallback:  # as those of optuna-integration: a trial, and what is looked at
    def __init__(self, trial, monitor):
        self.trial, self.monitor = trial, monitor

    def on_epoch_end(self, epoch, logs):
        self.trial.report(float(logs[self.monitor]), step=epoch)
        if self.trial.should_prune():
            raise optuna.TrialPruned(f"Trial was pruned at epoch {epoch}.")


def objective(trial):
    layers = [trial.suggest_int(f"n_units_l{i}", 4, 128, log=True) for i in range(trial.suggest_int("n_layers", 1, 3))]
    rate = trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    callback = PruningCallback(trial, "val_accuracy")
    for epoch in range(3):
        callback.on_epoch_end(epoch, {"val_accuracy": 0.9 - trial.number / 10 + epoch / 100})
    return 0.92 - trial.number / 10


if __name__ == "__main__":
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    study.optimize(objective, n_trials=4)
    pruned = study.get_trials(deepcopy=False, states=[TrialState.PRUNED])
    complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    print(len(study.trials), len(pruned), len(complete), study.best_trial.value)
"""


def test_the_pruner_of_a_study_prunes_what_a_callback_reports_as_in_a_script_that_optuna_runs(script: Script) -> None:
    line = "study.optimize(objective, n_trials=4)"
    assert PRUNES.count(line) == 1
    changed = "__import__('tuning').optimize(objective, study=study, trials=4, workers=1)"
    stdout, _ = script.run(PRUNES.replace(line, changed))
    assert stdout == script.run(PRUNES)[0] == "4 3 1 0.92\n"


STOPS = """
import math

import optuna

import tuning


def objective(trial):
    if trial.number == 0:
        return None
    if trial.number == 1:
        return math.nan
    if trial.number == 2:
        raise ValueError("not this one")
    trial.study.stop()
    return 0.5


if __name__ == "__main__":
    study = tuning.optimize(objective, study="by name", trials=9, workers=1, direction="maximize")
    print(study.best_value, [trial.state.name for trial in study.trials])
"""


def test_what_fails_is_told_and_the_objective_may_stop_the_study(script: Script) -> None:
    stdout, stderr = script.run(STOPS)
    assert stdout == "0.5 ['FAIL', 'FAIL', 'FAIL', 'COMPLETE']\n"
    assert "the objective returned None, which is not a number" in stderr
    assert "diverged: the objective returned what is no number" in stderr
    assert "ValueError: not this one (given up for good after 3 attempts)" in stderr
    assert "the objective or its sampler stopped the study before its 9 trials" in stderr
