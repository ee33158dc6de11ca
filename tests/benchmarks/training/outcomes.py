"""What a contestant showed, and after how long. Nothing here runs or reads anything."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

# Two accuracies are the same although one was computed in half as many digits: one image of 5,000 is 0.0002.
SAME: Final = 1e-6


class Point(NamedTuple):
    """What was known at a moment.

    Attributes:
        seconds: since the contestant was started.
        epochs: trained by all its workers.
        best: the best validation accuracy of any of them, minus infinity before the first.
    """

    seconds: float
    epochs: int
    best: float


@dataclass(frozen=True)
class Outcome:
    """What one contestant did.

    Attributes:
        points: at least one for each look that found a new epoch.
        total_s: seconds until its end, or until it had trained all its epochs.
    """

    points: tuple[Point, ...]
    total_s: float

    @property
    def epochs(self) -> int:
        """How many were trained in all."""
        return self.points[-1].epochs if self.points else 0

    @property
    def best(self) -> float:
        """The best validation accuracy of all; minus infinity of none."""
        return self.points[-1].best if self.points else -math.inf

    def reached(self, value: float) -> Point | None:
        """Return when an accuracy as high was first known, None if it never was."""
        return next((point for point in self.points if point.best >= value - SAME), None)

    def best_at(self, seconds: float) -> float:
        """Return the best validation accuracy after so many seconds, minus infinity before the first."""
        return max((point.best for point in self.points if point.seconds <= seconds), default=-math.inf)


@dataclass(frozen=True)
class Race:
    """How long one took to what another had in the end.

    Attributes:
        target: the peer's final best accuracy.
        ours: when that was first known of us; None if it never was.
        peer: when it was first known of the peer.
        peer_s, peer_epochs: what the peer took in all.
    """

    target: float
    ours: Point | None
    peer: Point
    peer_s: float
    peer_epochs: int

    @property
    def share_of_total(self) -> tuple[float, float]:
        """Our seconds and epochs, of all that the peer took; NaN where it was not reached."""
        return self._shares(self.peer_s, self.peer_epochs)

    @property
    def share_of_first(self) -> tuple[float, float]:
        """Our seconds and epochs, of those after which the peer first had it; NaN where it was not reached."""
        return self._shares(self.peer.seconds, self.peer.epochs)

    def _shares(self, seconds: float, epochs: int) -> tuple[float, float]:
        if self.ours is None:
            return math.nan, math.nan
        return self.ours.seconds / seconds, self.ours.epochs / epochs


def race(ours: Outcome, peer: Outcome) -> Race | None:
    """Return how long we took to the peer's final best accuracy; None if the peer has none."""
    first = peer.reached(peer.best)
    if first is None or math.isinf(peer.best):
        return None
    return Race(peer.best, ours.reached(peer.best), first, peer.total_s, peer.epochs)


def lowest_shown(outcomes: Sequence[Outcome], share: float = 0.1) -> float:
    """Return an accuracy from which on a picture is worth drawing: what all had after a share of the longest time.

    Those that had none by then do not count.
    """
    longest = max(outcome.total_s for outcome in outcomes)
    had = [outcome.best_at(share * longest) for outcome in outcomes]
    known = [best for best in had if math.isfinite(best)] or [outcome.points[0].best for outcome in outcomes]
    return min(known)
