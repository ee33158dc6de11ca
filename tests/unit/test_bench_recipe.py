"""What parts of networks and recipes are worth is told as it was trained. No Keras."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.benchmarks.recipe import __main__ as recipe
from tests.benchmarks.recipe.trainings import Cell, Trained, Trainings
from tests.benchmarks.recipe.variants import VARIANTS


def training(variant: str, seed: int, accuracy: float) -> Trained:
    return Trained(Cell(variant, "cifar10", 10_000, 5_000, 8, seed), accuracy, "2026-11-30")


def test_each_variant_is_compared_with_the_first_of_its_model_seed_by_seed() -> None:
    found = [
        training("fast", 0, 0.70), training("fast-relu", 0, 0.68), training("deep", 0, 0.75),
        training("fast", 1, 0.72), training("fast-relu", 1, 0.71),
    ]  # fmt: skip
    fast, deep = recipe.report_of(found).tables
    assert fast.title.startswith("fast_cnn, 16 wide, cifar10: 8 epochs of 10,000 images, judged by 5,000")
    assert [row[1:] for row in fast.rows[1:]] == [
        ["0.7100", "0.7000, 0.7200", ""],
        ["0.6950", "0.6800, 0.7100", "-1.5%"],
    ]
    assert [row[1:] for row in deep.rows[1:]] == [["0.7500", "0.7500", ""]]


def test_a_difference_is_of_the_seeds_that_both_have() -> None:
    found = [training("fast", 0, 0.70), training("fast-relu", 0, 0.68), training("fast-relu", 1, 0.50)]
    (table,) = recipe.report_of(found).tables
    assert table.rows[2][3] == "-2.0%"
    (alone,) = recipe.report_of([training("fast-relu", 0, 0.68)]).tables
    assert alone.rows[1][3] == ""


def test_what_was_trained_is_found_again_and_a_torn_line_is_not(tmp_path: Path) -> None:
    kept = Trainings(tmp_path / "made" / "trainings.jsonl")
    one = training("deep", 1, 0.5)
    assert kept.find(one.cell) is None
    kept.add(one)
    with (tmp_path / "made" / "trainings.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"cell": {"variant": "deep"')
    kept.add(training("deep", 2, 0.6))
    assert kept.find(one.cell) == one
    assert kept.find(training("deep", 2, 0.0).cell) == training("deep", 2, 0.6)
    assert kept.find(training("deep", 3, 0.0).cell) is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--variants", "fats"], "unknown variant 'fats'. Did you mean 'fast'"),
        (["--seeds", "0"], "--seeds is 0. Give at least 1."),
    ],
)
def test_a_wrong_command_line_is_refused_in_one_line(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recipe.main(arguments) == 2
    assert says in capsys.readouterr().err


def test_every_model_has_a_first_variant_and_all_differ_from_it() -> None:
    for model in {variant.model for variant in VARIANTS.values()}:
        own = [variant for variant in VARIANTS.values() if variant.model == model]
        assert len({(tuple(sorted(one.defaults.items())), one.swaps) for one in own}) == len(own) > 1
        assert len({one.width for one in own}) == 1
