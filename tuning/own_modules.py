"""The modules that a user's file imports from its own folder: which these are, and that they can be imported.

They belong to the file, so their content is part of its name in a spec. They are read off the import statements, since
nothing of a user's is run where a study is only begun; what is not read off so is not found when the file is imported.
A name that Python, the project or an installed package has means that one, and the user is told.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import sys
from collections.abc import Iterator, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

from storage.errors import BadInput
from storage.settings import CHECKOUT

_PROJECT = ("models", "storage", "studies", "tuning")


def content_digest(file: Path) -> str:
    """Return the SHA-256 of a file's content, and of the modules' that it imports from its folder if there are any."""
    content = hashlib.sha256(file.read_bytes())
    for other in files_of(file)[1:]:
        inside = other.relative_to(file.parent).as_posix()
        content.update(f"\0{inside}\0{hashlib.sha256(other.read_bytes()).hexdigest()}".encode())
    return content.hexdigest()


def files_of(file: Path) -> list[Path]:
    """Return a file, and those in its folder that it imports."""
    return [file, *(other for other in _modules(file) if other != file)]


def hidden(file: Path) -> list[str]:
    """Return a line for each module in a file's folder that has another's name and may have been meant."""
    found: dict[Path, str] = {}
    for name in _imported(file):
        root = name.partition(".")[0]
        beside = _beside(file.parent, root)
        owner = _owner(root, beside)
        if beside and owner and not (owner == "the project" and (_is_ours(name) or file.parent == CHECKOUT)):
            found[beside[0]] = (
                f"{_shown(beside[0])} is not what {file.name} imports as {root!r}: {owner} has a module of that name."
                " Rename it if it is meant"
            )
    return list(found.values())


def make_importable(file: Path) -> None:
    """Let a file import the modules in its folder that are part of its content.

    Raises:
        BadInput: a module of that name has been imported from elsewhere, by another file of the user's.
    """
    names = {module.relative_to(file.parent).parts[0].removesuffix(".py") for module in _modules(file)}
    for name in sorted(names):
        origin = getattr(sys.modules.get(name), "__file__", None)
        if origin is not None and not Path(origin).resolve().is_relative_to(file.parent):
            raise BadInput(f"{file} and another file import different modules {name!r}: {origin} is one. Rename one.")
    sys.meta_path.append(_Finder(file.parent, names))


class _Finder(MetaPathFinder):
    def __init__(self, folder: Path, names: set[str]) -> None:
        self._folder = folder
        self._names = names

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname not in self._names:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [str(self._folder)], target)


def _modules(file: Path) -> list[Path]:
    """The files in a file's folder that it imports, also through each other, in the order of their paths."""
    found: set[Path] = set()
    left = [file]
    while left:
        for name in _imported(left.pop()):
            root = name.partition(".")[0]
            beside = _beside(file.parent, root)
            if beside and not found.issuperset(beside) and _owner(root, beside) is None:
                found.update(beside)
                left.extend(beside)
    return sorted(found)


def _imported(file: Path) -> Iterator[str]:
    """The full names that a file imports anywhere in it; none if it is no Python, which its import will tell."""
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _beside(folder: Path, root: str) -> list[Path]:
    """The files of a module or a package in a folder."""
    package = folder / root
    if package.is_dir():
        return sorted(package.rglob("*.py"))
    module = folder / f"{root}.py"
    return [module] if module.is_file() else []


def _owner(root: str, beside: Sequence[Path]) -> str | None:
    """Whose a name is, if it is not only that of files beside the importing one."""
    if root in _PROJECT:
        return "the project"
    if root in sys.stdlib_module_names:
        return "Python"
    # Not what this process has imported: the name in a spec must not change with it.
    spec = importlib.machinery.PathFinder.find_spec(root)
    if spec is None:
        return None
    places = [spec.origin] if spec.origin else list(spec.submodule_search_locations or [])
    known = {path for file in beside for path in (file, file.parent)}
    return None if any(Path(place).resolve() in known for place in places) else "an installed package"


def _is_ours(name: str) -> bool:
    """Whether a full name leads to a module of the project below a package of it."""
    parts = name.split(".")[:3]
    paths = (CHECKOUT.joinpath(*parts[:depth]) for depth in (2, 3) if depth <= len(parts))
    return any(path.is_dir() or path.with_suffix(".py").is_file() for path in paths)


def _shown(path: Path) -> Path:
    return path.parent if path.name == "__init__.py" else path
