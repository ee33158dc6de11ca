"""The pictures of a data set."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from storage.errors import BadInput
from storage.settings import Home
from studies.datasets.prepared import PreparedDataset
from studies.datasets.preparing import prepare
from tuning.commands.explore import explore


def quiet(_: str) -> None:
    """Report to nobody."""


def test_exploring_draws_the_training_split_and_never_opens_the_test_split(tmp_path: Path) -> None:
    dataset = prepare("mnist_sample", Home(tmp_path / "home"), report=quiet)
    for path in dataset.folder.glob("test_*.npy"):
        path.unlink()
    written = explore(dataset, tmp_path / "pictures")
    assert sorted(written) == sorted((tmp_path / "pictures").iterdir())
    pictures = [path for path in written if path.suffix == ".png"]
    assert len(pictures) == 4
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    statistics = json.loads((tmp_path / "pictures" / "statistics.json").read_text())
    assert statistics["images"] == 2_000
    assert statistics["counts"] == {str(digit): 200 for digit in range(10)}
    assert statistics["mean"] == pytest.approx([33.5], abs=1.0)
    assert (statistics["min"], statistics["max"]) == ([0], [255])


def test_a_folder_that_cannot_be_written_is_bad_input(tmp_path: Path) -> None:
    dataset: PreparedDataset = prepare("mnist_sample", Home(tmp_path / "home"), report=quiet)
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="cannot write to"):
        explore(dataset, tmp_path / "file")
