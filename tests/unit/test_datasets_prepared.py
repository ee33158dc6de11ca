"""A prepared data set is whole or not there, whoever makes it and whenever it is killed."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.errors import BadInput
from storage.prepared.own_data import MANIFEST
from storage.settings import Home
from studies.datasets import prepared, preparing
from studies.datasets.inventory import inventory
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared, prepare
from studies.datasets.registry import dataset_info

NAME = "mnist_sample"
SYNCS = 7
"""How often preparing waits for the disk: four arrays, the manifest, the folder, and the folder above it."""

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def quiet(_: str) -> None:
    """Report to nobody."""


def make(home: Home) -> PreparedDataset:
    return prepare(NAME, home, report=quiet)


def leftovers(home: Home) -> list[str]:
    return [path.name for path in home.dataset(NAME).parent.iterdir() if path.name != NAME]


def run(script: str, home: Home) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", script, str(home.root)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_prepared_data_set_has_the_declared_shapes_and_is_read_only(home: Home) -> None:
    dataset = make(home)
    assert dataset.train_images.shape == (2_000, 28, 28, 1)
    assert dataset.train_images.dtype == np.uint8
    assert isinstance(dataset.train_images, np.memmap)
    assert not dataset.train_images.flags.writeable
    assert dataset.train_labels.dtype == np.int64
    assert np.bincount(dataset.train_labels).tolist() == [200] * 10
    images, labels = dataset.test()
    assert images.shape == (500, 28, 28, 1)
    assert np.bincount(labels).tolist() == [50] * 10


def test_colours_keep_their_channels(home: Home) -> None:
    dataset = prepare("cifar10_sample", home, report=quiet)
    assert dataset.train_images.shape == (2_000, 32, 32, 3)
    frog = dataset.train_images[0]  # the first training image of CIFAR-10, a frog on brown
    assert dataset.info.class_names[dataset.train_labels[0]] == "frog"
    assert frog[0, 0].tolist() == [59, 62, 63]


def test_preparing_again_does_nothing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    make(home)
    monkeypatch.setattr(preparing, "fetch", None)
    assert make(home) == open_prepared(NAME, home, verify=True)


def test_a_data_set_that_is_not_prepared_names_the_command(home: Home) -> None:
    with pytest.raises(BadInput, match=rf"not prepared: .* Run `tuning data prepare {NAME}`"):
        open_prepared(NAME, home)


@pytest.mark.parametrize("left", ["nothing", "arrays without a manifest", "half a manifest", "an older layout"])
def test_a_folder_without_its_manifest_is_never_used_and_is_made_again(home: Home, left: str) -> None:
    folder = make(home).folder
    manifest = folder / MANIFEST
    if left == "nothing":
        for path in folder.iterdir():
            path.unlink()
    elif left == "arrays without a manifest":
        manifest.unlink()
    elif left == "half a manifest":
        manifest.write_text(manifest.read_text()[:100])
    else:
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"layout": 0}))
    with pytest.raises(BadInput, match="not prepared"):
        open_prepared(NAME, home)
    make(home)
    open_prepared(NAME, home, verify=True)
    assert leftovers(home) == []


def test_a_truncated_array_is_noticed_at_once_and_a_changed_one_on_verification(home: Home) -> None:
    path = make(home).folder / "train_images.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    open_prepared(NAME, home)
    with pytest.raises(BadInput, match=r"train_images.npy has SHA-256"):
        open_prepared(NAME, home, verify=True)
    path.write_bytes(content[:-10])
    with pytest.raises(BadInput, match=r"train_images.npy has .* bytes, expected"):
        open_prepared(NAME, home)


@pytest.mark.parametrize("failing", range(SYNCS - 1))
def test_a_full_disk_is_one_line_and_leaves_nothing(home: Home, monkeypatch: pytest.MonkeyPatch, failing: int) -> None:
    syncs = iter(range(SYNCS))

    def fsync(_: int) -> None:
        if next(syncs) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(BadInput, match=r"no room left under .* needs about 2 MB"):
            make(home)
    assert not home.dataset(NAME).exists()
    assert leftovers(home) == []
    make(home)


def test_a_home_that_cannot_be_made_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot create the folder"):
        make(Home(tmp_path / "file"))


@pytest.mark.slow
def test_a_process_killed_at_any_write_leaves_nothing_that_is_used(home: Home) -> None:
    script = f"""
import os, sys
from pathlib import Path
from storage.prepared.own_data import MANIFEST
from storage.settings import Home
from studies.datasets.preparing import open_prepared, prepare
def killed_at(count, home):
    syncs = iter(range(99))
    os.fsync = lambda _: os._exit(9) if next(syncs) == count else None
    prepare("{NAME}", home, report=lambda line: None)
for count in range({SYNCS}):
    home = Home(Path(sys.argv[1]) / str(count))
    if (child := os.fork()) == 0:
        killed_at(count, home)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9, count
    assert home.dataset("{NAME}").exists() == (count == {SYNCS - 1}), count
    prepare("{NAME}", home, report=lambda line: None)
    open_prepared("{NAME}", home, verify=True)
"""
    process = run(script, home)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0, errors


def test_what_a_killed_process_left_is_removed_a_day_later(home: Home) -> None:
    parent = home.make(home.dataset(NAME).parent)
    old, recent = parent / f".{NAME}-dead", parent / f".{NAME}-alive"
    for folder in (old, recent):
        folder.mkdir()
    os.utime(old, (0, 0))
    make(home)
    assert leftovers(home) == [recent.name]


def test_two_processes_that_prepare_at_once_end_with_one_good_folder(home: Home) -> None:
    script = f"""
import sys
from pathlib import Path
from storage.prepared.own_data import MANIFEST
from storage.settings import Home
from studies.datasets.preparing import prepare
prepare("{NAME}", Home(Path(sys.argv[1]))).train_images[0]
"""
    processes = [run(script, home) for _ in range(3)]
    for process in processes:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    open_prepared(NAME, home, verify=True)
    assert leftovers(home) == []


def test_the_loser_of_a_race_keeps_the_winners_folder(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    decode = preparing._decode

    def win_first(*arguments: object) -> None:
        monkeypatch.setattr(preparing, "_decode", decode)
        make(home)
        decode(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(preparing, "_decode", win_first)
    make(home)
    open_prepared(NAME, home, verify=True)
    assert leftovers(home) == []


def test_the_inventory_says_what_is_here(home: Home) -> None:
    before = {entry.name: entry for entry in inventory(home)}
    assert before[NAME].state == "downloaded"
    assert before["cifar100"].state == "not here"
    assert before["cifar100"].size_bytes == 0
    make(home)
    entry = {entry.name: entry for entry in inventory(home)}[NAME]
    assert entry.state == "prepared"
    assert entry.where == home.dataset(NAME)
    assert entry.size_bytes > 2_500 * 28 * 28
    assert (entry.train_images, entry.test_images, entry.classes, entry.shape) == (2_000, 500, 10, (28, 28, 1))


def test_the_manifest_records_what_was_verified(home: Home) -> None:
    manifest = json.loads((make(home).folder / MANIFEST).read_text())
    assert manifest["checksum"] == dataset_info(NAME).checksum
    assert sorted(manifest["files"]) == sorted(prepared.file_names())
