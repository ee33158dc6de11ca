"""Pictures that are handed over in Python, as files that a prediction takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from storage.errors import BadInput

_WAYS = (
    "Give the path of a file, an array of (height, width) or (height, width, 3) from 0 to 255, or what Pillow opened"
)


def put_pictures(given: Any, folder: Path) -> list[tuple[str, Path]]:
    """Return what each picture is called, and its file.

    Args:
        given: one, or several: paths, arrays, or what Pillow opened.
        folder: takes those that are no file yet.

    Raises:
        BadInput: one is of another kind.
    """
    several = list(given) if isinstance(given, list | tuple) else [given]
    return [_put(one, place, folder) for place, one in enumerate(several)]


def _put(picture: Any, place: int, folder: Path) -> tuple[str, Path]:
    if isinstance(picture, str | Path):
        return str(picture), Path(picture).expanduser()
    file = folder / f"{place}.png"
    if isinstance(picture, np.ndarray):
        picture = _from_array(picture)
    if not isinstance(picture, Image.Image):
        raise BadInput(f"this is no picture: {type(picture).__name__}. {_WAYS}.")
    if picture.mode not in ("L", "LA", "P", "RGB", "RGBA"):
        picture = picture.convert("RGB")
    picture.save(file)
    return f"picture {place}", file


def _from_array(pixels: np.ndarray[Any, Any]) -> Image.Image:
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]
    fits = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if not fits or pixels.dtype.kind not in "uif" or not pixels.size:
        raise BadInput(f"an array of the shape {pixels.shape} and the type {pixels.dtype} is no picture. {_WAYS}.")
    low, high = float(pixels.min()), float(pixels.max())
    # What was scaled to 0..1 would be a black picture.
    if not (low >= 0 and high <= 255) or (pixels.dtype.kind == "f" and 0 < high <= 1):
        raise BadInput(f"an array with values from {low:g} to {high:g} is no picture. {_WAYS}.")
    return Image.fromarray(np.rint(pixels).astype(np.uint8))
