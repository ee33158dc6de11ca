"""The study that suits data of somebody's own follows from their number, their size and their classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadInput
from studies.datasets.info import OwnDataset
from studies.spec import Images, Plan
from studies.suited import batch_sizes, reasons, suited, with_parts

FLOWERS = OwnDataset(
    name="flowers",
    title="flowers",
    shape=(64, 64, 3),
    class_names=("daisy", "rose", "tulip"),
    natural_images=True,
    reference="/data/flowers",
    content="0" * 64,
    counts={"train": 3_000},
)
PLAN = Plan(trials=1, epochs=1)


def test_15_percent_each_are_held_out_where_the_data_bring_neither_part() -> None:
    held_out = with_parts(PLAN, FLOWERS)
    assert (held_out.test_images, held_out.validation_images) == (450, 382)


def test_what_the_data_bring_is_not_split_off() -> None:
    brought = replace(FLOWERS, counts={"train": 3_000, "test": 500}, given_validation=200)
    held_out = with_parts(PLAN, brought)
    assert (held_out.test_images, held_out.validation_images) == (None, 200)
    with pytest.raises(BadInput, match="brings 500 test pictures"):
        with_parts(Plan(trials=1, epochs=1, test_images=10), brought)
    with pytest.raises(BadInput, match="brings 200 to validate on"):
        with_parts(Plan(trials=1, epochs=1, validation_images=10), brought)


def test_a_study_file_may_say_how_many_are_held_out() -> None:
    held_out = with_parts(Plan(trials=1, epochs=1, test_images=100, validation_images=90), FLOWERS)
    assert (held_out.test_images, held_out.validation_images) == (100, 90)


@given(images=st.integers(9, 10_000_000), classes=st.integers(2, 1_000))
def test_every_class_can_be_in_every_part(images: int, classes: int) -> None:
    info = replace(FLOWERS, counts={"train": max(images, 3 * classes)}, class_names=tuple(map(str, range(classes))))
    held_out = with_parts(PLAN, info)
    assert held_out.test_images is not None and held_out.validation_images is not None
    assert classes <= held_out.test_images <= max(10_000, classes)
    assert classes <= held_out.validation_images <= max(5_000, classes)
    assert held_out.test_images + held_out.validation_images + classes <= info.images("train")


@given(images=st.integers(1, 10_000_000))
def test_an_epoch_has_16_steps_of_each_batch_size_that_is_searched_where_that_is_possible(images: int) -> None:
    sizes = batch_sizes(images)
    assert sorted(set(sizes)) == list(sizes)
    assert all(images // size >= 16 for size in sizes) or sizes == (8,)


def test_small_grey_pictures_get_the_small_network_and_others_the_deeper_one() -> None:
    digits = replace(FLOWERS, shape=(28, 28, 1), natural_images=False)
    assert suited(digits, Images()).model == "cnn"
    assert suited(FLOWERS, Images()).model == "deep_cnn"
    assert suited(FLOWERS, Images()).plan["gpu"].model == "resnet"
    assert suited(replace(digits, shape=(64, 64, 1)), Images()).model == "deep_cnn"


def test_few_pictures_are_shown_more_often_and_changed_more_than_many() -> None:
    few, many = (suited(replace(FLOWERS, counts={"train": count}), Images()) for count in (900, 200_000))
    assert few.plan["cpu"].epochs > many.plan["cpu"].epochs >= 6
    assert [few.defaults, many.defaults] == [{"augmentation": 0.5}, {"augmentation": 0.3}]
    assert few.parameters["batch_size"].choices == (8, 16, 32)
    assert many.parameters["batch_size"].choices == (32, 64, 128, 256)


def test_the_reasons_have_the_numbers() -> None:
    said = reasons(FLOWERS, suited(FLOWERS, Images()))
    assert said == [
        "deep_cnn for large or coloured pictures (64x64x3)",
        "batches of 16 or 32 or 64 or 128 for 2,168 training pictures",
        "augmentation 0.4, mirrored too",
    ]
