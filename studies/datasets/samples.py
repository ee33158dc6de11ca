"""The small real data sets in the package, and how they were made.

``python -m studies.datasets.samples DATA_DIR`` makes ``samples/`` again from the complete MNIST and CIFAR-10 in
``DATA_DIR`` and prints the checksums that the registry records.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput
from studies.datasets.folders import read_folder
from studies.datasets.formats import Labels, read_images, read_labels
from studies.datasets.info import SplitName
from studies.datasets.registry import OfficialDataset, dataset_info
from studies.datasets.sources import SAMPLES

PER_CLASS: dict[SplitName, int] = {"train": 200, "test": 50}


def first_of_each_class(labels: Labels, per_class: int) -> npt.NDArray[np.int64]:
    """Return the indices of the first ``per_class`` images of every class, in the order of the file."""
    classes = np.unique(labels)
    return np.sort(np.concatenate([np.flatnonzero(labels == label)[:per_class] for label in classes]))


def build_samples(data_dir: Path, destination: Path = SAMPLES) -> dict[str, str]:
    """Write the samples in the official formats, compressed, the same bytes each time.

    Args:
        data_dir: a folder of the official files of MNIST and CIFAR-10.
        destination: where the folders ``mnist`` and ``cifar10`` are written.

    Returns:
        The SHA-256 of the uncompressed content of each file, by ``<folder>/<file name>``.

    Raises:
        BadInput: a data set is not in the folder, or is damaged.
    """
    files = {
        f"{name}/{file}": content
        for name in ("mnist", "cifar10")
        for file, content in _sample(dataset_info(name), data_dir).items()
    }
    for path, content in files.items():
        _write_smallest(destination / path, content)
    return {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}


def _sample(info: OfficialDataset, data_dir: Path) -> dict[str, bytes]:
    contents = read_folder(data_dir, info)
    if contents is None:
        raise BadInput(f"{data_dir} holds none of the files of {info.title}.")
    files: dict[str, bytes] = {}
    for split, per_class in PER_CLASS.items():
        own = [file for file in info.files if file.split == split]
        images = np.concatenate([read_images(info, f, contents[f.name]) for f in own if f.content != "labels"])
        labels = np.concatenate([read_labels(info, f, contents[f.name]) for f in own if f.content != "images"])
        chosen = first_of_each_class(labels, per_class)
        if info.format == "idx":
            by_content = {"images": images[chosen, ..., 0], "labels": labels[chosen]}
            files |= {file.name: _idx(by_content[file.content]) for file in own}
        else:
            name = "data_batch.bin" if split == "train" else "test_batch.bin"
            files[name] = _cifar(images[chosen], labels[chosen])
    return files


def _idx(values: npt.NDArray[np.uint8]) -> bytes:
    header = bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes()
    return header + values.tobytes()


def _cifar(images: npt.NDArray[np.uint8], labels: Labels) -> bytes:
    pixels = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([labels[:, np.newaxis], pixels], axis=1).tobytes()


def _write_smallest(path: Path, content: bytes) -> None:
    candidates = {
        ".gz": gzip.compress(content, compresslevel=9, mtime=0),
        ".xz": lzma.compress(content, preset=9 | lzma.PRESET_EXTREME),
    }
    suffix = min(candidates, key=lambda name: len(candidates[name]))
    path.parent.mkdir(parents=True, exist_ok=True)
    for other in candidates:
        path.with_name(path.name + other).unlink(missing_ok=True)
    path.with_name(path.name + suffix).write_bytes(candidates[suffix])


if __name__ == "__main__":
    for name, digest in build_samples(Path(sys.argv[1])).items():
        sys.stdout.write(f"{digest}  {name}\n")
