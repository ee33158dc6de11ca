"""What lies beside a user's file can be imported by it, and is part of what the study records of it."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.errors import BadInput
from tuning.own_modules import content_digest, hidden
from tuning.user_classes import UserFile, load_strategy, parse_strategy

MINE = """
from studies.strategies.strategy import Strategy
{imports}


class Mine(Strategy):
    freezes = {freezes}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    meta_path, modules = sys.meta_path[:], set(sys.modules)
    yield tmp_path
    sys.meta_path[:] = meta_path
    for name in set(sys.modules) - modules:
        origin = getattr(sys.modules[name], "__file__", None)
        if origin is not None and Path(origin).is_relative_to(tmp_path):
            del sys.modules[name]


def mine(folder: Path, imports: str = "", freezes: str = "True") -> Path:
    file = folder / "mine.py"
    file.write_text(MINE.format(imports=imports, freezes=freezes))
    return file


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        file = folder / f"{name.replace('__in__', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def name_of(file: Path) -> str:
    return UserFile(file, "Mine").name


# --- The name


def test_a_file_that_imports_nothing_from_its_folder_has_the_name_it_always_had(folder: Path) -> None:
    file = mine(folder, "import json, numpy\nfrom optuna import trial")
    write(folder, unused="", other="import unused")
    assert content_digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "imports",
    ["import part_a", "from part_a import flag", "def late():\n    import part_a", "import part_a.inner as x"],
)
def test_what_a_file_imports_from_its_folder_is_part_of_its_name(folder: Path, imports: str) -> None:
    file = mine(folder, imports)
    alone = name_of(file)
    write(folder, part_a="flag = True")
    first = name_of(file)
    assert first != alone
    write(folder, part_a="flag = False")
    assert name_of(file) not in (first, alone)


def test_so_is_what_that_imports_in_its_turn_and_a_whole_package(folder: Path) -> None:
    file = mine(folder, "import part_a")
    write(folder, part_a="import part_b", part_b="from part_c.inner import x\nimport mine", unused="")
    write(folder, part_c__in____init__="", part_c__in__inner="x = 1", part_c__in__more="y = 1")
    first = name_of(file)
    for changed in ("part_b", "part_c__in__inner", "part_c__in__more"):
        before = name_of(file)
        write(folder, **{changed: "import part_c, mine  # changed"})
        assert name_of(file) != before
    write(folder, unused="changed = True")
    before = name_of(file)
    assert before != first
    write(folder, unused="changed = False")
    assert name_of(file) == before


def test_it_says_nothing_of_where_the_folder_is(folder: Path) -> None:
    names = []
    for place in ("here", "there"):
        (folder / place).mkdir()
        write(folder / place, part_a="flag = True")
        names.append(name_of(mine(folder / place, "import part_a")))
    assert names[0] == names[1]


def test_a_file_that_is_no_python_has_a_name(folder: Path) -> None:
    file = folder / "mine.py"
    file.write_bytes(b"def broken(:\xff\0")
    assert content_digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()


# --- The import


def test_a_file_imports_what_lies_beside_it(folder: Path) -> None:
    write(folder, part_a="import part_b\nflag = part_b.flag", part_b="flag = False")
    loaded = load_strategy(*parse_strategy(f"{mine(folder, 'import part_a', 'part_a.flag')}:Mine"))
    assert loaded is not None
    assert loaded.freezes is False


def test_what_its_name_does_not_hold_is_not_imported(folder: Path) -> None:
    write(folder, part_a="flag = False")
    file = mine(folder, "import importlib\npart_a = importlib.import_module('part' + '_a')")
    with pytest.raises(BadInput, match=r"No module named 'part_a'. Mend the file"):
        load_strategy(*parse_strategy(f"{file}:Mine"))


def test_two_files_that_mean_different_modules_by_a_name_are_refused(folder: Path) -> None:
    for place in ("here", "there"):
        (folder / place).mkdir()
        write(folder / place, part_a="flag = True")
    load_strategy(*parse_strategy(f"{mine(folder / 'here', 'import part_a')}:Mine"))
    with pytest.raises(BadInput, match=r"there/mine.py and another file import different modules 'part_a'.*Rename one"):
        load_strategy(*parse_strategy(f"{mine(folder / 'there', 'import part_a')}:Mine"))


# --- Names of others


@pytest.mark.parametrize(
    ("imports", "name", "owner"),
    [
        ("import random", "random", "Python"),
        ("from keras import layers", "keras", "an installed package"),
        ("import models", "models", "the project"),
        ("from models import small", "models", "the project"),
    ],
)
def test_a_name_that_others_have_is_theirs_and_one_line_names_the_file(
    folder: Path, imports: str, name: str, owner: str
) -> None:
    file = mine(folder, imports)
    assert hidden(file) == []
    write(folder, **{name: "raise SystemExit('mine')"})
    (line,) = hidden(file)
    assert line == (
        f"{folder / name}.py is not what mine.py imports as {name!r}: {owner} has a module of that name."
        " Rename it if it is meant"
    )
    assert content_digest(file) == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("imports", ["", "import models.recipe", "from models.recipe import Recipe", "import json"])
def test_a_name_that_can_only_be_theirs_is_not_worth_a_line(folder: Path, imports: str) -> None:
    write(folder, models="small = 1", random="", mine="")
    assert hidden(mine(folder, imports)) == []


def test_an_import_that_fails_for_it_says_so(folder: Path) -> None:
    write(folder, studies="flag = 1")
    with pytest.raises(BadInput, match=r"cannot be imported: ImportError: .*studies.py is not what mine.py imports as"):
        load_strategy(*parse_strategy(f"{mine(folder, 'from studies import flag')}:Mine"))
