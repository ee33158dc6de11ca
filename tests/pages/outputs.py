"""The keys of what commands print for programs, from the classes that they print."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from studies.datasets.inventory import InventoryEntry
from studies.leaderboard import Row
from tests.pages.docstrings import attributes
from tests.pages.tables import code, markdown

OUTPUTS: Final[Mapping[str, type]] = {"trials": Row, "data": InventoryEntry}


def keys_of_output(command: str) -> str:
    """Return the keys of an entry of a command's output as a table."""
    rows = [(code(key), _as_json(meaning)) for key, meaning in attributes(OUTPUTS[command]).items()]
    return markdown(("key", "meaning"), rows)


def _as_json(meaning: str) -> str:
    return meaning.replace("``", "`").replace("None", "`null`")
