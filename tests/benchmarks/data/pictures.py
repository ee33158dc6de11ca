"""A folder of small pictures, always the same ones, made once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from storage.settings import Home
from studies.datasets.preparing import prepare

CLASSES: Final = 10
SMALLEST, LARGEST = 28, 64


def make_pictures(folder: Path, count: int, home: Home) -> Path:
    """Return a folder of `CLASSES` class folders with so many PNG files, each side 28 to 64 pixels long.

    They are pictures of the CIFAR-10 sample, scaled and with noise, so that they take as long to unpack as photographs.

    Args:
        folder: where they are kept for the next time.
        count: how many in all.
        home: where the sample is prepared.
    """
    made = folder / f"pictures-{count}"
    if made.exists():
        return made
    images = prepare("cifar10_sample", home).train_images
    beside = folder / f"pictures-{count}-{os.getpid()}"
    try:
        for number in range(count):
            file = beside / f"class{number % CLASSES}" / f"{number:06d}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            _picture(images[number % len(images)], number).save(file)
        beside.rename(made)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return made


def _picture(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], number: int) -> Image.Image:
    rng = np.random.default_rng(number)
    width, height = (int(side) for side in rng.integers(SMALLEST, LARGEST + 1, 2))
    scaled = np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC), dtype=np.int16)
    noisy = scaled + rng.integers(-4, 5, scaled.shape, dtype=np.int16)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
