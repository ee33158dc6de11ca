"""Attributes are read under today's name or the former one, where they are this service's and of the type it writes."""

from __future__ import annotations

import math
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from storage import attributes

SPEC = {"dataset": "mnist"}


def keys() -> list[str]:
    """Every key of a user attribute on the page."""
    values = [value for name, value in vars(attributes).items() if name.isupper() and isinstance(value, str)]
    others = {attributes.PREFIX, attributes.OPTUNA_ARTIFACT, attributes.FIXED_PARAMETERS, attributes.CHECKPOINT}
    classes = {attributes.DIVERGED, attributes.OUT_OF_MEMORY, attributes.ENDS, attributes.SEARCH}
    return [value for value in values if value not in others | classes]


def test_every_key_has_the_prefix() -> None:
    assert len(keys()) > 20
    assert all(key.startswith(attributes.PREFIX) for key in keys())


@pytest.mark.parametrize(
    ("value", "kind", "read"),
    [
        (3, int, 3),
        (3, float, 3.0),
        (3.5, float, 3.5),
        (3.5, int, None),
        ("12/50", int, None),
        ([1, 2], int, None),
        (True, int, None),
        (True, float, None),
        (math.nan, float, None),
        (math.inf, float, None),
        ("1 min", float, None),
        (None, str, None),
        ({"a": 1}, str, None),
        ({"a": 1}, dict, {"a": 1}),
        (1, list, None),
    ],
)
def test_what_has_another_type_counts_as_not_recorded(value: Any, kind: type, read: Any) -> None:
    assert attributes.read({attributes.EPOCHS: value}, attributes.EPOCHS, kind) == read


def test_a_trial_that_this_service_claimed_is_read_under_the_former_names() -> None:
    theirs = optuna.create_trial(state=TrialState.FAIL, user_attrs={"epochs": 3, attributes.SECONDS: 1.5})
    assert attributes.of_trial(theirs, attributes.EPOCHS, int) is None
    assert attributes.of_trial(theirs, attributes.SECONDS, float) == 1.5
    ours = optuna.create_trial(
        state=TrialState.FAIL, user_attrs={"epochs": 3}, system_attrs={attributes.CLAIM: {"id": None}}
    )
    assert attributes.of_trial(ours, attributes.EPOCHS, int) == 3


def test_a_study_that_an_earlier_version_made_is_read_under_the_former_names() -> None:
    assert attributes.of_study({"budget": 3}, attributes.BUDGET, int) is None
    assert attributes.of_study({"budget": 3, "spec": "of mine"}, attributes.BUDGET, int) is None
    before = {"budget": 3, "spec": SPEC, "fingerprint": "f"}
    assert attributes.of_study(before, attributes.BUDGET, int) == 3
    assert attributes.of_study(before, attributes.SPEC, dict) == SPEC


def test_what_was_written_last_counts() -> None:
    both = {"budget": 3, attributes.BUDGET: 5, "spec": SPEC, "fingerprint": "f"}
    assert attributes.of_study(both, attributes.BUDGET, int) == 5
    # A bound that was taken away stays away.
    unbounded = {**both, "budget_epochs": 7, attributes.BUDGET_EPOCHS: None}
    assert attributes.of_study(unbounded, attributes.BUDGET_EPOCHS, int) is None
