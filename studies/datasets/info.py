"""What there is to know of a data set once it is on the disk, wherever it comes from."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from studies.form import Fit

SplitName = Literal["train", "test"]
Preparation = Literal["photo", "digit", "silhouette"]
PREPARATIONS: tuple[Preparation, ...] = get_args(Preparation)


@dataclass(frozen=True, kw_only=True)
class DatasetInfo(abc.ABC):
    """One classification data set.

    Attributes:
        name: as the command line takes it.
        title: as people write it.
        shape: of one input: ``(height, width, channels)`` of an image, in pixels; arrays that are none have any.
        dtype: ``uint8`` of pixels, 0 to 255; arrays that are none may be ``float32``.
        class_names: one per label, in the order of the labels.
        natural_images: whether a mirrored image keeps its class: true of photographs and clothes, false of digits.
        preparation: how a picture from elsewhere is made to look like these, see `tuning.bundles.images`.
        fit: how a picture of other proportions becomes one of `shape`, where it is a photo.
    """

    name: str
    title: str
    shape: tuple[int, ...]
    class_names: tuple[str, ...]
    natural_images: bool
    dtype: str = "uint8"
    preparation: Preparation = "photo"
    fit: Fit = "crop"

    @property
    def is_picture(self) -> bool:
        """Whether it has pixels, grey or in colour, rather than numbers of any other meaning."""
        return len(self.shape) == 3 and self.shape[2] in (1, 3) and self.dtype == "uint8"

    @property
    @abc.abstractmethod
    def checksum(self) -> str:
        """Tells data sets apart: one SHA-256 over all that was read; a study records it."""

    @abc.abstractmethod
    def images(self, split: SplitName) -> int:
        """Return the number of images in a split; 0 for a test split that it does not bring."""


@dataclass(frozen=True, kw_only=True)
class OwnDataset(DatasetInfo):
    """A data set that somebody brings: a folder of pictures, arrays, a table.

    Attributes:
        reference: where it was read from, as a study's spec names it.
        content: the checksum of all that was read of it, and of how it was read.
        counts: how many images each split has.
        given_validation: how many of the training images, the last ones, were given to validate on; 0 for none.
    """

    reference: str
    content: str
    counts: Mapping[SplitName, int]
    given_validation: int = 0

    @property
    def checksum(self) -> str:
        return self.content

    def images(self, split: SplitName) -> int:
        return self.counts.get(split, 0)

    @property
    def has_test(self) -> bool:
        """Whether it brings a test split; where it does not, a study splits one off."""
        return self.images("test") > 0
