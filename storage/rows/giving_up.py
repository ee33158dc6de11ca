"""What becomes of a trial whose worker gives it up, or is lost: it waits to be tried again, or has failed."""

from __future__ import annotations

from typing import Any, Literal

from storage import attributes
from storage.rows.ledger import Rows

GivenUp = Literal["interrupted", "frozen", "lost", "died", "out_of_memory", "timeout", "error"]
# How often a trial is tried again after it was given up, by the class of the reason. A worker may be lost to anything:
# a machine that went, a kill from outside. One that died by itself under the eyes of its launcher, or that the kernel
# killed for want of memory, did what this trial has it do, most likely, and each death costs all that a worker has
# compiled. An exception tends to come again. What is interrupted or frozen failed in nothing, and has no bound.
MAX_RETRIES: dict[GivenUp, int] = {"lost": 5, "died": 1, attributes.OUT_OF_MEMORY: 1, "timeout": 2, "error": 2}


def give_up(rows: Rows, trial_id: int, reason: str, why: GivenUp) -> None:
    """Let a trial that ran wait, as itself, and record why; one that has used up the retries of that class is FAIL.

    Args:
        rows: the transaction's, in which the trial is RUNNING.
        trial_id: the trial's id.
        reason: why, for people.
        why: the class of the reason.
    """
    given_up = _release(rows, trial_id, reason, why)
    attempts = _in_a_row(given_up, why)
    if why not in MAX_RETRIES or attempts <= MAX_RETRIES[why]:
        rows.wait(trial_id)
        return
    rows.set_user_attr(trial_id, attributes.FAILURE, why)
    rows.set_user_attr(trial_id, attributes.REASON, f"{reason} (given up for good after {attempts} attempts)")
    rows.fail(trial_id)


def _release(rows: Rows, trial_id: int, reason: str, why: GivenUp) -> list[dict[str, Any]]:
    """Record that nobody holds a trial any more, and why; return what it was given up for, this time included."""
    held: dict[str, Any] = rows.system_attr(trial_id, attributes.CLAIM) or {}
    epochs = held.get("epochs", 0)
    before = attributes.typed(rows.user_attr(trial_id, attributes.GIVEN_UP), list) or []
    given_up = [one for one in before if isinstance(one, dict) and {"class", "moved"} <= one.keys()]
    moved = epochs > held.get("from", 0)
    if why == "frozen":
        rows.set_system_attr(trial_id, attributes.FROZEN, epochs)
    # To freeze is not to give up, but what was moved forward starts the count anew.
    if why != "frozen" or (given_up and moved):
        given_up.append({"worker": held.get("owner"), "class": why, "reason": reason, "moved": moved})
        rows.set_user_attr(trial_id, attributes.GIVEN_UP, given_up)
    if held:
        # The count and the progress stay, the id goes: no writer holds the trial now.
        nobody = {"owner": None, "count": held["count"], "id": None, "beat": 0, "from": epochs, "epochs": epochs}
        rows.set_system_attr(trial_id, attributes.CLAIM, nobody)
    # Until it was last seen, not until now: whoever is given up may have been gone for a night.
    if "begun" in held:
        worked: list[list[float]] = [
            *(rows.system_attr(trial_id, attributes.WORKED) or []),
            [held["begun"], held["seen"]],
        ]
        rows.set_system_attr(trial_id, attributes.WORKED, worked)
    return given_up


def _in_a_row(given_up: list[dict[str, Any]], why: GivenUp) -> int:
    """Return how often a trial was given up for reasons of one class since its checkpoint last moved."""
    count = 0
    for one in given_up:
        count = (0 if one["moved"] else count) + int(one["class"] == why)
    return count
