"""What Hugging Face's `datasets` has saved is read as it was meant, or refused in one line.

Where the library is not installed, a small one stands in for it that has what is asked of it; where it is, all of this
is true of the real one.
"""

from __future__ import annotations

import importlib.util
import json
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.errors import BadInput
from studies.datasets.own.arrays import Arrays
from studies.datasets.own.hugging_face import read_saved
from studies.datasets.own.listing import Listing

INSTALLED = importlib.util.find_spec("datasets") is not None
LABELS = [0, 1, 2] * 3
CONTENTS = [bytes([number]) * 5 for number in range(9)]


@dataclass
class Image:
    decode: bool = True


@dataclass
class ClassLabel:
    names: list[str]


@dataclass
class Value:
    dtype: str


@dataclass
class Dataset:
    """Some columns in memory; `load_from_disk` returns what was said of a folder."""

    columns: dict[str, list[Any]]
    features: dict[str, Any]
    numpy: bool = False
    saved: dict[str, Any] = field(default_factory=dict)

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.columns.values())))

    def select_columns(self, names: list[str]) -> Dataset:
        return replace(self, columns={name: self.columns[name] for name in names})

    def cast_column(self, name: str, kind: Any) -> Dataset:
        return replace(self, features={**self.features, name: kind})

    def with_format(self, name: str) -> Dataset:
        return replace(self, numpy=name == "numpy")

    def __getitem__(self, rows: slice) -> dict[str, Any]:
        found = {name: values[rows] for name, values in self.columns.items()}
        for name in found:
            kind = self.features[name]
            assert not isinstance(kind, Image) or not kind.decode, "pictures are not decoded here"
        if not self.numpy:
            return found
        return {name: _as_numpy(values) for name, values in found.items()}


def _as_numpy(values: list[Any]) -> np.ndarray:
    try:
        array = np.array([np.nan if value is None else value for value in values])
    except ValueError:
        array = np.empty(len(values), dtype=object)
        array[:] = values
    return array.astype(np.float32) if array.dtype == np.float64 else array


