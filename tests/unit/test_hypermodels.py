"""A spec read from a database chooses between what is here; nothing that it names is imported."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from storage.errors import BadInput
from tuning.user_classes import UserFile, parse_model
from tuning.worker.hypermodels import load_hypermodel


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("raise RuntimeError('imported')\n")
    return path


def test_a_project_model_is_known_by_its_short_and_its_full_name() -> None:
    assert parse_model("cnn") == ("models.cnn:CNN", None)
    assert parse_model("models.resnet:ResNet") == ("models.resnet:ResNet", None)


def test_a_users_model_is_named_by_file_class_and_content(file: Path) -> None:
    name, user_file = parse_model(f"{file}:Mine")
    assert user_file == UserFile(file, "Mine")
    assert name.startswith("mine.py:Mine@")
    assert str(file.parent) not in name
    file.write_text("changed = True\n")
    assert user_file is not None
    assert user_file.name != name


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("resnett", "unknown model 'resnett'. Did you mean 'resnet'"),
        ("", "unknown model ''"),
        ("mine.py", "unknown model 'mine.py'.*given as file.py:Class"),
        ("mine.py:", "given as file.py:Class"),
        ("mine.py:not a class", "given as file.py:Class"),
        ("mine.py:Mine:Other", "given as file.py:Class"),
        ("/none/mine.py:Mine", "there is no file /none/mine.py. Give the path"),
        ("os:system", "unknown model 'os:system'"),
    ],
)
def test_a_model_that_does_not_exist_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        parse_model(text)


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
