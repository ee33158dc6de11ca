"""The declared data sets agree with themselves."""

from __future__ import annotations

import pytest

from storage.errors import BadInput
from studies.datasets.registry import DATASETS, dataset_info, file_with_checksum


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_a_data_set_knows_its_classes_and_its_files(name: str) -> None:
    info = dataset_info(name)
    assert info.name == name
    assert len(info.class_names) == len(set(info.class_names)) == (100 if name == "cifar100" else 10)
    assert all(len(file.sha256) == 64 and int(file.sha256, 16) for file in info.files)
    assert info.images("train") > info.images("test") > 0
    assert all(address.startswith("https://") for address in info.addresses)


def test_the_checksum_tells_data_sets_apart() -> None:
    assert len({info.checksum for info in DATASETS.values()}) == len(DATASETS)


def test_an_unknown_name_is_answered_with_the_nearest_one() -> None:
    with pytest.raises(BadInput, match=r"unknown data set 'cifar_10'.*Did you mean 'cifar10'.*mnist_sample"):
        dataset_info("cifar_10")


def test_digits_are_not_mirrored_and_photographs_are() -> None:
    assert not dataset_info("mnist").natural_images
    assert dataset_info("cifar10").natural_images
    assert dataset_info("fashion_mnist").natural_images


def test_a_file_is_recognised_by_its_content() -> None:
    file = dataset_info("fashion_mnist").files[0]
    known = file_with_checksum(file.sha256)
    assert known is not None
    assert known[0].name == "fashion_mnist"
    assert file_with_checksum("0" * 64) is None
