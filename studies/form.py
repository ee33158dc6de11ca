"""The forms that pictures of one's own may be given."""

from __future__ import annotations

from typing import Literal, get_args

Fit = Literal["crop", "pad", "stretch"]
FITS: tuple[Fit, ...] = get_args(Fit)

SMALLEST_SIDE, LARGEST_SIDE = 4, 1024
"""Of a picture, in pixels."""
