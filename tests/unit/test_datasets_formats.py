"""The official layouts are read exactly, and nothing else is taken for them."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadInput
from studies.datasets.formats import read_cifar, read_content, read_idx, read_images, read_labels
from studies.datasets.registry import OfficialDataset, OfficialFile, dataset_info


def idx(values: np.ndarray) -> bytes:
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">u4").tobytes() + values.tobytes()


IMAGES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def test_idx_images_and_labels_come_back_as_written() -> None:
    np.testing.assert_array_equal(read_idx(idx(IMAGES), "images", dimensions=3), IMAGES)
    labels = np.array([7, 0, 9], dtype=np.uint8)
    np.testing.assert_array_equal(read_idx(idx(labels), "labels", dimensions=1), labels)


@given(st.integers(min_value=0, max_value=len(idx(IMAGES)) - 1))
def test_an_idx_file_cut_anywhere_is_refused(length: int) -> None:
    with pytest.raises(BadInput, match="images"):
        read_idx(idx(IMAGES)[:length], "images", dimensions=3)


def test_an_idx_file_with_trailing_bytes_is_refused() -> None:
    with pytest.raises(BadInput, match=r"labels has bytes after its end: 13 bytes, expected 11"):
        read_idx(idx(np.zeros(3, dtype=np.uint8)) + b"xx", "labels", dimensions=1)


@pytest.mark.parametrize("start", ["00000d03", "00000801", "01000803", "1f8b0803"])
def test_another_magic_number_is_refused_with_what_was_found(start: str) -> None:
    with pytest.raises(BadInput, match=rf"images .*starts with {start}, not 00000803"):
        read_idx(bytes.fromhex(start) + idx(IMAGES)[4:], "images", dimensions=3)


def test_a_header_that_promises_more_than_memory_holds_is_only_a_truncated_file() -> None:
    with pytest.raises(BadInput, match="truncated"):
        read_idx(bytes([0, 0, 8, 3]) + b"\xff" * 12, "images", dimensions=3)


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_cifar_records_are_turned_to_channels_last_and_the_fine_label_is_taken(label_bytes: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    labels = np.array([3, 1, 4, 1], dtype=np.uint8)
    coarse = [np.full((4, 1), 9, dtype=np.uint8)] * (label_bytes - 1)
    records = np.concatenate([*coarse, labels[:, None], pixels.transpose(0, 3, 1, 2).reshape(4, -1)], axis=1)
    images, found = read_cifar(records.tobytes(), "batch", label_bytes=label_bytes, images=4)
    np.testing.assert_array_equal(images, pixels)
    np.testing.assert_array_equal(found, labels)


@pytest.mark.parametrize(("change", "problem"), [(-1, "truncated"), (1, "bytes after its end"), (3073, "bytes after")])
def test_a_cifar_file_of_another_length_is_refused(change: int, problem: str) -> None:
    with pytest.raises(BadInput, match=rf"batch .*{problem}.*{2 * 3073 + change} bytes, expected {2 * 3073}"):
        read_cifar(bytes(2 * 3073 + change), "batch", label_bytes=1, images=2)


def test_an_image_of_another_size_is_refused() -> None:
    mnist = dataset_info("mnist")
    file = OfficialFile("images", "train", "images", 2, 0, "")
    with pytest.raises(BadInput, match=r"images holds images of shape \(2, 3, 4, 1\), expected \(2, 28, 28, 1\)"):
        read_images(mnist, file, idx(IMAGES))


@pytest.mark.parametrize("info", [dataset_info("mnist")])
def test_a_label_without_a_class_is_refused(info: OfficialDataset) -> None:
    file = OfficialFile("labels", "train", "labels", 2, 0, "")
    with pytest.raises(BadInput, match="labels holds the label 10, but MNIST has 10 classes"):
        read_labels(info, file, idx(np.array([1, 10], dtype=np.uint8)))
    with pytest.raises(BadInput, match="labels holds 3 labels, expected 2"):
        read_labels(info, file, idx(np.array([1, 2, 3], dtype=np.uint8)))


def test_a_file_is_read_whatever_its_compression(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    for name, written in (("a", content), ("a.gz", gzip.compress(content)), ("a.xz", lzma.compress(content))):
        (tmp_path / name).write_bytes(written)
        assert read_content(tmp_path / name) == content


@pytest.mark.parametrize("name", ["a.gz", "a.xz"])
@pytest.mark.parametrize("kept", [0.3, 0.99])
def test_a_truncated_compressed_file_is_refused_by_name(tmp_path: Path, name: str, kept: float) -> None:
    content = np.random.default_rng(0).bytes(5_000)
    compressed = gzip.compress(content) if name == "a.gz" else lzma.compress(content)
    (tmp_path / name).write_bytes(compressed[: int(len(compressed) * kept)])
    with pytest.raises(BadInput, match=rf"{name} is truncated or damaged"):
        read_content(tmp_path / name)


def test_no_more_is_unpacked_than_one_byte_past_the_limit(tmp_path: Path) -> None:
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1_000_000)))
    assert len(read_content(tmp_path / "bomb.gz", limit_bytes=100)) == 101


def test_a_file_that_is_not_there_is_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"cannot read .*nothing"):
        read_content(tmp_path / "nothing")
