"""A study that fits a time."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studies.course import Course
from studies.phases.sizing import (
    CONFIRM_SHARE,
    SEARCH_SHARE,
    Fidelity,
    Pace,
    Sized,
    confirmation_s,
    epochs_in,
    sized,
)

# An epoch of CIFAR-10 takes 50 s.
PACE = Pace(begin_s=8, start_s=5, image_s=1e-3, judge_s=5)
IMAGES = 45_000


def of(minutes: float, pace: Pace = PACE, **more: Any) -> Sized:
    return sized(60 * minutes, 20, pace, **{"images": IMAGES, "devices": 1, "share": 1 / 3, **more})


def test_most_of_the_time_is_the_winners() -> None:
    half_an_hour = of(30)
    assert half_an_hour.fidelity == Fidelity(5_625, 4)
    assert half_an_hour.trials >= 12
    assert half_an_hour.course.search_s == 450
    assert half_an_hour.refit_epochs > 18


def test_with_more_time_configurations_are_compared_on_more_images_for_longer() -> None:
    found = [of(minutes).fidelity for minutes in (15, 60, 240, 960)]
    trained = [(one.images or IMAGES) * one.epochs for one in found]
    assert trained == sorted(trained)
    assert found[-1] == Fidelity(None, 30)


def test_where_there_is_no_time_to_rank_anything_all_of_it_is_the_trainings() -> None:
    short = of(4)
    assert (short.trials, short.budget_epochs, short.course.search_s, short.course.confirm) == (1, 1, None, None)
    assert short.refit_epochs == epochs_in(220, PACE, IMAGES)


def test_a_winner_is_trained_on_all_images_unless_it_was_said_on_which() -> None:
    assert of(30).course.all_images
    said = of(30, fixed=Fidelity(1_000, 3))
    assert (said.fidelity, said.course.all_images) == (Fidelity(1_000, 3), False)


def test_one_that_trains_each_to_its_end_has_fewer_trials_for_the_same_epochs() -> None:
    freezing, whole = of(60), of(60, share=1, fixed=of(60).fidelity)
    assert whole.trials < freezing.trials
    assert whole.budget_epochs == freezing.budget_epochs


def test_an_epoch_that_does_not_fit_is_trained_all_the_same() -> None:
    assert epochs_in(1.0, PACE, IMAGES) == 1


@given(
    time_s=st.floats(60, 1e6),
    spent_s=st.floats(0, 60),
    pace=st.builds(
        Pace,
        begin_s=st.floats(1, 60),
        start_s=st.floats(0, 60),
        image_s=st.floats(1e-7, 1),
        judge_s=st.floats(0, 600),
    ),
    images=st.integers(1, 10**6),
    devices=st.integers(1, 64),
    share=st.floats(0.05, 1),
    fixed=st.none() | st.builds(Fidelity, st.none() | st.integers(1, 1000), st.integers(1, 100)),
)
def test_whatever_is_measured_it_fits(
    time_s: float, spent_s: float, pace: Pace, images: int, devices: int, share: float, fixed: Fidelity | None
) -> None:
    found = sized(time_s, spent_s, pace, images=images, devices=devices, share=share, fixed=fixed)
    fidelity, course = found.fidelity, found.course
    assert fixed in (None, fidelity)
    assert fidelity.images is None or fidelity.images >= 1
    assert fixed is not None or fidelity.images is None or fidelity.images < images
    assert 1 <= found.trials <= found.budget_epochs
    assert found.budget_epochs >= found.trials + fidelity.epochs - 1, "the best is trained to its end"
    assert course.time_s == time_s
    assert course.refit_epochs == 0
    confirming_s = confirmation_s(pace, course.confirm, fidelity, images, devices)
    assert confirming_s <= CONFIRM_SHARE * time_s
    if found.trials == 1:
        assert course.search_s is None
        assert course.confirm is None
    else:
        assert course.search_s == max(spent_s, SEARCH_SHARE * time_s)
        epoch_s = pace.epoch_s(fidelity.images or images)
        assert found.budget_epochs * epoch_s / devices <= SEARCH_SHARE * time_s
    begun_s = course.search_s or spent_s
    trained_s = found.refit_epochs * pace.epoch_s(images)
    assert found.refit_epochs == 1 or begun_s + confirming_s + trained_s <= time_s


@given(
    st.builds(
        Course,
        confirm=st.none() | st.tuples(st.integers(2, 9), st.integers(2, 9)),
        refit_epochs=st.none() | st.integers(0, 500),
        time_s=st.none() | st.floats(1, 1e9),
        search_s=st.none() | st.floats(1, 1e9),
        all_images=st.booleans(),
    )
)
def test_a_course_is_read_as_it_was_stored(course: Course) -> None:
    assert Course.stored(course.document()) == course


@pytest.mark.parametrize("confirm", [[1, 2], [2], ["a", "b"], {"top": 2}, [2, 2, 2], [True, True]])
def test_what_another_program_wrote_into_a_course_counts_as_not_there(confirm: Any) -> None:
    document = {"confirm": confirm, "refit_epochs": "many", "time_s": math.nan, "search_s": None, "all_images": 1}
    assert Course.stored(document) == Course()
