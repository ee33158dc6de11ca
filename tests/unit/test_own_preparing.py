"""Data of somebody's own are kept under what is in them, decoded once, and leave nothing where they are refused."""

from __future__ import annotations

import os
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from storage.errors import BadInput
from storage.settings import Home
from studies.datasets.info import OwnDataset
from studies.datasets.own import preparing
from studies.datasets.own.kept import difference, digests_of, open_own, own_prepared
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from studies.form import FITS, Fit
from studies.spec import Images
from tests.picture_folders import by_hand, files, write


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pets"
    for name in ("cat", "dog"):
        for number in range(6):
            write(made / name / f"{number}.png", seed=number + 10 * (name == "dog"))
    return made


def quiet(_: str) -> None:
    """Report to nobody."""


def made(source: Path, home: Home, images: Images | None = None) -> PreparedDataset:
    return prepare(str(source), home, images=images, report=quiet)


def left(home: Home) -> list[str]:
    return sorted(entry.name for entry in home.downloads.parent.iterdir() if entry.name.startswith("."))


def test_a_folder_is_known_by_what_is_in_it(folder: Path, home: Home) -> None:
    dataset = made(folder, home)
    info = dataset.info
    assert isinstance(info, OwnDataset)
    assert (info.name, info.reference, info.class_names) == ("pets", str(folder), ("cat", "dog"))
    assert (info.shape, info.dtype, info.images("train"), info.has_test) == ((9, 7, 3), "uint8", 12, False)
    assert dataset.folder == home.own_dataset("pets", info.checksum)
    assert [one.folder for one in own_prepared(home)] == [dataset.folder]
    assert open_own(str(folder), home, info.checksum, verify=True) == dataset
    assert left(home) == []
    with Image.open(folder / "dog" / "3.png") as image:
        assert np.array_equal(dataset.train_images[9], np.asarray(image))


