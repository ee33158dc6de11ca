"""Preparing a folder of pictures as a process of its own, or only being ready to: what is measured beside `plain`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from studies.datasets.own.decoding import decode
from studies.datasets.own.listing import list_folder


def prepare_folder(pictures: Path, target: Path) -> None:
    """Turn a folder of class folders into an array in one file."""
    decoded = decode(list_folder(pictures), target / "chunks", image_size=None, fit="crop", report=_say)
    shape = (len(decoded.parts["train"].labels), *decoded.shape)
    with (target / "images.npy").open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
        for block in decoded.blocks("train"):
            stream.write(np.ascontiguousarray(block).data)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


if __name__ == "__main__":
    if len(sys.argv) == 3:
        prepare_folder(Path(sys.argv[1]), Path(sys.argv[2]))
