"""What an import brings with it, measured in a fresh interpreter, and who may know whom beyond what lint proves."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("models", "storage", "studies", "tuning")
HEAVY = {"keras", "keras_tuner", "tensorflow", "jax", "optuna", "sqlalchemy", "pandas", "numpy", "matplotlib"}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def modules(*packages: str) -> dict[str, Path]:
    return {module_name(path): path for package in packages for path in sorted((ROOT / package).rglob("*.py"))}


def allowed_to_import_keras() -> set[str]:
    """The modules that the import contracts let import Keras, with wildcards."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    ignored = [line for contract in settings["contracts"] for line in contract.get("ignore_imports", [])]
    return {line.split(" -> ")[0] for line in ignored}


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that are loaded after a statement ran in a fresh interpreter."""
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def imported_in(path: Path) -> set[str]:
    """The top-level modules that a file names in an import, also inside a function."""
    names = set[str]()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return {name.partition(".")[0] for name in names}


def test_importing_studies_and_storage_loads_nothing_heavy() -> None:
    assert not loaded_by("import studies, storage") & HEAVY


def test_the_command_line_starts_without_anything_heavy() -> None:
    assert not loaded_by("import tuning.cli") & HEAVY


@pytest.mark.slow
def test_only_what_runs_inside_a_worker_loads_keras() -> None:
    allowed = allowed_to_import_keras()
    names = [name for name in modules("storage", "studies", "tuning") if not any(fnmatch(name, it) for it in allowed)]
    names = [name for name in names if not name.endswith("__main__")]
    assert not loaded_by(f"import {', '.join(names)}") & {"keras", "keras_tuner", "tensorflow", "jax"}


def test_only_hyperparameters_knows_both_kerastuner_and_optuna() -> None:
    both = [name for name, path in modules(*PACKAGES).items() if {"keras_tuner", "optuna"} <= imported_in(path)]
    assert set(both) <= {"tuning.worker.hyperparameters"}


def test_every_package_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    found = {module_name(path) for path in modules(*PACKAGES).values() if path.name == "__init__.py"}
    assert set(settings["packages"]) == found
