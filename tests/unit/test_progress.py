"""What a terminal shows while a study runs: each finished trial once, and where the study stands."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial
from rich.console import Console

from storage import attributes
from tuning.launch.progress import MOST_PAUSE_S, MOST_SHARE, Progress, finished_line


@dataclass
class Terminal:
    """A console that writes into a string, and the clock that the progress reads."""

    console: Console
    text: io.StringIO
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


def terminal(*, live: bool = False, width: int = 120) -> Terminal:
    text = io.StringIO()
    return Terminal(Console(file=text, width=width, force_terminal=live, color_system=None), text)


@pytest.fixture
def study() -> optuna.Study:
    created = optuna.create_study(study_name="mnist", direction="maximize")
    created.set_user_attr(attributes.BUDGET, 4)
    return created


def add(study: optuna.Study, value: float | None, state: TrialState = TrialState.COMPLETE, **attrs: Any) -> None:
    study.add_trial(
        create_trial(
            state=state, value=value, params={"learning_rate": 0.012345678},
            distributions={"learning_rate": FloatDistribution(0, 1)}, intermediate_values={1: 0.4, 2: 0.5},
            user_attrs=attrs,
        )
    )  # fmt: skip


def test_a_finished_trial_is_one_line(study: optuna.Study) -> None:
    add(study, 0.91234)
    (trial,) = study.trials
    assert (
        finished_line(trial, trial) == "trial   0 complete 0.9123 (best so far)  2 epochs  0 s  learning_rate 0.01235"
    )
    assert "(best so far)" not in finished_line(trial, None)


def test_a_finished_trial_says_its_balanced_accuracy_where_that_is_asked_for(study: optuna.Study) -> None:
    add(study, 0.91234, TrialState.COMPLETE, **{attributes.VALIDATION_BALANCED_ACCURACY: 0.25})
    add(study, 0.5)  # an earlier version's
    line = finished_line(study.trials[0], study.trials[0], balanced=True)
    assert line.startswith("trial   0 complete 0.9123, balanced 0.2500 (best so far)  2 epochs  0 s  ")
    assert finished_line(study.trials[1], None, balanced=True).startswith("trial   1 complete 0.5000  2 epochs")
    assert "balanced" not in finished_line(study.trials[0], None)


@pytest.mark.parametrize("balanced", [True, False])
def test_the_view_shows_the_balanced_accuracy_of_the_best_where_that_is_asked_for(
    study: optuna.Study, balanced: bool
) -> None:
    add(study, 0.91234, TrialState.COMPLETE, **{attributes.VALIDATION_BALANCED_ACCURACY: 0.25})
    shown = terminal(live=True)
    progress = Progress(study, 4, shown.console, live=True, clock=shown, balanced=balanced)
    progress.start()
    progress.stop()
    assert f"trial 0, 0.9123{', balanced 0.2500' if balanced else ''}  learning" in shown.text.getvalue()


def test_a_failed_trial_says_why(study: optuna.Study) -> None:
    add(study, None, TrialState.FAIL, **{attributes.FAILURE: "diverged", attributes.REASON: "the loss is not finite"})
    add(study, None, TrialState.FAIL)
    assert finished_line(study.trials[0], None) == "trial   0 fail     diverged: the loss is not finite"
    assert finished_line(study.trials[1], None).endswith("error: no reason was recorded")


def test_a_look_that_takes_long_is_not_repeated_before_it_is_worth_it(study: optuna.Study) -> None:
    shown, took_s = terminal(), iter([0.0, 0.03, 1.0, 1.001, 2.0, 9.0, 9.0, 9.0])
    progress = Progress(study, 4, shown.console, live=False, clock=shown, processor=lambda: next(took_s))

    def lines() -> int:
        return len(shown.text.getvalue().splitlines())

    progress.start()
    add(study, 0.1)
    progress.follow()
    add(study, 0.2)
    for _ in range(3):
        shown.now += 0.03 / MOST_SHARE / 3 - 0.01
        progress.follow()
    assert lines() == 1, "seen, and not looked at again so soon"
    shown.now += 0.1
    progress.follow()
    assert lines() == 2
    shown.now += 0.001 / MOST_SHARE + 0.01
    progress.follow()
    add(study, 0.3)
    shown.now += MOST_PAUSE_S
    progress.follow()
    assert lines() == 3, "one that takes little is soon repeated, and one that takes very long before long"


def test_without_a_terminal_each_finished_trial_is_told_exactly_once(study: optuna.Study) -> None:
    add(study, 0.1)
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    add(study, 0.7)
    add(study, None, TrialState.FAIL, **{attributes.REASON: "[red]odd[/red]"})
    study.ask()
    for _ in range(3):
        progress.update()
    add(study, None, TrialState.PRUNED)
    progress.stop()
    lines = shown.text.getvalue().splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["trial", "1", "complete"],
        ["trial", "2", "fail"],
        ["trial", "4", "pruned"],
    ]
    assert "(best so far)" in lines[0]
    assert lines[1].endswith("[red]odd[/red]")


def freeze(study: optuna.Study, value: float, epochs: int) -> optuna.Trial:
    # Not `ask`, which would take up what was frozen before.
    trial = optuna.Trial(study, study._storage.create_new_trial(study._study_id))
    trial.suggest_float("learning_rate", 0, 1)
    for epoch in range(1, epochs + 1):
        trial.report(value, epoch)
    mark(study, trial, epochs)
    return trial


def mark(study: optuna.Study, trial: optuna.Trial, epochs: int | None) -> None:
    """Let a trial be frozen after so many epochs, or run again."""
    study._storage.set_trial_system_attr(trial._trial_id, attributes.FROZEN, epochs)
    study._storage.set_trial_system_attr(trial._trial_id, attributes.CLAIM, {"id": "mine" if epochs is None else None})
    study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING if epochs is None else TrialState.WAITING)


def end(study: optuna.Study, trial: optuna.Trial) -> None:
    """Record a frozen trial as over, in the two steps that it takes."""
    study._storage.set_trial_system_attr(trial._trial_id, attributes.CLAIM, {"id": "mine", attributes.ENDS: True})
    study._storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, [0.5])


def test_without_a_terminal_a_frozen_trial_is_told_once_for_each_time_that_it_was_frozen(study: optuna.Study) -> None:
    freeze(study, 0.1, 2)
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    trial = freeze(study, 0.25, 1)
    for _ in range(3):
        progress.update()
    mark(study, trial, None)
    progress.update()
    trial.report(0.5, 2)
    mark(study, trial, 2)
    for _ in range(3):
        progress.update()
    lines = shown.text.getvalue().splitlines()
    assert [line.split("  learning_rate")[0] for line in lines] == [
        "trial   1 frozen   0.2500  1 epoch  0 s",
        "trial   1 thawed   after epoch 1",
        "trial   1 frozen   0.5000  2 epochs  0 s",
    ]


@pytest.mark.parametrize("ends", ["frozen", "complete"])
def test_a_trial_that_was_thawed_between_two_looks_is_told_to_have_been(study: optuna.Study, ends: str) -> None:
    trial = freeze(study, 0.25, 4)
    shown = terminal()
    progress = Progress(study, 9, shown.console, live=False, clock=shown)
    progress.start()
    mark(study, trial, None)
    trial.report(0.5, 5)
    if ends == "frozen":
        mark(study, trial, 5)
    else:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.COMPLETE, [0.5])
    for _ in range(2):
        progress.update()
    lines = shown.text.getvalue().splitlines()
    assert [line.split(" 0.5")[0].strip() for line in lines] == [
        "trial   0 thawed   after epoch 4",
        f"trial   0 {ends}",
    ]


@pytest.mark.parametrize(
    ("budget_epochs", "why"),
    [(5, "the epochs are spent"), (6, "none was worth another epoch"), (None, "none was worth another epoch")],
)
@pytest.mark.parametrize("live", [False, True])
def test_frozen_trials_that_end_are_told_in_one_line_when_the_last_one_has(
    study: optuna.Study, live: bool, budget_epochs: int | None, why: str
) -> None:
    study.set_user_attr(attributes.BUDGET_EPOCHS, budget_epochs)
    before = freeze(study, 0.1, 2)
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    cold = [before, *(freeze(study, 0.25, 1) for _ in range(3))]
    progress.live = live
    progress.update()
    for trial in cold:
        end(study, trial)
        progress.update()
    progress.stop()
    lines = shown.text.getvalue().splitlines()
    assert [line.split()[2] for line in lines[:-1]] == ["frozen"] * 3
    assert lines[-1] == f"4 frozen trials pruned: {why}"


def test_what_was_ended_until_a_study_was_interrupted_is_told_too(study: optuna.Study) -> None:
    one, _ = freeze(study, 0.1, 1), freeze(study, 0.1, 1)
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    end(study, one)
    progress.update()
    assert shown.text.getvalue() == ""
    progress.stop()
    assert shown.text.getvalue() == "1 frozen trial pruned: none was worth another epoch\n"


def test_a_trial_that_was_frozen_and_ended_between_two_looks_is_told_as_both(study: optuna.Study) -> None:
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    end(study, freeze(study, 0.25, 1))
    progress.update()
    assert [line.split("  learning_rate")[0] for line in shown.text.getvalue().splitlines()] == [
        "trial   0 frozen   0.2500  1 epoch  0 s",
        "1 frozen trial pruned: none was worth another epoch",
    ]


def test_a_trial_that_is_pruned_while_it_runs_has_a_line_of_its_own(study: optuna.Study) -> None:
    trial = freeze(study, 0.1, 1)
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    mark(study, trial, None)
    trial.report(0.05, 2)
    study._storage.set_trial_state_values(trial._trial_id, TrialState.PRUNED, [0.05])
    progress.stop()
    assert [line.split()[2] for line in shown.text.getvalue().splitlines()] == ["thawed", "pruned"]


def test_the_live_view_counts_the_frozen_trials_instead_of_telling_them(study: optuna.Study) -> None:
    shown = terminal(live=True)
    progress = Progress(study, 4, shown.console, live=True, clock=shown)
    progress.start()
    try:
        freeze(study, 0.25, 1)
        progress.update()
        rendered = terminal()
        rendered.console.print(progress._render(study.trials, None))
    finally:
        progress.stop()
    assert "0/4 trials, 1 frozen, 0 pruned, 0 failed" in rendered.text.getvalue()
    assert "trial   0 frozen" not in shown.text.getvalue()


def test_the_live_view_shows_the_node_of_each_trial_where_there_are_several(study: optuna.Study) -> None:
    running = study.ask()
    running.set_user_attr(attributes.WORKER, "gpu-machine/ab12cd:4711:0123abcd")
    shown = terminal(live=True)
    progress = Progress(study, 4, shown.console, live=False, clock=shown, nodes=True)
    rendered = terminal(width=80)
    rendered.console.print(progress._render(study.trials, None))
    titles, row = (line.split() for line in rendered.text.getvalue().splitlines()[-2:])
    assert titles[:2] == ["running", "node"]
    assert row[:4] == ["trial", "0", "gpu-machine/ab12cd", "0/4"]


def test_the_live_view_shows_where_the_study_stands(study: optuna.Study) -> None:
    add(study, 0.1)
    shown = terminal(live=True)
    progress = Progress(study, 4, shown.console, live=True, clock=shown)
    progress.start()
    try:
        add(study, 0.7)
        running = study.ask()
        running.suggest_float("learning_rate", 0, 1)
        running.set_user_attr(attributes.WORKER, "me")
        running.report(0.4321, 3)
        shown.now = 60.0
        progress.update()
        rendered = terminal()
        rendered.console.print(progress._render(study.trials, study.best_trial))
        text = rendered.text.getvalue()
    finally:
        progress.stop()
    assert "mnist" in text
    assert "2/4 trials, 0 frozen, 0 pruned, 0 failed" in text
    assert "60 trials/h, about 2 min left" in text
    assert "trial 2  3/4    0.4321" in " ".join(text.split(" ")) or "0.4321" in text
    assert "best so far: trial 1, 0.7000" in text
    assert "trial   1 complete 0.7000" in shown.text.getvalue()


def test_with_a_budget_of_epochs_the_pace_is_that_of_epochs(study: optuna.Study) -> None:
    study.set_user_attr(attributes.BUDGET_EPOCHS, 40)
    freeze(study, 0.5, 4)
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    freeze(study, 0.6, 6)
    shown.now = 60.0
    shown.console.print(progress._render(study.trials, None))
    assert "10/40 epochs, 0/4 trials, 2 frozen" in shown.text.getvalue()
    assert "360 epochs/h, about 5 min left" in shown.text.getvalue()


def test_before_each_worker_trained_an_epoch_the_forecast_is_what_was_expected(study: optuna.Study) -> None:
    study.set_user_attr(attributes.BUDGET_EPOCHS, 20)
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    progress.expected_epoch_s = 15.0
    one, other = freeze(study, 0.6, 1), freeze(study, 0.6, 0)
    mark(study, one, None)
    mark(study, other, None)
    shown.now = 60.0
    shown.console.print(progress._render(study.trials, None))
    assert "60 s so far, about 5 min left" in shown.text.getvalue()
    other.report(0.5, 1)
    # Two epochs and two halves in a minute.
    shown.console.print(progress._render(study.trials, None))
    assert "180 epochs/h, about 6 min left" in shown.text.getvalue()


@pytest.mark.parametrize(("width", "lines"), [(200, 1), (80, 3), (40, 5), (20, None)])
def test_the_live_view_fits_into_a_terminal_of_any_width(study: optuna.Study, width: int, lines: int | None) -> None:
    study.set_user_attr(attributes.BUDGET_EPOCHS, 40)
    shown = terminal(width=width)
    progress = Progress(study, 12, shown.console, live=False, clock=shown)
    progress.start()
    for number in range(2):
        running = study.ask()
        for parameter in ("batch_size", "learning_rate", "weight_decay", "dropout", "width"):
            running.suggest_float(parameter, 0, 1)
        running.set_user_attr(attributes.WORKER, "me")
        for epoch in (1, 2, 3):
            running.report(0.4321 + number / 10, epoch)
    shown.now = 60.0
    shown.console.print(progress._render(study.trials, None))
    text = shown.text.getvalue()
    assert all(len(line) <= width for line in text.splitlines())
    if lines is not None:
        head = text.splitlines()[:lines]
        assert " ".join(" ".join(head).replace("━", "").replace("╸", "").replace("╺", "").split()) == (
            "mnist 6/40 epochs, 0/4 trials, 0 frozen, 0 pruned, 0 failed 60 s so far, 360 epochs/h, about 6 min left"
        )
        rows = [line.split()[:4] for line in text.splitlines()[lines + 1 :]]
        assert rows == [["trial", "0", "3/12", "0.4321"], ["trial", "1", "3/12", "0.5321"]]
    assert ("batch_size" in text) == (width >= 60)
    assert ("…" in text) == (width in (20, 80)), "cut with a sign of it"


def test_a_study_s_long_name_leaves_room_for_the_bar() -> None:
    long = optuna.create_study(study_name="x" * 200)
    add(long, 0.5)
    long.set_user_attr(attributes.BUDGET, 1)
    shown = terminal(width=80)
    shown.console.print(Progress(long, 4, shown.console, live=False, clock=shown)._render(long.trials, None))
    assert shown.text.getvalue().splitlines()[0] == "x" * 53 + "…  " + "━" * 24


def test_many_running_trials_do_not_flood_the_screen(study: optuna.Study) -> None:
    for _ in range(20):
        study.ask().set_user_attr(attributes.WORKER, "me")
    shown = terminal()
    shown.console.print(Progress(study, 4, shown.console, live=False, clock=shown)._render(study.trials, None))
    assert "and 4 more" in shown.text.getvalue()
    assert "trial 15" in shown.text.getvalue()
    assert "trial 16" not in shown.text.getvalue()


def test_before_anything_finished_no_rate_is_made_up(study: optuna.Study) -> None:
    shown = terminal()
    progress = Progress(study, 4, shown.console, live=False, clock=shown)
    progress.start()
    shown.console.print(progress._render([], None))
    assert "rate not known yet" in shown.text.getvalue()
