"""The pure parts of the benchmark in real training: what is trained, what is seen of it, and what is told."""

from __future__ import annotations

import math
import sqlite3
import tomllib
from collections.abc import Callable, Iterator
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from storage.errors import BadInput, TuningError
from studies.declaration import Overrides, make_spec, read_declaration
from studies.simulation.curve_tables import RECORDED
from studies.spec import VALIDATION_IMAGES
from tests.benchmarks.lines import append_line
from tests.benchmarks.throughput.processes import Programs
from tests.benchmarks.training import __main__ as bench
from tests.benchmarks.training import contestants, draw, outcomes, summary
from tests.benchmarks.training.outcomes import Outcome, Point
from tests.benchmarks.training.plan import Plan, plan_of
from tests.benchmarks.training.results import Result, Results
from tests.benchmarks.training.watching import LOOK_EVERY_S, NOTHING, Seen, seen_in_database, seen_in_lines, watch

A_PLAN = plan_of("mnist", budget=120, workers=2, seed=0)
A_PEER = Outcome((Point(10.0, 10, 0.5), Point(40.0, 60, 0.9), Point(90.0, 119, 0.9)), 100.0)


def an_outcome(*points: tuple[float, int, float], total_s: float = 100.0) -> Outcome:
    return Outcome(tuple(Point(*point) for point in points), total_s)


def a_result(contestant: str, outcome: Outcome = A_PEER, plan: Plan = A_PLAN) -> Result:
    return Result(contestant, plan, outcome, "2026-11-20")


# --- What is trained


@pytest.mark.parametrize(("dataset", "model"), [("mnist", "cnn"), ("cifar10", "deep_cnn")])
def test_a_plan_has_the_size_of_the_recorded_table(dataset: str, model: str) -> None:
    plan = plan_of(dataset, budget=120, workers=2, seed=0)
    assert (plan.model, plan.train_images, plan.validation_images, plan.epochs) == (model, 10_000, 5_000, 12)


def test_a_size_that_is_given_is_taken() -> None:
    plan = plan_of("mnist_sample", budget=5, workers=1, seed=3, epochs=2, train_images=100, validation_images=None)
    assert (plan.epochs, plan.train_images, plan.validation_images, plan.seed) == (2, 100, 400, 3)


def test_a_data_set_that_does_not_exist_is_refused() -> None:
    with pytest.raises(BadInput, match="nmist"):
        plan_of("nmist", budget=1, workers=1, seed=0)


@pytest.mark.parametrize(("sampler", "strategy"), [("model", "freeze_thaw"), ("tpe", "median")])
def test_a_plan_is_a_study_that_knows_nothing_before(tmp_path: Path, sampler: str, strategy: str) -> None:
    declared = read_declaration(A_PLAN.write_spec(tmp_path, sampler, strategy))
    spec = make_spec(declared, Overrides(), plan_name="cpu", model="models.cnn:CNN", strategy=declared.strategy.name)
    assert declared.first == ()
    assert (spec.sampler.name, spec.strategy.name, spec.sampler.default_first) == (sampler, strategy, False)
    assert (spec.epochs, spec.patience, spec.train_images, spec.validation_images) == (12, 12, 10_000, 5_000)
    assert tomllib.loads(A_PLAN.spec(sampler, strategy))["space"] == "core"


def test_the_images_are_those_of_the_recorded_table(tmp_path: Path) -> None:
    recorded = read_declaration(RECORDED / "mnist.toml")
    declared = read_declaration(A_PLAN.write_spec(tmp_path, "random", "none"))
    # The split follows from these.
    for name in ("dataset", "model", "space", "seed"):
        assert getattr(declared, name) == getattr(recorded, name)
    ours, theirs = declared.plan_for("cpu"), recorded.plan_for("cpu")
    images = (theirs.train_images, theirs.validation_images or VALIDATION_IMAGES)
    assert (ours.train_images, ours.validation_images) == images


def test_both_of_the_services_contestants_can_use_their_epochs_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[Any, ...]] = []
    monkeypatch.setattr(contestants, "_run_tuning", lambda *given, **named: called.append((*given, named)))
    contestants.run_ours(A_PLAN, tmp_path)
    contestants.run_tpe_median(A_PLAN, tmp_path)
    ours, peer = (given[2:] for given in called)
    assert ours == ("model", "freeze_thaw", 30, ["--budget-epochs", "120"], {})
    assert peer == ("tpe", "median", 121, [], {"stopped_at": 120})


# --- What is seen


def a_clock(step: float = LOOK_EVERY_S) -> Callable[[], float]:
    times: Iterator[float] = iter(number * step for number in range(1_000))
    return lambda: next(times)


def watched(looks: list[Seen], *, budget: float = math.inf) -> Outcome:
    found = iter(looks)
    left = [len(looks)]

    def over() -> bool:
        left[0] -= 1
        return left[0] == 0

    return watch(lambda: next(found), over, budget=budget, began=0.0, clock=a_clock(1.0), sleep=lambda seconds: None)


