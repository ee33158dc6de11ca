"""Numbers, times and parameters as people read and write them, and any text as Markdown shows it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any

from storage.errors import shown

# What means something inside a line of Markdown, with the tables, struck-out words and formulas of GitHub's. What means
# something at its beginning only is never there: a line begins with a word of the report's own.
_INLINE = re.compile(r"([\\`*_\[\]<>&|~$#])")
# What GitHub makes a link of by itself is parted by a space of no width.
_LINK = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?=@)", re.IGNORECASE)


def duration(seconds: float) -> str:
    """Return seconds in the words of people: `42 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours // 24} d {hours % 24} h"


def counted(number: int, noun: str) -> str:
    """Return how many there are of something: `1 trial`, `2 trials`, `1,200 trials`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def epochs_in_words(trained: int, budget: int | None) -> str:
    """Return how many epochs a search has trained, of how many it may spend; None without a bound.

    Each trial trains one, and the best one goes on to its end, whatever is left.
    """
    if budget is None:
        return f"{trained:,} trained"
    if trained <= budget:
        return f"{trained:,} of {budget:,} trained"
    return f"{trained:,} trained, {budget:,} planned: the best trial goes on to its end"


def dataset_in_words(reference: str) -> str:
    """Return a data set's name, or the path of data of one's own, short and in one line: `~/pictures/flowers`."""
    path = reference.removeprefix("hf:")
    home = os.path.expanduser("~")
    if home != "/" and (path == home or path.startswith(f"{home}/")):
        path = f"~{path.removeprefix(home)}"
    return shown(f"{'hf:' * reference.startswith('hf:')}{path}")


def parse_duration(text: str) -> float:
    """Return the seconds that a duration such as `90`, `90s`, `30m`, `1.5h` or `2d` means.

    Raises:
        ValueError: it is none, or not positive.
    """
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    text = text.strip().lower()
    number, unit = (text[:-1], text[-1]) if text[-1:] in units else (text, "s")
    seconds = float(number) * units[unit]
    if not math.isfinite(seconds) or seconds <= 0:
        raise ValueError(f"a duration must be positive, received {text!r}")
    return seconds


def value_in_words(value: Any) -> str:
    """Return a parameter's value without digits that mean nothing."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def parameters_in_words(params: Mapping[str, Any]) -> str:
    """Return parameters in one line."""
    return "  ".join(f"{name} {value_in_words(value)}" for name, value in params.items())


def markdown_text(text: str) -> str:
    """Return text that Markdown shows letter for letter, in one line."""
    return _LINK.sub("\u200b", _INLINE.sub(r"\\\1", " ".join(text.split())))
