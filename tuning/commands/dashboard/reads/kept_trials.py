"""The trials of a study as they are sent, in pieces that are joined and compressed anew only where a trial changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Final

from tuning.commands.dashboard.reads.packed import Piece
from tuning.commands.dashboard.reads.shown_trial import Content, ShownTrial

PIECE: Final = 64
"""So many trials are one piece: fewer compress worse, more are compressed in vain where one changed."""


class KeptTrials:
    """Trials in the order of their ids.

    Attributes:
        trials: all of them.
        contents: how many have each content.
    """

    def __init__(self) -> None:
        self.trials: list[ShownTrial] = []
        self.contents: Counter[Content] = Counter()
        self._places: dict[int, int] = {}
        self._pieces: dict[int, Piece] = {}
        self._first_open: int | None = None

    def put(self, trial: ShownTrial) -> bool:
        """Keep a trial, in the place of what was known of it or as the last one; return whether that changes any."""
        place = self._places.setdefault(trial.trial_id, len(self.trials))
        if place == len(self.trials):
            self.trials.append(trial)
        else:
            before = self.trials[place]
            if before == trial:
                return False
            self.trials[place] = trial
            self._forget(before.content)
        self.contents[trial.content] += 1
        self._pieces.pop(place // PIECE, None)
        return True

    def _forget(self, content: Content) -> None:
        self.contents[content] -= 1
        if not self.contents[content]:
            del self.contents[content]

    def settle(self) -> None:
        """See which trial is the first that is not over, once all that changed was put."""
        first = next((place for place, trial in enumerate(self.trials) if trial.is_open), None)
        if first != self._first_open:
            for place in (first, self._first_open):
                if place is not None:
                    self._pieces.pop(place // PIECE, None)
            self._first_open = first

    def __contains__(self, trial_id: int) -> bool:
        return trial_id in self._places

    def text(self, place: int) -> bytes:
        """Return a trial's JSON."""
        return self.trials[place].text(first_open=place == self._first_open)

    def pieces(self, after: int) -> Iterator[Piece]:
        """Yield the JSON of the trials from a place on, commas between them."""
        if after >= len(self.trials):
            return
        # All others have a comma before them, so they are the same whichever comes first.
        yield Piece(partial(self.text, after))
        following = range(after + 1, min(len(self.trials), (after // PIECE + 1) * PIECE))
        if following:
            yield Piece(partial(self._joined, following))
        for number in range(after // PIECE + 1, -(-len(self.trials) // PIECE)):
            piece = self._pieces.get(number)
            if piece is None:
                places = range(number * PIECE, min(len(self.trials), (number + 1) * PIECE))
                piece = self._pieces[number] = Piece(partial(self._joined, places))
            yield piece

    def _joined(self, places: Iterable[int]) -> bytes:
        return b"".join(b"," + self.text(place) for place in places)
