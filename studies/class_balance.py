"""Whether the classes of a training part are of unlike sizes, which plain accuracy does not show."""

from __future__ import annotations

from collections.abc import Sequence

# Data are imbalanced where the largest class has more than so many times the pictures of the smallest: there a
# classifier that never names the small ones has a good accuracy.
EVEN_UP_TO = 1.5


def is_imbalanced(counts: Sequence[int]) -> bool:
    """Return whether the largest class has more than `EVEN_UP_TO` times the pictures of the smallest.

    Args:
        counts: of each class, in pictures.
    """
    return max(counts, default=0) > EVEN_UP_TO * min(counts, default=0)


def sizes_in_words(counts: Sequence[int], names: Sequence[str]) -> str:
    """Return which class is the largest and which the smallest, and how large they are.

    Args:
        counts: of each class, in pictures.
        names: of each class.
    """
    largest, smallest = counts.index(max(counts)), counts.index(min(counts))
    return f"{names[largest]!r} has {counts[largest]:,} pictures, {names[smallest]!r} {counts[smallest]:,}"
