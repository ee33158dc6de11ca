"""What a path that is given as a data set means, and what is refused in one line."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from storage.errors import BadInput
from studies.datasets.own.reference import Source, source_of

NAMES = ("mnist", "cifar10")


def refused(reference: str) -> str:
    with pytest.raises(BadInput) as error:
        source_of(reference, NAMES)
    said = str(error.value)
    assert "\n" not in said
    return said


def test_each_way_to_bring_data_is_known_by_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "flowers").mkdir()
    np.savez(tmp_path / "own.npz", x_train=np.zeros(3))
    (tmp_path / "digits.csv").write_text("label,pixel0\n1,2\n")
    (tmp_path / "hub").mkdir()
    (tmp_path / "hub" / "metadata.csv").write_text("file_name,label\na.png,x\n")
    found = {
        name: source_of(name, NAMES)
        for name in (
            str(tmp_path / "flowers"),
            str(tmp_path / "own.npz"),
            str(tmp_path / "digits.csv"),
            str(tmp_path / "hub"),
            f"hf:{tmp_path / 'flowers'}",
        )
    }
    assert [source.kind for source in found.values()] == ["folder", "npz", "table", "table", "saved"]
    assert [source.label for source in found.values()] == ["flowers", "own", "digits", "hub", "flowers"]
    assert list(map(str, found.values()))[-1] == f"hf:{tmp_path / 'flowers'}"


def test_a_relative_path_and_the_absolute_one_mean_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "flowers").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    same = Source("folder", tmp_path / "flowers")
    given = ("flowers", "./flowers", "./flowers/", "../" + tmp_path.name + "/flowers", "~/flowers", str(same.path))
    assert {source_of(name, NAMES) for name in given} == {same}


def test_an_npz_file_is_known_by_its_content(tmp_path: Path) -> None:
    np.savez(tmp_path / "own.npz", x_train=np.zeros(3))
    (tmp_path / "own.npz").rename(tmp_path / "own")
    assert source_of(str(tmp_path / "own"), NAMES).kind == "npz"


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_is_to_be_unpacked(tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"data.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("cat/1.png", b"")
    else:
        mode = {"tar": "w", "tar.gz": "w:gz", "tar.xz": "w:xz"}[kind]
        with tarfile.open(file, mode) as tar:  # type: ignore[call-overload]
            tar.addfile(tarfile.TarInfo("cat/1.png"), io.BytesIO())
    assert "is an archive" in (said := refused(str(file)))
    assert "Unpack it" in said


@pytest.mark.parametrize("address", ["https://host.example/flowers.zip", "s3://bucket/flowers", "http://host/x"])
def test_nothing_is_fetched_from_an_address(address: str) -> None:
    assert "is an address" in refused(address)


@pytest.mark.parametrize("ending", ["png", "jpg", "gif", "bmp", "tif", "webp"])
def test_a_single_picture_is_no_data_set(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"digit.{ending}"
    Image.new("L", (8, 8)).save(file)
    assert "is a single picture" in refused(str(file))


def test_what_is_not_there_and_what_is_no_data_say_so(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("nothing")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 no more")
    assert f"there is no {tmp_path / 'gone'}" in refused(str(tmp_path / "gone"))
    assert "no file of data that is known here" in refused(str(tmp_path / "notes.txt"))
    assert "is no npz file" in refused(str(tmp_path / "broken.npz"))
    assert "there is no folder" in refused(f"hf:{tmp_path / 'gone'}")


def test_a_name_that_is_mistyped_has_the_nearest_one() -> None:
    said = refused("cifr10")
    assert "Did you mean 'cifar10'?" in said
    assert "Data of your own are given by a path" in said


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    file = tmp_path / "own.bin"
    file.write_bytes(b"x")
    file.chmod(0)
    assert "cannot read" in refused(str(file))