def test_a_point_is_kept_for_each_look_that_finds_more_epochs() -> None:
    outcome = watched([NOTHING, Seen(1, 0.5), Seen(1, 0.5), Seen(4, 0.4), Seen(5, 0.6)])
    assert outcome.points == (Point(1.0, 1, 0.5), Point(3.0, 4, 0.4), Point(4.0, 5, 0.6))
    assert (outcome.total_s, outcome.epochs, outcome.best) == (4.0, 5, 0.6)


def test_what_was_reported_last_is_seen_after_the_end() -> None:
    assert watched([Seen(12, 0.9)]).epochs == 12


def test_nobody_waits_for_epochs_past_the_budget() -> None:
    outcome = watched([Seen(11, 0.5), Seen(12, 0.6), Seen(13, 0.9)], budget=12)
    assert (outcome.epochs, outcome.best, outcome.total_s) == (12, 0.6, 1.0)


def test_a_contestant_that_reported_nothing_has_no_best() -> None:
    outcome = watched([NOTHING])
    assert (outcome.epochs, outcome.best, outcome.reached(0.0)) == (0, -math.inf, None)


def test_the_database_is_read_while_it_is_made_and_afterwards(tmp_path: Path) -> None:
    file = tmp_path / "studies.db"
    assert seen_in_database(file) == NOTHING
    assert not file.exists()
    with closing(sqlite3.connect(file)) as connection:
        assert seen_in_database(file) == NOTHING
        connection.execute("CREATE TABLE trial_intermediate_values (trial_id, step, intermediate_value)")
        connection.commit()
        assert seen_in_database(file) == NOTHING
        rows = [(1, 1, 0.25), (1, 2, 0.75), (2, 1, None)]
        connection.executemany("INSERT INTO trial_intermediate_values VALUES (?, ?, ?)", rows)
        connection.commit()
    assert seen_in_database(file) == Seen(3, 0.75)


def test_a_line_counts_when_it_is_whole_and_within_the_budget(tmp_path: Path) -> None:
    file = tmp_path / "epochs.txt"
    assert seen_in_lines(file, 10) == NOTHING
    file.write_text("0.5\nnan\n0.75\n0.9")
    assert seen_in_lines(file, 10) == Seen(3, 0.75)
    assert seen_in_lines(file, 2) == Seen(2, 0.5)


def test_a_search_is_over_when_its_workers_are_or_anything_failed() -> None:
    def over(chief: int | None, *workers: int | None) -> bool:
        named = [("chief", chief), *((f"tuner{number}", status) for number, status in enumerate(workers))]
        running = [(name, SimpleNamespace(poll=lambda status=status: status)) for name, status in named]
        return contestants._over(Programs(Path(), cast("Any", running)), ["tuner0", "tuner1"])

    assert not over(None, None, 0)
    assert over(None, 0, 0)
    assert over(None, None, 1)
    assert over(1, None, None)


def test_a_trial_that_raised_spoils_the_search(tmp_path: Path) -> None:
    folder = tmp_path / "peer" / "trial_0000"
    folder.mkdir(parents=True)
    (folder / "trial.json").write_text('{"trial_id": "0000", "status": "RUNNING", "message": null}')
    contestants._require_valid_trials(tmp_path)
    (folder / "trial.json").write_text('{"trial_id": "0000", "status": "INVALID", "message": "out of paper"}')
    with pytest.raises(TuningError, match="out of paper"):
        contestants._require_valid_trials(tmp_path)


# --- What is computed


def test_an_accuracy_is_reached_at_its_first_point() -> None:
    first = A_PEER.reached(0.9)
    assert first is not None
    assert (first.seconds, first.epochs) == (40.0, 60)
    assert A_PEER.reached(0.91) is None


def test_an_accuracy_in_half_as_many_digits_is_the_same() -> None:
    single = 0.8999999761581421  # 0.9 as a 32-bit number
    assert an_outcome((1.0, 1, single)).reached(0.9) is not None


def test_the_best_is_what_was_known_at_the_time() -> None:
    assert [A_PEER.best_at(seconds) for seconds in (9.0, 10.0, 50.0)] == [-math.inf, 0.5, 0.9]


def test_a_race_is_to_the_peers_final_best() -> None:
    found = outcomes.race(an_outcome((5.0, 4, 0.6), (20.0, 30, 0.92)), A_PEER)
    assert found is not None
    assert found.target == 0.9
    assert found.share_of_total == (20.0 / 100.0, 30 / 119)
    assert found.share_of_first == (20.0 / 40.0, 30 / 60)


def test_a_race_that_is_lost_has_no_shares() -> None:
    found = outcomes.race(an_outcome((5.0, 4, 0.6)), A_PEER)
    assert found is not None
    assert found.ours is None
    assert all(math.isnan(share) for share in (*found.share_of_total, *found.share_of_first))


def test_there_is_no_race_with_a_peer_that_found_nothing() -> None:
    assert outcomes.race(A_PEER, an_outcome()) is None


