"""Processes take Python's modules and ours from where they are installed, whatever lies where they are started."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage.processes.isolation import ordered, python, python_environment, python_module
from tests.folders import MODULES, PACKAGES, hostile_folder

ROOT = Path(__file__).resolve().parents[2]

# Says where it has what from: a user's own module is found, one that is called as a module of ours or Python's is not.
ASKS = f"""
import importlib.util
for name in {(*PACKAGES, *MODULES)}:
    print(name, importlib.util.find_spec(name).origin)
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = hostile_folder(tmp_path)
    # Python itself imports it before anything else; as a user's it is for the processes that we start only.
    (folder / "types.py").write_text("raise SystemExit('took the types of a user')\n")
    (folder / "asks.py").write_text(ASKS)
    return folder


@pytest.mark.parametrize("pythonpath", [".", "{folder}", "{folder}:", ":{folder}/../{name}", "/none:{folder}"])
def test_a_process_that_we_start_finds_a_users_modules_only_where_they_hide_nothing(
    folder: Path, pythonpath: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    environ = {**os.environ, "PYTHONPATH": pythonpath.format(folder=folder, name=folder.name)}
    done = subprocess.run(python_module("asks"), env=python_environment(environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    assert not [origin for origin in found.values() if origin.startswith(str(folder))]
    assert [found[name] for name in PACKAGES] == [str(ROOT / name / "__init__.py") for name in PACKAGES]


def test_it_is_so_in_what_such_a_process_starts_or_becomes(folder: Path) -> None:
    first = python_environment({**os.environ, "PYTHONPATH": str(folder)})
    assert "PYTHONPATH" not in first
    assert python_environment(first) == first


def test_without_folders_of_a_user_nothing_is_added_to_an_environment() -> None:
    assert python_environment({"HOME": "/home/me"}) == {"HOME": "/home/me"}
    assert python_environment({"HOME": "/home/me", "PYTHONPATH": ""}) == {"HOME": "/home/me"}


def test_python_alone_leaves_the_current_folder_out(folder: Path) -> None:
    environ = python_environment({**os.environ, "PYTHONPATH": str(folder)})
    subprocess.run([*python(), "-c", "import types, random, statistics"], cwd=folder, env=environ, check=True)


@pytest.mark.parametrize(
    ("path", "starts_with_folder", "pythonpath", "expected"),
    [
        (["/usr/lib", "/venv", str(ROOT)], False, "", ["/usr/lib", "/venv", str(ROOT)]),
        (["/venv/bin", "/usr/lib", "/venv"], True, "", ["/usr/lib", "/venv", str(ROOT)]),
        ([str(ROOT), "/usr/lib", "/venv"], True, "", ["/usr/lib", "/venv", str(ROOT)]),
        (["/me", "/mine", "/usr/lib", "/venv"], True, "/mine", ["/usr/lib", "/venv", str(ROOT), "/mine"]),
        ([str(ROOT), "/mine", "/usr/lib"], False, f"{ROOT}:/mine", ["/usr/lib", str(ROOT), "/mine"]),
    ],
)
def test_python_comes_first_then_the_checkout_then_what_is_the_users(
    path: list[str], starts_with_folder: bool, pythonpath: str, expected: list[str]
) -> None:
    assert ordered(path, {"PYTHONPATH": pythonpath}, starts_with_folder=starts_with_folder) == expected


def test_the_command_given_there_needs_none_of_these_modules(folder: Path) -> None:
    (folder / "types.py").unlink()
    environ = {**os.environ, "PYTHONPATH": str(folder)}
    (folder / "tuning" / "__init__.py").unlink()
    (folder / "tuning").rmdir()
    for command in ([*python(), "-m", "tuning"], python_module("tuning")):
        done = subprocess.run(
            [*command, "data", "list", "--json"], cwd=folder, env=environ, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    checkout = subprocess.run(
        [sys.executable, "-m", "tuning", "data", "list", "--json"], cwd=ROOT, capture_output=True, text=True
    )
    assert checkout.returncode == 0, checkout.stderr


def test_nobody_else_says_how_a_python_process_is_started() -> None:
    asks = [
        str(path.relative_to(ROOT))
        for package in ("models", "storage", "studies", "tuning")
        for path in (ROOT / package).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable"
    ]
    assert sorted(set(asks)) == ["storage/processes/isolation.py"]
