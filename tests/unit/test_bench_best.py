"""What the benchmark of whole times runs, keeps and tells; and how the peers' trainings are sized. No Keras."""

from __future__ import annotations

import os
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadInput, TuningError
from studies.declaration import catalog_names
from studies.spec import HYPERMODELS
from tests.benchmarks.best import __main__ as best
from tests.benchmarks.best import contestants, sizing
from tests.benchmarks.best.cells import CELLS, CONTESTANTS, NETWORKS, Cell, Outcome, Outcomes, chosen
from tests.benchmarks.best.contestants import Found, told_of_phases, tuned_s
from tests.benchmarks.best.quiet import Cpu, Watched, others_share, watched
from tests.benchmarks.best.sizing import Pace, epochs_that_fit, hyperband_epochs, trial_epochs
from tests.benchmarks.best.summary import report_of
from tests.benchmarks.best.task import Answer, Task
from tests.benchmarks.throughput.processes import ProgramFailed, programs

A_CELL = Cell("mnist", 5, "ours", 0)


def an_outcome(
    cell: Cell = A_CELL, accuracy: float = 0.99, wall_s: float = 290.0, others: float = 0.0, machine: str = "two cores"
) -> Outcome:
    return Outcome(cell, accuracy, wall_s, others, "cnn", 40, "search: 3 trials", "2026-11-30", machine)


# --- Which cells


def test_all_that_is_asked_for_is_run_and_nothing_twice() -> None:
    assert chosen(None) == list(CELLS)
    assert len({cell.name for cell in CELLS}) == len(CELLS)
    for dataset, minutes, seeds in (("cifar10", 15, 2), ("mnist", 5, 3)):
        own = [cell for cell in CELLS if (cell.dataset, cell.minutes) == (dataset, minutes)]
        assert {(cell.contestant, cell.seed) for cell in own} == {
            (name, seed) for name in CONTESTANTS for seed in range(seeds)
        }
    for dataset, minutes in (("cifar10", 30), ("mnist", 10), ("cifar100", 30), ("fashion_mnist", 15)):
        assert {Cell(dataset, minutes, "ours", 0), Cell(dataset, minutes, "defaults", 0)} < set(CELLS)


def test_cells_are_chosen_by_the_beginning_of_their_name() -> None:
    assert {cell.contestant for cell in chosen(["mnist/5"])} == set(CONTESTANTS)
    assert [cell.seed for cell in chosen(["mnist/5/optuna"])] == [0, 1, 2]
    assert chosen(["mnist/5/optuna/2", "mnist/5/optuna/"]) == [Cell("mnist", 5, "optuna", seed) for seed in (2, 0, 1)]


def test_any_cell_can_be_named_in_full() -> None:
    assert chosen(["cifar10/2.5/ours/7"]) == [Cell("cifar10", 2.5, "ours", 7)]
    assert all(chosen([cell.name]) == [cell] for cell in CELLS)


@pytest.mark.parametrize(
    "name", ["mnist/1", "nmist/5/ours/0", "mnist/5/us/0", "mnist/x/ours/0", "mnist/0/ours/0", "mnist/inf/ours/0", ""]
)
def test_what_is_no_cell_is_refused(name: str) -> None:
    with pytest.raises(BadInput, match="no cell is called"):
        chosen([name])


def test_every_data_set_has_a_network_of_the_project() -> None:
    assert set(NETWORKS) == set(catalog_names())
    assert set(NETWORKS.values()) <= set(HYPERMODELS)
    assert set(contestants.RUNNERS) == set(CONTESTANTS)


# --- What is kept


