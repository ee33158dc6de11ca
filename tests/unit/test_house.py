"""The house stays one that the next person finds their way in: short functions, small folders, few imports."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("models", "storage", "studies", "tuning")
LONGEST_FUNCTION = 60
LARGEST_FOLDER = 14
MOST_IMPORTS = 18
# Its commands are a few lines each, and import what they need when they are called.
MANY_IMPORTS = "tuning/cli.py"
# They lie in a drawer, and nobody knows in which.
DRAWERS = {"utils", "util", "common", "helpers", "helper", "base", "misc"}

FILES = [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def imported_by(tree: ast.Module) -> Iterator[str]:
    """The modules of this house that a file imports, also inside functions and for types alone."""
    ours = {named(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in FILES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in ours)
        elif isinstance(node, ast.ImportFrom) and node.module in ours:
            # `from storage import attributes` imports a module, `from storage.errors import BadInput` a name of one.
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & ours
            yield from modules
            if len(modules) < len(node.names):
                yield node.module


@pytest.mark.parametrize("path", FILES, ids=named)
def test_a_function_is_short_and_a_module_knows_few_others(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    lines = {function.name: (function.end_lineno or 0) - function.lineno + 1 for function in functions}
    assert {name: count for name, count in lines.items() if count > LONGEST_FUNCTION} == {}
    if named(path) != MANY_IMPORTS:
        assert len(set(imported_by(tree))) <= MOST_IMPORTS, sorted(set(imported_by(tree)))


def test_no_folder_has_many_modules_side_by_side_and_none_is_a_drawer() -> None:
    modules = [path for path in FILES if path.stem not in ("__init__", "__main__")]
    sizes = Counter(named(path.parent) for path in modules)
    assert {folder: size for folder, size in sizes.items() if size > LARGEST_FOLDER} == {}
    assert {named(path) for path in modules if path.stem in DRAWERS} == set()


def test_what_a_study_records_is_read_in_one_place() -> None:
    """Trials have user attributes, too; those of a study are fields of `StudyRecord`."""
    outside = {
        named(path)
        for path in FILES
        if named(path) != "studies/stored.py" and "study.user_attrs" in path.read_text(encoding="utf-8")
    }
    assert outside == set()


def test_what_runs_trials_takes_at_most_nine_arguments_and_each_by_its_name() -> None:
    tree = ast.parse((ROOT / "tuning/worker/trial_runner.py").read_text(encoding="utf-8"))
    (runner,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "TrialRunner")
    (init,) = (node for node in runner.body if isinstance(node, ast.FunctionDef) and node.name == "__init__")
    assert [argument.arg for argument in init.args.args] == ["self"]
    assert len(init.args.kwonlyargs) <= 9
