"""What `tune` does with a study besides its search: what follows it, and the time that there is for all of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from storage import attributes

LEAST_CONFIRMED = 2
"""Configurations, and seeds of each: of fewer there is nothing to compare."""


@dataclass(frozen=True)
class Course:
    """What follows a study's search, and when it ends. Not part of the spec: it changes no trial of the search.

    Attributes:
        confirm: how many configurations are trained again, and with how many other seeds each; None for none.
        refit_epochs: for how many epochs the winner is trained; 0 for as many as the time leaves, None where it is not.
        time_s: the seconds that there are for all of it, set-up included; None for as many as it takes.
        search_s: of these, when the search ends at the latest.
        all_images: whether the winner is trained on more images than the search, which was sized to few: on all that
            validation and test leave.
    """

    confirm: tuple[int, int] | None = None
    refit_epochs: int | None = None
    time_s: float | None = None
    search_s: float | None = None
    all_images: bool = False

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "confirm": list(self.confirm) if self.confirm is not None else None}

    @classmethod
    def stored(cls, document: Mapping[str, Any]) -> Course:
        """Return what was stored as `document`; what is not of its kind counts as not stored."""
        asked = attributes.typed(document.get("confirm"), list) or []
        confirm = [number for number in asked if attributes.typed(number, int) is not None]
        time_s, search_s = (attributes.typed(document.get(key), float) for key in ("time_s", "search_s"))
        return cls(
            confirm=(confirm[0], confirm[1]) if len(confirm) == 2 and min(confirm) >= LEAST_CONFIRMED else None,
            refit_epochs=attributes.typed(document.get("refit_epochs"), int),
            time_s=time_s,
            search_s=search_s,
            all_images=document.get("all_images") is True,
        )