def test_an_outcome_is_kept_as_soon_as_it_is_there_and_only_what_is_missing_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "made" / "outcomes.jsonl"
    cells = [Cell("mnist", 5, name, 0) for name in ("ours", "optuna", "defaults")]
    ran: list[str] = []

    def run(cell: Cell) -> Outcome:
        if cell.contestant == "defaults" and len(ran) < 3:
            raise KeyboardInterrupt
        ran.append(cell.contestant)
        return an_outcome(cell)

    monkeypatch.setattr(best, "prepared", lambda dataset: None)
    monkeypatch.setattr(best, "_run", run)
    with pytest.raises(KeyboardInterrupt):
        best.run_missing(cells, Outcomes(file), anyway=True)
    assert ran == ["ours", "optuna"]
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"cell": {"dataset": "mnist"')  # torn by a kill
    ran.append("again")
    found = best.run_missing(cells, Outcomes(file), anyway=True)
    assert ran == ["ours", "optuna", "again", "defaults"]
    assert [one.cell for one in found] == cells
    assert Outcomes(file).find(Cell("mnist", 5, "ours", 1)) is None


def test_the_last_outcome_of_a_cell_counts_and_one_of_an_older_form_does_not(tmp_path: Path) -> None:
    kept = Outcomes(tmp_path / "outcomes.jsonl")
    kept.add(an_outcome(accuracy=0.5))
    kept.add(an_outcome(accuracy=0.6))
    with (tmp_path / "outcomes.jsonl").open("a", encoding="utf-8") as stream:
        stream.write('{"cell": {"dataset": "mnist"}, "accuracy": 1}\n[]\n')
    assert kept.find(A_CELL) == an_outcome(accuracy=0.6)


def test_a_cell_that_fails_does_not_cost_the_others_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(cell: Cell, folder: Path) -> Found:
        raise TuningError("it broke.")

    def works(cell: Cell, folder: Path) -> Found:
        return Found(0.9, 10.0, "cnn", 3, "trained")

    monkeypatch.setattr(best, "prepared", lambda dataset: None)
    monkeypatch.setattr(best, "RUNNERS", {"ours": fails, "optuna": works})
    monkeypatch.setattr(best, "scratch", lambda: nullcontext(tmp_path))
    cells = [Cell("mnist", 5, "ours", 0), Cell("mnist", 5, "optuna", 0)]
    found = best.run_missing(cells, Outcomes(tmp_path / "kept.jsonl"), anyway=True)
    assert [(one.cell, one.accuracy) for one in found] == [(cells[1], 0.9)]
    assert "mnist/5/ours/0 failed: it broke." in capsys.readouterr().err


def test_a_contestant_that_hangs_is_ended(tmp_path: Path) -> None:
    with programs(tmp_path) as running:
        sleeper = running.start("sleeper", [sys.executable, "-c", "import time; time.sleep(60)"], os.environ)
        with pytest.raises(ProgramFailed, match="sleeper has not ended after 0 s"):
            running.wait(within_s=0.0)
    assert sleeper.returncode is not None


def test_a_cell_is_left_out_while_other_work_is_on_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(best, "prepared", lambda dataset: None)
    monkeypatch.setattr(best, "share_of_others_now", lambda: 0.4)
    assert best.run_missing([A_CELL], Outcomes(tmp_path / "kept.jsonl"), anyway=False) == []
    assert "left out, other work has 40% of the cores" in capsys.readouterr().err


def test_what_neither_idled_nor_worked_for_us_was_others() -> None:
    before = Cpu(all=100.0, busy=10.0, own=5.0)
    assert others_share(before, Cpu(all=120.0, busy=25.0, own=15.0)) == pytest.approx(0.25)
    assert others_share(before, Cpu(all=120.0, busy=12.0, own=15.0)) == 0.0  # clocks tick unlike
    assert others_share(before, before) == 0.0
    looks = iter([before, Cpu(all=110.0, busy=20.0, own=5.0)])
    with watched(lambda: next(looks)) as found:
        assert found.share == Watched.share
    assert found.share == 1.0


# --- How long trainings are


@given(
    left_s=st.floats(1.0, 4_000.0),
    start_s=st.floats(0.0, 20.0),
    step_s=st.floats(1e-3, 0.5),
    validation_s=st.floats(0.0, 20.0),
    steps=st.integers(1, 2_000),
)
def test_a_training_for_the_rest_of_the_time_fits_and_one_epoch_more_would_not(
    left_s: float, start_s: float, step_s: float, validation_s: float, steps: int
) -> None:
    pace = Pace(start_s, step_s, validation_s)
    epochs = epochs_that_fit(left_s, pace, steps)
    assert epochs >= 1
    usable_s = (left_s - start_s) * (1.0 - sizing.MARGIN)
    assert epochs == 1 or epochs * pace.epoch_s(steps) <= usable_s * (1 + 1e-9)
    assert (epochs + 1) * pace.epoch_s(steps) > usable_s * (1 - 1e-9)


def test_the_test_split_is_read_in_what_is_kept_back() -> None:
    assert Pace(0.0, 0.1, 2.0).test_s(10_000, 5_000) == pytest.approx(sizing.ENDING_S + 8.0)


def test_an_iteration_of_hyperband_fits_into_the_search() -> None:
    # Three trials of 1 epoch of which one goes on to 3, then two of 3.
    assert sizing.iteration_epochs(3) == 3 + 2 + 6
    # 9 of 1, 3 of them to 3, 1 to 9; 5 of 3, 2 of them to 9; 3 of 9.
    assert sizing.iteration_epochs(9) == 21 + 27 + 27
    assert [hyperband_epochs(epochs) for epochs in (0.5, 11.0, 26.0, 50.0, 80.0, 1_000.0)] == [3, 3, 4, 8, 9, 10]


def test_tpe_has_trials_after_its_random_ones_where_there_is_time() -> None:
    assert [trial_epochs(epochs) for epochs in (0.0, 14.0, 60.0, 90.0, 1_000.0)] == [3, 3, 4, 6, 10]


def test_tune_leaves_what_export_needs() -> None:
    assert [tuned_s(60.0 * minutes) for minutes in (15, 5, 0.6)] == [880, 280, 24]


# --- What is told


def test_a_task_is_searched_for_half_of_its_time_and_read_as_it_was_written(tmp_path: Path) -> None:
    task = Task("home", "mnist", "cnn", 0, began_at=100.0, ends_at=400.0)
    assert task.searched_until == 250.0
    task.write(tmp_path / "task.json")
    assert Task.read(tmp_path / "task.json") == task


def test_an_answer_says_what_was_done_and_when_it_was_cut_short(tmp_path: Path) -> None:
    answer = Answer(0.9, 0.91, 8, 10, {"batch_size": 64, "learning_rate": 0.00123456, "tuner/epochs": 3}, "5 trials")
    answer.write(tmp_path / "answer.json")
    assert Answer.read(tmp_path / "answer.json") == answer
    assert answer.told == ("5 trials; trained for 8 epochs, cut short of 10 with batch_size 64, learning_rate 0.00123")
    assert Answer(0.9, 0.9, 1, 1, {}).told == "trained for 1 epoch"


def test_each_phase_of_the_service_is_told() -> None:
    trials = [
        {"phase": "search", "epochs": 4, "seconds": 10.0},
        {"phase": "search", "epochs": 2, "seconds": None},
        {"phase": "refit", "epochs": 30, "seconds": 200.4},
    ]
    assert told_of_phases(trials) == (
        "search: 2 trials, 6 epochs, 10 s of training; refit: 1 trial, 30 epochs, 200 s of training"
    )


def test_contestants_are_compared_with_ours_seed_by_seed() -> None:
    found = [
        an_outcome(Cell("mnist", 5, "ours", 0), 0.990), an_outcome(Cell("mnist", 5, "ours", 1), 0.992),
        an_outcome(Cell("mnist", 5, "optuna", 1), 0.991, wall_s=301.0, others=0.2),
        an_outcome(Cell("mnist", 10, "defaults", 0), 0.9, machine="eight cores"),
    ]  # fmt: skip
    report = report_of(found, [Cell("mnist", 10, "ours", 0)])
    five, ten, done = report.tables
    assert five.title == "mnist, 5 minutes"
    assert five.rows[1:] == [
        ["ours", "0.9910", "0.9900, 0.9920", "", "290", "cnn"],
        ["optuna", "0.9910", "0.9910", "-0.0010", "301", "cnn"],
    ]
    assert ten.rows[1:] == [["defaults", "0.9000", "0.9000", "", "290", "cnn"]]
    assert len(done.rows) == 5 and done.detail
    assert report.notes == [
        "Over their time: mnist/5/optuna/1.",
        "Other work had more than 5% of the cores during mnist/5/optuna/1.",
        "On two cores: mnist/5/ours/0, mnist/5/ours/1, mnist/5/optuna/1.",
        "On eight cores: mnist/10/defaults/0.",
        "Not run yet: mnist/10/ours/0.",
    ]
    assert report.figures["mnist, 5 min, ours"] == pytest.approx(0.991)


def test_a_wrong_command_line_is_refused_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert best.main(["--cells", "mnist/5/us/0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
