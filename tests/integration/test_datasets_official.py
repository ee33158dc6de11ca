"""Every official format against the real data, where it can be had."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from storage.errors import BadInput
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import open_prepared, prepare
from studies.datasets.registry import DATASETS, dataset_info
from studies.datasets.samples import PER_CLASS, first_of_each_class

SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data"
FOLDERS = {
    "mnist": "mnist",
    "fashion_mnist": "fashion-mnist",
    "cifar10": "cifar-10-batches-bin",
    "cifar100": "cifar-100-binary",
}


@pytest.fixture(autouse=True)
def _no_data_dir(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATA_DIR", raising=False)


def check(dataset: PreparedDataset, home: Home) -> None:
    """Check shapes, class balance where it is known to be exact, and the bytes on the disk."""
    info = open_prepared(dataset.info.name, home, verify=True).info
    images, labels = dataset.test()
    assert dataset.train_images.shape == (info.images("train"), *info.shape)
    assert images.shape == (info.images("test"), *info.shape)
    for own in (dataset.train_labels, labels):
        counts = np.bincount(own, minlength=len(info.class_names))
        assert info.name == "mnist" or set(counts.tolist()) == {len(own) // len(counts)}


def test_the_registry_has_the_recorded_checksums() -> None:
    recorded = SHARED / "CHECKSUMS"
    if not recorded.is_file():
        pytest.skip(f"{recorded} is not there")
    lines = [line.split() for line in recorded.read_text().splitlines() if not line.startswith("#")]
    declared = [
        [file.sha256, f"{folder}/{file.name}"] for name, folder in FOLDERS.items() for file in dataset_info(name).files
    ]
    assert sorted(line for line in lines if line) == sorted(declared)


def test_cifar100_is_read_from_its_official_files(tmp_path: Path) -> None:
    unpack = SHARED / "unpack.py"
    if not unpack.is_file():
        pytest.skip(f"{unpack} is not there")
    subprocess.run([sys.executable, str(unpack), str(tmp_path)], check=True, stdout=subprocess.DEVNULL)
    home = Home(tmp_path / "home")
    dataset = prepare("cifar100", home, data_dir=tmp_path)
    check(dataset, home)
    names = (tmp_path / "cifar-100-binary" / "fine_label_names.txt").read_text().split()
    assert list(dataset.info.class_names) == names


def test_fashion_mnist_is_read_from_the_operating_systems_package(tmp_path: Path) -> None:
    folder = dataset_info("fashion_mnist").system_folder
    if folder is None or not Path(folder).is_dir():
        pytest.skip(f"{folder} is not installed")
    home = Home(tmp_path)
    check(prepare("fashion_mnist", home), home)


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_a_data_set_comes_over_the_network_and_its_sample_is_its_beginning(tmp_path: Path, name: str) -> None:
    home = Home(tmp_path)
    try:
        dataset = prepare(name, home)
    except BadInput as error:
        if "found nowhere" not in str(error):
            raise
        pytest.skip(str(error))
    check(dataset, home)
    sample = prepare(f"{name}_sample", home)
    chosen = first_of_each_class(dataset.train_labels.astype(np.uint8), PER_CLASS["train"])
    np.testing.assert_array_equal(sample.train_images, dataset.train_images[chosen])
    np.testing.assert_array_equal(sample.train_labels, dataset.train_labels[chosen])
    images, labels = dataset.test()
    chosen = first_of_each_class(labels.astype(np.uint8), PER_CLASS["test"])
    np.testing.assert_array_equal(sample.test()[0], images[chosen])


@pytest.mark.parametrize("name", sorted(DATASETS))
def test_without_a_network_a_data_set_fails_in_seconds_and_a_sample_does_not_care(tmp_path: Path, name: str) -> None:
    isolate = ["unshare", "--net"]
    if shutil.which("unshare") is None or subprocess.run([*isolate, "true"], capture_output=True).returncode:
        pytest.skip("unshare cannot take the network away here")
    script = (
        "import sys; from pathlib import Path; from storage.errors import BadInput; from storage.settings import Home; "
        "from studies.datasets.preparing import prepare\n"
        f"try: prepare({name!r}, Home(Path(sys.argv[1])))\n"
        "except BadInput as error: sys.exit(f'bad input: {error}')"
    )
    command = [*isolate, sys.executable, "-c", script, str(tmp_path)]
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
    info = dataset_info(name)
    if info.bundled or (info.system_folder and Path(info.system_folder).is_dir()):
        assert done.returncode == 0, done.stderr
    else:
        assert "bad input" in done.stderr
        assert "found nowhere" in done.stderr
        assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_bundled_files_are_those_that_the_registry_declares() -> None:
    from studies.datasets.sources import SAMPLES

    for info in (info for info in DATASETS.values() if info.bundled):
        found = sorted(path.name.rpartition(".")[0] for path in (SAMPLES / str(info.bundled)).iterdir())
        assert found == sorted(file.name for file in info.files)
        assert all(len(bytes.fromhex(file.sha256)) == hashlib.sha256().digest_size for file in info.files)
