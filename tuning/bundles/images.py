"""A picture from anywhere, made to look like those of a data set. No Keras.

A classifier knows the pictures of its data set and nothing else, so a picture is brought to their form:

- `photo` (CIFAR, pictures of one's own): cropped to the middle, then scaled. What is cut off is background more often
  than not, and nothing is squeezed or surrounded by bars, which the training pictures never are, unless these were.
- `digit` (MNIST): one digit, bright on black, its box scaled to 20 pixels and its centre of mass in the middle of
  28x28, as LeCun et al. (1998) made MNIST. A dark drawing on a light ground is inverted; which it is, the border tells.
- `silhouette` (Fashion-MNIST): one thing, bright on black, its box scaled to the whole picture and put in its middle,
  as in section 2 of arXiv:1708.07747. Inverted likewise.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from storage.errors import BadInput
from studies.datasets.info import Preparation
from studies.datasets.own.pictures import load_picture, open_picture
from studies.form import Fit

MNIST_BOX_PIXELS = 20

# What is fainter than this share of the strongest stroke is paper, shade or JPEG noise.
_FAINT = 0.2

# Of a sheet with nothing on it, JPEG makes no more than this, in steps of 255.
_LEAST_CONTRAST = 8

_SHOWN = {"digit": "digit", "silhouette": "thing"}

_Grey = npt.NDArray[np.float32]


def load_image(
    file: Path, shape: tuple[int, int, int], preparation: Preparation = "photo", fit: Fit = "crop"
) -> npt.NDArray[np.uint8]:
    """Return a picture as a classifier takes it.

    The file may be of any format, size and mode that `studies.datasets.own.pictures` reads.

    Args:
        file: the picture's.
        shape: `(height, width, channels)` of the result, with 1 or 3 channels.
        preparation: what the pictures of the data set look like; `digit` and `silhouette` need 1 channel.
        fit: how a photo of other proportions gets that form, as the data set's own did.

    Returns:
        uint8 of that shape, 0..255.

    Raises:
        BadInput: the file is not there, is no picture, is damaged, is too large, or shows nothing of what it should.
    """
    if preparation == "photo":
        return load_picture(file, shape, fit)
    height, width, _ = shape
    grey = np.asarray(open_picture(file, file).convert("L"), dtype=np.float32)
    if np.ptp(grey) < _LEAST_CONTRAST:
        raise BadInput(f"{file} has nothing on it: all of it is alike. Give a picture of one {_SHOWN[preparation]}.")
    strokes = _bright_on_black(grey)
    placed = _placed(_content(strokes), (height, width), mnist=preparation == "digit")
    return np.rint(placed).astype(np.uint8).reshape(shape)


def _bright_on_black(grey: _Grey) -> _Grey:
    """The same picture with the ground at 0 and the strongest stroke at 255."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    ground = float(np.median(border))
    inside = float(grey.mean())
    dark_on_light = ground > inside or (ground == inside and ground > 127)
    strokes = ground - grey if dark_on_light else grey - ground
    return _stretched(np.maximum(strokes, 0))


def _stretched(grey: _Grey) -> _Grey:
    strongest = float(grey.max())
    return grey * (255 / strongest) if strongest > 0 else grey


def _content(grey: _Grey) -> _Grey:
    """The smallest box with all that is not faint; the whole picture if there is nothing."""
    rows, columns = np.nonzero(grey > 255 * _FAINT)
    if not len(rows):
        return grey
    return grey[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]


def _placed(content: _Grey, size: tuple[int, int], *, mnist: bool) -> _Grey:
    height, width = size
    box = MNIST_BOX_PIXELS if mnist else min(height, width)
    scale = box / max(content.shape)
    scaled_size = tuple(max(1, round(side * scale)) for side in content.shape)
    # Lanczos overshoots at the edge of a stroke.
    resized = Image.fromarray(content).resize((scaled_size[1], scaled_size[0]), Image.Resampling.LANCZOS)
    scaled = _stretched(np.clip(np.asarray(resized), 0, 255))
    if mnist:  # its centres of mass lie in pixel 14 of 28, half a pixel past the middle
        rows, columns = _centre_of_mass(scaled)
        corner = (height / 2 + 0.5 - rows, width / 2 + 0.5 - columns)
    else:
        corner = ((height - scaled_size[0]) / 2, (width - scaled_size[1]) / 2)
    top, left = (
        min(max(0, math.floor(place + 0.5)), side - length)
        for place, side, length in zip(corner, size, scaled_size, strict=True)
    )
    canvas = np.zeros(size, dtype=np.float32)
    canvas[top : top + scaled_size[0], left : left + scaled_size[1]] = scaled
    return canvas


def _centre_of_mass(grey: _Grey) -> tuple[float, float]:
    """In pixels from the top and the left, where a single pixel's centre is at 0.5."""
    total = float(grey.sum())
    if total == 0:
        return grey.shape[0] / 2, grey.shape[1] / 2
    rows = float(grey.sum(axis=1) @ (np.arange(grey.shape[0]) + 0.5)) / total
    columns = float(grey.sum(axis=0) @ (np.arange(grey.shape[1]) + 0.5)) / total
    return rows, columns