def test_what_was_read_is_not_read_again(folder: Path, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made(folder, home)
    monkeypatch.setattr(preparing, "decode", None)
    assert made(folder, home) == dataset
    assert made(folder / ".." / "pets", home) == dataset
    # On another machine the prepared form is enough.
    shutil.rmtree(folder)
    assert prepare(str(folder), home, checksum=dataset.info.checksum, report=quiet) == dataset


def test_a_touched_file_is_the_same_and_a_changed_one_is_not(folder: Path, home: Home) -> None:
    before = made(folder, home)
    os.utime(folder / "cat" / "0.png")
    assert made(folder, home) == before
    write(folder / "cat" / "0.png", seed=77)
    (folder / "dog" / "5.png").unlink()
    write(folder / "dog" / "new.png", seed=78)
    after = made(folder, home)
    assert after.info.checksum != before.info.checksum
    assert difference(before, after) == (
        "since the study was made, of its pictures: 1 new (dog/new.png), 1 gone (dog/5.png), 1 changed (cat/0.png)"
    )
    # What was prepared before stays for the studies that were made with it.
    assert open_own(str(folder), home, before.info.checksum, verify=True) == before


def test_another_form_is_another_data_set(folder: Path, home: Home) -> None:
    whole, small = made(folder, home), made(folder, home, Images(size=(4, 4), fit="pad"))
    assert small.info.shape == (4, 4, 3)
    assert small.info.fit == "pad"
    assert whole.info.checksum != small.info.checksum
    assert made(folder, home, Images(flips=False)).info.natural_images is False
    assert whole.info.natural_images is True


def test_folders_named_for_digits_are_never_mirrored(folder: Path, home: Home) -> None:
    (folder / "cat").rename(folder / "7")
    (folder / "dog").rename(folder / "12")
    assert made(folder, home).info.natural_images is False


def test_given_parts_stay_what_they_are(folder: Path, home: Home, tmp_path: Path) -> None:
    parted = tmp_path / "parted"
    for part in ("train", "val", "test"):
        shutil.copytree(folder, parted / part)
    (parted / "test" / "cat" / "0.png").unlink()
    dataset = made(parted, home)
    info = dataset.info
    assert isinstance(info, OwnDataset)
    assert (info.images("train"), info.given_validation, info.images("test")) == (24, 12, 11)
    images, labels = dataset.test()
    assert np.array_equal(images, dataset.train_images[1:12])
    assert labels.tolist() == [0] * 5 + [1] * 6
    digests = digests_of(dataset, "train")
    assert np.array_equal(digests[:12], digests[12:])
    assert np.isin(digests_of(dataset, "test"), digests).all()


def test_arrays_are_kept_as_they_are(home: Home, tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(30, 5)).astype(np.float32)
    np.savez(tmp_path / "table.npz", x_train=x, y_train=np.arange(30) % 3)
    dataset = made(tmp_path / "table.npz", home)
    assert (dataset.info.shape, dataset.info.dtype, dataset.info.is_picture) == ((5,), "float32", False)
    assert np.array_equal(dataset.train_images, x)
    assert dataset.train_labels.tolist() == (np.arange(30) % 3).tolist()


@pytest.mark.parametrize("wrong", ["broken", "one class", "loose picture"])
def test_a_folder_that_is_refused_leaves_nothing(wrong: str, folder: Path, home: Home) -> None:
    if wrong == "broken":
        (folder / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    elif wrong == "one class":
        shutil.rmtree(folder / "dog")
    else:
        write(folder / "loose.png")
    before = sorted(folder.rglob("*"))
    with pytest.raises(BadInput) as refused:
        made(folder, home)
    assert "\n" not in str(refused.value)
    assert sorted(folder.rglob("*")) == before
    assert not home.downloads.parent.exists() or sorted(home.downloads.parent.iterdir()) == []


def test_who_prepares_the_same_at_once_waits_for_who_was_first(folder: Path, home: Home) -> None:
    first = made(folder, home)
    work = home.decoding("pets", "0" * 16)
    waits, there = threading.Event(), []

    def second() -> None:
        with preparing._alone_in(work, waits.set):
            there.append(work.is_dir())

    other = threading.Thread(target=second)
    with preparing._alone_in(work, waits.clear):
        (work / "chunk").touch()
        other.start()
        assert waits.wait(10)
        assert there == []
    other.join(10)
    assert there == [True]
    assert left(home) == []
    assert made(folder, home) == first


Drawn = dict[str, dict[str, list[tuple[str, bytes, bool]]]]


@st.composite
def folders(draw: st.DrawFn) -> Drawn:
    """The files of each class of each part; one part without a name is a folder of classes alone."""
    parts = draw(st.sampled_from([[""], ["train", "test"], ["train", "val", "test"]]))
    classes = draw(
        st.lists(st.sampled_from(["cat", "Dog", "0", "1", "katze", "ねこ"]), min_size=2, max_size=3, unique=True)
    )
    own = st.lists(files(), min_size=3, max_size=5, unique_by=lambda file: file[0])
    return {part: {name: draw(own) for name in classes} for part in parts}


@settings(max_examples=8, deadline=None)
@given(drawn=folders(), size=st.tuples(st.integers(4, 24), st.integers(4, 24)), fit=st.sampled_from(FITS))
def test_a_folder_is_what_a_plain_loop_makes_of_it_or_refused(
    tmp_path_factory: pytest.TempPathFactory, drawn: Drawn, size: tuple[int, int], fit: Fit
) -> None:
    root = tmp_path_factory.mktemp("drawn")
    wanted: dict[str, list[tuple[np.ndarray, int]]] = {"train": [], "val": [], "test": []}
    for part, classes in drawn.items():
        for label, name in enumerate(sorted(classes)):
            for file, content, is_picture in sorted(classes[name]):
                # Without a picture's ending it would be passed over, since its content is none.
                write(root / "in" / part / name / (file if is_picture else f"{file}.broken.png"), content)
                if is_picture:
                    wanted[part or "train"].append((by_hand(content, size, fit), label))
    home = Home(root / "home")
    if not all(is_picture for classes in drawn.values() for own in classes.values() for _, _, is_picture in own):
        with pytest.raises(BadInput, match="cannot be read, more than 1%"):
            made(root / "in", home, Images(size=size, fit=fit))
        return
    dataset = made(root / "in", home, Images(size=size, fit=fit))
    colour = any((one[..., :1] != one).any() for rows in wanted.values() for one, _ in rows)
    splits = {"train": (dataset.train_images, dataset.train_labels)}
    if "test" in drawn:
        splits["test"] = dataset.test()
    for split, (images, labels) in splits.items():
        rows = wanted["train"] + wanted["val"] if split == "train" else wanted["test"]
        expected = np.stack([one for one, _ in rows])
        assert np.array_equal(images, expected if images.shape[-1] == 3 else expected[..., :1])
        assert labels.tolist() == [label for _, label in rows]
        assert images.shape[-1] == 3 or not colour
