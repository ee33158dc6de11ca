"""How a study divides the training split, and the statistics of its part.

The test split of a data set that brings one is not seen here.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from storage.errors import BadInput

Indices = npt.NDArray[np.int64]

_BLOCK_IMAGES = 1_024
_NO_IMAGES = "statistics were asked of no images. Take at least one."


@dataclass(frozen=True)
class Split:
    """The images that a study trains on, those that it validates on, and those that it tests on.

    Attributes:
        train: indices into the training split, int64, sorted.
        validation: as ``train``, and disjoint from it.
        test: as ``train``, and disjoint from both; None where the data set brings a test split.
    """

    train: Indices
    validation: Indices
    test: Indices | None = None

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of all parts; a study records it to notice that its split has changed."""
        digest = hashlib.sha256()
        for part in (self.train, self.validation, *(() if self.test is None else (self.test,))):
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part.astype("<i8").tobytes())
        return digest.hexdigest()


def stratified_split(
    labels: npt.NDArray[np.integer],
    *,
    validation_images: int,
    train_images: int | None,
    seed: int,
    test_images: int = 0,
    given_validation: int = 0,
    least: int = 0,
) -> Split:
    """Divide the training split so that every class has its share of each part.

    In the test and in the validation part a class has its share of all images, in the training part its share of those
    left; all rounded by the largest remainder. For one seed the validation part does not depend on ``train_images``, a
    smaller training part is made of images of a larger one, and neither depends on the version of NumPy.

    Args:
        labels: of the training split, ``(n,)``.
        validation_images: how many images to validate on, exactly.
        train_images: how many to train on, exactly; None takes all that are left.
        seed: not negative.
        test_images: how many to test on, exactly; 0 where the data set brings a test split.
        given_validation: so many of the images, the last ones, were given to validate on: exactly these are.
        least: so many images each class has in each part, whatever its share, as far as it has them.

    Raises:
        BadInput: more images are asked for than there are, or fewer than one.
    """
    if seed < 0:
        raise BadInput(f"the seed of a split is {seed}, but it must not be negative.")
    held = given_validation or validation_images
    wanted = require_images(len(labels), validation_images=held, train_images=train_images, test_images=test_images)
    # NEP 19 promises that a bit generator's raw stream never changes; it promises no such thing of permutation().
    stream = np.random.PCG64(seed)
    keys = stream.random_raw(len(labels))
    given = np.arange(len(labels) - given_validation, len(labels))
    free = labels[: len(labels) - given_validation]
    classes = np.unique(labels)
    ties = stream.random_raw(len(classes))
    rest = [_in_order(np.flatnonzero(free == label), keys) for label in classes]
    parts = []
    for images in (test_images, 0 if given_validation else validation_images, wanted):
        counts = _apportion([len(own) for own in rest], images, ties, least if images else 0)
        parts.append(_heads(rest, counts))
        rest = [own[count:] for own, count in zip(rest, counts, strict=True)]
    test, validation, train = parts
    return Split(train=train, validation=given if given_validation else validation, test=test if test_images else None)


def channel_histograms(images: npt.NDArray[np.uint8], indices: Indices | None = None) -> npt.NDArray[np.int64]:
    """Count the pixel values of each channel, a block of images at a time.

    Args:
        images: uint8, ``(n, height, width, channels)`` or of another shape; may be mapped from a file.
        indices: which images to count; all by default.

    Returns:
        Counts of shape ``(channels, 256)``.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256), dtype=np.int64)
    for pixels in _blocks(images, indices):
        for channel in range(channels):
            counts[channel] += np.bincount(pixels[..., channel].ravel(), minlength=256)
    return counts


def channel_statistics(
    images: npt.NDArray[Any], indices: Indices | None = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return ``(mean, standard deviation)`` of each channel, in pixel units from 0 to 255, or in those of other data.

    A channel of one value has the standard deviation 1, so that one can divide by it.

    Args:
        images: uint8, ``(n, height, width, channels)``, or examples of any other shape and type, whose channels lie
            along the last axis; may be mapped from a file.
        indices: which images to take; all by default.

    Raises:
        BadInput: there are no images.
    """
    if images.dtype == np.uint8:
        return histogram_statistics(channel_histograms(images, indices))
    total = len(images) if indices is None else len(indices)
    if not total:
        raise BadInput(_NO_IMAGES)
    count = total * math.prod(images.shape[1:-1])
    # Twice through the data: one pass with sums of squares would lose digits where the mean is far from zero.
    # The sum of fewer than 2**29 equal float32 is exact in float64: a channel of one value has no spread.
    mean = sum(block.sum(axis=0) for block in _rows(images, indices)) / count
    variance = sum(((block - mean) ** 2).sum(axis=0) for block in _rows(images, indices)) / count
    return _divisible(mean, np.sqrt(variance))


