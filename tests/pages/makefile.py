"""The targets of the Makefile, and the variables of each."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Final

from tests.pages.page import ROOT
from tests.pages.tables import code, markdown

# The module behind each benchmark's target, whose `make_parser` says what its options mean.
BENCHMARKS: Final[Mapping[str, str]] = {
    "bench-search": "tests.benchmarks.search.__main__",
    "bench-budgeted": "tests.benchmarks.search.budgeted",
    "bench-thinking": "tests.benchmarks.search.thinking",
    "bench-training": "tests.benchmarks.training.__main__",
    "bench-recipe": "tests.benchmarks.recipe.__main__",
    "bench-overhead": "tests.benchmarks.throughput.overhead",
    "bench-memory": "tests.benchmarks.throughput.memory",
    "bench-gpu": "tests.benchmarks.throughput.gpu",
    "bench-data": "tests.benchmarks.data.__main__",
    "bench-dashboard": "tests.benchmarks.dashboard.__main__",
    "bench-fidelity": "tests.benchmarks.fidelity.__main__",
    "bench-best": "tests.benchmarks.best.__main__",
    "bench-storage": "tests.benchmarks.storage.__main__",
    "bench-claims": "tests.benchmarks.claims.__main__",
}


def recipes() -> dict[str, str]:
    """Return the text of each target that `make` lists."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    found = re.finditer(r"^([a-z][a-z-]*):[^\n]*## [^\n]*\n((?:\t[^\n]*\n)*)", makefile, re.MULTILINE)
    return {match[1]: match[0] for match in found}


def variables(recipe: str) -> dict[str, bool]:
    """Return the variables of a target, in their order, and whether each is a switch."""
    calls = r"(flag|switch|either),--[a-z-]+,(?:--[a-z-]+,)?([A-Z_]+)\)|(?:quoted,|value |\$\()([A-Z_]{3,})\)"
    found = [(match[2] or match[3], match[1] == "switch") for match in re.finditer(calls, recipe)]
    return {name: switch for name, switch in found if name not in ("TUNING", "READY", "READY_DEV")}


def targets_table() -> str:
    """Return every target as a table: what `make` says of it, and its variables."""
    rows = [(code(target), _purpose(recipe), _shown(recipe)) for target, recipe in recipes().items()]
    return markdown(("target", "what it does", "variables"), rows)


def _purpose(recipe: str) -> str:
    """Return the words after `##`, without the variables at their end."""
    words = recipe.partition("\n")[0].partition("## ")[2]
    return re.split(r": (?=\[?[A-Z_]+=)", words)[0]


def _shown(recipe: str) -> str:
    return code(*(f"{name}=1" if switch else name for name, switch in variables(recipe).items()))


def options_of_benchmark(target: str) -> str:
    """Return the variables of a benchmark's target as a table, with what its options mean."""
    make_parser: Callable[[], argparse.ArgumentParser] = import_module(BENCHMARKS[target]).make_parser
    # argparse tells of its options in no other way.
    known = {option: action for action in make_parser()._actions for option in action.option_strings}
    rows = [(code(name), _meaning(known[option])) for option, name in _options(recipes()[target])]
    return markdown(("variable", "meaning"), rows)


def _options(recipe: str) -> list[tuple[str, str]]:
    """Return each option that a recipe passes on, with its variable."""
    calls = r"(?:flag|switch),(--[a-z-]+),([A-Z_]+)\)|value ([A-Z_]+)\),(--[a-z-]+) "
    return [(match[1] or match[4], match[2] or match[3]) for match in re.finditer(calls, recipe)]


def _meaning(action: argparse.Action) -> str:
    return (action.help or "") % {"default": action.default, "prog": ""}
