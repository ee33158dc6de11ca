"""A study's split is exact, stratified, and the same for the same seed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadInput
from studies.datasets.splits import channel_histograms, channel_statistics, stratified_split

LABELS = np.repeat(np.arange(10), 100)


@st.composite
def requests(draw: st.DrawFn) -> tuple[np.ndarray, int, int | None, int]:
    sizes = draw(st.lists(st.integers(1, 40), min_size=1, max_size=8))
    labels = np.repeat(np.arange(len(sizes)), sizes)
    if len(labels) < 2:
        labels = np.array([0, 0])
    np.random.default_rng(draw(st.integers(0, 9))).shuffle(labels)
    validation = draw(st.integers(1, len(labels) - 1))
    train = draw(st.none() | st.integers(1, len(labels) - validation))
    return labels, validation, train, draw(st.integers(0, 2**32 - 1))


@given(requests())
def test_a_split_is_exact_disjoint_sorted_and_stratified_within_one(
    request_: tuple[np.ndarray, int, int | None, int],
) -> None:
    labels, validation, train, seed = request_
    split = stratified_split(labels, validation_images=validation, train_images=train, seed=seed)
    left = len(labels) - validation
    wanted = left if train is None else train
    assert len(split.validation) == validation
    assert len(split.train) == wanted
    assert len(np.intersect1d(split.train, split.validation)) == 0
    for part in (split.train, split.validation):
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
        assert 0 <= part[0] <= part[-1] < len(labels)
    classes = labels.max() + 1
    every = np.bincount(labels, minlength=classes)
    held = np.bincount(labels[split.validation], minlength=classes)
    kept = np.bincount(labels[split.train], minlength=classes)
    assert (np.abs(held - every * validation / len(labels)) < 1).all()
    assert (np.abs(kept - (every - held) * wanted / left) < 1).all()


@given(requests())
def test_the_same_seed_gives_the_same_split(request_: tuple[np.ndarray, int, int | None, int]) -> None:
    labels, validation, train, seed = request_
    first, second = (
        stratified_split(labels, validation_images=validation, train_images=train, seed=seed) for _ in range(2)
    )
    np.testing.assert_array_equal(first.train, second.train)
    np.testing.assert_array_equal(first.validation, second.validation)
    assert first.fingerprint == second.fingerprint


def test_another_seed_gives_another_split() -> None:
    prints = {
        stratified_split(LABELS, validation_images=100, train_images=500, seed=seed).fingerprint for seed in range(20)
    }
    assert len(prints) == 20


def test_fewer_training_images_are_among_the_more_and_leave_the_validation_part_alone() -> None:
    few, many, all_left = (
        stratified_split(LABELS, validation_images=100, train_images=count, seed=3) for count in (100, 500, None)
    )
    assert set(few.train) < set(many.train) < set(all_left.train)
    np.testing.assert_array_equal(few.validation, all_left.validation)


@given(
    shape=st.sampled_from([(5, 3), (2000, 2), (5, 4, 3), (3, 2, 2, 2)]),
    centre=st.sampled_from([0.0, 1e6, -1e-3]),
    seed=st.integers(0, 99),
)
def test_the_statistics_of_numbers_are_along_their_last_axis(shape: tuple[int, ...], centre: float, seed: int) -> None:
    numbers = np.random.default_rng(seed).normal(centre, 2.0, shape).astype(np.float32)
    numbers[..., 0] = centre + 0.1
    chosen = np.arange(0, shape[0], 2)
    mean, std = channel_statistics(numbers, chosen)
    axes = tuple(range(len(shape) - 1))
    np.testing.assert_allclose(mean, numbers[chosen].mean(axis=axes, dtype=np.float64), rtol=1e-9, atol=1e-12)
    expected = numbers[chosen].astype(np.float64).std(axis=axes)
    np.testing.assert_allclose(std, [1.0, *expected[1:]], rtol=1e-6)


def test_the_statistics_of_whole_numbers_do_not_depend_on_their_shape() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3), dtype=np.uint8)
    assert channel_statistics(pixels) == channel_statistics(pixels.reshape(-1, 3))
    np.testing.assert_allclose(channel_statistics(pixels), channel_statistics(pixels.astype(np.float32)))


def test_the_statistics_of_nothing_are_refused() -> None:
    with pytest.raises(BadInput, match="of no images"):
        channel_statistics(np.zeros((3, 2), np.float32), np.zeros(0, np.int64))


def test_the_split_of_a_seed_is_the_same_on_every_machine() -> None:
    split = stratified_split(np.arange(20) % 4, validation_images=4, train_images=8, seed=0)
    assert split.validation.tolist() == [2, 8, 11, 13]
    assert split.train.tolist() == [0, 1, 3, 4, 6, 15, 17, 18]


@pytest.mark.parametrize(
    ("validation", "train", "seed", "message"),
    [
        (0, None, 0, "0 validation images were asked for, of 1000"),
        (-5, None, 0, "-5 validation images"),
        (1000, None, 0, "1000 validation images were asked for, of 1000 .* from 1 to 999"),
        (100, 901, 0, "901 training images were asked for beside 100 .* from 1 to 900"),
        (100, 0, 0, "0 training images"),
        (100, 100, -1, "seed of a split is -1"),
    ],
)
def test_more_images_than_there_are_is_bad_input(validation: int, train: int | None, seed: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        stratified_split(LABELS, validation_images=validation, train_images=train, seed=seed)


def test_channel_statistics_are_those_of_the_chosen_images() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2_500, 4, 5, 3), dtype=np.uint8)
    indices = np.arange(0, 2_500, 2)
    mean, std = channel_statistics(images, indices)
    np.testing.assert_allclose(mean, images[indices].mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(std, images[indices].std(axis=(0, 1, 2)))
    np.testing.assert_allclose(channel_statistics(images)[0], images.mean(axis=(0, 1, 2)))
    assert channel_histograms(images).sum() == images.size


def test_the_deviation_of_a_constant_channel_can_be_divided_by() -> None:
    mean, std = channel_statistics(np.full((3, 2, 2, 1), 17, dtype=np.uint8))
    assert (mean, std) == ((17.0,), (1.0,))


def test_statistics_of_no_images_are_bad_input() -> None:
    with pytest.raises(BadInput, match="no images"):
        channel_statistics(np.zeros((0, 2, 2, 1), dtype=np.uint8))


@given(
    sizes=st.lists(st.integers(3, 40), min_size=2, max_size=6),
    seed=st.integers(0, 9),
    share=st.floats(0.05, 0.25),
)
def test_where_there_is_no_test_split_one_is_split_off_with_every_class_in_every_part(
    sizes: list[int], seed: int, share: float
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    held = max(len(sizes), round(share * len(labels)))
    split = stratified_split(labels, validation_images=held, train_images=None, seed=seed, test_images=held, least=1)
    assert split.test is not None
    parts = [split.train, split.validation, split.test]
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))
    assert [len(split.validation), len(split.test)] == [held, held]
    assert all(set(labels[part]) == set(labels) for part in parts)


def test_the_test_part_does_not_depend_on_the_other_parts() -> None:
    one, other = (
        stratified_split(LABELS, validation_images=count, train_images=None, seed=3, test_images=90)
        for count in (100, 400)
    )
    assert one.test is not None and other.test is not None
    assert one.test.tolist() == other.test.tolist()
    assert one.fingerprint != other.fingerprint


def test_pictures_that_were_given_to_validate_on_are_validated_on() -> None:
    split = stratified_split(
        LABELS, validation_images=50, train_images=200, seed=3, test_images=90, given_validation=50, least=1
    )
    assert split.validation.tolist() == list(range(len(LABELS) - 50, len(LABELS)))
    assert split.test is not None
    assert not set(split.validation) & (set(split.train) | set(split.test))
    assert len(split.train) == 200


def test_more_test_images_than_there_are_are_refused() -> None:
    with pytest.raises(BadInput, match="1200 test images were asked for"):
        stratified_split(LABELS, validation_images=5, train_images=None, seed=0, test_images=1200)
