"""Hypermodels are loaded: the project's own, and a user's file."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import BadInput
from studies.spec import HYPERMODELS
from tuning.user_classes import parse_model
from tuning.worker.preparing.hypermodels import load_hypermodel

pytestmark = pytest.mark.keras

MINE = """
from models.cnn import CNN

class Mine(CNN):
    pass

something = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    yield path
    sys.modules.pop("user_model_mine", None)


@pytest.mark.parametrize("name", HYPERMODELS.values())
def test_every_project_model_can_be_loaded(name: str) -> None:
    from models.classifier import ImageClassifier

    loaded = load_hypermodel(name, None)
    assert isinstance(loaded, type) and issubclass(loaded, ImageClassifier)


def test_a_users_model_is_loaded_from_its_file(file: Path) -> None:
    loaded = load_hypermodel(*parse_model(f"{file}:Mine"))
    assert isinstance(loaded, type) and loaded.__name__ == "Mine"


@pytest.mark.parametrize("name", ["something", "Missing"])
def test_what_builds_no_model_is_refused(file: Path, name: str) -> None:
    with pytest.raises(
        BadInput,
        match=r"must be a function build.hp. that returns a keras.Model, .*ImageClassifier. Received",
    ):
        load_hypermodel(*parse_model(f"{file}:{name}"))


@pytest.mark.parametrize("text", ["import nothing_of_that_name", "def broken(:", "1 / 0"])
def test_a_file_that_cannot_be_imported_is_refused(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput, match=f"{file} cannot be imported: .*Mend the file"):
        load_hypermodel(*parse_model(f"{file}:Mine"))
