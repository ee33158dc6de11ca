"""A spec read from a database chooses between what is here; nothing that it names is imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from storage.errors import BadInput
from tuning.user_classes import UserFile, parse_model
from tuning.worker.preparing.hypermodels import load_hypermodel


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("raise RuntimeError('imported')\n")
    return path


@pytest.mark.parametrize(
    "name",
    ["os:system", "antigravity:Mine", "models.cnn:keras", "models.cnn", "this:s", "mine.py:Mine@0123456789abcdef",
     "../mine.py:Mine@0123456789abcdef", "__main__:x", ""],
)  # fmt: skip
def test_a_name_from_a_database_imports_nothing(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.syspath_prepend(str(file.parent))
    before = set(sys.modules)
    with pytest.raises(BadInput, match=r"unknown model|Start the worker with that file: --model file.py:Class"):
        load_hypermodel(name, None)
    assert set(sys.modules) == before


def test_a_file_that_was_not_the_studys_is_not_imported(file: Path) -> None:
    before = set(sys.modules)
    with pytest.raises(BadInput, match="Start it with the same file, unchanged"):
        load_hypermodel("other.py:Mine@0123456789abcdef", UserFile(file, "Mine"))
    assert set(sys.modules) == before


def test_a_file_that_changed_since_the_study_was_made_is_refused_and_not_imported(file: Path) -> None:
    name, user_file = parse_model(f"{file}:Mine")
    file.write_text("import antigravity\n")
    before = set(sys.modules)
    with pytest.raises(BadInput, match="Start it with the same file, unchanged"):
        load_hypermodel(name, user_file)
    assert set(sys.modules) == before