class Save:
    """Saves columns, with the real library where it is installed."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder / "saved"
        self.scratch = folder / "scratch"
        self._saved: dict[str, Any] = {}
        if not INSTALLED:
            module = types.ModuleType("datasets")
            module.__dict__.update(
                Image=Image, ClassLabel=ClassLabel, disable_progress_bars=lambda: None, load_from_disk=self._load
            )
            monkeypatch.setitem(sys.modules, "datasets", module)

    def _load(self, folder: str) -> Any:
        if folder not in self._saved:
            raise FileNotFoundError(f"Directory {folder} not found\nor is neither a Dataset nor a DatasetDict")
        return self._saved[folder]

    def __call__(self, parts: Mapping[str, Any], **kinds: Any) -> None:
        alone = isinstance(next(iter(parts.values())), list)
        every = {"train": parts} if alone else parts
        made = {name: self._made(columns, kinds) for name, columns in every.items()}
        if not INSTALLED:
            self._saved[str(self.folder)] = made["train"] if alone else made
            return
        import datasets

        saved = made["train"] if alone else datasets.DatasetDict(made)
        saved.save_to_disk(str(self.folder))

    def _made(self, columns: Any, kinds: dict[str, Any]) -> Any:
        if not INSTALLED:
            return Dataset(columns, {name: kinds.get(name, Value("any")) for name in columns})
        import datasets

        made = datasets.Dataset.from_dict(columns)
        for name, kind in kinds.items():
            real = datasets.Image() if isinstance(kind, Image) else datasets.ClassLabel(names=kind.names)
            made = made.cast_column(name, real)
        return made

    def read(self) -> Listing | Arrays:
        before = [(path, path.stat().st_mtime_ns) for path in sorted(self.folder.rglob("*"))]
        read = read_saved(self.folder, self.scratch)
        assert [(path, path.stat().st_mtime_ns) for path in sorted(self.folder.rglob("*"))] == before
        return read

    def listing(self) -> Listing:
        read = self.read()
        assert isinstance(read, Listing)
        return read

    def arrays(self) -> Arrays:
        read = self.read()
        assert isinstance(read, Arrays)
        return read

    def refusal(self) -> str:
        with pytest.raises(BadInput) as refused:
            read_saved(self.folder, self.scratch)
        said = str(refused.value)
        assert "\n" not in said
        return said


@pytest.fixture
def save(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Save:
    return Save(tmp_path, monkeypatch)


def held(contents: list[bytes], names: list[str | None] | None = None) -> list[dict[str, Any]]:
    return [{"bytes": content, "path": name} for content, name in zip(contents, names or [None] * 9, strict=False)]


def test_pictures_inside_a_table_become_files_byte_by_byte_with_their_classes(save: Save) -> None:
    columns = {"image": held(CONTENTS), "label": LABELS}
    few = {"image": held(CONTENTS[:3], ["a.png", "b.jpg", None]), "label": LABELS[:3]}
    save({"train": columns, "test": few, "Validation": few}, image=Image(), label=ClassLabel(["eel", "cat", "dog"]))
    own = save.listing()
    assert own.class_names == ("eel", "cat", "dog")
    assert {part: len(files) for part, files in own.parts.items()} == {"train": 9, "test": 3, "validation": 3}
    for files in own.parts.values():
        assert [(own.root / file.path).read_bytes() for file in files] == CONTENTS[: len(files)]
        assert [file.label for file in files] == LABELS[: len(files)]
    assert [Path(file.path).suffix for file in own.parts["test"]] == [".png", ".jpg", ""]


def test_pictures_that_are_files_are_listed_where_they_are(save: Save, tmp_path: Path) -> None:
    files = [tmp_path / f"{number}.png" for number in range(9)]
    for file, content in zip(files, CONTENTS, strict=True):
        file.write_bytes(content)
    save({"image": [{"bytes": None, "path": str(file)} for file in files], "label": LABELS}, image=Image())
    own = save.listing()
    assert [(own.root / file.path).read_bytes() for file in own.parts["train"]] == CONTENTS
    assert own.class_names == ("0", "1", "2")
    if not INSTALLED:  # versions of today save what is in the files; former ones saved their paths
        assert [own.root / file.path for file in own.parts["train"]] == files
        assert not save.scratch.exists()


def test_a_picture_that_is_missing_is_left_to_those_that_cannot_be_read(save: Save) -> None:
    save({"image": [*held(CONTENTS[:8]), None], "label": LABELS}, image=Image())
    own = save.listing()
    assert (own.root / own.parts["train"][8].path).read_bytes() == b""


def test_arrays_and_names_as_classes(save: Save) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6, 5))
    save({"pixels": pixels.tolist(), "id": list(range(9)), "label": ["b", "a", "c"] * 3})
    own = save.arrays()
    assert own.is_pictures
    assert own.class_names == ("a", "b", "c")
    np.testing.assert_array_equal(own.parts["train"][0], pixels[..., None])
    np.testing.assert_array_equal(own.parts["train"][1], [1, 0, 2] * 3)
    assert own.remarks == ("passed over id.",)


@pytest.mark.parametrize("block_bytes", [1, 1 << 20])
def test_columns_of_numbers(save: Save, monkeypatch: pytest.MonkeyPatch, block_bytes: int) -> None:
    monkeypatch.setattr("studies.datasets.own.hugging_face.BLOCK_BYTES", block_bytes)
    numbers = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    save({"width": numbers[:, 0].tolist(), "target": LABELS, "height": numbers[:, 1].tolist()})
    own = save.arrays()
    assert not own.is_pictures
    np.testing.assert_array_equal(own.parts["train"][0], numbers)


def test_what_is_left_out_is_told(save: Save) -> None:
    columns = {"x": [[1.5, 2.0]] * 9, "fine": LABELS}
    hidden = {"x": [[1.5, 2.0]] * 9, "fine": [-1] * 9}
    save({"train": columns, "test": hidden, "extra": columns}, fine=ClassLabel(["a", "b", "c", "d"]))
    own = save.arrays()
    assert (own.class_names, list(own.parts)) == (("a", "b", "c"), ["train"])
    assert own.remarks == (
        "passed over the split extra, which is none of train, validation and test.",
        "passed over the split test, whose classes are not told.",
        "1 of 4 classes have no example, and are left out.",
    )


ROWS = {"x": [[1.5, 2.0]] * 9, "label": LABELS}


@pytest.mark.parametrize(
    ("parts", "kinds", "said"),
    [
        ({"all": ROWS}, {}, "has the splits all. Name one of them train"),
        ({"train": ROWS, "training": ROWS}, {}, "has two splits for train: train, training"),
        (
            {"train": ROWS, "test": {"y": [1] * 9, "label": LABELS}},
            {},
            "train has the columns x, label, test has y, label",
        ),
        ({"x": [1] * 9, "kind": LABELS}, {}, "has the columns x, kind, and which has the classes is not told"),
        (
            {"x": [1] * 9, "label": [-1, *LABELS[1:]]},
            {"label": ClassLabel(["a", "b", "c"])},
            "the class of row 0 (1 in",
        ),
        ({"x": [1] * 9, "label": [0.5] * 9}, {}, "has the value 0.5 in row 0: models here tell classes apart"),
        ({"x": [1] * 9, "label": [*LABELS[:8], 3]}, {}, "too few examples of 2 of 4 classes"),
        ({"text": ["a"] * 9, "label": LABELS}, {}, "not all others are numbers: text"),
        ({"label": LABELS}, {}, "none of pictures or alone of arrays"),
        (
            {"x": [[1.5, 2.0], [1.0]] * 4 + [[1.0]], "label": LABELS},
            {},
            "does not have numbers of one shape in all rows",
        ),
        ({"x": [*[1.5] * 8, None], "label": LABELS}, {}, "has nan in row 8"),
        (
            {"one": held(CONTENTS), "two": held(CONTENTS), "label": LABELS},
            {"one": Image(), "two": Image()},
            "has 2 columns of pictures: one, two",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_in_one_line(save: Save, parts: Any, kinds: dict[str, Any], said: str) -> None:
    save(parts, **kinds)
    assert said in save.refusal()


def test_a_folder_of_something_else_is_refused(save: Save) -> None:
    assert "is no folder that datasets has saved" in save.refusal()
    save.folder.mkdir()
    (save.folder / "state.json").write_text(json.dumps({}))
    assert "is no folder that datasets has saved" in save.refusal()


def test_where_the_library_is_not_installed_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(BadInput, match=r"python\S* -m pip install -e '\.\[datasets\]'"):
        read_saved(tmp_path, tmp_path / "scratch")
