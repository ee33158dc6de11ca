"""Prepared data are put beside a study's files once, and taken from there once by each machine."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from storage.errors import BadInput
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset, problem_with
from studies.datasets.preparing import prepare
from studies.datasets.shared import obtain, share


@pytest.fixture
def dataset(tmp_path: Path) -> PreparedDataset:
    home = Home(tmp_path / "first", f"file://{tmp_path / 'shared'}")
    home.make(home.root)
    found = prepare("mnist_sample", home, report=lambda _: None)
    share(found, home)
    return found


def test_a_machine_takes_them_without_looking_at_their_source(tmp_path: Path, dataset: PreparedDataset) -> None:
    node, said = Home(tmp_path / "node", f"file://{tmp_path / 'shared'}"), list[str]()
    checksum = dataset.info.checksum
    asked = {"name": dataset.folder.name, "checksum": checksum, "report": said.append}
    threads = [threading.Thread(target=obtain, args=("./gone", node), kwargs=asked) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == [f"taking the prepared data from {tmp_path / 'shared' / 'datasets' / 'mnist_sample'}"]
    assert problem_with(node.dataset("mnist_sample"), checksum, verify=True) is None


def test_what_is_damaged_there_is_not_taken(tmp_path: Path, dataset: PreparedDataset) -> None:
    file = tmp_path / "shared" / "datasets" / "mnist_sample" / "train_images.npy"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    node = Home(tmp_path / "node", f"file://{tmp_path / 'shared'}")
    with pytest.raises(BadInput):
        obtain("./gone", node, name="mnist_sample", checksum=dataset.info.checksum, report=lambda _: None)
    taken = obtain("mnist_sample", node, name="mnist_sample", checksum=dataset.info.checksum, report=lambda _: None)
    assert problem_with(taken, dataset.info.checksum, verify=True) is None


def test_what_is_there_is_not_written_again(tmp_path: Path, dataset: PreparedDataset) -> None:
    file = tmp_path / "shared" / "datasets" / "mnist_sample" / "train_labels.npy"
    before = file.stat().st_mtime_ns
    share(dataset, Home(tmp_path / "first", f"file://{tmp_path / 'shared'}"))
    assert file.stat().st_mtime_ns == before
