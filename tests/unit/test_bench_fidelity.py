"""How short trainings rank what long ones rank: which are run, how rankings are compared, what is told. No Keras."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from storage.errors import BadInput
from tests.benchmarks.fidelity import __main__ as bench
from tests.benchmarks.fidelity.ranking import after_each_epoch, agreement, regret
from tests.benchmarks.fidelity.trainings import (
    LONG,
    SHORT,
    Fidelity,
    Job,
    Trained,
    Trainings,
    configuration,
    fidelity,
    jobs,
)
from tests.benchmarks.throughput.configurations import SIGNATURES


def a_training(number: int, of: Fidelity, accuracy: float | None) -> Trained:
    return Trained(Job("mnist", "cnn", number, of.images, of.epochs, 400), accuracy, 1.5)


# --- What is trained


def test_a_configuration_is_the_same_however_many_are_drawn_and_a_dozen_has_every_signature() -> None:
    drawn = [configuration(number) for number in range(len(SIGNATURES))]
    assert {(one["batch_size"], one["optimizer"]) for one in drawn} == set(SIGNATURES)
    assert configuration(3) == drawn[3]


def test_all_fidelities_of_a_configuration_come_before_the_next_one() -> None:
    wanted = jobs("cifar10", "deep_cnn", 2, [*SHORT, LONG], 5_000)
    assert [job.number for job in wanted] == [0] * 7 + [1] * 7
    assert [job.fidelity for job in wanted[:7]] == [*SHORT, LONG]
    assert all(one.cost < LONG.cost for one in SHORT)


def test_a_fidelity_is_read_as_it_is_shown() -> None:
    assert all(fidelity(str(one)) == one for one in (*SHORT, LONG))


@pytest.mark.parametrize("text", ["10000", "10000x", "x4", "0x4", "10000x0", "10000x4x2", "1e4x4"])
def test_what_is_no_fidelity_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match=r"IMAGESxEPOCHS|at least one image"):
        fidelity(text)


def test_what_was_trained_is_found_again_and_a_torn_line_is_not(tmp_path: Path) -> None:
    file = tmp_path / "made" / "trainings.jsonl"
    kept = Trainings(file)
    assert kept.all() == {}
    first, second = a_training(0, LONG, 0.9), a_training(1, LONG, None)
    kept.add(first)
    with file.open("a", encoding="utf-8") as stream:
        stream.write('{"job": {"dataset"')
    kept.add(second)
    assert Trainings(file).all() == {first.job: first, second.job: second}


# --- How rankings are compared

values = st.lists(st.integers(0, 5).map(float), min_size=3, max_size=9)


@given(short=values, seed=st.integers(0, 100))
def test_the_rank_correlation_is_scipys(short: list[float], seed: int) -> None:
    long = np.random.default_rng(seed).integers(0, 5, len(short)).astype(float)
    expected = stats.kendalltau(short, long).statistic
    found = agreement(np.array(short), long)
    assert found.tau == pytest.approx(expected, nan_ok=True)


def test_the_same_order_agrees_wholly_and_the_opposite_one_not_at_all() -> None:
    short, long = np.arange(10.0), np.arange(10.0) ** 2
    same, opposite = agreement(short, long), agreement(-short, long)
    assert (same.tau, same.low, same.high, same.regret) == (1.0, 1.0, 1.0, 0.0)
    assert (opposite.tau, opposite.high, opposite.regret) == (-1.0, -1.0, 81.0)


def test_the_interval_holds_the_correlation_and_is_narrower_for_more_configurations() -> None:
    generator = np.random.default_rng(0)
    long = generator.normal(size=80)
    short = long + generator.normal(size=80)
    few, many = agreement(short[:10], long[:10]), agreement(short, long)
    for one in (few, many):
        assert one.low < one.tau < one.high
    assert many.high - many.low < few.high - few.low


def test_regret_is_what_the_first_of_the_short_one_lacks_in_the_long_one() -> None:
    long = np.array([0.9, 0.8, 0.5, -math.inf])
    assert regret(np.array([1.0, 2.0, 0.0, 0.0]), long) == pytest.approx(0.1)
    assert regret(np.array([2.0, 2.0, 0.0, 0.0]), long) == pytest.approx(0.05)
    assert regret(np.array([0.0, 0.0, 0.0, 1.0]), long) == pytest.approx(0.4)  # diverged: as the worst that did not
    assert math.isnan(regret(np.array([1.0]), np.array([-math.inf])))


def test_few_configurations_have_no_correlation() -> None:
    found = agreement(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert (found.configurations, math.isnan(found.tau), found.regret) == (2, True, 0.0)


def test_a_curve_that_ends_early_is_ranked_by_its_last_value_and_one_that_never_was_comes_last() -> None:
    nan = math.nan
    curves = np.array([[0.1, 0.2, 0.9], [0.5, nan, nan], [nan, nan, nan], [0.2, 0.3, 0.4]])
    first, second = after_each_epoch(curves)
    # The ends: 0.9, 0.5, none, 0.4.
    assert first.regret == second.regret == pytest.approx(0.4)
    assert second.tau == pytest.approx(1 / 3)
    assert first.tau == pytest.approx(1 / 3)


# --- What is told


def test_a_fidelity_is_compared_on_the_configurations_that_have_a_long_training_too() -> None:
    short, long = Fidelity(100, 1), Fidelity(400, 2)
    found = [a_training(number, long, 0.5 + number / 10) for number in range(3)]
    found += [a_training(number, short, accuracy) for number, accuracy in enumerate((None, 0.2, 0.3, 0.9))]
    table = bench.table_of(found, [short], long)
    assert table.title.startswith("mnist, cnn: 3 configurations, against 400 images for 2 epochs")
    assert table.rows[1] == ["100 images, 1 epoch", "0.125", "1.00", "1.00 to 1.00", "0.0000"]


def test_recorded_curves_tell_of_epochs_alone() -> None:
    table = bench.recorded("mnist")
    assert len(table.rows) == 12
    taus = [float(row[2]) for row in table.rows[1:]]
    assert taus[-1] > taus[0]
    assert table.rows[6][1] == "0.500"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--model", "cn"], "unknown model 'cn'"),
        (["--configurations", "0"], "--configurations is 0. Give at least 1."),
        (["--fidelities", "10x"], "is no fidelity"),
    ],
)
def test_a_wrong_command_line_is_refused(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(arguments) == 2
    assert says in capsys.readouterr().err
