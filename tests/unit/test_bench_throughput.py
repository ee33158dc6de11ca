"""The pure parts of the throughput benchmarks: what is trained, what is computed of it, and what is read."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import BadInput, TuningError
from studies.declaration import Overrides, make_spec, read_declaration
from tests.benchmarks.throughput import contestants, gpu, measures, memory, overhead, parsing
from tests.benchmarks.throughput.configurations import SIGNATURES, draw_configurations, draw_in_rounds
from tests.benchmarks.throughput.contestants import Outcome
from tests.benchmarks.throughput.data import Plan
from tests.benchmarks.throughput.overhead import Measured
from tests.benchmarks.throughput.task import Folder, Task
from tuning.machine.devices import CPU, Device

A_PLAN = Plan("mnist_sample", train_images=100, validation_images=50, epochs=3, configurations=draw_configurations(5))


# --- Configurations


def test_the_configurations_are_always_the_same() -> None:
    assert draw_configurations(24) == draw_configurations(24)
    assert draw_configurations(24)[:4] == draw_configurations(4)
    assert draw_configurations(1) == [
        {"batch_size": 128, "optimizer": "adam", "learning_rate": 0.00897, "dropout": 0.232}
    ]


def test_the_configurations_differ_and_lie_in_the_core_space() -> None:
    drawn = draw_configurations(200)
    assert len({tuple(one.values()) for one in drawn}) == 200
    assert {(one["batch_size"], one["optimizer"]) for one in drawn} == set(SIGNATURES)
    assert all(3e-4 <= float(one["learning_rate"]) <= 0.1 and 0.0 <= float(one["dropout"]) <= 0.6 for one in drawn)


def test_a_round_has_every_signature_once() -> None:
    drawn = [(one["batch_size"], one["optimizer"]) for one in draw_in_rounds(30)]
    assert len(drawn) == 30
    assert set(drawn[:12]) == set(drawn[12:24]) == set(SIGNATURES)
    assert len(set(drawn[24:])) == 6
    assert drawn[:12] != drawn[12:24]


def test_a_plan_is_a_study_that_tries_its_configurations_and_prunes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "spec.toml"
    file.write_text(A_PLAN.spec())
    assert tomllib.loads(A_PLAN.spec())["first"] == list(A_PLAN.configurations)
    declared = read_declaration(file)
    spec = make_spec(declared, Overrides(), plan_name="cpu", model="models.cnn:CNN", strategy=declared.strategy.name)
    assert [dict(one) for one in declared.first] == list(A_PLAN.configurations)
    assert (spec.epochs, spec.patience, spec.train_images, spec.validation_images) == (3, 3, 100, 50)
    assert (spec.strategy.name, spec.sampler.default_first) == ("none", False)


def test_the_benchmark_is_the_one_that_was_agreed_on() -> None:
    plan = overhead.FULL
    assert (len(plan.configurations), plan.epochs, plan.dataset, plan.train_images) == (24, 4, "mnist", 4_000)


def test_a_task_is_read_as_it_was_written(tmp_path: Path) -> None:
    task = Task("mnist", 10, [33.0], [78.0], 4, draw_configurations(3))
    images, labels = np.zeros((6, 2, 2, 1), np.uint8), np.arange(6)
    written = Folder(tmp_path)
    written.write(task)
    written.write_part("training", images, labels)
    assert Folder(tmp_path).task == task
    for mapped in (False, True):
        read_images, read_labels = Folder(tmp_path).part("training", mapped=mapped)
        assert np.array_equal(read_images, images)
        assert np.array_equal(read_labels, labels)


# --- Figures


def test_the_median_leaves_out_what_failed() -> None:
    assert measures.median([3.0, math.nan, 1.0, 2.0]) == 2.0
    assert math.isnan(measures.median([math.nan]))


def test_a_ratio_is_of_measurements_of_the_same_repeat() -> None:
    # The machine was half as fast in the last repeat, for both.
    assert measures.median_ratio([1.0, 1.0, 2.0], [2.0, 2.0, 4.0]) == 0.5
    assert measures.median_ratio([1.0, math.nan, 3.0], [1.0, 1.0, 1.0]) == 2.0


def test_growth_is_the_slope_over_trials() -> None:
    assert measures.slope([5.0, 7.0, 9.0, 11.0]) == pytest.approx(2.0)
    assert math.isnan(measures.slope([5.0]))


def test_growth_does_not_count_the_first_trials() -> None:
    settling = [400.0 + 10.0 * number for number in range(24)]
    trials = memory.Trials([*settling, *(700.0 + 0.5 * number for number in range(40))], [1] * 12 + [0] * 52, 1.0)
    assert trials.growth_mb == pytest.approx(0.5)
    assert trials.traces_per_trial == pytest.approx(12 / 64)
    few = memory.Trials([1.0, 2.0, 3.0, 3.0], [], 1.0)
    assert few.settling == 2
    assert math.isnan(few.traces_per_trial)


def test_results_are_compared_configuration_by_configuration() -> None:
    away, error = measures.difference({0: 0.9, 1: 0.5, 2: 0.7}, {0: 0.8, 1: 0.6, 3: 0.1})
    assert away == pytest.approx(0.0)
    assert error == pytest.approx(0.1)
    assert math.isnan(measures.difference({0: 1.0}, {0: 1.0})[0])


def test_the_arithmetic_of_a_layer_is_that_of_its_shapes() -> None:
    assert measures.layer_flops((100, 10), (None, 10)) == 2 * 100 * 10
    assert measures.layer_flops((3, 3, 16, 32), (None, 8, 8, 32)) == 2 * 9 * 16 * 32 * 64
    assert measures.training_flops(5) == 15


def test_a_table_has_aligned_columns() -> None:
    assert measures.table([["a", "b"], ["long", "c"]]) == "a     b\nlong  c"
    assert measures.shown(math.nan) == "-"


# --- What programs print


def test_the_preflight_s_seconds_are_read_where_they_are_told_best() -> None:
    printed = "preflight took 6 s: 243,178 weights by default, at most 243,178\nforecast: 24 trials in about 10 min"
    assert parsing.preflight_s("", printed) == 6.0
    assert parsing.preflight_s("2026-11-20 13:00:00,000 INFO preflight took 5.872 s", printed) == 5.872
    assert parsing.preflight_s("preflight took 2 min: ...") == 120.0
    assert parsing.preflight_s("", "study mnist") is None


def test_the_first_step_is_read_from_a_worker_s_log() -> None:
    log = (
        "2026-11-20 13:40:10,000 INFO trial 0: claim 1\n"
        "2026-11-20 13:40:11,250 INFO trial 0: first step\n"
        "2026-11-20 13:40:15,000 INFO trial 1: first step\n"
    )
    assert parsing.first_step_at(log) == datetime(2026, 11, 20, 13, 40, 11, 250_000).timestamp()
    assert parsing.first_step_at("2026-11-20 13:40:10,000 INFO trial 0: claim 1\n") is None


def test_finished_trials_are_read_from_a_worker_s_log() -> None:
    log = "INFO trial 0: claim 1\nINFO trial 0: over\nINFO trial 13: over, failed: diverged\n"
    assert parsing.finished_trials(log) == [0, 13]


def test_the_service_s_trials_must_be_those_that_were_asked_for() -> None:
    trials = [
        {"number": number, "state": "COMPLETE", "value": 0.5, "params": dict(one)}
        for number, one in enumerate(A_PLAN.configurations)
    ]
    assert contestants.trial_values(trials, A_PLAN) == dict.fromkeys(range(5), 0.5)
    wrongs: tuple[dict[str, Any], ...] = ({"state": "PRUNED"}, {"params": {}}, {"number": 5})
    for wrong in wrongs:
        with pytest.raises(TuningError, match=r"not COMPLETE with .* Look at its log\."):
            contestants.trial_values([trials[0] | wrong], A_PLAN)


# --- Reports


def words_of(text: str) -> str:
    return " ".join(text.split())


def an_outcome(wall_s: float, preflight_s: float = 0.0, value: float = 0.9) -> Outcome:
    return Outcome(wall_s, preflight_s, wall_s, {number: value + number / 100 for number in range(5)})


def test_overhead_reports_medians_ratios_and_every_value() -> None:
    measured = Measured()
    for wall_s in (106.0, 116.0, 111.0):
        measured.add("tuning", an_outcome(wall_s, 6.0))
        measured.add("bound", an_outcome(100.0))
    measured.add("optuna", an_outcome(130.0))
    measured.add("optuna", None)
    measured.add("optuna", an_outcome(150.0))
    text = str(overhead.report(measured, A_PLAN, 2, {"optuna": None, "bound": 1}))
    assert "5 trials of 3 epochs on 100 + 50 images of mnist_sample, 2 processes" in text
    assert "100.0 110.0 105.0" in words_of(text)
    assert "130.0 - 150.0" in text
    assert "tuning / bound: 1.05, at most 1.05 is wanted" in text
    assert "tuning / optuna: 0.73, at most 0.80 is wanted" in text
    assert "accuracies agree" in text


def test_overhead_says_when_results_differ() -> None:
    measured = Measured()
    measured.add("bound", Outcome(1.0, 0.0, 1.0, {0: 0.90, 1: 0.91, 2: 0.92}))
    measured.add("tuning", Outcome(1.0, 0.0, 1.0, {0: 0.50, 1: 0.52, 2: 0.51}))
    assert "other accuracies than bound, beyond noise: tuning" in overhead.report(measured, A_PLAN, 2, {}).notes[0]


def test_memory_says_what_is_not_recorded() -> None:
    text = str(memory.report(memory.Trials([400.0, 410.0, 420.0], [], 9.0), [memory.FirstStep(math.nan, 2.0, 4.0)]))
    assert text.count("not recorded") == 3
    text = str(memory.report(memory.Trials([400.0, 401.0, 402.0], [1, 0, 0], 9.0), [memory.FirstStep(7.0, 2.0, 4.0)]))
    assert "not recorded" not in text
    assert "first step / by hand 1.25 at most 1.3" in words_of(text)


def test_gpu_reports_rates_and_their_arithmetic() -> None:
    def trained(images_s: float) -> gpu.Trained:
        return gpu.Trained(images_s, 0.9, 1_000_000, "jax")

    figures = gpu.Figures(
        gpu.CASES["cnn"],
        "MNIST",
        fit=[trained(100.0), trained(90.0), trained(110.0)],
        trial=[trained(300.0)],
        together={2: [500.0], 4: [900.0], 8: [800.0]},
    )
    assert figures.packed == (4, 900.0)
    text = str(gpu.report([figures], {"bfloat16": 1e12, "float32": 1e11}, Device("gpu", "0", "H200", 1, (9, 0))))
    assert "backend jax on H200, mixed_bfloat16" in text
    assert "100 300 3.00 at least 2 900 4 3.00 at least 3" in words_of(text)
    assert "0.1 %" in text, "300 images of 3 MFLOP each, of 1 TFLOP/s"
    assert "float32" in str(gpu.report([figures], {"bfloat16": 1e12, "float32": 1e11}, Device("cpu", "cpu", CPU)))


def test_made_up_images_can_be_learned() -> None:
    images, labels = gpu.patterns(400, (4, 4, 3), 10)
    assert images.shape == (400, 4, 4, 3)
    assert images.dtype == np.uint8
    assert set(labels.tolist()) == set(range(10))
    means = np.stack([images[labels == label].mean(axis=0) for label in range(10)])
    nearest = np.argmin(((images[:, None] - means[None]) ** 2).sum(axis=(2, 3, 4)), axis=1)
    assert np.mean(nearest == labels) > 0.3


# --- Command lines


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (overhead.main, ["--repeats", "0"]),
        (overhead.main, ["--contestants", "nobody"]),
        (memory.main, ["--trials", "0"]),
        (gpu.main, ["--models", "nothing"]),
        (gpu.main, ["--at-once", "0"]),
    ],
)
def test_bad_input_is_one_line(
    main: Callable[[list[str]], int], arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == BadInput.exit_status
    error = capsys.readouterr().err
    assert arguments[0] in error
    assert error.count("\n") == 1
