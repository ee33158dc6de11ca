"""What a class's docstring says of its attributes."""

from __future__ import annotations

import inspect
import re


def attributes(owner: type) -> dict[str, str]:
    """Return what a class's docstring says of each attribute, on one line."""
    text = inspect.cleandoc(owner.__doc__ or "").partition("Attributes:\n")[2].partition("\n\n")[0]
    entries = re.findall(r"^    (\w+): (.*(?:\n        .*)*)", text, re.MULTILINE)
    return {name: " ".join(words.split()).removesuffix(".") for name, words in entries}