def _rows(images: npt.NDArray[Any], indices: Indices | None) -> Iterator[npt.NDArray[np.float64]]:
    """The values of each channel, ``(values, channels)``, a block of images at a time."""
    for block in _blocks(images, indices):
        yield block.astype(np.float64).reshape(-1, images.shape[-1])


def _blocks(images: npt.NDArray[Any], indices: Indices | None) -> Iterator[npt.NDArray[Any]]:
    total = len(images) if indices is None else len(indices)
    for start in range(0, total, _BLOCK_IMAGES):
        block = slice(start, start + _BLOCK_IMAGES)
        yield images[block if indices is None else indices[block]]


def _divisible(
    mean: npt.NDArray[np.float64], std: npt.NDArray[np.float64]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    return tuple(mean.tolist()), tuple(np.where(std > 0, std, 1.0).tolist())


def histogram_statistics(counts: npt.NDArray[np.int64]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return ``(mean, standard deviation)`` of each channel, as :func:`channel_statistics`, from its histogram.

    Args:
        counts: of shape ``(channels, 256)``.

    Raises:
        BadInput: there are no images.
    """
    totals = counts.sum(axis=1)
    if not totals.all():
        raise BadInput(_NO_IMAGES)
    values = np.arange(256, dtype=np.float64)
    mean = counts @ values / totals
    deviations = values[np.newaxis, :] - mean[:, np.newaxis]
    std = np.sqrt((counts * deviations**2).sum(axis=1) / totals)
    return _divisible(mean, std)


def require_images(images: int, *, validation_images: int, train_images: int | None, test_images: int = 0) -> int:
    """Return how many images a split trains on.

    Args:
        images: how many the training split has.
        validation_images: how many to validate on.
        train_images: how many to train on; None takes all that are left.
        test_images: how many are split off to test on.

    Raises:
        BadInput: more are asked for than there are, or fewer than one.
    """
    if test_images >= images - 1:
        raise BadInput(
            f"{test_images} test images were asked for, of {images} that there are. Take from 1 to"
            f" {max(images - 2, 1)}."
        )
    images -= test_images
    if validation_images < 1 or validation_images >= images:
        raise BadInput(
            f"{validation_images} validation images were asked for, of {images} in the training split. "
            f"Take from 1 to {max(images - 1, 1)}."
        )
    left = images - validation_images
    wanted = left if train_images is None else train_images
    if not 1 <= wanted <= left:
        raise BadInput(
            f"{wanted} training images were asked for beside {validation_images} validation images, of {images} in the "
            f"training split. Take from 1 to {left}."
        )
    return wanted


def _in_order(own: Indices, keys: npt.NDArray[np.uint64]) -> Indices:
    return own[np.argsort(keys[own], kind="stable")]


def _heads(groups: list[Indices], counts: list[int]) -> Indices:
    return np.sort(np.concatenate([own[:count] for own, count in zip(groups, counts, strict=True)]))


def _apportion(sizes: list[int], seats: int, ties: npt.NDArray[np.uint64], least: int) -> list[int]:
    """Divide ``seats`` in proportion to ``sizes`` by the largest remainder, in whole numbers; ``ties`` break ties."""
    total = sum(sizes)
    shares = [divmod(size * seats, total) for size in sizes]
    counts = [share for share, _ in shares]
    by_remainder = sorted(range(len(sizes)), key=lambda index: (-shares[index][1], int(ties[index])))
    for index in by_remainder[: seats - sum(counts)]:
        counts[index] += 1
    for index, size in enumerate(sizes):
        while counts[index] < min(least, size):
            largest = max(range(len(sizes)), key=lambda other: (counts[other], int(ties[other])))
            if counts[largest] <= least:
                return counts  # there are fewer seats than all want
            counts[largest] -= 1
            counts[index] += 1
    return counts
