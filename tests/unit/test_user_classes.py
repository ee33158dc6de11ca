"""What a user's file is called in a spec, and when it is imported: only if it is the one that the study names."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import BadInput
from studies.spec import STRATEGIES
from studies.strategies.strategy import Strategy
from tuning.user_classes import UserFile, load_class, load_strategy, parse_model, parse_strategy

MINE = """
from studies.strategies.strategy import Strategy


class Mine(Strategy):
    freezes = True


something = 5
"""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    yield path
    for kind in ("strategy", "model"):
        sys.modules.pop(f"user_{kind}_mine", None)


# --- Names ---


def test_a_users_file_is_named_by_file_class_and_content(file: Path) -> None:
    user_file = UserFile.parse("strategy", f"{file}:Mine")
    before = user_file.name
    assert before.startswith("mine.py:Mine@")
    assert str(file.parent) not in before
    file.write_text(MINE + "\n")
    assert user_file.name != before
    assert str(user_file) == f"{file}:Mine"


def test_the_same_file_elsewhere_has_the_same_name(file: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere" / "mine.py"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(file.read_bytes())
    assert UserFile(elsewhere, "Mine").name == UserFile(file, "Mine").name


def test_a_relative_path_means_a_file_here_and_a_tilde_the_home(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.setenv("HOME", str(file.parent))
    assert UserFile.parse("model", "mine.py:Mine").path == file
    assert UserFile.parse("model", "~/mine.py:Mine").path == file


@pytest.mark.parametrize("kind", ["model", "strategy"])
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mine.py", "one of your own is given as file.py:Class"),
        ("mine.py:", "one of your own is given as file.py:Class"),
        ("mine.txt:Mine", "one of your own is given as file.py:Class"),
        ("mine.py:not a class", "one of your own is given as file.py:Class"),
        ("mine.py:Mine:Other", "one of your own is given as file.py:Class"),
        ("/none/mine.py:Mine", "there is no file /none/mine.py. Give the path of the file that has the class"),
    ],
)
def test_what_is_no_file_and_class_is_refused(kind: str, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=f"{kind} '{text}': {says}"):
        UserFile.parse(kind, text)


# --- Models ---


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


# --- Strategies ---


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_strategy_of_the_project_needs_no_file(name: str) -> None:
    assert parse_strategy(name) == (name, None)
    assert load_strategy(name, None) is None


def test_a_users_strategy_is_loaded_from_its_file(file: Path) -> None:
    name, user_file = parse_strategy(f"{file}:Mine")
    loaded = load_strategy(name, user_file)
    assert loaded is not None
    assert issubclass(loaded, Strategy)
    assert (loaded.__name__, loaded.freezes) == ("Mine", True)


@pytest.mark.parametrize("found", ["something", "Missing"])
def test_what_is_no_strategy_is_refused(file: Path, found: str) -> None:
    with pytest.raises(BadInput, match=r"must be a class derived from studies.strategies.strategy.Strategy, found"):
        load_strategy(*parse_strategy(f"{file}:{found}"))


@pytest.mark.parametrize(
    "text", ["import nothing_of_that_name", "def broken(:", "1 / 0", "raise RuntimeError('why it is.\\nand more')"]
)
def test_a_file_that_cannot_be_imported_is_refused_in_one_line(file: Path, text: str) -> None:
    file.write_text(text)
    with pytest.raises(BadInput, match=f"{file} cannot be imported: .*[^.]\\. Mend the file") as refused:
        load_strategy(*parse_strategy(f"{file}:Mine"))
    assert "\n" not in str(refused.value)


# --- What a spec says is data ---


@pytest.mark.parametrize(
    "name", ["os:system", "antigravity:Mine", "mine.py:Mine@0123456789abcdef", "../mine.py:Mine@0123456789abcdef", ""]
)
def test_a_name_from_a_database_imports_nothing(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    monkeypatch.syspath_prepend(str(file.parent))
    before = set(sys.modules)
    with pytest.raises(BadInput, match=r"Start the worker with that file: --strategy file.py:Class"):
        load_strategy(name, None)
    assert set(sys.modules) == before


@pytest.mark.parametrize("kind", ["model", "strategy"])
def test_a_file_that_is_not_the_studys_is_refused_and_not_imported(file: Path, kind: str) -> None:
    file.write_text("raise RuntimeError('imported')")
    before = set(sys.modules)
    with pytest.raises(BadInput, match=f"the study's {kind} is 'other.py:Mine@0123'.*Start it with the same file"):
        load_class(kind, "other.py:Mine@0123", UserFile(file, "Mine"), lambda: Strategy)
    assert set(sys.modules) == before


def test_a_file_that_changed_since_the_study_was_made_is_refused_and_not_imported(file: Path) -> None:
    name, user_file = parse_strategy(f"{file}:Mine")
    file.write_text("import antigravity\n")
    before = set(sys.modules)
    with pytest.raises(BadInput, match="Start it with the same file, unchanged"):
        load_strategy(name, user_file)
    assert set(sys.modules) == before
