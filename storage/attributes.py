"""Every key that this service writes into the database beside Optuna's own columns, on one page, and how it is read.

User attributes are shown by the dashboard. System attributes are not; Optuna's own code reads those that it wrote.

Any program and any person may write attributes. Those of this service have a prefix; user attributes had none before,
and are still read so. What is not of the type that is written here counts as not recorded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, get_args

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

T = TypeVar("T")

PREFIX = "tuning:"

# --- User attributes of a study ---

# What is tuned and how, `studies.spec.StudySpec`, and its fingerprint.
SPEC = "tuning:spec"
FINGERPRINT = "tuning:fingerprint"
# What it trains on: `studies.stored.StudyData`.
DATA = "tuning:data"
# What its workers keep to: `studies.stored.Limits`.
LIMITS = "tuning:limits"
# Tells studies of one name in different databases apart, where both keep files under one home.
UID = "tuning:uid"
# The URL of where its artifacts and checkpoints are kept, `storage.settings.files_url`; empty for its home's folders.
FILES = "tuning:files"
# How many trials it has in all, and how many epochs they train together; the latter is None without a bound.
BUDGET = "tuning:budget"
BUDGET_EPOCHS = "tuning:budget_epochs"
# When its workers were let go the last time: `studies.forecast.Launched`.
LAUNCHED = "tuning:launched"
# What follows its search, and the time for all of it: `studies.course.Course`. And the seconds that its launchers have
# spent on it so far.
COURSE = "tuning:course"
SPENT = "tuning:spent_s"
# What the first calls of a training took in the preflights, the longest of each, by the device's name.
FIRST_CALLS = "tuning:first_calls"
# What runs its trials where it has no spec, in words: a function of the user's.
FUNCTION = "tuning:function"
# What is searched, and configurations that are tried first.
SPACE = "tuning:space"
FIRST = "tuning:first"

# --- System attributes of a study ---

# Failures of trials created before this number do not count towards the bound: the user has started the study anew.
FORGIVEN = "tuning:failures_forgiven_before"
# When a trial was last taken up, in seconds since 1970.
BEGUN = "tuning:begun"
# Which restoration made it: one whose answer was lost finds its own work.
RESTORED = "tuning:restored"

# --- User attributes of a trial ---

EPOCHS = "tuning:epochs"
SECONDS = "tuning:seconds"
BEST_EPOCH = "tuning:best_epoch"
# Of the epoch whose weights were kept; the accuracy where it is not the trial's value.
VALIDATION_ACCURACY = "tuning:val_accuracy"
VALIDATION_LOSS = "tuning:val_loss"
# Of a trial that learned from the validation images too: its accuracy on these, by which a bundle's model is checked.
LEARNED_ACCURACY = "tuning:learned_accuracy"
VALIDATION_BALANCED_ACCURACY = "tuning:val_balanced_accuracy"
PRECISION = "tuning:precision"
THREADS = "tuning:threads"
DEVICE = "tuning:device"
BACKEND = "tuning:backend"
WEIGHTS = "tuning:weights"
# How often its training step was traced: 0 where its worker had a compiled model for it.
TRACES = "tuning:traces"
# Why it has no checkpoints, or reports nothing before its end: its model's own training decides.
WHOLE = "tuning:whole"
# What else was measured when its objective was best, by name, where KerasTuner's own training decides.
METRICS = "tuning:metrics"
# The folder of a trial that a function of the user's runs. The function reads it: its name is what that knows it by.
CHECKPOINT = "checkpoint"
# Who ran it last, and each time that it was given up: `[{"worker", "class", "reason", "moved"}, ...]`.
WORKER = "tuning:worker"
GIVEN_UP = "tuning:given_up"
# Why it failed, for people, and the class of it.
REASON = "tuning:reason"
FAILURE = "tuning:failure"
# The classes of failure that the parameters bring about: the loss is no longer a number, or the device or the machine
# has no room for the model and its batch.
DIVERGED: Final = "diverged"
OUT_OF_MEMORY: Final = "out_of_memory"

# --- System attributes of a trial: they go when the trial goes. A table of our own would keep rows of trials that stock
# Optuna deleted, whose ids SQLite gives out again. ---

# Who holds it: `storage.claims`.
CLAIM = "tuning:claim"
# In a claim, where its trial is only to be recorded as over.
ENDS = "ends"
# The epochs after which it was frozen; null once it was taken up again.
FROZEN = "tuning:frozen"
# The epoch after which the strategy ended it, where it was trained on all the same: `studies.strategies.audit`.
AUDITED = "tuning:audited"
# When its former claims were begun and last seen alive, `[[begun, seen], ...]` in seconds since 1970.
WORKED = "tuning:worked"
# The study's last report when it failed: its failures are in a row while nobody has reported since.
FAILED_AFTER = "tuning:failed_after"
# Followed by a role: the record of an artifact, `storage.artifacts.Artifact`. The other is Optuna's own prefix,
# followed by an artifact's id: what its dashboard shows.
ARTIFACT = "tuning:artifact:"
OPTUNA_ARTIFACT = "artifacts:"
# What Optuna's own `enqueue_trial` writes: the values that the trial is to have.
FIXED_PARAMETERS = "fixed_params"
# What a trial is for; where nothing is recorded, as by earlier versions, it is one of the search. And what it trains
# with where that is not what the spec says: `studies.phases.Training`. Both are written as the trial is created.
PHASE = "tuning:phase"
TRAINING = "tuning:training"

Phase = Literal["search", "confirm", "refit"]
"""`search` tries a configuration, `confirm` trains one again with another seed, `refit` trains the winner for long."""
PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
SEARCH: Final = "search"


# --- How they are read ---


def phase_in(system_attrs: Mapping[str, Any]) -> Phase:
    """Return what a trial is for, by its system attributes."""
    recorded = system_attrs.get(PHASE)
    if recorded is None:
        return SEARCH  # as nearly all are, at a quarter of the time
    return next((phase for phase in PHASES if phase == recorded), SEARCH)


def former(key: str) -> str:
    """Return what a user attribute was called by earlier versions."""
    return key.removeprefix(PREFIX)


def read(attrs: Mapping[str, Any], key: str, kind: type[T]) -> T | None:
    """Return what is recorded in user attributes, also by an earlier version; None where there is nothing of that type.

    Args:
        attrs: of a study or a trial of this service.
        key: one of the above.
        kind: the type that is written here. A `float` is finite, and may be written as a whole number.
    """
    return typed(attrs[key] if key in attrs else attrs.get(former(key)), kind)


def of_study(attrs: Mapping[str, Any], key: str, kind: type[T]) -> T | None:
    """Return what is recorded in the user attributes of any study, which may be another program's; see `read`."""
    written_before = isinstance(attrs.get(former(SPEC)), dict) and isinstance(attrs.get(former(FINGERPRINT)), str)
    return read(attrs, key, kind) if written_before else typed(attrs.get(key), kind)


def of_trial(trial: FrozenTrial, key: str, kind: type[T]) -> T | None:
    """Return what is recorded in the user attributes of any trial, which may be another program's; see `read`."""
    claimed = CLAIM in trial.system_attrs
    return read(trial.user_attrs, key, kind) if claimed else typed(trial.user_attrs.get(key), kind)


def typed(value: Any, kind: type[T]) -> T | None:
    """Return a value that is of a type, else None; see `read`."""
    if isinstance(value, bool) and kind in (int, float):
        return None  # to Python, it is a whole number
    if kind is float and isinstance(value, int | float):
        return kind(value) if math.isfinite(value) else None  # type: ignore[call-arg]
    return value if isinstance(value, kind) else None
