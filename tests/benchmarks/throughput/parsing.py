"""What is read of what programs print: the preflight's seconds, and the times in a worker's log."""

from __future__ import annotations

import re
from datetime import datetime

_PREFLIGHT = re.compile(r"preflight took (\d+(?:\.\d+)?) (s|min)\b")
_UNITS_S = {"s": 1.0, "min": 60.0}
# As logging's own `%(asctime)s` writes it, in local time.
_TIME = r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),(\d{3})"
_FIRST_STEP = re.compile(_TIME + r" \w+ trial \d+: first step\b", re.MULTILINE)
_OVER = re.compile(r"\btrial (\d+): over\b")


def preflight_s(*texts: str) -> float | None:
    """Return the seconds that a preflight took, by the first of the texts that says so; None if none does.

    Args:
        texts: a worker's log, which may say it to the millisecond, and what the launcher printed.
    """
    for text in texts:
        if found := _PREFLIGHT.search(text):
            return float(found[1]) * _UNITS_S[found[2]]
    return None


def first_step_at(log: str) -> float | None:
    """Return when the first training step in a worker's log was done, in seconds since 1970; None if it is not told."""
    found = _FIRST_STEP.search(log)
    if found is None:
        return None
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").timestamp() + int(found[2]) / 1000


def finished_trials(log: str) -> list[int]:
    """Return the numbers of the trials that a worker's log says are over."""
    return [int(number) for number in _OVER.findall(log)]
