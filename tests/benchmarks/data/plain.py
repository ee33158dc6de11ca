"""What reading and decoding a folder takes at least: a pool of processes with Pillow, which drop what they decoded."""

from __future__ import annotations

import sys
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from storage.processes.cores import usable_cores


def decode(file: Path) -> int:
    """Return how many bytes the pixels of a file take."""
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB")).nbytes


def main(folder: Path) -> None:
    """Decode every picture of a folder of class folders, with all cores."""
    files = sorted(folder.glob("*/*.png"))
    with Pool(usable_cores()) as pool:
        print(sum(pool.imap_unordered(decode, files, chunksize=128)))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
