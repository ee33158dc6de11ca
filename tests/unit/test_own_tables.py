"""Tables of one's own are read as they were meant, whatever program wrote them, or refused in one line."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.errors import BadInput
from studies.datasets.own.arrays import Arrays
from studies.datasets.own.listing import Listing
from studies.datasets.own.tables import read_table

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 64), dtype=np.uint8)
CLASSES = np.arange(9) % 3


def written(folder: Path, text: str | bytes, name: str = "own.csv") -> Path:
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


def arrays(file: Path) -> Arrays:
    own = read_table(file)
    assert isinstance(own, Arrays)
    return own


def listing(file: Path) -> Listing:
    own = read_table(file)
    assert isinstance(own, Listing)
    return own


def wide(pixels: np.ndarray, labels: np.ndarray | list[str], *, label: str = "label", prefix: str = "pixel") -> str:
    names = [label, *(f"{prefix}{number}" for number in range(pixels.shape[1]))]
    rows = [",".join(map(str, [name, *row])) for name, row in zip(labels, pixels.tolist(), strict=True)]
    return "\n".join([",".join(names), *rows]) + "\n"


def refusal(file: Path) -> str:
    with pytest.raises(BadInput) as refused:
        read_table(file)
    said = str(refused.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for name in "abcdef":
        (tmp_path / f"{name}.png").touch()
    return tmp_path


SIX = [("a.png", "cat"), ("b.png", "dog"), ("c.png", "cat"), ("d.png", "dog"), ("e.png", "dog"), ("f.png", "cat")]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("quoted", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("packed", [False, True])
def test_what_program_wrote_a_table_makes_no_difference(
    pictures: Path, separator: str, line_end: str, quoted: int, mark: str, packed: bool
) -> None:
    for rows in ([("File_Name", "note", " Label "), *((path, "x", label) for path, label in SIX)],
                 [("Label", *(f"pixel{number}" for number in range(64))),
                  *((str(label), *row) for label, row in zip(CLASSES, PIXELS.tolist(), strict=True))]):  # fmt: skip
        stream = io.StringIO()
        csv.writer(stream, delimiter=separator, lineterminator=line_end, quoting=quoted).writerows(rows)  # type: ignore[arg-type]
        text = (mark + stream.getvalue()).encode()
        own = read_table(written(pictures, gzip.compress(text) if packed else text))
        if isinstance(own, Listing):
            assert [(file.path, own.class_names[file.label]) for file in own.parts["train"]] == SIX
        else:
            np.testing.assert_array_equal(own.parts["train"][0], PIXELS.reshape(9, 8, 8, 1))
            np.testing.assert_array_equal(own.parts["train"][1], CLASSES)


def test_pixels_in_a_row_are_pictures_and_three_squares_have_colour(tmp_path: Path) -> None:
    own = arrays(written(tmp_path, wide(PIXELS, CLASSES)))
    assert (own.is_pictures, own.class_names) == (True, ("0", "1", "2"))
    np.testing.assert_array_equal(own.parts["train"][0], PIXELS.reshape(9, 8, 8, 1))
    assert own.remarks == ("64 columns are taken as pixels of 8x8 (height x width), row by row, one channel.",)
    own = arrays(written(tmp_path, wide(PIXELS[:, :48], CLASSES)))
    np.testing.assert_array_equal(own.parts["train"][0], PIXELS[:, :48].reshape(9, 4, 4, 3))
    assert "three channels, side by side for each pixel" in own.remarks[0]
    own = arrays(written(tmp_path, wide(PIXELS / 255, CLASSES)))
    np.testing.assert_array_equal(own.parts["train"][0], PIXELS.reshape(9, 8, 8, 1))


@pytest.mark.parametrize("prefix", ["f", "pixel"])
def test_what_is_no_picture_is_a_row_of_numbers(tmp_path: Path, prefix: str) -> None:
    numbers = np.random.default_rng(0).normal(size=(9, 192))
    own = arrays(written(tmp_path, wide(numbers, CLASSES, prefix=prefix)))
    assert (own.is_pictures, own.remarks) == (False, ())
    np.testing.assert_array_equal(own.parts["train"][0], numbers.astype(np.float32))
    own = arrays(written(tmp_path, wide(np.abs(numbers) % 1, CLASSES, prefix=prefix)))
    np.testing.assert_array_equal(own.parts["train"][0], (np.abs(numbers) % 1).astype(np.float32))
    own = arrays(written(tmp_path, wide(PIXELS, CLASSES, prefix="f")))
    assert not own.is_pictures
    np.testing.assert_array_equal(own.parts["train"][0], PIXELS)


def test_columns_of_pixels_that_were_sorted_as_text_are_put_in_order(tmp_path: Path) -> None:
    names = sorted((f"pixel{number}" for number in range(64)), key=str)
    rows = [",".join(map(str, [*row[[int(name[5:]) for name in names]], label])) for row, label in zip(PIXELS, CLASSES, strict=True)]  # fmt: skip  # noqa: E501
    own = arrays(written(tmp_path, "\n".join([",".join([*names, "label"]), *rows])))
    np.testing.assert_array_equal(own.parts["train"][0], PIXELS.reshape(9, 8, 8, 1))
    assert own.remarks[0] == "the columns of pixels are taken in the order of their numbers."


@given(
    values=st.lists(st.floats(-1e18, 1e18), min_size=6, max_size=6),
    block_bytes=st.sampled_from([1, 100, 1 << 20]),
    parts=st.lists(st.sampled_from(["train", "Val", "TEST"]), min_size=6, max_size=6),
)
def test_a_table_of_numbers_is_read_in_blocks_of_any_size_and_its_rows_go_to_their_parts(
    tmp_path_factory: pytest.TempPathFactory, values: list[float], block_bytes: int, parts: list[str]
) -> None:
    rows = [(value, label, part) for value, part in zip(values, parts, strict=True) for label in ("a", "b")]
    rows += [(0.0, label, "train") for label in "ab" for _ in range(3)]
    text = "\n".join(["height,class,split", *(f"{value!r},{label},{part}" for value, label, part in rows)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("studies.datasets.own.columns.BLOCK_BYTES", block_bytes)
        own = arrays(written(tmp_path_factory.mktemp("own"), text))
    assert own.class_names == ("a", "b")
    for part, name in (("train", "train"), ("validation", "val"), ("test", "test")):
        expected = [(np.float32(value), "ab".index(label)) for value, label, said in rows if said.lower() == name]
        assert (part in own.parts) == bool(expected)
        if expected:
            numbers, labels = own.parts[part]  # type: ignore[index]
            assert list(zip(numbers[:, 0].astype(np.float32), labels, strict=True)) == expected


def test_numbers_as_classes_are_counted_as_numbers_and_words_stay_words(tmp_path: Path) -> None:
    labels = ["10", "9", "NA"] * 3
    assert arrays(written(tmp_path, wide(PIXELS, labels))).class_names == ("10", "9", "NA")
    assert arrays(written(tmp_path, wide(PIXELS, ["10", "9", " 8"] * 3))).class_names == ("8", "9", "10")
    assert arrays(written(tmp_path, wide(PIXELS, ["007", "9", "8"] * 3))).class_names == ("007", "8", "9")


def test_pictures_of_a_listing_may_lie_elsewhere_and_be_split(pictures: Path) -> None:
    folder = pictures / "tables"
    folder.mkdir()
    places = [f"../{path}" for path, _ in SIX[:5]] + [str(pictures / "f.png")]
    splits = ["train", "train", "val", "valid", "test", "Test"]
    rows = [f"{path},{label},{part}" for path, (_, label), part in zip(places, SIX, splits, strict=True)]
    own = listing(written(folder, "\n".join(["image,category,split", *rows, "", f"./{places[0]},cat,train"])))
    assert own.root == folder
    assert own.class_names == ("cat", "dog")
    assert [(part, [file.path for file in files]) for part, files in own.parts.items()] == [
        ("train", places[:2]),
        ("validation", places[2:4]),
        ("test", places[4:]),
    ]
    assert own.remarks == ("1 rows name a picture once more; each is taken once.",)


def test_a_path_written_on_windows_is_found(pictures: Path) -> None:
    (pictures / "own").mkdir()
    for path, _ in SIX:
        (pictures / "own" / path).touch()
    own = listing(written(pictures, "\n".join(["path,label", *(f"own\\{path},{label}" for path, label in SIX)])))
    assert [file.path for file in own.parts["train"]] == [f"own/{path}" for path, _ in SIX]


@pytest.mark.parametrize("name", ["metadata.csv", "metadata.jsonl"])
def test_the_metadata_of_an_image_folder_is_read_and_its_folders_name_the_parts(tmp_path: Path, name: str) -> None:
    for part in ("train", "test"):
        (tmp_path / part).mkdir()
        for path, _ in SIX:
            (tmp_path / part / path).touch()
    rows = [(f"{part}/{path}", label) for part in ("train", "test") for path, label in SIX]
    if name.endswith("csv"):
        text = "\n".join(["file_name,label", *(f"{path},{label}" for path, label in rows)])
    else:
        text = "\n".join(json.dumps({"file_name": path, "label": label, "note": None}) for path, label in rows)
    own = listing(written(tmp_path, text, name))
    assert {part: [file.path for file in files] for part, files in own.parts.items()} == {
        part: [f"{part}/{path}" for path, _ in SIX] for part in ("train", "test")
    }


PATH_ROWS = "".join(f"{path},{label}\n" for path, label in SIX)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        (b"\x00\x01\x02", "is no table"),
        ("path,label\né.png,cat\n".encode("latin-1"), "is not UTF-8"),
        ("path,label\n".encode("utf-16"), "is not UTF-8"),
        (gzip.compress(wide(PIXELS, CLASSES).encode())[:-20], "is truncated or damaged"),
        ("label\n1\n", "has the one column 'label'"),
        ("label,pixel0\n", "has no rows to train on"),
        ("path,label\n", "has no pictures to train on"),
        (
            "species,height\n1,2\n",
            "has no column label, class, category, target or class_name; its columns are 'species'",
        ),
        ("path,species\na.png,cat\n", "its columns are 'path', 'species'. Name the one with the classes label"),
        (PATH_ROWS, "has no line with the names of its columns: it begins with 'a.png', 'cat'"),
        ("5,0,0.5,-1e3\n4,1,2,3\n", "has no line with the names of its columns: it begins with '5', '0', '0.5'"),
        ("label,path,Label\n1,a.png,2\n", "has 2 columns 'label'"),
        ("path,label\na.png,cat\nb.png\n", "has 1 fields in line 3, its first line has 2"),
        ("path,label\na.png,\n", "has no label in line 2"),
        ("path,label\n ,cat\n", "has no path in line 2"),
        ('path,label\n"a.png,cat\n', "is no table"),
        (
            "path,label\n" + PATH_ROWS + "a.png,dog\n",
            "a.png has the classes 'cat' and 'dog'; the second one is in line 8",
        ),
        ("path,label,split\na.png,1,train\na.png,1,test\n", "a.png has the parts train and test"),
        ("path,label,split\na.png,1,fold3\n", "has the split 'fold3' in line 2"),
        ("path,label\n" + PATH_ROWS + "x.png,cat\ny.png,cat\n", "2 of 8 pictures that"),
        ("path,label\na.png,cat\nb.png,dog\n", "too few examples of 2 of 2 classes"),
        ("path,label\n" + PATH_ROWS.replace("dog", "cat"), "has the one class 'cat'"),
        ("a,label\n1,x\n,y\n", "column 'a' has '' in line 3, which is no number"),
        ("a,label\n1,x\nnan,y\n", "column 'a' has 'nan' in line 3, which is no number"),
        ("a,label\n1,x\ninf,y\n", "column 'a' has 'inf' in line 3, which is no number"),
        ("a,city,label\n1,3,x\n1,Rome,y\n", "column 'city' has 'Rome' in line 3, which is no number"),
        ("a,b,label\n1,3,x\n1,3\n", "column 'label' is empty in line 3"),
        ("a,label,split\n1,x,train\n1,y,some\n", "column 'split' has 'some' in line 3"),
        ("a,label\n1,x,3\n1,y,3\n", "has rows with more than the 2 fields of its first line"),
        ("a,label\n1,x\n1,y,3\n", "is no table"),
        ("a,label\n1,0.5\n2,0.7\n3,0.6\n", "has too few examples of 3 of 3 classes: '0.5' has 1"),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(pictures: Path, text: str | bytes, said: str) -> None:
    assert said in refusal(written(pictures, text))


def test_lines_that_are_no_json_are_refused(tmp_path: Path) -> None:
    assert "line 2 is no JSON object" in refusal(written(tmp_path, '{"file_name": "a", "label": 1}\n[1', "m.jsonl"))
    assert "has no label in line 1: it has 'file_name'" in refusal(written(tmp_path, '{"file_name": "a"}', "m.jsonl"))


def test_names_that_cannot_be_printed_leave_a_message_in_one_line(pictures: Path) -> None:
    text = b'path,label\n"x\ny.png",cat\n' + b"a.png,dog\n"
    for folder in (pictures / "a\nb\udcff", pictures):
        folder.mkdir(exist_ok=True)
        said = refusal(written(folder, text))
        assert r"'x\ny.png'" in said
        said.encode()


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.csv")
