"""Arrays of one's own are read as they were meant, or refused in one line."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from storage.errors import BadInput
from studies.datasets.own.arrays import Arrays, read_npz

LABELS = np.arange(12) % 3
PICTURES = np.random.default_rng(0).integers(0, 256, (12, 6, 5, 3), dtype=np.uint8)


def read(folder: Path, **arrays: Any) -> Arrays:
    np.savez_compressed(folder / "own.npz", **arrays)
    return read_npz(folder / "own.npz")


def refusal(file: Path) -> str:
    with pytest.raises(BadInput) as refused:
        read_npz(file)
    said = str(refused.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def test_pictures_of_three_parts_stay_as_they_are(tmp_path: Path) -> None:
    x, y = PICTURES, LABELS
    own = read(tmp_path, x_train=x, y_train=y, x_val=x[:3], y_val=y[:3], x_test=x[3:6], y_test=y[3:6, None])
    assert own.class_names == ("0", "1", "2")
    assert (own.is_pictures, own.remarks, len(own.parts)) == (True, (), 3)
    for (pixels, labels), rows in (
        (own.parts["train"], slice(0, 12)),
        (own.parts["validation"], slice(0, 3)),
        (own.parts["test"], slice(3, 6)),
    ):
        np.testing.assert_array_equal(pixels, x[rows])
        np.testing.assert_array_equal(labels, y[rows])
        assert pixels.dtype == np.uint8
        assert labels.dtype == np.int64


@pytest.mark.parametrize(
    ("x", "y"),
    [
        ("x", "y"),
        ("X", "Y"),
        ("X_train", "y_train"),
        ("train_images", "train_labels"),
        ("images_train", "target"),
        ("data", "labels"),
    ],
)
def test_the_arrays_have_the_names_that_people_give_them(tmp_path: Path, x: str, y: str) -> None:
    np.testing.assert_array_equal(read(tmp_path, **{x: PICTURES, y: LABELS}).parts["train"][0], PICTURES)


LARGEST = {"<f2": 2.0**15, ">f4": 2.0**63, "<f8": 2.0**63}


@given(
    data=st.data(),
    dtype=st.sampled_from(["u1", "?", "<i2", ">i4", "<i8", "<u4", *LARGEST]),
    shape=st.sampled_from([(6, 1), (6, 70), (6, 3, 4), (6, 2, 3, 4), (6, 5, 4, 2)]),
    fortran=st.booleans(),
    block_bytes=st.sampled_from([1, 40, 1 << 20]),
)
def test_numbers_that_are_no_pictures_are_read_as_numpy_has_them_in_blocks_of_any_size(
    tmp_path_factory: pytest.TempPathFactory,
    data: st.DataObject,
    dtype: str,
    shape: tuple[int, ...],
    fortran: bool,
    block_bytes: int,
) -> None:
    bounds = {"min_value": -LARGEST[dtype], "max_value": LARGEST[dtype]} if dtype in LARGEST else None
    x = data.draw(nps.arrays(dtype, shape, elements=bounds))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studies.datasets.own.numbers.archive.BLOCK_BYTES", block_bytes)
        own = read(tmp_path_factory.mktemp("own"), x=np.asfortranarray(x) if fortran else x, y=np.arange(6) % 2)
    numbers, _ = own.parts["train"]
    assert not own.is_pictures
    assert numbers.dtype == (np.uint8 if x.dtype.kind != "f" and x.min() >= 0 and x.max() <= 255 else np.float32)
    np.testing.assert_array_equal(numbers, x.astype(np.float32))


@given(
    pixels=nps.arrays(np.uint8, (6, 4, 5, 3), elements=st.integers(0, 255)),
    layout=st.sampled_from(["none", "last", "first"]),
    fortran=st.booleans(),
    dtype=st.sampled_from(["u1", "<i8", ">u2", "<f4", "<f8", "<f2", "unit <f4", "unit <f8", "unit <f2"]),
)
def test_pixels_come_back_exactly_however_they_were_written(
    tmp_path_factory: pytest.TempPathFactory, pixels: np.ndarray, layout: str, fortran: bool, dtype: str
) -> None:
    pixels[0, 0, :2] = [[255], [128]]
    if layout == "none":
        pixels = pixels[..., :1]
    written = {"none": pixels[..., 0], "last": pixels, "first": pixels.transpose(0, 3, 1, 2)}[layout]
    unit, _, name = dtype.rpartition(" ")
    stored = (written / 255).astype(name) if unit else written.astype(name)
    own = read(tmp_path_factory.mktemp("own"), x=np.array(stored, order="F" if fortran else "C"), y=np.arange(6) % 2)
    assert own.is_pictures
    assert own.parts["train"][0].dtype == np.uint8
    np.testing.assert_array_equal(own.parts["train"][0], pixels)
    assert any("nothing is lost" in remark for remark in own.remarks) == bool(unit)


def test_what_becomes_of_other_numbers_of_the_shape_of_pictures_is_said(tmp_path: Path) -> None:
    unit = np.random.default_rng(0).random((12, 6, 5, 3), dtype=np.float32)
    own = read(tmp_path, x=unit, y=LABELS)
    np.testing.assert_array_equal(own.parts["train"][0], np.round(unit * np.float64(255)).astype(np.uint8))
    assert "each is rounded to the nearest of 256 values" in own.remarks[0]

    own = read(tmp_path, x=unit[..., 0], y=LABELS)  # as well a series of measurements
    np.testing.assert_array_equal(own.parts["train"][0], unit[..., 0])
    assert "taken as numbers, not as pictures" in own.remarks[0]

    own = read(tmp_path, x=2 * unit - 1, y=LABELS)
    assert not own.is_pictures
    assert own.parts["train"][0].dtype == np.float32
    assert "taken as numbers, not as pictures" in own.remarks[0]

    own = read(tmp_path, x=PICTURES[..., 0] > 99, y=LABELS)
    assert set(np.unique(own.parts["train"][0])) == {0, 255}
    assert "black and white" in own.remarks[0]

    own = read(tmp_path, x=PICTURES // 16, y=LABELS)
    np.testing.assert_array_equal(own.parts["train"][0], PICTURES // 16)
    assert "pixels of 0 to 15 are taken as they are" in own.remarks[0]

    own = read(tmp_path, x=np.concatenate([PICTURES, PICTURES[..., :1]], axis=-1), y=LABELS)
    assert not own.is_pictures
    assert "if a channel is transparency, leave it out" in own.remarks[0]

    own = read(tmp_path, x=np.zeros((12, 784), np.uint8), y=LABELS, notes=np.zeros(3))
    assert own.remarks[0] == "passed over notes."
    assert "reshape(-1, 28, 28)" in own.remarks[1]


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (LABELS, ("0", "1", "2")),
        (LABELS[:, None].astype(np.uint8), ("0", "1", "2")),
        (LABELS * 5.0 - 5, ("-5", "0", "5")),
        (LABELS + 9, ("9", "10", "11")),
        (np.eye(3)[LABELS], ("0", "1", "2")),
        (np.eye(3, dtype=bool)[LABELS], ("0", "1", "2")),
        (np.array(["cat", "dog", "eel"])[LABELS], ("cat", "dog", "eel")),
        (np.array([b"cat", b"dog", "é".encode()])[LABELS], ("cat", "dog", "é")),
        (LABELS > 1, ("False", "True")),
    ],
)
def test_labels_are_whole_numbers_one_hot_names_or_truth_values(
    tmp_path: Path, labels: np.ndarray, names: tuple[str, ...]
) -> None:
    own = read(tmp_path, x=PICTURES, y=labels)
    assert own.class_names == names
    np.testing.assert_array_equal(own.parts["train"][1], LABELS if len(names) == 3 else LABELS > 1)


def test_class_names_name_the_numbers_and_order_the_names(tmp_path: Path) -> None:
    own = read(tmp_path, x=PICTURES, y=LABELS, class_names=["rock", "paper", "knife"])
    assert own.class_names == ("rock", "paper", "knife")
    np.testing.assert_array_equal(own.parts["train"][1], LABELS)
    names = np.array(["rock", "paper", "knife"])
    own = read(tmp_path, x=PICTURES, y=names[LABELS], class_names=names)
    assert own.class_names == ("rock", "paper", "knife")
    np.testing.assert_array_equal(own.parts["train"][1], LABELS)


NAN = np.zeros((12, 3), np.float32)
NAN[7, 1] = np.nan


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pictures": PICTURES, "y": LABELS}, "holds pictures, y. Name the arrays x_train and y_train, or x and y"),
        ({"x": PICTURES, "X": PICTURES, "y": LABELS}, "x and X, which mean the same"),
        ({"x": PICTURES, "y": LABELS, "x_test": PICTURES}, "holds x_test without its labels"),
        ({"x": PICTURES, "y": LABELS, "y_test": LABELS}, "holds y_test without its examples"),
        ({"x": PICTURES, "y": LABELS[:5]}, "x has the shape (12, 6, 5, 3), y (5,)"),
        ({"x": PICTURES[:0], "y": LABELS[:0]}, "is empty"),
        ({"x": NAN, "y": LABELS}, "x has nan in row 7"),
        ({"x": np.asfortranarray(NAN), "y": LABELS}, "x has nan in row 7"),
        ({"x": np.full((12, 3), 1e300), "y": LABELS}, "x has 1e+300 in row 0"),
        ({"x": NAN.astype(np.complex64), "y": LABELS}, "x is of type complex64"),
        ({"x": np.full((12, 3), "a"), "y": LABELS}, "x is of type <U1"),
        ({"x": np.zeros((12, 3), "M8[s]"), "y": LABELS}, "x is of type datetime64[s]"),
        ({"x": np.zeros((12, 3), [("a", int)]), "y": LABELS}, "x is of type [('a', '<i8')]"),
        ({"x": LABELS, "y": LABELS}, "x has the shape (12,): one number for each example"),
        ({"x": PICTURES, "y": LABELS + 0.5}, "y has the value 0.5 in row 0: models here tell classes apart"),
        ({"x": PICTURES, "y": NAN[:, 0] + NAN[:, 1]}, "y has the value nan in row 7"),
        ({"x": PICTURES, "y": LABELS * 0}, "y has the one class '0'"),
        ({"x": PICTURES, "y": np.arange(12) // 10}, "y has too few examples of 1 of 2 classes: '1' has 2; 3 of each"),
        ({"x": PICTURES, "y": np.eye(4)[LABELS]}, "y has too few examples of 1 of 4 classes: '3' has 0"),
        ({"x": PICTURES, "y": np.full((12, 3), 1 / 3)}, "row 0 is not one 1 among zeros"),
        ({"x": PICTURES, "y": PICTURES}, "y has the shape (12, 6, 5, 3)"),
        ({"x": PICTURES, "y": LABELS.astype("M8[s]")}, "y is of type datetime64[s]"),
        ({"x": PICTURES, "y": np.array(["", "b", "c"])[LABELS]}, "y has no label in row 0 (4 in all)"),
        ({"x": PICTURES, "y": np.array([b"\xff", b"b", b"c"])[LABELS]}, "y has names that are not UTF-8"),
        ({"x": PICTURES, "y": LABELS, "x_test": PICTURES, "y_test": LABELS + 1}, "y_test has labels that are none"),
        ({"x": PICTURES, "y": LABELS, "x_test": PICTURES, "y_test": LABELS.astype(str)}, "Write both in one way"),
        ({"x": PICTURES, "y": LABELS, "x_test": PICTURES[:, 1:], "y_test": LABELS}, "Give all one shape"),
        ({"x": PICTURES, "y": LABELS, "x_test": PICTURES / 255, "y_test": LABELS}, "Give all parts one scale"),
        ({"x": PICTURES, "y": LABELS, "class_names": ["a", "b"]}, "none of the 2 classes of y: 2"),
        ({"x": PICTURES, "y": LABELS, "class_names": ["a", "b", "b"]}, "are not all different"),
        ({"x": PICTURES, "y": np.eye(3)[LABELS], "class_names": ["a", "b"]}, "y has 3 columns, but 2 class names"),
        ({"x": PICTURES, "y": LABELS, "class_names": [1, 2, 3]}, "class_names is int64"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, arrays: dict[str, Any], said: str) -> None:
    np.savez(tmp_path / "own.npz", **arrays)
    assert said in refusal(tmp_path / "own.npz")


def test_as_many_examples_of_a_class_are_needed_as_parts_must_be_split_off(tmp_path: Path) -> None:
    x, y = PICTURES[:3], np.array([0, 1, 1])
    np.savez(tmp_path / "own.npz", x=x, y=y, x_val=x, y_val=y)
    assert "'0' has 1; 2 of each are needed, for training and one other part" in refusal(tmp_path / "own.npz")
    assert len(read(tmp_path, x=x, y=y, x_val=x, y_val=y, x_test=x, y_test=y).parts) == 3


class Bang:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("opened"),))


def test_a_pickle_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    held = np.empty(12, object)
    held[:] = [Bang() for _ in range(12)]
    np.savez(tmp_path / "own.npz", x=PICTURES, y=held)
    assert "pickles are not opened" in refusal(tmp_path / "own.npz")
    (tmp_path / "own.npz").write_bytes(pickle.dumps(Bang()))
    assert "is no .npz file" in refusal(tmp_path / "own.npz")
    assert not Path("opened").exists()


@given(st.integers(0, 2000), st.booleans())
def test_a_file_that_is_cut_or_has_another_byte_is_refused_or_read_right(
    tmp_path_factory: pytest.TempPathFactory, place: int, cut: bool
) -> None:
    stream = io.BytesIO()
    np.savez(stream, x=PICTURES, y=LABELS)
    content = bytearray(stream.getvalue())
    place %= len(content)
    if cut:
        del content[place:]
    else:
        content[place] ^= 255
    file = tmp_path_factory.mktemp("own") / "own.npz"
    file.write_bytes(content)
    try:
        own = read_npz(file)
    except BadInput as refused:
        assert "\n" not in str(refused)  # noqa: PT017
    else:
        np.testing.assert_array_equal(own.parts["train"][0], PICTURES)


def test_a_header_that_promises_more_than_there_is_and_a_file_larger_than_the_memory_are_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**9)})
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue())
        archive.writestr("y.npy", header.getvalue())
    assert "says that it is uint8 of shape (1000000000, 1000000000), but it has 0 bytes" in refusal(
        tmp_path / "own.npz"
    )

    np.savez_compressed(tmp_path / "own.npz", x=np.zeros((12, 100_000), np.uint8), y=LABELS)
    monkeypatch.setattr("os.sysconf", lambda _: 1000)
    assert "has 0.0 GB of values, this machine 0.0 GB of memory" in refusal(tmp_path / "own.npz")


def test_names_that_cannot_be_printed_leave_a_message_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a\nb\udcff.npz"
    arrays: dict[str, Any] = {"x\n1": PICTURES, "y": LABELS}
    np.savez(tmp_path / "own.npz", **arrays)
    (tmp_path / "own.npz").rename(file)
    said = refusal(file)
    assert r"a\nb\udcff.npz holds x\n1, y." in said
    said.encode()


def test_a_file_that_is_not_there_or_holds_no_arrays_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.npz")
    with zipfile.ZipFile(tmp_path / "own.npz", "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert "holds no arrays" in refusal(tmp_path / "own.npz")