def test_a_picture_begins_where_all_had_something() -> None:
    slow = an_outcome((30.0, 4, 0.1), (60.0, 8, 0.8))
    assert outcomes.lowest_shown([A_PEER, slow]) == 0.5
    assert outcomes.lowest_shown([slow]) == 0.1


# --- What is kept and told


def test_a_run_is_found_again_by_its_plan(tmp_path: Path) -> None:
    results = Results(tmp_path)
    assert results.find("ours", A_PLAN) is None
    results.add(a_result("ours"))
    results.add(a_result("ours", plan=replace(A_PLAN, seed=1)))
    results.add(a_result("ours", an_outcome((1.0, 1, 0.7))))
    assert Results(tmp_path).find("ours", A_PLAN) == a_result("ours", an_outcome((1.0, 1, 0.7)))
    assert results.find("ours", replace(A_PLAN, budget=60)) is None
    assert results.find("tpe_median", A_PLAN) is None


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    results = Results(tmp_path)
    results.add(a_result("ours"))
    with (tmp_path / "mnist" / "ours.jsonl").open("a") as stream:
        stream.write('{"contestant": "ours", "pl\n')
    assert results.find("ours", A_PLAN) == a_result("ours")


def test_the_tables_say_when_ours_had_each_peers_best() -> None:
    ours = an_outcome((5.0, 4, 0.6), (20.0, 30, 0.92), total_s=80.0)
    better = an_outcome((50.0, 60, 0.95))
    text = str(
        summary.report([a_result("ours", ours), a_result("tpe_median"), a_result("keras_tuner_hyperband", better)])
    )
    lines = [line.split() for line in text.splitlines()]
    assert ["ours", "0.9200", "80.0", "30", "20.0", "30", "2026-11-20"] in lines
    assert ["tpe_median", "0.9000", "20.0", "0.20", "0.50", "30", "0.25", "0.50"] in lines
    assert ["keras_tuner_hyperband", "0.9500", "not", "reached"] in lines


def test_one_contestant_alone_has_a_table_too() -> None:
    assert "tpe_median" in str(summary.report([a_result("tpe_median")]))
    assert str(summary.report([a_result("ours", an_outcome())])).splitlines()[-1].split()[:2] == ["ours", "none"]


def test_a_picture_has_a_panel_for_each_data_set(tmp_path: Path) -> None:
    cifar = plan_of("cifar10", budget=120, workers=2, seed=0)
    none = an_outcome()
    draw.save(tmp_path / "a.png", [a_result("ours"), a_result("ours", plan=cifar), a_result("tpe_median", none, cifar)])
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


# --- The command


def run(
    monkeypatch: pytest.MonkeyPatch, folder: Path, contestant: contestants.Contestant, *arguments: str
) -> tuple[int, list[str]]:
    trained: list[str] = []

    def recorded(plan: Plan, scratch: Path) -> Outcome:
        trained.append(plan.dataset)
        return contestant(plan, scratch)

    monkeypatch.setattr(bench, "RESULTS", folder)
    monkeypatch.setattr(bench, "prepared", lambda dataset: None)
    monkeypatch.setattr(bench, "scratch", lambda: nullcontext(folder))
    monkeypatch.setattr(bench, "CONTESTANTS", {"ours": recorded})
    return bench.main(arguments), trained


def test_a_table_is_printed_again_without_training(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, tmp_path, lambda plan, folder: A_PEER) == (0, ["mnist", "cifar10"])
    first = capsys.readouterr().out
    assert run(monkeypatch, tmp_path, lambda plan, folder: A_PEER) == (0, [])
    assert capsys.readouterr().out == first
    assert run(monkeypatch, tmp_path, lambda plan, folder: A_PEER, "--again", "--datasets", "mnist") == (0, ["mnist"])


def test_a_contestant_that_fails_leaves_the_others_their_runs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails_on_mnist(plan: Plan, folder: Path) -> Outcome:
        if plan.dataset == "mnist":
            raise TuningError("no luck")
        return A_PEER

    assert run(monkeypatch, tmp_path, fails_on_mnist) == (1, ["mnist", "cifar10"])
    printed = capsys.readouterr()
    assert "no luck" in printed.err
    assert "cifar10: deep_cnn" in printed.out


@pytest.mark.parametrize(
    "arguments", [("--budget", "0"), ("--seed", "-1"), ("--datasets", "nmist"), ("--contestants", "us")]
)
def test_what_cannot_be_used_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, str]
) -> None:
    assert run(monkeypatch, tmp_path, lambda plan, folder: A_PEER, *arguments) == (2, [])
    assert arguments[1] in capsys.readouterr().err


def test_a_line_after_a_torn_one_stands_by_itself(tmp_path: Path) -> None:
    file = tmp_path / "made" / "results.jsonl"
    append_line(file, {"number": 1})
    with file.open("a") as stream:
        stream.write('{"number": ')  # killed here
    append_line(file, {"number": 2})
    assert file.read_text().splitlines() == ['{"number": 1}', '{"number": ', '{"number": 2}']
