"""What people read and write: times, and parameters."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuning.words import counted, dataset_in_words, duration, parameters_in_words, parse_duration, value_in_words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (99, "99 s"), (300, "5 min"), (12_000, "3 h 20 min"), (190_000, "2 d 4 h")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90", 90),
        ("90s", 90),
        ("30m", 1800),
        ("1.5h", 5400),
        ("2d", 172_800),
        (" 5M ", 300),
        ("0.5s", 0.5),
        ("1e2", 100),
    ],
)
def test_a_duration_is_understood(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text", ["", " ", "m", "0", "0s", "-5m", "5x", "5 minutes", "nan", "inf", "infs", "1e308d", "1h30m"]
)
def test_what_is_no_positive_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_duration(text)


@given(st.text(max_size=8))
def test_any_text_is_a_positive_finite_duration_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert seconds > 0
    assert math.isfinite(seconds)


@given(st.floats(0.001, 1e6), st.sampled_from(["s", "m", "h", "d"]))
def test_units_multiply(number: float, unit: str) -> None:
    assert parse_duration(f"{number!r}{unit}") == number * {"s": 1, "m": 60, "h": 3600, "d": 86400}[unit]


def test_values_have_no_digits_that_mean_nothing() -> None:
    assert value_in_words(0.012345678) == "0.01235"
    assert value_in_words(32) == "32"
    assert value_in_words("adam") == "adam"
    assert parameters_in_words({"learning_rate": 0.012345678, "units": 32}) == "learning_rate 0.01235  units 32"


def test_one_of_something_is_no_plural() -> None:
    assert [counted(number, "trial") for number in (0, 1, 2, 1200)] == [
        "0 trials",
        "1 trial",
        "2 trials",
        "1,200 trials",
    ]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("mnist", "mnist"),
        ("/home/me/pictures/flowers", "~/pictures/flowers"),
        ("hf:/home/me/saved", "hf:~/saved"),
        ("/home/me", "~"),
        ("/home/men/flowers", "/home/men/flowers"),
        ("/data/a\nb", "/data/a\\nb"),
    ],
)
def test_where_data_of_ones_own_are(reference: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert dataset_in_words(reference) == words


def test_who_has_no_home_is_shown_whole_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/")
    assert dataset_in_words("/data/flowers") == "/data/flowers"
