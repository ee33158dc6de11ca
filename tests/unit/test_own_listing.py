"""Folders of class folders are listed as Keras lists them, whatever else lies there, or refused in one line."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.errors import BadInput
from studies.datasets.own.listing import Listing, Part, PictureFile, is_picture, list_folder, require_pictures
from tests.picture_folders import MODES, encoded, picture, write

PNG = encoded(picture("RGB", (3, 3), 0), "PNG")


def fill(root: Path, *names: str, count: int = 3) -> Path:
    """Class folders with pictures `0.png`, `1.png` and so on."""
    for name in names:
        for number in range(count):
            write(root / name / f"{number}.png", PNG)
    return root


def paths(listing: Listing, part: Part = "train") -> list[str]:
    return [file.path for file in listing.parts[part]]


def refusal(root: Path) -> str:
    with pytest.raises(BadInput) as caught:
        list_folder(root)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value).replace(str(root), "ROOT")


NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="/\0."), min_size=1, max_size=6)


@settings(max_examples=40)
@given(
    classes=st.lists(NAMES, min_size=2, max_size=4, unique=True),
    inside=st.lists(
        st.tuples(st.lists(NAMES, max_size=2), st.sampled_from(["é", "z", "A", "a b", "a-b"])), min_size=3, max_size=8
    ),
    train=st.booleans(),
)
def test_classes_and_files_are_sorted_as_keras_sorts_them(
    tmp_path_factory: pytest.TempPathFactory,
    classes: list[str],
    inside: list[tuple[list[str], str]],
    train: bool,
) -> None:
    root = tmp_path_factory.mktemp("pictures")
    top = root / "train" if train else root
    written = {("/".join([*folders, f"{name}{number}.png"])) for number, (folders, name) in enumerate(inside)}
    for name in classes:
        for path in written:
            write(top / name / path, PNG)
    listing = list_folder(root)
    assert listing.class_names == tuple(sorted(classes))
    expected = [
        (os.path.relpath(os.path.join(folder, file), root), label)
        for label, name in enumerate(sorted(classes))
        for folder, _, names in sorted(os.walk(top / name), key=lambda walked: walked[0])
        for file in sorted(names)
    ]
    assert [(file.path, file.label) for file in listing.parts["train"]] == expected
    assert listing.remarks == ()


@pytest.mark.parametrize(
    "names", [("train", "val", "test"), ("Train", "VALID", "TEST"), ("train", "validation", "test")]
)
def test_parts_are_told_by_their_names(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        fill(tmp_path / name, "a", "b", count=1)
    listing = list_folder(tmp_path)
    assert list(listing.parts) == ["train", "validation", "test"]
    for part, name in zip(listing.parts, names, strict=True):
        assert listing.parts[part] == (PictureFile(f"{name}/a/0.png", 0), PictureFile(f"{name}/b/0.png", 1))


def test_a_part_may_be_left_out_and_its_name_may_be_a_class(tmp_path: Path) -> None:
    assert list(list_folder(fill(tmp_path / "1", "train/a", "train/b")).parts) == ["train"]
    assert list(list_folder(fill(tmp_path / "2", "train/a", "train/b", "test/a", "test/b")).parts) == ["train", "test"]
    assert list_folder(fill(tmp_path / "3", "train", "plane", "car")).class_names == ("car", "plane", "train")
    assert list_folder(fill(tmp_path / "4", "test", "exam")).class_names == ("exam", "test")


def test_what_is_no_picture_is_passed_over_and_counted(tmp_path: Path) -> None:
    root = fill(tmp_path, "a", "b")
    for name in ("a/Thumbs.db", "a/LICENSE", "b/notes.txt", "b/more.txt", "b/BM.txt", "README.md"):
        write(root / name, b"BMwords, not a bitmap")
    for name in (".DS_Store", "a/._0.png", "a/.ipynb_checkpoints/0.png", ".git/x.png"):
        write(root / name, PNG)
    os.mkfifo(root / "a" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "b" / "s.png"))
    (root / "a" / "broken.png").symlink_to("nowhere")
    (root / "a" / "itself.png").symlink_to("itself.png")
    listing = list_folder(root)
    assert paths(listing) == [f"{name}/{number}.png" for name in "ab" for number in range(3)]
    assert sorted(listing.remarks) == [
        "2 links that lead nowhere passed over",
        "2 pipes, sockets or devices passed over",
        "4 hidden files or folders passed over",
        "6 files that are no pictures passed over (3 .txt, 1 .md, 1 LICENSE, 1 .db)",
    ]


@pytest.mark.parametrize("kind", MODES)
def test_a_picture_is_told_by_its_first_bytes_or_by_its_ending(tmp_path: Path, kind: str) -> None:
    root = fill(tmp_path, "a", "b")
    for mode in MODES[kind]:
        content = encoded(picture(mode, (5, 4), 0), kind)
        assert is_picture(content[:18])
        write(root / "a" / f"x{mode.replace(';', '')}.dat", content)
    write(root / "b" / "no picture.HEIC", b"")
    listing = list_folder(root)
    assert len([path for path in paths(listing) if path.endswith(".dat")]) == len(MODES[kind])
    assert "b/no picture.HEIC" in paths(listing)
    assert not is_picture(b"")


def test_links_are_followed_once_and_out_of_the_folder_but_never_round(tmp_path: Path) -> None:
    outside = fill(tmp_path / "outside", "more", count=2)
    root = fill(tmp_path / "in", "a/z", "b")
    (root / "a" / "again").symlink_to("z")  # before the folder itself by name
    (root / "a" / "loop").symlink_to("..", target_is_directory=True)
    (root / "a" / "z" / "self").symlink_to(".")
    (root / "a" / "out").symlink_to(outside / "more")
    (root / "a" / "one.png").symlink_to(outside / "more" / "0.png")
    (root / "c").symlink_to(outside)
    write(outside / "x.png", PNG)
    listing = list_folder(root)
    assert paths(listing) == [
        *("a/one.png", "a/out/0.png", "a/out/1.png", "a/z/0.png", "a/z/1.png", "a/z/2.png"),
        *("b/0.png", "b/1.png", "b/2.png"),
        *("c/x.png", "c/more/0.png", "c/more/1.png"),
    ]
    assert listing.remarks == ("3 links to folders that are listed already passed over",)


def test_names_in_any_script_or_none_are_kept(tmp_path: Path) -> None:
    root = fill(tmp_path, "猫", "a\nb")
    strange = os.fsdecode(b"\xff\xfe\n.png")
    write(root / "猫" / strange, PNG)
    listing = list_folder(root)
    assert listing.class_names == ("a\nb", "猫")
    assert paths(listing)[-1] == f"猫/{strange}"
    fill(root, os.fsdecode(b"\xff"))
    assert refusal(root) == "the class folder ROOT/\\udcff has a name that is not UTF-8. Rename it."


def loose(root: Path) -> None:
    fill(root, "", count=2)


def loose_beside_classes(root: Path) -> None:
    fill(root, "a", "b")
    write(root / "new\nline.jpg", PNG)


def loose_in_train(root: Path) -> None:
    fill(root, "train", "test/a", "test/b")


def loose_in_test(root: Path) -> None:
    fill(root, "train/a", "train/b", "Test")


def loose_beside_train(root: Path) -> None:
    fill(root, "train/a", "train/b", "test/a", "test/b")
    write(root / "x", PNG)


def empty(root: Path) -> None:
    write(root / "README.md", b"words")


def no_train(root: Path) -> None:
    fill(root, "val/a", "val/b", "test/a", "test/b")


def two_of_a_part(root: Path) -> None:
    fill(root, "train/a", "val/a", "valid/a")


def wrapped(root: Path) -> None:
    fill(root, "PetImages/Cat", "PetImages/Dog")


def one_class(root: Path) -> None:
    fill(root, "train/a", "test/a")


def empty_class(root: Path) -> None:
    fill(root, "a", "c")
    (root / "b" / "deep").mkdir(parents=True)


def few(root: Path) -> None:
    fill(root, "a", "d")
    fill(root, "b", "c", count=2)


def few_beside_test(root: Path) -> None:
    fill(root, "train/a", "test/a", "test/b")
    fill(root, "train/b", count=1)


def empty_in_test(root: Path) -> None:
    fill(root, "train/a", "train/b", "test/a")
    (root / "test" / "b").mkdir()


def other_classes(root: Path) -> None:
    fill(root, "train/a", "train/b", "train/c", "test/a", "test/B")


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (loose, "ROOT holds 2 pictures in no class folder, '0.png' first. Put each into a folder named for its class."),
        (
            loose_beside_classes,
            "ROOT holds 1 picture in no class folder, 'new\\nline.jpg' first. Put each into a folder",
        ),
        (loose_in_train, "ROOT/train holds 3 pictures in no class folder, '0.png' first. Put each into a folder named"),
        (
            loose_beside_train,
            "ROOT holds 1 picture in no class folder, 'x' first. Put each into a folder named for",
        ),
        (empty, "ROOT holds no folders. Give a folder that holds a folder of pictures for each class."),
        (no_train, "ROOT holds test, val, but no folder train. Add it, with the same classes."),
        (two_of_a_part, "ROOT has two folders for validation: val and valid. Keep one of them."),
        (wrapped, "ROOT holds one class only, 'PetImages'. If the classes are in it, give ROOT/PetImages."),
        (one_class, "ROOT/train holds one class only, 'a'. Give a folder with two class folders at least."),
        (
            empty_class,
            "class 'b' has no pictures in train and needs 3: one for each of train, validation and test.",
        ),
        (
            few,
            "class 'b' has 2 pictures in train and needs 3: one for each of train, validation and test; so it is with",
        ),
        (few_beside_test, "class 'b' has 1 picture in train and needs 2: one for each of train and validation. Add"),
        (empty_in_test, "class 'b' has no pictures in test and needs 1. Add pictures, or take the class out."),
        (
            other_classes,
            "the classes of ROOT/test are not those of ROOT/train: it lacks b, c and has B besides. Give both the same",
        ),
    ],
    ids=lambda it: getattr(it, "__name__", ""),
)
def test_what_is_refused_is_refused_in_one_line(tmp_path: Path, made: Callable[[Path], None], said: str) -> None:
    made(tmp_path)
    assert refusal(tmp_path).startswith(said)


def test_a_folder_that_is_not_there_or_a_file_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "none").startswith("ROOT cannot be listed: No such file or directory. Give a folder that")
    assert refusal(write(tmp_path / "a.png", PNG)).startswith("ROOT cannot be listed: Not a directory. Give a folder")


def test_a_folder_that_may_not_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path, "a", "b/deep")
    scandir = os.scandir

    def refusing(folder: str | int) -> object:  # as root everything may be read
        if str(folder).endswith("deep"):
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    said = "ROOT/b/deep cannot be listed: Permission denied. Give a folder of which everything can be read."
    assert refusal(root) == said


def test_folders_beside_the_parts_are_told(tmp_path: Path) -> None:
    fill(tmp_path, "train/a", "train/b", "test/a", "test/b", "unlabelled", "more")
    assert list_folder(tmp_path).remarks == ("2 folders beside train passed over (more, unlabelled)",)


def test_three_pictures_of_a_class_are_enough_and_fewer_where_parts_are_given() -> None:
    two, one = (PictureFile("1", 0), PictureFile("2", 0)), (PictureFile("1", 0),)
    require_pictures(["a"], {"train": (*two, *one)})
    require_pictures(["a"], {"train": two, "validation": one})
    require_pictures(["a"], {"train": one, "validation": one, "test": one})
    for parts in ({"train": two}, {"train": one, "test": one}, {"train": two, "test": ()}):
        with pytest.raises(BadInput):
            require_pictures(["a"], parts)  # type: ignore[arg-type]  # parts of different tuples
